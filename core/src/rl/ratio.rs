//! Probability ratios π/π_old of sampled tokens: what policy losses read, and statistics before anything is clipped.

use super::error::Error;
use super::mask::Mask;
use super::number::{Sum, clamp};
use crate::math::Real;

/// What a policy loss reads. All (B, T).
#[derive(Clone, Copy, Debug)]
pub struct PolicyBatch<'a, R> {
    /// The tokens that count.
    pub mask: Mask<'a>,
    /// log π of the sampled tokens, in nats: of the weights that are trained.
    pub logprobs: &'a [R],
    /// log π_old: of the weights when the batch was sampled. No gradient.
    pub old_logprobs: &'a [R],
    /// Advantages. No gradient.
    pub advantages: &'a [R],
}

/// A token that counts, with where its loss and its gradient go.
pub(super) struct Token<'x, R> {
    pub(super) logprob: R,
    pub(super) old: R,
    pub(super) advantage: R,
    pub(super) loss: &'x mut R,
    pub(super) gradient: &'x mut R,
}

impl<R: Real> PolicyBatch<'_, R> {
    /// Refuses arrays of other shapes than the mask.
    pub(super) fn check(&self, losses: &[R], gradients: &[R]) -> Result<(), Error> {
        self.mask.check("logprobs", self.logprobs)?;
        self.mask.check("old_logprobs", self.old_logprobs)?;
        self.mask.check("advantages", self.advantages)?;
        self.mask.check("losses", losses)?;
        self.mask.check("gradients", gradients)
    }

    /// Shows every token that counts; loss and gradient of the others become 0.
    pub(super) fn each(&self, losses: &mut [R], gradients: &mut [R], mut show: impl FnMut(Token<'_, R>)) {
        let inputs = self.logprobs.iter().zip(self.old_logprobs).zip(self.advantages);
        let outputs = losses.iter_mut().zip(gradients);
        for ((&live, ((&logprob, &old), &advantage)), (loss, gradient)) in self.mask.live().iter().zip(inputs).zip(outputs) {
            (*loss, *gradient) = (R::ZERO, R::ZERO);
            if live {
                show(Token { logprob, old, advantage, loss, gradient });
            }
        }
    }
}

/// Statistics of ratios before clipping. When log π = log π_old for every token, minimum, mean and maximum are exactly 1, `clipfrac` and `approxkl`
/// exactly 0: what the first minibatch must show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioStatistics<R> {
    count: usize,
    clipped: usize,
    /// The least ratio; +∞ of none.
    pub min: R,
    /// The largest ratio; −∞ of none.
    pub max: R,
    ratios: Sum<R>,
    squares: Sum<R>,
}

impl<R: Real> Default for RatioStatistics<R> {
    fn default() -> Self {
        let none = Sum::default();
        Self { count: 0, clipped: 0, min: R::INFINITY, max: R::NEG_INFINITY, ratios: none, squares: none }
    }
}

impl<R: Real> RatioStatistics<R> {
    /// Adds a ratio by its logarithm.
    pub(super) fn add(&mut self, log_ratio: R, clipped: bool) {
        let ratio = log_ratio.exp();
        self.count = self.count.saturating_add(1);
        self.clipped = self.clipped.saturating_add(usize::from(clipped));
        self.min = self.min.min(ratio);
        self.max = self.max.max(ratio);
        self.ratios.add(ratio);
        self.squares.add(log_ratio * log_ratio);
    }

    /// Those of two batches together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.count = self.count.saturating_add(other.count);
        self.clipped = self.clipped.saturating_add(other.clipped);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.ratios.add(other.ratios.value());
        self.squares.add(other.squares.value());
        self
    }

    /// Ratios: tokens, or sequences where the ratio is a sequence's.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean ratio; 0 of none.
    pub fn mean(&self) -> R {
        self.share(self.ratios.value())
    }

    /// The share of ratios whose clipped term decided the loss, which hence have no gradient.
    pub fn clipfrac(&self) -> R {
        self.share(R::from_usize(self.clipped))
    }

    /// ½ mean (log π − log π_old)²: k2 of the step (lm-human-preferences, TRL).
    pub fn approxkl(&self) -> R {
        self.share(self.squares.value() * R::from_f64(0.5))
    }

    fn share(&self, of: R) -> R {
        of / R::from_usize(self.count.max(1))
    }
}

/// A log-ratio within ±`limit`, and whether it was within it before.
pub(super) fn limited<R: Real>(log_ratio: R, limit: Option<R>) -> (R, bool) {
    let within = limit.map_or(log_ratio, |limit| clamp(log_ratio, -limit, limit));
    (within, within == log_ratio)
}
