//! samara's runtime on a machine with an operating system.

pub mod kernels;
pub mod threads;
pub mod tiles;
