//! Scalar mathematics: the number trait of the kernels, fast branch-free functions, counter-based random numbers.

pub mod fast;
pub mod real;
pub mod rng;
pub mod sort;

pub use real::Real;
