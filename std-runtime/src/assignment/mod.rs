//! Core's assignment with owned memory, compiled for this machine's features, and batches of problems on threads.

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
