//! Which parameters are trained: all, a part, or low-rank adapters on frozen weights; adapter folders in PEFT's layout.

pub mod config;
pub mod merge;
pub mod peft;
pub mod tuned;
