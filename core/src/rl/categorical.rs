//! The distribution of a row of logits: log-prob and entropy, with their gradients by the logits. A batch gets them from the head's operation
//! ([`Graph::head_loss`](crate::graph)); these are for policies of a few actions, on a device or in a table.

use super::error::Error;
use super::number::{log_sum_exp, same_len, sum};
use crate::math::Real;

/// log softmax(z) in place (V).
///
/// # Errors
/// No logit that is finite.
pub fn log_softmax<R: Real>(logits: &mut [R]) -> Result<(), Error> {
    let all = log_sum_exp(logits);
    if !all.is_finite() {
        return Err(Error::TooFew { name: "finite logits", expected: 1, found: 0 });
    }
    logits.iter_mut().for_each(|z| *z -= all);
    Ok(())
}

/// Adds upstream · ∂ log π(action)/∂z to `gradients` (V): upstream · (1{action} − π). `logprobs` (V) are those of [`log_softmax`].
///
/// # Errors
/// Arrays of different lengths, an action that is not among them.
pub fn logprob_gradient<R: Real>(logprobs: &[R], action: usize, upstream: R, gradients: &mut [R]) -> Result<(), Error> {
    same_len("gradients", gradients, logprobs.len())?;
    if action >= logprobs.len() {
        return Err(Error::Parameter { name: "action", expected: "the position of a logit, from 0", found: action as f64 });
    }
    for (i, (&logprob, gradient)) in logprobs.iter().zip(gradients).enumerate() {
        let own = if i == action { R::ONE } else { R::ZERO };
        *gradient += upstream * (own - logprob.exp());
    }
    Ok(())
}

/// H = −Σ π log π; what has probability 0 counts as 0.
pub fn entropy<R: Real>(logprobs: &[R]) -> R {
    -sum(logprobs.iter().filter(|logprob| logprob.is_finite()).map(|&logprob| logprob.exp() * logprob))
}

/// Adds upstream · ∂H/∂z to `gradients` (V): −upstream · π (log π + H).
///
/// # Errors
/// Arrays of different lengths.
pub fn entropy_gradient<R: Real>(logprobs: &[R], upstream: R, gradients: &mut [R]) -> Result<(), Error> {
    same_len("gradients", gradients, logprobs.len())?;
    let entropy = entropy(logprobs);
    for (&logprob, gradient) in logprobs.iter().zip(gradients).filter(|(logprob, _)| logprob.is_finite()) {
        *gradient += -(upstream * logprob.exp() * (logprob + entropy));
    }
    Ok(())
}
