//! PPO-ptx: pretraining text mixed into the policy's step (Ouyang et al. 2022, eq. 2).

use super::aggregate::{Aggregation, Totals, aggregate, token_weights};
use super::error::Error;
use super::mask::Mask;
use super::number::not_negative;
use crate::math::Real;

/// The term γ E[−log π(x)] over pretraining text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ptx<R> {
    /// γ; 27.8 in InstructGPT, 0: plain PPO.
    pub coefficient: R,
    /// What the expectation is over: tokens, or whole texts.
    pub aggregation: Aggregation<R>,
}

/// γ Σ weight · (−log π) of pretraining tokens, and its derivative −γ · weight by each log-prob. All (B, T). It is added to the policy's gradient in the
/// same buffer, in a pass of its own.
///
/// # Errors
/// Arrays of other shapes than the mask, a negative γ, totals of 0.
pub fn ptx<R: Real>(
    how: &Ptx<R>,
    totals: Totals,
    mask: &Mask<'_>,
    logprobs: &[R],
    weights: &mut [R],
    gradients: &mut [R],
) -> Result<R, Error> {
    not_negative("ptx_coefficient", how.coefficient)?;
    mask.check("gradients", gradients)?;
    token_weights(how.aggregation, totals, mask, weights)?;
    gradients.fill(-how.coefficient);
    Ok(-(how.coefficient * aggregate(weights, logprobs, gradients)?))
}
