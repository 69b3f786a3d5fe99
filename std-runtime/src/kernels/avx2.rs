//! The micro-kernel for x86-64 with AVX2 and FMA.

use samara_core::gemm::MicroKernel;

/// The kernel, if this machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernel() -> Option<MicroKernel<f32>> {
    let available = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    available.then_some(MicroKernel { mr: x86::MR, nr: x86::NR, mc: 144, kc: 256, nc: 1024, run: x86::run })
}

/// No such kernel on this kind of machine.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn kernel() -> Option<MicroKernel<f32>> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps};

    /// Six rows of two vectors: twelve sums in registers hide the latency of two multiply-adds a cycle.
    pub(super) const MR: usize = 6;
    pub(super) const NR: usize = 16;

    /// Reached only through [`super::kernel`], which has asked the machine.
    pub(super) fn run(k: usize, a: &[f32], b: &[f32], tile: &mut [f32]) {
        assert!(a.len() >= k * MR && b.len() >= k * NR && tile.len() >= MR * NR, "panels shorter than {k}");
        // SAFETY: the machine has AVX2 and FMA, and the lengths were just checked.
        unsafe { multiply(k, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr()) }
    }

    /// # Safety
    /// AVX2 and FMA exist; a (k, MR), b (k, NR) can be read and tile (MR, NR) written.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn multiply(k: usize, mut a: *const f32, mut b: *const f32, tile: *mut f32) {
        let mut sums: [[__m256; 2]; MR] = [[_mm256_setzero_ps(); 2]; MR];
        for _ in 0..k {
            // SAFETY: k steps of MR and NR elements stay inside the panels.
            unsafe {
                let (left, right) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*a.add(i));
                    sums[0] = _mm256_fmadd_ps(x, left, sums[0]);
                    sums[1] = _mm256_fmadd_ps(x, right, sums[1]);
                }
                a = a.add(MR);
                b = b.add(NR);
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            // SAFETY: the tile has MR rows of NR elements.
            unsafe {
                _mm256_storeu_ps(tile.add(i * NR), sums[0]);
                _mm256_storeu_ps(tile.add(i * NR + 8), sums[1]);
            }
        }
    }
}
