//! Estimators of KL(π‖π_ref) from log-probs of sampled tokens, with their gradients.

use super::error::Error;
use super::mask::Mask;
use super::number::{clamp, exp_m1, same_len, sum};
use crate::math::Real;

/// An estimator of KL(π‖π_ref) from one token: x = log π − log π_ref (Schulman 2020, "Approximating KL divergence"). As a term of a *reward* all are
/// used by value; as a term of a *loss* only the sequence form of k2 ([`sequence_k2`]) has the gradient of the KL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Estimator {
    /// x: unbiased, may be negative. Its gradient as a loss is 0 in expectation: use it in rewards.
    #[default]
    K1,
    /// |x|.
    Abs,
    /// ½x²: biased. Its gradient is x.
    K2,
    /// e⁻ˣ − 1 + x: unbiased, never negative. Its gradient is 1 − e⁻ˣ, which in expectation is that of KL(π_ref‖π).
    K3,
    /// The value of k3 with the gradient of k2 (verl's `k3+`).
    K3Plus,
}

/// Limits of an estimator; none by default, as in TRL. verl has 20 for the difference and 10 for the value of k3, OpenRLHF 10 for the value.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Limits<R> {
    /// The difference x is limited to ±this.
    pub difference: Option<R>,
    /// The estimate is limited to ±this.
    pub value: Option<R>,
}

/// Below it k3 is taken from its series.
const SERIES: f64 = 0.25;
/// Terms after which the series is exact in f64.
const TERMS: usize = 14;

impl Estimator {
    /// The estimate of one token and its derivative by log π.
    pub fn of<R: Real>(self, logprob: R, reference: R) -> (R, R) {
        let x = logprob - reference;
        match self {
            Self::K1 => (x, R::ONE),
            Self::Abs => (x.abs(), if x < R::ZERO { -R::ONE } else { R::ONE }),
            Self::K2 => (half(x * x), x),
            Self::K3 => (k3(x), -exp_m1(-x)),
            Self::K3Plus => (k3(x), x),
        }
    }

    /// The same within limits: beyond one the derivative is 0.
    pub fn limited<R: Real>(self, limits: &Limits<R>, logprob: R, reference: R) -> (R, R) {
        let x = logprob - reference;
        let within = limits.difference.map_or(x, |limit| clamp(x, -limit, limit));
        let (value, slope) = self.of(within, R::ZERO);
        let limited = limits.value.map_or(value, |limit| clamp(value, -limit, limit));
        (limited, if within == x && limited == value { slope } else { R::ZERO })
    }
}

/// ½x.
fn half<R: Real>(x: R) -> R {
    x * R::from_f64(0.5)
}

/// e⁻ˣ − 1 + x. Near 0 from the series x²/2! − x³/3! + …, for the terms of the formula cancel: in f32 at x = 10⁻³ an eighth of it would be rounding.
fn k3<R: Real>(x: R) -> R {
    if x.abs() > R::from_f64(SERIES) {
        return (-x).exp() - R::ONE + x;
    }
    // Horner's rule, from the last term: 1/2! (1 − x/3 (1 − x/4 (…))).
    let tail = (3..TERMS).rev().fold(R::ONE, |tail, k| R::ONE - x / R::from_usize(k) * tail);
    half(x * x) * tail
}

/// Estimates for tokens, any shape: `values` gets them, `gradients` their derivatives by `logprobs`. For log π = log π_ref both are exactly 0, but for
/// k1 and |x|, whose derivative is 1.
///
/// # Errors
/// Arrays of different lengths.
pub fn kl<R: Real>(
    estimator: Estimator,
    limits: &Limits<R>,
    logprobs: &[R],
    reference: &[R],
    values: &mut [R],
    gradients: &mut [R],
) -> Result<(), Error> {
    same_len("reference", reference, logprobs.len())?;
    same_len("values", values, logprobs.len())?;
    same_len("gradients", gradients, logprobs.len())?;
    let outputs = values.iter_mut().zip(gradients);
    for ((&logprob, &reference), (value, gradient)) in logprobs.iter().zip(reference).zip(outputs) {
        (*value, *gradient) = estimator.limited(limits, logprob, reference);
    }
    Ok(())
}

/// Sequence k2: ½(Σ_t x_t)² for each row, over the tokens that count. Its gradient by every such log-prob is Σ_t x_t, and its expected gradient under π is
/// exactly that of KL(π‖π_ref) (Tang and Munos 2025, "On a few pitfalls in KL divergence gradient estimation for RL"); a token-wise k2 lacks the
/// future of each token. `logprobs`, `reference`, `gradients`: (B, T); `values`: (B).
///
/// # Errors
/// Arrays of other shapes than the mask.
pub fn sequence_k2<R: Real>(
    mask: &Mask<'_>,
    logprobs: &[R],
    reference: &[R],
    values: &mut [R],
    gradients: &mut [R],
) -> Result<(), Error> {
    mask.check("logprobs", logprobs)?;
    mask.check("reference", reference)?;
    mask.check("gradients", gradients)?;
    same_len("values", values, mask.rows())?;
    let inputs = mask.each_row().zip(mask.rows_of(logprobs).zip(mask.rows_of(reference)));
    let outputs = values.iter_mut().zip(mask.rows_of_mut(gradients));
    for ((live, (logprobs, reference)), (value, gradients)) in inputs.zip(outputs) {
        let differences = live.iter().zip(logprobs.iter().zip(reference)).filter(|(live, _)| **live);
        let total = sum(differences.map(|(_, (&logprob, &reference))| logprob - reference));
        *value = half(total * total);
        for (&live, gradient) in live.iter().zip(gradients) {
            *gradient = if live { total } else { R::ZERO };
        }
    }
    Ok(())
}
