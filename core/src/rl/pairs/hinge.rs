//! The hinge loss of a pair.

use super::pair::{Pair, PairGradient, PairLoss};
use crate::math::Real;
use crate::rl::error::Error;
use crate::rl::number::positive;

/// max(0, 1 − βΔ): SLiC's calibration (Zhao et al. 2023, eq. 1) normalised by the reference (Liu et al. 2023, "RSO", section 3.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hinge<R> {
    /// β: 1/β is the margin of Δ.
    pub beta: R,
}

impl<R: Real> PairLoss<R> for Hinge<R> {
    fn check(&self) -> Result<(), Error> {
        positive("beta", self.beta)
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        let loss = R::ONE - self.beta * pair.delta();
        let found = if loss > R::ZERO { (loss, -self.beta) } else { (R::ZERO, R::ZERO) };
        PairGradient::of_difference(found)
    }
}
