//! Identity preference optimisation, on sums and on means of log-probs.

use super::pair::{Pair, PairGradient, PairLoss};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::positive;

/// (Δ − 1/(2β))² with Δ of sums. Azar et al. 2023, eq. 17; OpenRLHF. For a pair preferred with probability p, labels drawn, the optimum is
/// Δ = (2p − 1) / (2β).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IpoSum<R> {
    /// β, the strength of the reference: τ of the paper.
    pub beta: R,
}

/// The same with log-ratios divided by their tokens: TRL's `ipo`, as the paper's authors advised for completions of different lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IpoMean<R> {
    /// β, the strength of the reference.
    pub beta: R,
}

impl<R: Real> PairLoss<R> for IpoSum<R> {
    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        squared(self.beta, pair)
    }
}

impl<R: Real> PairLoss<R> for IpoMean<R> {
    fn reads_lengths(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        squared(self.beta, &pair.per_token()).per_token(pair)
    }
}

fn squared<R: Real>(beta: R, pair: &Pair<R>) -> PairGradient<R> {
    let error = pair.delta() - R::ONE / (beta + beta);
    PairGradient::of_difference((error * error, error + error))
}
