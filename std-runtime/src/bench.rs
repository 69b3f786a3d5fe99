//! The command `bench`: how fast this machine does what training and generating are made of, beside what it could do.
//!
//! The floors are work divided by a measured rate: that of the fastest product of matrices that fit into the caches, or that of reading more
//! memory than the caches hold.

use std::hint::black_box;
use std::time::Instant;

use samara_core::decode::Sampling;
use samara_core::gemm::{MatRef, Store};
use samara_core::model::gpt::GptConfig;
use samara_core::threads::Threads;

use crate::cli::requests::{BenchKind, BenchRequest, BenchRow};
use crate::config::{ModelConfig, RunConfig};
use crate::data::batches::{Order, Sampler};
use crate::data::shards::TokenList;
use crate::error::Error;
use crate::gpt::Gpt;
use crate::gpt::generate::Generator;
use crate::gpt::plan::TrainingPlan;
use crate::gpt::step::{Step, StepNumbers};
use crate::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
use crate::session::Engine;
use crate::threads::Pool;
use crate::train::run::shape_of;

/// Ids of a model whose tokenizer is not known.
const VOCABULARY: usize = 256;

/// Measures.
pub fn run(request: &BenchRequest) -> Result<Vec<BenchRow>, Error> {
    let config = &request.config;
    let vocab_size = Some(config.model.vocab_size.unwrap_or(VOCABULARY));
    let model = ModelConfig { vocab_size, ..config.model.clone() }.to_core()?;
    let threads = if config.train.threads > 0 { config.train.threads } else { cores() };
    let pool = Pool::new(threads)?;
    match request.kind {
        BenchKind::Gemm => products(request, &model, &pool),
        BenchKind::Step => steps(request, model, &pool),
        BenchKind::Decode => decode(request, model, &pool),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The times of calls in seconds, after one call that does not count.
fn times(repeats: usize, mut call: impl FnMut() -> Result<(), Error>) -> Result<Vec<f64>, Error> {
    call()?;
    let timed = |_| {
        let begun = Instant::now();
        call()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    (0..repeats.max(1)).map(timed).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0).max(1e-12)
}

/// A product of matrices with its memory: C (m, n) = A (m, k) · Bᵀ, B (n, k), as in a linear layer.
struct Product {
    choice: GemmChoice,
    shape: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    scratch: Vec<f32>,
}

impl Product {
    fn new(choice: GemmChoice, m: usize, n: usize, k: usize) -> Self {
        let scratch = vec![0.0; gemm_scratch_len(&choice, m, n, k)];
        Self { choice, shape: [m, n, k], a: vec![0.5; m * k], b: vec![0.25; n * k], c: vec![0.0; m * n], scratch }
    }

    fn run(&mut self, pool: &Pool) {
        let [m, n, k] = self.shape;
        let (a, b) = (MatRef::new(&self.a, m, k), MatRef::new(&self.b, n, k).t());
        let (c, scratch, choice) = (&mut self.c, &mut self.scratch, &self.choice);
        pool.install(|| gemm(choice, pool, a, b, c, n, Store::Overwrite, None, scratch));
        black_box(&self.c);
    }

    fn flop(&self) -> f64 {
        2.0 * self.shape.iter().map(|&x| x as f64).product::<f64>()
    }
}

/// Floating-point operations per second of the fastest product that fits into the caches.
fn peak_flop_per_s(pool: &Pool) -> f64 {
    let mut product = Product::new(GemmChoice::new(Gemm::Samara), 384, 384, 256);
    let fastest = (0..50).map(|_| {
        let begun = Instant::now();
        product.run(pool);
        begun.elapsed().as_secs_f64()
    });
    let seconds = fastest.fold(f64::INFINITY, f64::min).max(1e-12);
    product.flop() / seconds
}

/// Bytes per second of reading 256 MiB.
fn bytes_per_s(pool: &Pool) -> f64 {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 64;
    let memory = vec![1_u32; PIECE * PIECES];
    let read = |i: usize| {
        let piece = memory.get(i * PIECE..(i + 1) * PIECE).unwrap_or(&[]);
        black_box(piece.iter().fold(0_u32, |sum, &x| sum.wrapping_add(x)));
    };
    let fastest = (0..5).map(|_| {
        let begun = Instant::now();
        pool.install(|| pool.run(PIECES, &read));
        begun.elapsed().as_secs_f64()
    });
    size_of_val(&*memory) as f64 / fastest.fold(f64::INFINITY, f64::min).max(1e-12)
}

/// The products of a block's linear layers and of the head.
fn products(request: &BenchRequest, model: &GptConfig, pool: &Pool) -> Result<Vec<BenchRow>, Error> {
    let train = &request.config.train;
    let (rows, c, inner) = (train.batch_size * train.block_size, model.n_embd, model.n_inner);
    let choice = GemmChoice::new(train.gemm);
    let peak = peak_flop_per_s(pool);
    let shapes = [
        ("c_attn", 3 * c, c),
        ("attn.c_proj", c, c),
        ("c_fc", inner, c),
        ("mlp.c_proj", c, inner),
        ("head", model.vocab_size, c),
    ];
    let measure = |(name, n, k): (&str, usize, usize)| {
        let mut product = Product::new(choice, rows, n, k);
        let flop = product.flop();
        let call = || {
            product.run(pool);
            Ok(())
        };
        let seconds = median(times(request.repeats, call)?);
        Ok(BenchRow {
            name: format!("{name} {rows}x{k}x{n}"),
            milliseconds: 1e3 * seconds,
            figure: flop / seconds / 1e9,
            unit: "GFLOP/s",
            floor: flop,
            floor_unit: "FLOP",
            floor_milliseconds: 1e3 * flop / peak,
        })
    };
    shapes.into_iter().map(measure).collect()
}

/// Tokens without a meaning, for one block and more.
fn noise(config: &RunConfig, vocab_size: usize) -> TokenList {
    let len = 4 * config.train.block_size as u32 + 2;
    TokenList::new("noise", (0..len).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size as u32).collect())
}

/// Whole training steps.
fn steps(request: &BenchRequest, model: GptConfig, pool: &Pool) -> Result<Vec<BenchRow>, Error> {
    let (config, train) = (&request.config, &request.config.train);
    let peak = peak_flop_per_s(pool);
    let engine = Engine::new(pool.threads(), train.gemm)?;
    let shape = shape_of(config);
    let plan = TrainingPlan::new(&engine, &model, &shape)?;
    let mut gpt = Gpt::new(engine, model)?;
    let mut step = Step::new(&mut gpt, shape)?;
    gpt.session.initialise(train.seed);
    let source = noise(config, model.vocab_size);
    let tokens = 4 * train.block_size as u64 + 2;
    let sampler = Sampler::new(Order::Random, train.seed, train.block_size, tokens, "noise")?;
    let mut number = 0;
    let call = || {
        step.run(&mut gpt, &sampler, &source, &StepNumbers::new(train, number, 0.0))?;
        number += 1;
        Ok(())
    };
    let seconds = median(times(request.repeats, call)?);
    let flop = plan.flops_per_token as f64 * plan.tokens_per_step as f64;
    Ok(vec![BenchRow {
        name: format!("step of {} tokens, {} parameters", plan.tokens_per_step, plan.parameters),
        milliseconds: 1e3 * seconds,
        figure: plan.tokens_per_step as f64 / seconds,
        unit: "tokens/s",
        floor: flop,
        floor_unit: "FLOP",
        floor_milliseconds: 1e3 * flop / peak,
    }])
}

/// One token at a time: every token reads all weights.
fn decode(request: &BenchRequest, model: GptConfig, pool: &Pool) -> Result<Vec<BenchRow>, Error> {
    let train = &request.config.train;
    let rate = bytes_per_s(pool);
    let mut gpt = Gpt::new(Engine::new(pool.threads(), train.gemm)?, model)?;
    gpt.session.initialise(train.seed);
    let parameters = gpt.session.params().trainable_count() - model.n_positions * model.n_embd;
    if let Some(quantize) = request.quantize {
        gpt = gpt.quantised(quantize.dtype())?;
    }
    // Of the position embedding a token reads one row.
    let bytes = (gpt.weight_bytes() - model.n_positions * model.n_embd * size_of::<f32>()) as f64;
    let tokens = (model.n_positions / 2).clamp(1, 64);
    let mut times = Vec::new();
    for _ in 0..=request.repeats {
        let mut text = Generator::new(&mut gpt, &[0], Sampling::GREEDY, train.seed)?;
        black_box(text.next(&mut gpt)?);
        let begun = Instant::now();
        for _ in 0..tokens {
            black_box(text.next(&mut gpt)?);
        }
        times.push(begun.elapsed().as_secs_f64() / tokens as f64);
    }
    let seconds = median(times);
    Ok(vec![BenchRow {
        name: format!("token, {parameters} parameters"),
        milliseconds: 1e3 * seconds,
        figure: 1.0 / seconds,
        unit: "tokens/s",
        floor: bytes,
        floor_unit: "bytes",
        floor_milliseconds: 1e3 * bytes / rate,
    }])
}
