//! REINFORCE++ (Hu 2025): returns of token rewards, whitened over the whole batch.

use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::gae::discounted_returns;
use crate::rl::mask::Mask;
use crate::rl::whiten::{Moments, Whitening, whiten};

/// A = whiten(Σ_{s ≥ t} γ^{s−t} r_s) over the tokens of the batch. `rewards`, `advantages`: (B, T); the rewards are those of tokens, with the KL penalty in
/// them. For REINFORCE++-baseline their scores are less the mean of their group before ([`group_advantages`](super::group_advantages) without a scale).
/// Returns the moments before whitening.
///
/// # Errors
/// Arrays of other shapes than the mask, γ outside of [0, 1], fewer than two tokens for an unbiased variance.
pub fn reinforce_plus_plus<R: Real>(
    gamma: R,
    how: &Whitening<R>,
    mask: &Mask<'_>,
    rewards: &[R],
    advantages: &mut [R],
) -> Result<Moments<R>, Error> {
    discounted_returns(gamma, mask, rewards, advantages)?;
    whiten(how, mask.live(), advantages)
}
