//! CISPO: importance weights are clipped, not the objective (MiniMax 2025, "MiniMax-M1", eq. 4).

use super::error::Error;
use super::number::{clamp, in_range, not_negative};
use super::ratio::{PolicyBatch, RatioStatistics};
use crate::math::Real;

/// Limits of the importance weight itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightLimits<R> {
    /// The least weight: 0, or 1 − ε (verl).
    pub low: R,
    /// The largest weight: 1 + ε (MiniMax, open-instruct, verl), or TRL's `epsilon_high` itself.
    pub high: R,
}

/// −w A log π for each token with w = clip(ρ, low, high), through which no gradient flows: the derivative by log π is −wA, so that every token learns,
/// those beyond the limits too. `losses`, `gradients`: (B, T), 0 outside of the mask. `clipfrac` counts weights at a limit.
///
/// # Errors
/// Arrays of other shapes than the mask, limits out of order.
pub fn cispo<R: Real>(
    limits: &WeightLimits<R>,
    batch: &PolicyBatch<'_, R>,
    losses: &mut [R],
    gradients: &mut [R],
) -> Result<RatioStatistics<R>, Error> {
    not_negative("weight_low", limits.low)?;
    in_range("weight_high", "a number above weight_low", limits.high, limits.high > limits.low)?;
    batch.check(losses, gradients)?;
    let mut statistics = RatioStatistics::default();
    batch.each(losses, gradients, |token| {
        let log_ratio = token.logprob - token.old;
        let ratio = log_ratio.exp();
        let weight = clamp(ratio, limits.low, limits.high);
        *token.gradient = -(weight * token.advantage);
        *token.loss = *token.gradient * token.logprob;
        statistics.add(log_ratio, weight != ratio);
    });
    Ok(statistics)
}
