//! Odds-ratio preference optimisation.

use super::pair::{Pair, PairGradient, PairLoss};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{exp_m1, log1mexp, not_negative, positive, smoothed_logistic};

/// −β log σ(log odds(y_w) − log odds(y_l)) + w (−p̄_w), odds = e^p̄ / (1 − e^p̄), p̄ = the mean log-prob of a token. Hong et al. 2024, eqs. 6 and 7. The
/// likelihood of the paper is that of prompt and completion, which a trainer adds; `nll_weight` takes the completion's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orpo<R> {
    /// β (λ of the paper); usually 0.1.
    pub beta: R,
    /// w of the likelihood of the better completion, for each of its tokens. 0: the odds ratio alone.
    pub nll_weight: R,
}

/// A mean log-prob of 0 would have infinite odds: it counts as this, and has no gradient.
const CERTAIN: f64 = -1e-12;

impl<R: Real> PairLoss<R> for Orpo<R> {
    fn reads_reference(&self) -> bool {
        false
    }

    fn reads_lengths(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)?;
        not_negative("nll_weight", self.nll_weight)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        let means = pair.per_token();
        let (chosen, by_chosen) = log_odds(means.policy_chosen);
        let (rejected, by_rejected) = log_odds(means.policy_rejected);
        let (loss, slope) = smoothed_logistic(chosen - rejected, R::ZERO);
        let slope = self.beta * slope;
        PairGradient {
            loss: self.beta * loss - self.nll_weight * means.policy_chosen,
            by_chosen: slope * by_chosen - self.nll_weight,
            by_rejected: -(slope * by_rejected),
        }
        .per_token(pair)
    }
}

/// p − log(1 − eᵖ) and its derivative 1 / (1 − eᵖ).
fn log_odds<R: Real>(p: R) -> (R, R) {
    let limit = R::from_f64(CERTAIN);
    if p > limit {
        return (limit - log1mexp(limit), R::ZERO);
    }
    (p - log1mexp(p), R::ONE / -exp_m1(p))
}
