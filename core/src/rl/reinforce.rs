//! The score-function estimator (Williams 1992): one step on what was just sampled, without ratios.

use super::error::Error;
use super::mask::Mask;
use crate::math::Real;

/// −A log π for each token, and its derivative −A. All (B, T), 0 outside of the mask.
///
/// # Errors
/// Arrays of other shapes than the mask.
pub fn reinforce<R: Real>(
    mask: &Mask<'_>,
    logprobs: &[R],
    advantages: &[R],
    losses: &mut [R],
    gradients: &mut [R],
) -> Result<(), Error> {
    mask.check("logprobs", logprobs)?;
    mask.check("advantages", advantages)?;
    mask.check("losses", losses)?;
    mask.check("gradients", gradients)?;
    let inputs = logprobs.iter().zip(advantages).zip(mask.live());
    for (((&logprob, &advantage), &live), (loss, gradient)) in inputs.zip(losses.iter_mut().zip(gradients)) {
        (*loss, *gradient) = if live { (-(advantage * logprob), -advantage) } else { (R::ZERO, R::ZERO) };
    }
    Ok(())
}
