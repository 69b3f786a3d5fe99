//! A policy that is improved by the rewards of its own completions: PPO with a value function, and the methods that do without.

pub mod advantages;
pub mod episodes;
pub mod method;
pub mod objective;
mod rollout;
pub mod scorer;
mod update;
