//! Benchmarks of samara, and what they share.

use std::hint::black_box;
use std::time::Instant;

use samara::threads::Pool;
use samara_core::threads::Threads;

/// The median and the largest of some speeds.
pub fn middle_and_best(mut speeds: Vec<f64>) -> (f64, f64) {
    speeds.sort_by(f64::total_cmp);
    (speeds[speeds.len() / 2], speeds[speeds.len() - 1])
}

/// GFLOP/s of twelve independent chains of multiply-adds in registers, on every thread at once.
pub fn peak(pool: &Pool) -> f64 {
    const STEPS: usize = 200_000;
    let start = Instant::now();
    pool.run(pool.threads(), &|_| {
        black_box(chains(STEPS));
    });
    (pool.threads() * STEPS * 12 * 8 * 2) as f64 / start.elapsed().as_secs_f64() / 1e9
}

#[cfg(target_arch = "x86_64")]
fn chains(steps: usize) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};

    #[target_feature(enable = "avx2,fma")]
    fn run(steps: usize) -> f32 {
        let (x, y) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = [x; 12];
        for _ in 0..steps {
            // A loop: closures handed to `map` would not be inlined into a function with its own instruction set.
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += _mm256_cvtss_f32(sum);
        }
        total
    }
    assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "no AVX2 and FMA: no peak to compare with");
    // SAFETY: the machine has AVX2 and FMA, as just asked.
    unsafe { run(steps) }
}

/// Without vector instructions known here: plain numbers, far below the peak.
#[cfg(not(target_arch = "x86_64"))]
fn chains(steps: usize) -> f32 {
    let (x, y) = (black_box(0.5_f32), black_box(0.25));
    let mut sums = [x; 12 * 8];
    for _ in 0..steps {
        sums = sums.map(|sum| sum * x + y);
    }
    sums.into_iter().sum()
}
