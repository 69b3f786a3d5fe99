//! Time of a training step of two small GPTs on every core, and where it goes.
//!
//! `cargo bench -p samara-benches --bench step [-- --threads N] [--seconds N] [--ops]`. FLOPs are those of the products: 6 for every weight and
//! token, and of attention without its masked half.

use std::time::{Duration, Instant};

use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara::threads::Pool;
use samara_core::exec::{Backend, Cpu, Gradients, Kernels, Memory, write_ints, write_real};
use samara_core::graph::{Activation, Epsilon, Graph, NodeRecord, Program, Recompute, TensorRecord, Wrt};
use samara_core::model::gpt::{GptConfig, GptInputs, GptParams, hidden};
use samara_core::params::{ParamInfo, Registry};
use samara_core::plan::{Plan, Slot, storage_len};

struct Case {
    name: &'static str,
    config: GptConfig,
    batch: usize,
    block: usize,
}

fn small(n_layer: usize, n_head: usize, n_embd: usize, n_positions: usize) -> GptConfig {
    GptConfig {
        vocab_size: 65,
        n_positions,
        n_embd,
        n_layer,
        n_head,
        n_inner: 4 * n_embd,
        activation_function: Activation::GeluErf,
        bias: false,
        ..GptConfig::GPT2
    }
}

impl Case {
    fn all() -> [Self; 2] {
        [
            Self { name: "4 layers, 4 heads, 128 wide, block 64, batch 12", config: small(4, 4, 128, 64), batch: 12, block: 64 },
            Self { name: "6 layers, 6 heads, 384 wide, block 256, batch 8", config: small(6, 6, 384, 256), batch: 8, block: 256 },
        ]
    }

    fn flops(&self) -> f64 {
        let c = &self.config;
        let tokens = (self.batch * self.block) as f64;
        let weights = c.vocab_size * c.n_embd + c.n_layer * (4 * c.n_embd * c.n_embd + 2 * c.n_embd * c.n_inner);
        let attention = 6.0 * (c.n_layer * c.n_embd) as f64 * self.block as f64;
        tokens * (6.0 * weights as f64 + attention)
    }
}

/// What the command line asks for.
struct Options {
    threads: usize,
    time: Duration,
    ops: bool,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { threads: 0, time: Duration::from_secs(4), ops: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|n| n.parse().ok());
            match arg.as_str() {
                "--threads" => options.threads = number().unwrap_or(0),
                "--seconds" => options.time = Duration::from_secs(number().unwrap_or(4) as u64),
                "--ops" => options.ops = true,
                // `cargo bench` adds --bench.
                _ => {}
            }
        }
        options
    }
}

fn main() {
    let options = Options::parse();
    let pool = Pool::new(options.threads).expect("threads");
    let kernels = cpu(Gemm::Samara);
    for case in Case::all() {
        run(&case, &options, &pool, &kernels);
    }
}

