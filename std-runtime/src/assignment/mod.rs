//! Core's assignment with memory that owns itself, the passes of this machine, and threads over many problems.

pub mod families;
pub mod files;
mod kernels;
mod solver;

pub use kernels::kernels;
pub use solver::{Solution, Solver};
