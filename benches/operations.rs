//! Operations without products, of a GPT and of a Llama, beside their floors: the slower of arithmetic at the machine's peak and of bytes at the speed
//! of its memory. Tensors are larger than caches; what is small enough to stay in one can beat its floor.
//!
//! `cargo bench -p samara-benches --bench operations [-- THREADS [FILTER]]`.

use std::time::Instant;

use samara::bench::rates::Rates;
use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara::threads::Pool;
use samara_core::cost::Cost;
use samara_core::exec::{Backend, Cpu, Gradients, Memory, ints_mut};
use samara_core::graph::{Graph, NodeRecord, Op, Pairing, Recompute, RotarySpec, Tensor, TensorRecord, UnaryKind, Wrt};
use samara_core::params::Registry;
use samara_core::plan::{Plan, Slot, storage_len};

/// Rows and columns of all tensors, and columns of a head.
const ROWS: usize = 16_384;
const COLS: usize = 768;
const HEAD: usize = 64;
const REPETITIONS: usize = 15;

/// What is appended to a graph, given x (ROWS, COLS) that ends there or stays, w (COLS) and positions (ROWS).
type Build = fn(&Graph<'_>, Tensor, Tensor, Tensor) -> Tensor;

const CASES: [(&str, Build); 7] = [
    ("layer norm", |g, x, w, _| g.layer_norm(x, Some(w), None, 1e-5)),
    ("RMS norm", |g, x, w, _| g.rms_norm(x, Some(w), 1e-5)),
    ("rotary, halves", |g, x, _, positions| g.rotary(x, positions, spec(Pairing::Halves))),
    ("rotary, adjacent", |g, x, _, positions| g.rotary(x, positions, spec(Pairing::Adjacent))),
    ("x y", |g, x, _, _| g.mul(x, g.scale(x, 2.0))),
    ("GELU", |g, x, _, _| g.unary(UnaryKind::GeluTanh, 0.0, 0.0, x)),
    ("SiLU", |g, x, _, _| g.unary(UnaryKind::Silu, 0.0, 0.0, x)),
];

fn spec(pairs: Pairing) -> RotarySpec {
    let (heads, head_dim) = ((COLS / HEAD) as u32, HEAD as u32);
    RotarySpec { heads, head_dim, rotated: head_dim, pairs, base: 1e4, inverse: false }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let threads: usize = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(1);
    let filter = arguments.get(1).cloned().unwrap_or_default();
    let pool = Pool::new(threads).expect("threads");
    println!("{threads} thread(s), x ({ROWS}, {COLS}); least time in ms, floor in ms, floor's part of it");
    for (name, build) in CASES.iter().filter(|(name, _)| name.contains(&filter)) {
        pool.install(|| run(name, *build, &pool));
    }
}

/// Times the nodes of an operation and of its gradient.
fn run(name: &str, build: Build, pool: &Pool) {
    let (mut tensors, mut nodes) = (vec![TensorRecord::EMPTY; 40], vec![NodeRecord::EMPTY; 20]);
    let params = Registry::new(&mut []).finish(size_of::<f32>()).expect("registry");
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let (input, w) = (g.input(&[ROWS, COLS]), g.input(&[COLS]));
    let positions = g.ints(&[ROWS], 0, ROWS as i32);
    let x = g.unary(UnaryKind::Offset, 1.0, 0.0, input);
    let y = g.output(build(&g, x, w, positions));
    g.backward(&[(y, g.input(&[ROWS, COLS]))], Wrt::Tensors(&[input, w]), Recompute::None);
    for t in [input, w].into_iter().filter_map(|t| g.gradient(t)) {
        g.output(t);
    }
    let program = g.finish().expect("graph");
    let kernels = cpu(Gemm::Samara);
    let cpu = Cpu::new(&kernels, pool);
    let needed = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); needed], vec![0; needed]);
    let plan = Plan::new(&program, &|n| cpu.scratch_len(n), &mut slots, &mut order).expect("plan");
    let mut arena: Vec<f32> = (0..plan.arena_len()).map(|i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0).collect();
    let mut ints = vec![0; program.info().ints_len as usize];
    if let Some(positions) = ints_mut(&program, &mut ints, positions) {
        positions.iter_mut().enumerate().for_each(|(i, p)| *p = i as i32);
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
    let machine = Rates::measure(pool).expect("memory");
    for (i, node) in program.nodes().iter().enumerate().filter(|(_, node)| !node.dead) {
        let (Some(op), Some(cost)) = (node.op(), Cost::of(&program, &plan, i, size_of::<f32>(), None)) else { continue };
        if matches!(op, Op::Unary { kind: UnaryKind::Offset | UnaryKind::Scale, .. }) {
            continue;
        }
        let time = |_| {
            let begun = Instant::now();
            cpu.run(&program, &plan, &mut memory, i..i + 1, Gradients::Overwrite);
            begun.elapsed().as_secs_f64()
        };
        let (least, floor) = ((0..REPETITIONS).map(time).fold(f64::INFINITY, f64::min), machine.floor_s(cost));
        println!("{name:<18} {:<20} {:>8.3} {:>8.3} {:>6.2}", op.name(), 1e3 * least, 1e3 * floor, floor / least);
    }
}
