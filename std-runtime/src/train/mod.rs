//! Training: the loop, what it is asked for, and what a run remembers.

pub mod error;
pub mod folder;
pub mod objective;
pub mod objectives;
pub mod progress;
pub mod request;
pub mod run;
pub mod scalars;
pub mod signal;
pub mod state;
pub mod step;
pub mod trainer;

pub use run::run;
