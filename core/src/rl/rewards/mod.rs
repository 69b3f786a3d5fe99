//! Losses of reward models: from scores of completions to a loss and its derivatives by them.

mod best_of_n;
mod choice;
mod kway;
mod pairwise;
mod plackett_luce;
mod preference;

pub use best_of_n::best_of_n;
pub use kway::kway;
pub use pairwise::{RewardLoss, reward_pairs};
pub use plackett_luce::plackett_luce;
pub use preference::Preference;
