//! Training: the loop, what it is asked for, and what a run remembers.

pub mod config;
pub mod error;
pub mod presets;
pub mod progress;
pub mod recompute;
pub mod request;
pub mod run;
pub mod shape;
pub mod signal;
pub mod state;
#[cfg(test)]
mod tests;

pub use run::run;
