//! Attention forward and backward beside the machine's peak: GFLOP/s over the pairs that the causal mask lets through.
//!
//! `cargo bench -p samara-benches --bench attention [-- THREADS [FILTER]]`. The peak is a loop of independent multiply-adds in registers, timed
//! between the runs. A forward pass is 4 FLOPs for every pair and column of a head, a backward pass 10.

use std::time::Instant;

use samara::bench::rates::peak_flops_per_s;
use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara::threads::Pool;
use samara_core::exec::{Backend, Cpu, Gradients, Memory, write_ints, write_real};
use samara_core::graph::{
    AttentionMask, AttentionSpec, DROPOUT_CONTROL_LEN, Graph, NodeRecord, Op, Recompute, TensorRecord, Wrt,
};
use samara_core::ops::dropout::control;
use samara_core::params::Registry;
use samara_core::plan::{Plan, Slot, storage_len};

struct Case {
    name: &'static str,
    batch: usize,
    heads: usize,
    dim: usize,
    queries: usize,
    keys: usize,
    dropout: f64,
}

const fn train(name: &'static str, batch: usize, heads: usize, dim: usize, tokens: usize, dropout: f64) -> Case {
    Case { name, batch, heads, dim, queries: tokens, keys: tokens, dropout }
}

const CASES: [Case; 11] = [
    train("train 64 x 32", 12, 4, 32, 64, 0.0),
    train("train 256 x 32", 8, 4, 32, 256, 0.0),
    train("train 1024 x 32", 1, 8, 32, 1024, 0.0),
    train("train 64 x 64", 8, 6, 64, 64, 0.0),
    train("train 256 x 64", 8, 6, 64, 256, 0.0),
    train("train 1024 x 64", 1, 12, 64, 1024, 0.0),
    train("drop 64 x 32", 12, 4, 32, 64, 0.1),
    train("drop 256 x 64", 8, 6, 64, 256, 0.1),
    Case { name: "decode 1 x 64", batch: 1, heads: 12, dim: 64, queries: 1, keys: 8192, dropout: 0.0 },
    Case { name: "decode 4 x 64", batch: 1, heads: 12, dim: 64, queries: 4, keys: 8192, dropout: 0.0 },
    Case { name: "decode 8 x 64", batch: 1, heads: 12, dim: 64, queries: 8, keys: 8192, dropout: 0.0 },
];

const REPETITIONS: usize = 60;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let threads: usize = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(1);
    let filter = arguments.get(1).cloned().unwrap_or_default();
    let pool = Pool::new(threads).expect("threads");
    println!("{threads} thread(s); GFLOP/s, median (best)");
    println!("{:<16} {:<9} {:>8} {:>12} {:>8} {:>16} {:>8}", "", "", "scratch", "FMA peak", "of peak", "", "GB/s");
    for case in CASES.iter().filter(|case| case.name.contains(&filter)) {
        pool.install(|| run(case, &pool));
    }
}

