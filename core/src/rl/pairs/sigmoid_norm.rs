//! DPO on means over tokens.

use super::dpo::Dpo;
use super::pair::{Pair, PairGradient, PairLoss};
use crate::math::Real;
use crate::rl::error::Error;

/// −log σ(βΔ̄) with every log-ratio divided by its tokens, so that length does not count (TRL's `sigmoid_norm`; "length-normalised DPO" of Lambert et al. 2024,
/// "Tülu 3", eq. 6). Usually with a β of some units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SigmoidNorm<R> {
    /// β, the strength of the reference.
    pub beta: R,
}

impl<R: Real> PairLoss<R> for SigmoidNorm<R> {
    fn reads_lengths(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Error> {
        Dpo { beta: self.beta }.check()
    }

    fn of(&self, pair: &Pair<R>) -> PairGradient<R> {
        Dpo { beta: self.beta }.of(&pair.per_token()).per_token(pair)
    }
}
