//! A policy that is improved by the rewards of its own completions: PPO with a value function, and the methods that do without.

pub mod advantages;
pub mod builtin;
pub mod choices;
pub mod config;
mod dynamic;
pub mod episodes;
pub mod method;
pub mod objective;
pub mod pretraining;
mod ptx;
pub mod resolve;
pub mod rewards;
mod rollout;
pub mod scorer;
pub mod state;
mod update;
