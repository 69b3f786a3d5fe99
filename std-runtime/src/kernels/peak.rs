//! Peak rates of a thread: multiply-adds in registers, and sequential memory reads in the fastest order.

use std::hint::black_box;

use super::prefetch::prefetch_line;
use super::simd::simd;

/// Independent chains: enough to hide the latency of two multiply-adds a cycle.
const CHAINS: usize = 12;

/// Runs `steps` rounds of multiply-adds and returns how many floating-point operations these were.
pub fn multiply_adds(steps: usize) -> f64 {
    let lanes = chains(steps);
    (steps * CHAINS * lanes * 2) as f64
}

/// Runs the widest loop that this machine supports; returns its sums in a register.
#[cfg(target_arch = "x86_64")]
fn chains(steps: usize) -> usize {
    use std::arch::x86_64::{
        _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtss_f32, _mm512_fmadd_ps, _mm512_set1_ps,
    };

    // Loops, because closures passed to `map` would not be inlined into a function with its own target features.
    #[target_feature(enable = "avx512f")]
    fn avx512(steps: usize) {
        let (x, y) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [x; CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        for sum in sums {
            black_box(_mm512_cvtss_f32(sum));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2(steps: usize) {
        let (x, y) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = [x; CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        for sum in sums {
            black_box(_mm256_cvtss_f32(sum));
        }
    }

    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has AVX-512F, as just checked.
        unsafe { avx512(steps) };
        return 16;
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the machine has AVX2 and FMA, as just checked.
        unsafe { avx2(steps) };
        return 8;
    }
    plain(steps)
}

#[cfg(not(target_arch = "x86_64"))]
fn chains(steps: usize) -> usize {
    plain(steps)
}

/// Chains in the target's default registers.
fn plain(steps: usize) -> usize {
    const LANES: usize = 4;
    let (x, y) = (black_box(0.5_f32), black_box(0.25));
    let mut sums = [x; CHAINS * LANES];
    for _ in 0..steps {
        for sum in &mut sums {
            // One instruction where the target always has it; two elsewhere, where fused it would be a call.
            *sum = if cfg!(target_arch = "aarch64") { sum.mul_add(x, y) } else { *sum * x + y };
        }
    }
    black_box(sums);
    LANES
}

/// f32 values of a cache line.
const LINE: usize = 16;
/// Rows that are read concurrently, and the f32 values of a row.
const ROWS: usize = 8;
const ROW: usize = 768;
/// Prefetch distance in f32 values.
const AHEAD: usize = 8192;

simd! {
    /// Reads whole blocks of rows and returns their sum. Eight streams at once, with every line of the data ahead prefetched in order, are a quarter
    /// faster than one stream, and the fastest of the variants that were tried.
    pub fn read<M>(numbers: &[f32]) -> f32 {
        let mut sums = [[0.0; LINE]; ROWS];
        let (blocks, _) = numbers.as_chunks::<{ ROWS * ROW }>();
        for block in blocks {
            let (lines, _) = block.as_chunks::<LINE>();
            for i in 0..ROW / LINE {
                for (row, sums) in sums.iter_mut().enumerate() {
                    prefetch_line(block.as_ptr().wrapping_add(AHEAD + (i * ROWS + row) * LINE));
                    for (sum, x) in sums.iter_mut().zip(&lines[row * (ROW / LINE) + i]) {
                        *sum += x;
                    }
                }
            }
        }
        sums.as_flattened().iter().sum()
    }
}
