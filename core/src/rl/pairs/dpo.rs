//! Direct preference optimisation, for labels that are right, wrong with a known probability, or both at once.

use super::pair::{Pair, PairGradient, PairLoss};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::{log_sigmoid, positive, sigmoid, smoothed_logistic, smoothing};

/// −log σ(βΔ), Δ = (log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l)). Rafailov et al. 2023, eq. 7. For a pair preferred with probability p the
/// optimum is βΔ = logit p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dpo<R> {
    /// β, the strength of the reference; usually 0.1.
    pub beta: R,
}

/// −(1 − ε) log σ(βΔ) − ε log σ(−βΔ): conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences"; TRL's `label_smoothing`). Optimum
/// βΔ = logit(p (1 − ε) + (1 − p) ε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CDpo<R> {
    /// β, the strength of the reference.
    pub beta: R,
    /// ε, the share of labels that are wrong.
    pub label_smoothing: R,
}

/// (−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)) / (1 − 2ε): in expectation over labels wrong with probability ε the loss of right ones (Chowdhury et al. 2024,
/// eq. 12). Optimum βΔ = logit((p − ε) / (1 − 2ε)); without bound for p ≤ ε or p ≥ 1 − ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RobustDpo<R> {
    /// β, the strength of the reference.
    pub beta: R,
    /// ε, the share of labels that are wrong.
    pub label_smoothing: R,
}

impl<R: Real> PairLoss<R> for Dpo<R> {
    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        scaled(self.beta, smoothed_logistic(self.beta * pair.delta(), R::ZERO))
    }
}

impl<R: Real> PairLoss<R> for CDpo<R> {
    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)?;
        smoothing(self.label_smoothing)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        scaled(self.beta, smoothed_logistic(self.beta * pair.delta(), self.label_smoothing))
    }
}

impl<R: Real> PairLoss<R> for RobustDpo<R> {
    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)?;
        smoothing(self.label_smoothing)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        let (x, wrong) = (self.beta * pair.delta(), self.label_smoothing);
        let right = R::ONE - wrong;
        let trusted = right - wrong;
        let loss = (wrong * log_sigmoid(-x) - right * log_sigmoid(x)) / trusted;
        let slope = -(wrong * sigmoid(x) + right * sigmoid(-x)) / trusted;
        scaled(self.beta, (loss, slope))
    }
}

/// A loss of βΔ, by Δ.
fn scaled<R: Real>(beta: R, (loss, slope): (R, R)) -> PairGradient<R> {
    PairGradient::of_difference((loss, beta * slope))
}
