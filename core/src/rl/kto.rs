//! Kahneman–Tversky optimisation: completions that are good or bad, without pairs (Ethayarajh et al. 2024, eqs. 7 and 8).

use super::error::Error;
use super::number::{finite, not_negative, positive, same_len, sigmoid, sum};
use crate::math::Real;

/// λ_D (1 − σ(β (r − z₀))) for desirable completions, λ_U (1 − σ(β (z₀ − r))) for the others, r = log π − log π_ref of the completion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kto<R> {
    /// β; usually 0.1.
    pub beta: R,
    /// λ_D.
    pub desirable_weight: R,
    /// λ_U; λ_D n_D / (λ_U n_U) is best between 1 and 4/3.
    pub undesirable_weight: R,
}

/// Completions (n): sums of log-probs over their tokens, in nats.
#[derive(Clone, Copy, Debug)]
pub struct Unpaired<'a, R> {
    /// log π.
    pub policy: &'a [R],
    /// log π_ref.
    pub reference: &'a [R],
    /// Whether the completion is desirable.
    pub desirable: &'a [bool],
}

/// z₀ = max(0, mean of log π − log π_ref over *mismatched* pairs): prompts with completions of others (TRL: completion i − 1 with prompt i). It estimates
/// the KL and has no gradient.
///
/// # Errors
/// No ratios, ratios that are not finite.
pub fn kto_reference_point<R: Real>(mismatched_log_ratios: &[R]) -> Result<R, Error> {
    finite("mismatched log-ratios", mismatched_log_ratios)?;
    if mismatched_log_ratios.is_empty() {
        return Err(Error::TooFew { name: "mismatched log-ratios", expected: 1, found: 0 });
    }
    let mean = sum(mismatched_log_ratios.iter().copied()) / R::from_usize(mismatched_log_ratios.len());
    Ok(mean.max(R::ZERO))
}

/// Losses of completions (n) and their derivatives by log π (n). The loss of a batch is the mean of its losses.
///
/// # Errors
/// Arrays of different lengths, parameters out of range, a reference point below 0.
pub fn kto<R: Real>(
    how: &Kto<R>,
    batch: &Unpaired<'_, R>,
    reference_point: R,
    losses: &mut [R],
    gradients: &mut [R],
) -> Result<(), Error> {
    positive("beta", how.beta)?;
    not_negative("desirable_weight", how.desirable_weight)?;
    not_negative("undesirable_weight", how.undesirable_weight)?;
    not_negative("kl", reference_point)?;
    let n = batch.policy.len();
    same_len("reference", batch.reference, n)?;
    same_len("label", batch.desirable, n)?;
    same_len("losses", losses, n)?;
    same_len("gradients", gradients, n)?;
    let inputs = batch.policy.iter().zip(batch.reference).zip(batch.desirable);
    for (((&policy, &reference), &desirable), (loss, gradient)) in inputs.zip(losses.iter_mut().zip(gradients)) {
        let (sign, weight) = if desirable { (R::ONE, how.desirable_weight) } else { (-R::ONE, how.undesirable_weight) };
        let x = sign * how.beta * (policy - reference - reference_point);
        // 1 − σ(x) = σ(−x), without cancellation.
        *loss = weight * sigmoid(-x);
        *gradient = -(sign * how.beta * weight * sigmoid(x) * sigmoid(-x));
    }
    Ok(())
}
