//! Advantages without a critic: completions of one prompt are each other's baseline.

mod advantages;
mod dapo;
mod reinforce_plus_plus;
mod remax;
mod rloo;

pub use advantages::{GroupAdvantages, GroupOfOne, GroupStatistics, Scale, group_advantages};
pub use dapo::{OverlongPenalty, informative_groups, mask_truncated};
pub use reinforce_plus_plus::reinforce_plus_plus;
pub use remax::remax;
pub use rloo::rloo;