/// Builds a graph of one node and its gradient and times both.
fn run(case: &Case, pool: &Pool) {
    let (mut tensors, mut nodes) = (vec![TensorRecord::EMPTY; 40], vec![NodeRecord::EMPTY; 20]);
    let registry = Registry::new(&mut []);
    let params = registry.finish(size_of::<f32>()).expect("registry");
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let cols = case.heads * case.dim;
    let spec = AttentionSpec {
        heads: case.heads as u32,
        kv_heads: case.heads as u32,
        head_dim: case.dim as u32,
        causal: true,
        window: 0,
        scale: 1.0 / (case.dim as f64).sqrt(),
        site: 0,
    };
    // What is trained has queries, keys and values in one tensor; what is decoded keeps keys and values apart.
    let training = case.queries == case.keys;
    let rows = [case.queries, case.keys, case.keys];
    let inputs: Vec<_> = if training {
        vec![g.input(&[case.batch, case.queries, 3 * cols])]
    } else {
        rows.iter().map(|&rows| g.input(&[case.batch, rows, cols])).collect()
    };
    let scaled: Vec<_> = inputs.iter().map(|&x| g.scale(x, 1.0)).collect();
    let drop = (case.dropout > 0.0).then(|| g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX));
    let mask = AttentionMask { dropout: drop, ..AttentionMask::NONE };
    let o = match scaled[..] {
        [x] => g.attention(spec, x.into(), x.from_column(cols), x.from_column(2 * cols), mask),
        _ => g.attention(spec, scaled[0].into(), scaled[1].into(), scaled[2].into(), mask),
    };
    let o = g.output(o);
    let upstream = training.then(|| g.input(&[case.batch, case.queries, cols]));
    if let Some(upstream) = upstream {
        g.backward(&[(o, upstream)], Wrt::Tensors(&scaled), Recompute::None);
        for x in scaled.iter().filter_map(|&x| g.gradient(x)) {
            g.output(x);
        }
    }
    let program = g.finish().expect("graph");
    let kernels = cpu(Gemm::Samara);
    let cpu = Cpu::new(&kernels, pool);
    let needed = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); needed], vec![0; needed]);
    let plan = Plan::new(&program, &|n| cpu.scratch_len(n), &mut slots, &mut order).expect("plan");
    let mut arena = vec![0.0; plan.arena_len()];
    let mut ints = vec![0; program.info().ints_len as usize];
    for (i, x) in inputs.iter().chain(&upstream).enumerate() {
        write_real(&program, &plan, &mut arena, *x, &numbers(program.shape(*x).len(), i)).expect("input");
    }
    if let Some(drop) = drop {
        write_ints(&program, &mut ints, drop, &control(1, 2, 3, case.dropout)).expect("control");
    }
    let mut memory = Memory {
        arena: &mut arena,
        state: &mut [],
        ints: &mut ints,
        trainable: &mut [],
        grads: &mut [],
        moments: &mut [],
        frozen: &[],
    };
    cpu.run(&program, &plan, &mut memory, 0..program.nodes().len(), Gradients::Overwrite);
    let pairs = (case.batch * case.heads * case.queries * (2 * case.keys - case.queries + 1)) as f64 / 2.0;
    for (i, node) in program.nodes().iter().enumerate().filter(|(_, node)| !node.dead) {
        let (name, flops) = match node.op() {
            Some(Op::Attention(_)) => ("forward", 4.0),
            Some(Op::AttentionBackward(_)) => ("backward", 10.0),
            _ => continue,
        };
        let flops = flops * pairs * case.dim as f64;
        let mut call = || cpu.run(&program, &plan, &mut memory, i..i + 1, Gradients::Overwrite);
        let inner = (5e6 / flops).ceil().max(1.0) as usize;
        let (mut peaks, mut speeds) = (Vec::new(), Vec::new());
        for _ in 0..REPETITIONS {
            peaks.push(peak_flops_per_s(pool) / 1e9);
            call();
            let start = Instant::now();
            (0..inner).for_each(|_| call());
            speeds.push(flops * inner as f64 / start.elapsed().as_secs_f64() / 1e9);
        }
        let ((middle, best), (peak, peak_best)) = (middle_and_best(speeds), middle_and_best(peaks));
        let scratch = program.node(i).map_or(0, |node| cpu.scratch_len(&node)) * size_of::<f32>() / 1024;
        // Keys and values, read once.
        let bytes = (2 * case.batch * case.keys * cols * size_of::<f32>()) as f64;
        println!(
            "{:<16} {name:<9} {scratch:>4} KiB {peak:>5.0} ({peak_best:>4.0}) {:>8.2} {middle:>8.1} ({best:>5.1}) {:>8.1}",
            case.name,
            middle / peak,
            middle * bytes / flops
        );
    }
}

/// Numbers in [-1, 1).
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 31) % 2003) as f32 / 1001.5 - 1.0).collect()
}

/// The median and the largest of some speeds.
fn middle_and_best(mut speeds: Vec<f64>) -> (f64, f64) {
    speeds.sort_by(f64::total_cmp);
    (speeds[speeds.len() / 2], speeds[speeds.len() - 1])
}
