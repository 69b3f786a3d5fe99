//! ReMax (Li et al. 2024): the baseline is the reward of the greedy completion of the same prompt.

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::mask::Mask;
use crate::rl::number::same_len;

/// A_t = G_t − R(greedy) for each token. `returns`, `advantages`: (B, T), returns those of [`discounted_returns`](crate::rl::discounted_returns);
/// `greedy`: (B). Li et al. 2024, algorithm 1.
///
/// # Errors
/// Arrays of other shapes than the mask.
pub fn remax<R: Real>(mask: &Mask<'_>, returns: &[R], greedy: &[R], advantages: &mut [R]) -> Result<(), Error> {
    mask.check("returns", returns)?;
    mask.check("advantages", advantages)?;
    same_len("greedy", greedy, mask.rows())?;
    let rows = mask.each_row().zip(mask.rows_of(returns)).zip(mask.rows_of_mut(advantages));
    for (((live, returns), advantages), &greedy) in rows.zip(greedy) {
        for ((&live, &of_token), advantage) in live.iter().zip(returns).zip(advantages) {
            *advantage = if live { of_token - greedy } else { R::ZERO };
        }
    }
    Ok(())
}
