//! The entropy bonus: −coefficient · entropy as a term of the loss (Williams and Peng 1991; Schulman et al. 2017, eq. 9).

use super::error::Error;
use super::number::{not_negative, same_len, sum};
use crate::math::Real;

/// −c Σ weight · entropy, and its derivative −c · weight by each token's entropy, which a host writes as upstream gradient of the entropy. Weights are those
/// of [`token_weights`](super::token_weights); all of one shape.
///
/// # Errors
/// Arrays of different lengths, a negative coefficient.
pub fn entropy_bonus<R: Real>(coefficient: R, weights: &[R], entropies: &[R], gradients: &mut [R]) -> Result<R, Error> {
    not_negative("entropy_coefficient", coefficient)?;
    same_len("entropies", entropies, weights.len())?;
    same_len("gradients", gradients, weights.len())?;
    for (&weight, gradient) in weights.iter().zip(gradients.iter_mut()) {
        *gradient = -(coefficient * weight);
    }
    Ok(sum(gradients.iter().zip(entropies).map(|(&gradient, &entropy)| gradient * entropy)))
}
