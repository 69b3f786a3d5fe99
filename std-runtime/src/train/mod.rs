//! Training: the loop, what it is asked for, and what a run remembers.

pub mod error;
pub mod progress;
pub mod request;
pub mod run;
pub mod signal;
pub mod state;

pub use run::run;
