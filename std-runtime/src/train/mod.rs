//! Training: data preparation, the loop, and what a run remembers.

pub mod prepare;
pub mod progress;
pub mod run;
pub mod signal;
pub mod state;

pub use run::run;