fn run(case: &Case, options: &Options, pool: &Pool, kernels: &Kernels<f32>) {
    let config = &case.config;
    let mut infos = vec![ParamInfo::default(); config.param_count()];
    let mut registry = Registry::new(&mut infos);
    let gpt = GptParams::register(config, &mut registry);
    let params = registry.finish(size_of::<f32>()).expect("registry");
    let (mut tensors, mut nodes) =
        (vec![TensorRecord::EMPTY; 2 * config.tensor_count()], vec![NodeRecord::EMPTY; 2 * config.node_count()]);
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let inputs = GptInputs::new(&g, config, case.batch, case.block);
    let targets = g.ints(&[case.batch, case.block], -1, config.vocab_size as i32 - 1);
    let (upstream, hyper) = (g.input(&[1]), g.input(&[8]));
    let losses = g.output(g.head_loss(hidden(&g, config, &gpt, &inputs, None), g.param(gpt.wte()), None, targets, 0.0));
    g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
    g.adamw(hyper, Some(g.global_norm()), Epsilon::AfterCorrection);
    let program = g.finish().expect("graph");
    let cpu = Cpu::new(kernels, pool);
    let needed = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); needed], vec![0; needed]);
    let plan = Plan::new(&program, &|n| cpu.scratch_len(n), &mut slots, &mut order).expect("plan");

    let tokens = case.batch * case.block;
    let ids: Vec<i32> = (0..tokens).map(|i| (i * 31 % 65) as i32).collect();
    let positions: Vec<i32> = (0..tokens).map(|i| (i % case.block) as i32).collect();
    let mut arena = vec![0.0; plan.arena_len()];
    let mut ints = vec![0; program.info().ints_len as usize];
    let mut trainable = vec![0.0; params.trainable_len()];
    params.initialise(1, &mut trainable);
    let (mut grads, mut moments) = (vec![0.0; trainable.len()], vec![0.0; 2 * trainable.len()]);
    for (t, values) in [(inputs.tokens, &ids), (inputs.positions, &positions), (targets, &ids)] {
        write_ints(&program, &mut ints, t, values).expect("integers");
    }
    write_real(&program, &plan, &mut arena, upstream, &[1.0 / tokens as f32]).expect("upstream");
    write_real(&program, &plan, &mut arena, hyper, &[1e-3, 0.9, 0.99, 1e-8, 0.1, 0.1, 0.01, 1.0]).expect("hyper-parameters");
    let mut memory = Memory {
        arena: &mut arena,
        state: &mut [],
        ints: &mut ints,
        trainable: &mut trainable,
        grads: &mut grads,
        moments: &mut moments,
        frozen: &[],
    };

    let all = 0..program.nodes().len();
    let mut step = || pool.install(|| cpu.run(&program, &plan, &mut memory, all.clone(), Gradients::Overwrite));
    let times = times_of(options.time, &mut step);
    let (least, median) = (times[0], times[times.len() / 2]);
    println!("{}\n  {} threads, arena {:.1} MB", case.name, pool.threads(), plan.arena_len() as f64 * 4e-6);
    for (name, seconds) in [("median", median), ("least", least)] {
        let (gflops, rate) = (case.flops() / seconds * 1e-9, tokens as f64 / seconds);
        println!("  {name:6} {:8.2} ms a step, {gflops:.0} GFLOP/s, {rate:.0} tokens/s", seconds * 1e3);
    }
    if options.ops {
        let mut one = |i: usize| cpu.run(&program, &plan, &mut memory, i..i + 1, Gradients::Overwrite);
        pool.install(|| print_ops(&program, &mut one));
    }
}

/// Seconds of a call, sorted, after a few to warm up.
fn times_of(time: Duration, step: &mut dyn FnMut()) -> Vec<f64> {
    for _ in 0..3 {
        step();
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let before = Instant::now();
        step();
        times.push(before.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Time by operation: for each node the least of some runs, which a busy machine disturbs least.
fn print_ops(program: &Program<'_>, one: &mut dyn FnMut(usize)) {
    const RUNS: usize = 15;
    let nodes = program.nodes();
    let mut times = vec![[0.0; RUNS]; nodes.len()];
    for run in 0..RUNS {
        for (i, times) in times.iter_mut().enumerate() {
            let before = Instant::now();
            one(i);
            times[run] = before.elapsed().as_secs_f64();
        }
    }
    let mut rows: Vec<(&str, usize, f64)> = Vec::new();
    for (node, times) in nodes.iter().zip(&times).filter(|(node, _)| !node.dead) {
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let name = node.op().map_or("?", |op| op.name());
        match rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => (row.1, row.2) = (row.1 + 1, row.2 + least),
            None => rows.push((name, 1, least)),
        }
    }
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let total: f64 = rows.iter().map(|row| row.2).sum();
    for (name, count, seconds) in rows {
        println!("  {name:28} {count:4} calls {:9.3} ms {:5.1} %", seconds * 1e3, 100.0 * seconds / total);
    }
}
