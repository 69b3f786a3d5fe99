//! From losses of tokens to the loss of a batch: what each token's loss is multiplied by.

use super::error::Error;
use super::mask::{Mask, count};
use super::number::{positive, sum};
use crate::math::Real;

/// How losses of tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Aggregation<R> {
    /// The mean over all tokens (PPO; BNPO over a micro-batch; DAPO over the whole batch).
    #[default]
    TokenMean,
    /// The mean over sequences of the mean over their tokens (GRPO).
    SeqMeanTokenMean,
    /// The mean over sequences of the sum over their tokens (REINFORCE, RLOO: the gradient of an expected reward).
    SeqMeanTokenSum,
    /// The sum over all tokens divided by (sequences · length): the same divisor for every batch (Dr. GRPO, with the longest completion).
    Constant {
        /// Tokens that a sequence counts for, whatever it has.
        length: R,
    },
}

/// What means are taken over: of a whole optimizer step, so that its micro-batches add up to the loss of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Tokens that count.
    pub tokens: usize,
    /// Sequences, also those without a token that counts (TRL).
    pub sequences: usize,
}

impl Totals {
    /// Those of one batch.
    pub fn of(mask: &Mask<'_>) -> Self {
        Self { tokens: mask.tokens(), sequences: mask.rows() }
    }

    /// Those of two batches together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let tokens = self.tokens.saturating_add(other.tokens);
        Self { tokens, sequences: self.sequences.saturating_add(other.sequences) }
    }
}

/// Writes the weight of each token's loss (B, T): equal within a row, 0 outside of the mask. The loss of the batch is Σ weight · loss, and its gradient
/// by a log-prob is weight · gradient. With the totals of all micro-batches their sums are the loss and gradient of the whole.
///
/// # Errors
/// Weights of another shape than the mask, totals of 0, a length that is not above 0.
pub fn token_weights<R: Real>(
    aggregation: Aggregation<R>,
    totals: Totals,
    mask: &Mask<'_>,
    weights: &mut [R],
) -> Result<(), Error> {
    mask.check("weights", weights)?;
    for (name, found) in [("tokens", totals.tokens), ("sequences", totals.sequences)] {
        if found == 0 {
            return Err(Error::TooFew { name, expected: 1, found });
        }
    }
    if let Aggregation::Constant { length } = aggregation {
        positive("length", length)?;
    }
    let (tokens, sequences) = (R::from_usize(totals.tokens), R::from_usize(totals.sequences));
    for (live, weights) in mask.each_row().zip(mask.rows_of_mut(weights)) {
        let divisor = match aggregation {
            Aggregation::TokenMean => tokens,
            // A row without tokens has no weight to divide.
            Aggregation::SeqMeanTokenMean => sequences * R::from_usize(count(live).max(1)),
            Aggregation::SeqMeanTokenSum => sequences,
            Aggregation::Constant { length } => sequences * length,
        };
        for (&live, weight) in live.iter().zip(weights) {
            *weight = if live { R::ONE / divisor } else { R::ZERO };
        }
    }
    Ok(())
}

/// Σ weight · loss; gradients are multiplied by their weights in place, which makes of them what a host writes as upstream gradient. What weighs 0 is
/// 0 whatever its loss is. All of one shape.
///
/// # Errors
/// Arrays of different lengths.
pub fn aggregate<R: Real>(weights: &[R], losses: &[R], gradients: &mut [R]) -> Result<R, Error> {
    super::number::same_len("losses", losses, weights.len())?;
    super::number::same_len("gradients", gradients, weights.len())?;
    for (&weight, gradient) in weights.iter().zip(gradients) {
        *gradient = times(weight, *gradient);
    }
    Ok(sum(weights.iter().zip(losses).map(|(&weight, &loss)| times(weight, loss))))
}

/// weight · x; 0 for a weight of 0.
fn times<R: Real>(weight: R, x: R) -> R {
    if weight == R::ZERO { R::ZERO } else { weight * x }
}
