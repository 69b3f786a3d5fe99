//! Core's assignment with memory that owns itself, the passes of this machine, and threads over many problems.

mod batch;
pub mod costs;
pub mod families;
pub mod files;
mod machine;
mod ranked;
mod solver;
mod stand_ins;
mod text;

pub use batch::Batch;
pub use machine::ThisMachine;
pub use ranked::{Ranked, best_assignments};
pub use solver::{Solution, Solver};
