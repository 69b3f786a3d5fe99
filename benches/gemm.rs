//! Matrix products against the FMA peak of this machine and the crate matrixmultiply.
//!
//! `cargo bench -p samara-benches --bench gemm -- [threads] [filter]` prints GFLOP/s: the median and the best of interleaved repetitions, since other work on the
//! machine only ever slows one down.

use std::hint::black_box;
use std::time::Instant;

use samara::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
use samara::threads::Pool;
use samara_core::gemm::{MatRef, Order, Store};
use samara_core::threads::Threads;

/// How the operands of a product lie in memory.
#[derive(Clone, Copy)]
enum Layout {
    /// X (m, k) · W (k, n).
    Forward,
    /// dY (m, k) · W (n, k)ᵀ.
    InputGradient,
    /// X (k, m)ᵀ · dY (k, n).
    WeightGradient,
}

/// Name, layout, m, n, k.
const PRODUCTS: &[(&str, Layout, usize, usize, usize)] = &[
    ("square 256", Layout::Forward, 256, 256, 256),
    ("square 512", Layout::Forward, 512, 512, 512),
    ("square 1024", Layout::Forward, 1024, 1024, 1024),
    ("square 2048", Layout::Forward, 2048, 2048, 2048),
    ("gpt2 proj", Layout::Forward, 256, 768, 768),
    ("gpt2 qkv", Layout::Forward, 256, 2304, 768),
    ("gpt2 mlp up", Layout::Forward, 256, 3072, 768),
    ("gpt2 mlp down", Layout::Forward, 256, 768, 3072),
    ("gpt2 head", Layout::InputGradient, 256, 50257, 768),
    ("gpt2 mlp up dX", Layout::InputGradient, 256, 768, 3072),
    ("gpt2 mlp down dX", Layout::InputGradient, 256, 3072, 768),
    ("gpt2 mlp up dW", Layout::WeightGradient, 768, 3072, 256),
    ("gpt2 mlp down dW", Layout::WeightGradient, 3072, 768, 256),
    ("gpt2 qkv dW", Layout::WeightGradient, 768, 2304, 256),
    ("mid qkv", Layout::InputGradient, 2048, 1152, 384),
    ("mid mlp down", Layout::InputGradient, 2048, 384, 1536),
    ("mid mlp up dX", Layout::Forward, 2048, 384, 1536),
    ("mid mlp down dX", Layout::Forward, 2048, 1536, 384),
    ("mid mlp up dW", Layout::WeightGradient, 1536, 384, 2048),
    ("nano qkv", Layout::Forward, 768, 384, 128),
    ("nano proj", Layout::Forward, 768, 128, 128),
    ("nano mlp up", Layout::Forward, 768, 512, 128),
    ("nano mlp down", Layout::Forward, 768, 128, 512),
    ("nano head", Layout::InputGradient, 768, 65, 128),
    ("nano mlp up dX", Layout::InputGradient, 768, 128, 512),
    ("nano mlp up dW", Layout::WeightGradient, 128, 512, 768),
    ("nano head dW", Layout::WeightGradient, 128, 65, 768),
    ("tiny", Layout::Forward, 16, 32, 32),
];

const REPETITIONS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let threads: usize = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(1);
    let filter = arguments.get(1).cloned().unwrap_or_default();
    let pool = Pool::new(threads).expect("threads");
    let choices: Vec<GemmChoice> = GemmChoice::all().filter(|choice| choice.gemm() != Gemm::Portable).collect();
    println!("{threads} thread(s); GFLOP/s, median (best)");
    print!("{:<18} {:>6} {:>6} {:>6} {:>14} {:>8}", "", "m", "n", "k", "FMA peak", "of peak");
    choices.iter().for_each(|choice| print!(" {:>20}", choice.name()));
    println!();
    for &(name, layout, m, n, k) in PRODUCTS.iter().filter(|p| p.0.contains(&filter)) {
        let flops = 2.0 * (m * n * k) as f64;
        let inner = (2e7 / flops).ceil().max(1.0) as usize;
        let mut times = vec![Vec::new(); choices.len()];
        let mut peaks = Vec::new();
        pool.install(|| {
            let mut calls: Vec<Box<dyn FnMut() + Send>> =
                choices.iter().map(|choice| product(choice, &pool, layout, m, n, k)).collect();
            for _ in 0..REPETITIONS {
                peaks.push(peak(&pool));
                for (call, times) in calls.iter_mut().zip(&mut times) {
                    call();
                    let start = Instant::now();
                    (0..inner).for_each(|_| call());
                    times.push(flops * inner as f64 / start.elapsed().as_secs_f64() / 1e9);
                }
            }
        });
        let (peak, peak_best) = middle_and_best(peaks);
        let speeds: Vec<(f64, f64)> = times.into_iter().map(middle_and_best).collect();
        print!("{name:<18} {m:>6} {n:>6} {k:>6} {peak:>6.0} ({peak_best:>4.0}) {:>8.2}", speeds[0].0 / peak);
        speeds.iter().for_each(|(speed, best)| print!("      {speed:>6.1} ({best:>5.1})"));
        println!();
    }
}

fn middle_and_best(mut speeds: Vec<f64>) -> (f64, f64) {
    speeds.sort_by(f64::total_cmp);
    (speeds[speeds.len() / 2], speeds[speeds.len() - 1])
}

fn product<'a>(
    choice: &'a GemmChoice,
    threads: &'a dyn Threads,
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
) -> Box<dyn FnMut() + Send + 'a> {
    let a: Vec<f32> = (0..m * k).map(|i| (i % 17) as f32 - 8.0).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i % 13) as f32 - 6.0).collect();
    let mut out = vec![0.0; m * n];
    let order = if let Layout::WeightGradient = layout { Order::Columns } else { Order::Rows };
    let mut scratch = vec![0.0; gemm_scratch_len(choice, order, m, n, k)];
    Box::new(move || {
        let (a, b) = match layout {
            Layout::Forward => (MatRef::new(&a, m, k), MatRef::new(&b, k, n)),
            Layout::InputGradient => (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t()),
            Layout::WeightGradient => (MatRef::new(&a, k, m).t(), MatRef::new(&b, k, n)),
        };
        gemm(choice, threads, a, b, &mut out, n, Store::Overwrite, None, &mut scratch);
        black_box(&mut out);
    })
}

/// GFLOP/s of twelve independent chains of multiply-adds in registers, on every thread at once.
fn peak(pool: &Pool) -> f64 {
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
