//! Fast kernels, chosen at run time.

mod avx2;
pub mod gemm;
mod peer;
