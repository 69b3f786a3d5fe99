//! Core's assignment with memory that owns itself, the passes of this machine, and threads over many problems.

mod batch;
pub mod families;
pub mod files;
mod kernels;
mod ranked;
mod solver;

pub use batch::Batch;
pub use kernels::kernels;
pub use ranked::{Ranked, best_assignments};
pub use solver::{Solution, Solver};
