//! PPO's clipped surrogate (Schulman et al. 2017, eq. 7) for every token.

use super::error::Error;
use super::number::{clamp, in_range, not_negative, positive};
use super::ratio::{PolicyBatch, RatioStatistics, limited};
use crate::math::Real;

/// Where a ratio is clipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip<R> {
    /// ε below: ratios under 1 − low.
    pub low: R,
    /// ε above: ratios over 1 + high. Larger than `low`: clip-higher (DAPO, Yu et al. 2025, has .2 and .28).
    pub high: R,
    /// c of dual-clip PPO (Ye et al. 2020, eq. 5): for A < 0 the loss is at most −c·A. Over 1; 3 in verl, none elsewhere. For A < 0 it is TRL's `delta`, a
    /// limit of the ratio.
    pub dual: Option<R>,
    /// Log-ratios are limited to ±this before anything else, without a gradient beyond; 20 in verl and OpenRLHF, none elsewhere.
    pub log_ratio: Option<R>,
}

impl<R: Real> Default for Clip<R> {
    /// ε = 0.2 on both sides and nothing else.
    fn default() -> Self {
        Self { low: R::from_f64(0.2), high: R::from_f64(0.2), dual: None, log_ratio: None }
    }
}

impl<R: Real> Clip<R> {
    /// Refuses what is out of range.
    pub(super) fn check(&self) -> Result<(), Error> {
        in_range("clip", "a number from 0 to 1", self.low, self.low >= R::ZERO && self.low <= R::ONE)?;
        not_negative("clip_high", self.high)?;
        self.dual.map_or(Ok(()), |c| in_range("dual_clip", "a number above 1", c, c > R::ONE))?;
        self.log_ratio.map_or(Ok(()), |limit| positive("log_ratio_limit", limit))
    }

    /// −min(ρA, clip(ρ)A) of a log-ratio, its derivative by the log-ratio, and whether the clipped term decided it.
    pub(super) fn surrogate(&self, log_ratio: R, advantage: R) -> (R, R, bool) {
        // Where there is nothing to gain a ratio of ∞ must not make NaN of it.
        if advantage == R::ZERO {
            return (R::ZERO, R::ZERO, false);
        }
        let (log_ratio, free) = limited(log_ratio, self.log_ratio);
        let ratio = log_ratio.exp();
        let whole = -(advantage * ratio);
        let clipped = -(advantage * clamp(ratio, R::ONE - self.low, R::ONE + self.high));
        let slope = if free { whole } else { R::ZERO };
        let (loss, slope, decided) = if clipped > whole { (clipped, R::ZERO, true) } else { (whole, slope, false) };
        match self.dual {
            Some(c) if advantage < R::ZERO && -(advantage * c) < loss => (-(advantage * c), R::ZERO, true),
            _ => (loss, slope, decided),
        }
    }
}

/// −min(ρA, clip(ρ, 1 − low, 1 + high)A) for each token, ρ = π/π_old, and its derivative by log π: −ρA where the first term decides, 0 where the clipped
/// one does. `losses`, `gradients`: (B, T), 0 outside of the mask.
///
/// # Errors
/// Arrays of other shapes than the mask, limits out of range.
pub fn ppo<R: Real>(
    clip: &Clip<R>,
    batch: &PolicyBatch<'_, R>,
    losses: &mut [R],
    gradients: &mut [R],
) -> Result<RatioStatistics<R>, Error> {
    clip.check()?;
    batch.check(losses, gradients)?;
    let mut statistics = RatioStatistics::default();
    batch.each(losses, gradients, |token| {
        let log_ratio = token.logprob - token.old;
        let decided;
        (*token.loss, *token.gradient, decided) = clip.surrogate(log_ratio, token.advantage);
        statistics.add(log_ratio, decided);
    });
    Ok(statistics)
}
