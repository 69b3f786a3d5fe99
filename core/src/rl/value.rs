//! The value function's loss, clipped around old values (Schulman's baselines; lm-human-preferences), and what it explains.

use super::error::Error;
use super::mask::Mask;
use super::number::{clamp, not_negative};
use super::whiten::{Moments, Variance};
use crate::math::Real;

/// What the value loss reads. All (B, T).
#[derive(Clone, Copy, Debug)]
pub struct ValueBatch<'a, R> {
    /// The tokens that count.
    pub mask: Mask<'a>,
    /// V of the weights that are trained.
    pub values: &'a [R],
    /// V when the batch was sampled. No gradient.
    pub old_values: &'a [R],
    /// What is to be predicted: A + V_old. No gradient.
    pub returns: &'a [R],
}

/// Statistics of a value loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueStatistics<R> {
    /// The share of tokens whose clipped term decided the loss.
    pub clipfrac: R,
    /// 1 − variance(R − V) / variance(R), biased; 0 where the returns are all equal.
    pub explained_variance: R,
}

/// ½ max((V − R)², (V_clip − R)²) for each token with V_clip = V_old + clip(V − V_old, ±clip), and its derivative by V; without a clip ½(V − R)². `clip`
/// is 0.2 in lm-human-preferences and TRL, 0.5 in OpenRLHF. `losses`, `gradients`: (B, T), 0 outside of the mask.
///
/// # Errors
/// Arrays of other shapes than the mask, a negative clip.
pub fn value_loss<R: Real>(
    clip: Option<R>,
    batch: &ValueBatch<'_, R>,
    losses: &mut [R],
    gradients: &mut [R],
) -> Result<ValueStatistics<R>, Error> {
    clip.map_or(Ok(()), |clip| not_negative("value_clip", clip))?;
    let mask = &batch.mask;
    mask.check("values", batch.values)?;
    mask.check("old_values", batch.old_values)?;
    mask.check("returns", batch.returns)?;
    mask.check("losses", losses)?;
    mask.check("gradients", gradients)?;
    let mut clipped = 0_usize;
    let inputs = batch.values.iter().zip(batch.old_values).zip(batch.returns).zip(mask.live());
    for ((((&value, &old), &target), &live), (loss, gradient)) in inputs.zip(losses.iter_mut().zip(gradients)) {
        (*loss, *gradient) = (R::ZERO, R::ZERO);
        if live {
            let decided;
            (*loss, *gradient, decided) = of_token(clip, value, old, target);
            clipped = clipped.saturating_add(usize::from(decided));
        }
    }
    let live = || batch.values.iter().zip(batch.returns).zip(mask.live()).filter(|(_, live)| **live).map(|(pair, _)| pair);
    let errors = Moments::of("values", Variance::Biased, live().map(|(&value, &target)| target - value))?;
    let returns = Moments::of("returns", Variance::Biased, live().map(|(_, &target)| target))?;
    let explained = if returns.variance > R::ZERO { R::ONE - errors.variance / returns.variance } else { R::ZERO };
    Ok(ValueStatistics { clipfrac: R::from_usize(clipped) / R::from_usize(errors.count), explained_variance: explained })
}

/// Loss, derivative, and whether the clipped term decided.
fn of_token<R: Real>(clip: Option<R>, value: R, old: R, target: R) -> (R, R, bool) {
    let half = R::from_f64(0.5);
    let error = value - target;
    let whole = half * error * error;
    let Some(clip) = clip else { return (whole, error, false) };
    let near = clamp(value, old - clip, old + clip);
    let error_near = near - target;
    let limited = half * error_near * error_near;
    if limited > whole { (limited, if near == value { error_near } else { R::ZERO }, true) } else { (whole, error, false) }
}
