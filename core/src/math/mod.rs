//! Scalar mathematics: the number trait of the kernels, fast branch-free functions, half precision, counter-based random numbers.

pub mod fast;
pub mod half;
pub mod real;
pub mod rng;
pub mod sort;
mod sqrt;

pub use real::Real;
