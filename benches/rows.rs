//! Products of one row against the read bandwidth of this machine.
//!
//! `cargo bench -p samara-benches --bench rows -- [threads]` prints GB/s of the weights: the median and the best of interleaved repetitions. The
//! weights take turns, so that no cache holds them.

use std::hint::black_box;
use std::time::Instant;

use samara::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
use samara::threads::Pool;
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::threads::Threads;

/// Numbers that take turns: 256 MB, far more than the caches.
const NUMBERS: usize = 64 << 20;
const REPETITIONS: usize = 15;

/// m, k, n, and whether the weight is (n, k).
const PRODUCTS: &[(usize, usize, usize, bool)] = &[
    (1, 768, 3072, true),
    (1, 768, 50257, true),
    (1, 3072, 768, true),
    (1, 768, 768, true),
    (4, 768, 3072, true),
    (7, 768, 3072, true),
    (1, 768, 3072, false),
    (1, 768, 50257, false),
    (1, 3072, 768, false),
    (4, 768, 3072, false),
];

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(1);
    let pool = Pool::new(threads).expect("threads");
    let weights: Vec<f32> = (0..NUMBERS).map(|i| (i % 13) as f32 - 6.0).collect();
    println!("{threads} thread(s); GB/s, median (best)");
    println!("{:>3} {:>6} {:>6} {:>8} {:>14} {:>16} {:>9}", "m", "k", "n", "weight", "reading", "samara", "of it");
    for &(m, k, n, turned) in PRODUCTS {
        let (mut reading, mut ours) = (Vec::new(), Vec::new());
        pool.install(|| {
            for _ in 0..REPETITIONS {
                reading.push(read(&pool, &weights));
                ours.push(multiply(&pool, &weights, m, k, n, turned));
            }
        });
        let ((reading, reading_best), (ours, ours_best)) = (middle_and_best(reading), middle_and_best(ours));
        let weight = if turned { "(n, k)" } else { "(k, n)" };
        println!(
            "{m:>3} {k:>6} {n:>6} {weight:>8} {reading:>6.1} ({reading_best:>5.1}) {ours:>8.1} ({ours_best:>5.1}) {:>9.2}",
            ours / reading
        );
    }
}

fn middle_and_best(mut speeds: Vec<f64>) -> (f64, f64) {
    speeds.sort_by(f64::total_cmp);
    (speeds[speeds.len() / 2], speeds[speeds.len() - 1])
}

/// GB/s of a pass over all weights, as many products as they hold.
fn multiply(pool: &Pool, weights: &[f32], m: usize, k: usize, n: usize, turned: bool) -> f64 {
    let choice = GemmChoice::new(Gemm::Samara);
    let x: Vec<f32> = (0..m * k).map(|i| (i % 17) as f32 - 8.0).collect();
    let mut out = vec![0.0; m * n];
    let mut scratch = vec![0.0; gemm_scratch_len(&choice, Major::Rows, m, n, k)];
    let begun = Instant::now();
    for w in weights.chunks_exact(k * n) {
        let w = if turned { MatRef::new(w, n, k).t() } else { MatRef::new(w, k, n) };
        gemm(&choice, pool, MatRef::new(&x, m, k), w, &mut out, n, Store::Overwrite, None, &mut scratch);
        black_box(&mut out);
    }
    (weights.len() / (k * n) * k * n * 4) as f64 / begun.elapsed().as_secs_f64() / 1e9
}

/// GB/s of adding up all numbers, the best that a loop without arithmetic to speak of can do.
fn read(pool: &Pool, weights: &[f32]) -> f64 {
    const PIECE: usize = 1 << 16;
    let begun = Instant::now();
    pool.run(weights.len() / PIECE, &|i| {
        let mut sums = [0.0; 64];
        for line in weights[i * PIECE..][..PIECE].as_chunks::<64>().0 {
            for (sum, x) in sums.iter_mut().zip(line) {
                *sum += x;
            }
        }
        black_box(sums);
    });
    size_of_val(weights) as f64 / begun.elapsed().as_secs_f64() / 1e9
}
