//! Fast kernels, chosen at run time.

mod avx2;
pub mod gemm;
mod peer;

/// Every kernel for numbers of 32 bits on this machine.
pub fn cpu(_: gemm::Gemm) -> samara_core::exec::Kernels<f32> {
    samara_core::ops::reference()
}
