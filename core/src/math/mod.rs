//! Scalar mathematics: the float trait of the kernels, branch-free fast functions, half precision, counter-based random numbers.

pub mod fast;
pub mod half;
pub mod real;
pub mod rng;
pub mod sort;
mod sqrt;

pub use real::Real;
