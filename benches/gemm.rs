//! Matrix products against the FMA peak of this machine and the crate matrixmultiply.
//!
//! `cargo bench -p samara-benches --bench gemm -- [threads] [filter]` prints GFLOP/s: the median and the best of interleaved repetitions, since other work on the
//! machine only ever slows one down.

use std::hint::black_box;
use std::time::Instant;

use samara::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
use samara::threads::Pool;
use samara_benches::{middle_and_best, peak};
use samara_core::gemm::{MatRef, Store};
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
    let choices = [Gemm::Samara, Gemm::MatrixMultiply].map(GemmChoice::new);
    println!("{threads} thread(s); GFLOP/s, median (best)");
    println!(
        "{:<18} {:>6} {:>6} {:>6} {:>14} {:>8} {:>16} {:>16}",
        "",
        "m",
        "n",
        "k",
        "FMA peak",
        "of peak",
        choices[0].name(),
        choices[1].name()
    );
    for &(name, layout, m, n, k) in PRODUCTS.iter().filter(|p| p.0.contains(&filter)) {
        let flops = 2.0 * (m * n * k) as f64;
        let inner = (2e7 / flops).ceil().max(1.0) as usize;
        let mut times = [const { Vec::new() }; 3];
        pool.install(|| {
            let mut calls: Vec<Box<dyn FnMut() + Send>> =
                choices.iter().map(|choice| product(choice, &pool, layout, m, n, k)).collect();
            for _ in 0..REPETITIONS {
                times[2].push(peak(&pool));
                for (call, times) in calls.iter_mut().zip(&mut times) {
                    call();
                    let start = Instant::now();
                    (0..inner).for_each(|_| call());
                    times.push(flops * inner as f64 / start.elapsed().as_secs_f64() / 1e9);
                }
            }
        });
        let [(ours, ours_best), (peer, peer_best), (peak, peak_best)] = times.map(middle_and_best);
        println!(
            "{name:<18} {m:>6} {n:>6} {k:>6} {peak:>6.0} ({peak_best:>4.0}) {:>8.2} {ours:>8.1} ({ours_best:>5.1}) {peer:>8.1} ({peer_best:>5.1})",
            ours / peak
        );
    }
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
    let mut scratch = vec![0.0; gemm_scratch_len(choice, m, n, k)];
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
