//! Objectives on pairs of completions, one preferred to the other: a file each. All read log-probs summed over the tokens of a completion.

mod cpo;
mod dpo;
mod hinge;
mod ipo;
mod orpo;
mod pair;
mod sigmoid_norm;

pub use cpo::{Cpo, SimPo};
pub use dpo::{CDpo, Dpo, RobustDpo};
pub use hinge::Hinge;
pub use ipo::{IpoMean, IpoSum};
pub use orpo::Orpo;
pub use pair::{Pair, PairGradient, PairLoss, PairOutputs, Pairs, pair_losses};
pub use sigmoid_norm::SigmoidNorm;
