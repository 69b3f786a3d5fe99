//! Generalised advantage estimation (Schulman et al. 2016) and discounted returns over the tokens of completions.

use super::error::Error;
use super::mask::Mask;
use super::number::in_range;
use crate::math::Real;

/// What tokens outside of the mask are to the recursion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gaps {
    /// Tokens with reward 0 and value 0 (lm-human-preferences, TRL).
    #[default]
    Zero,
    /// Nothing: the next token that counts follows the last (verl, for turns of tools).
    Skip,
}

/// Parameters of the estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gae<R> {
    /// The discount of a step.
    pub gamma: R,
    /// 0: one step of temporal difference; 1: returns less values.
    pub lambda: R,
    /// Tokens outside of the mask.
    pub gaps: Gaps,
}

impl<R: Real> Default for Gae<R> {
    /// γ = 1, λ = 0.95: lm-human-preferences.
    fn default() -> Self {
        Self { gamma: R::ONE, lambda: R::from_f64(0.95), gaps: Gaps::Zero }
    }
}

/// δ_t = r_t + γ V_{t+1} − V_t, A_t = δ_t + γλ A_{t+1}, R_t = A_t + V_t; nothing follows the last token. All (B, T); outside of the mask advantages and
/// returns are 0. Schulman et al. 2016, eq. 16.
///
/// # Errors
/// Arrays of other shapes than the mask; γ or λ outside of [0, 1].
pub fn gae<R: Real>(
    how: &Gae<R>,
    mask: &Mask<'_>,
    rewards: &[R],
    values: &[R],
    advantages: &mut [R],
    returns: &mut [R],
) -> Result<(), Error> {
    discount("gamma", how.gamma)?;
    discount("lambda", how.lambda)?;
    mask.check("rewards", rewards)?;
    mask.check("values", values)?;
    mask.check("advantages", advantages)?;
    mask.check("returns", returns)?;
    let inputs = mask.each_row().zip(mask.rows_of(rewards).zip(mask.rows_of(values)));
    let outputs = mask.rows_of_mut(advantages).zip(mask.rows_of_mut(returns));
    for ((live, (rewards, values)), (advantages, returns)) in inputs.zip(outputs) {
        let (mut next_value, mut next_advantage) = (R::ZERO, R::ZERO);
        let inputs = live.iter().zip(rewards.iter().zip(values)).rev();
        for ((&live, (&reward, &value)), (advantage, to)) in inputs.zip(advantages.iter_mut().zip(returns).rev()) {
            (*advantage, *to) = (R::ZERO, R::ZERO);
            if !live && how.gaps == Gaps::Skip {
                continue;
            }
            let (reward, value) = if live { (reward, value) } else { (R::ZERO, R::ZERO) };
            let delta = reward + how.gamma * next_value - value;
            next_advantage = delta + how.gamma * how.lambda * next_advantage;
            next_value = value;
            if live {
                (*advantage, *to) = (next_advantage, next_advantage + value);
            }
        }
    }
    Ok(())
}

/// Discounted sums of future rewards G_t = r_t + γ G_{t+1}, where tokens outside of the mask are skipped and get 0: GAE with λ = 1 and V = 0, the returns
/// of REINFORCE++ and ReMax. All (B, T).
///
/// # Errors
/// Arrays of other shapes than the mask; γ outside of [0, 1].
pub fn discounted_returns<R: Real>(gamma: R, mask: &Mask<'_>, rewards: &[R], returns: &mut [R]) -> Result<(), Error> {
    discount("gamma", gamma)?;
    mask.check("rewards", rewards)?;
    mask.check("returns", returns)?;
    for ((live, rewards), returns) in mask.each_row().zip(mask.rows_of(rewards)).zip(mask.rows_of_mut(returns)) {
        let mut next = R::ZERO;
        for ((&live, &reward), to) in live.iter().zip(rewards).zip(returns).rev() {
            *to = R::ZERO;
            if live {
                next = reward + gamma * next;
                *to = next;
            }
        }
    }
    Ok(())
}

fn discount<R: Real>(name: &'static str, x: R) -> Result<(), Error> {
    in_range(name, "a number from 0 to 1", x, x >= R::ZERO && x <= R::ONE)
}
