//! The command `bench`: how fast this machine does what training and generating are made of, beside what it could do.
//!
//! The floors are work divided by a measured rate: that of multiply-adds in registers, or that of reading more memory than the caches hold.
//! A profile knows both for every node and takes the slower one.

mod assign;
pub mod machine;
pub mod profile;

use std::hint::black_box;
use std::time::Instant;

use samara_core::decode::Sampling;
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::model::gpt::GptConfig;

use self::machine::{Machine, peak_flops_per_s, read_bytes_per_s};
use self::profile::{Profile, program_cost};
use crate::cli::requests::{BenchKind, BenchOutcome, BenchRequest, BenchRow, NEW_TOKENS};
use crate::config::{ModelConfig, RunConfig};
use crate::data::batches::{Order, Sampler};
use crate::data::shards::TokenList;
use crate::error::Error;
use crate::gpt::Gpt;
use crate::gpt::generate::Generator;
use crate::gpt::recompute::Policies;
use crate::gpt::step::{Step, StepNumbers};
use crate::kernels::gemm::{GemmChoice, gemm, gemm_scratch_len};
use crate::quantise::refused;
use crate::session::Engine;
use crate::threads::Pool;

/// Ids of a model whose tokenizer is not known.
const VOCABULARY: usize = 256;

/// Measures.
pub fn run(request: &BenchRequest) -> Result<BenchOutcome, Error> {
    let config = &request.config;
    let vocab_size = Some(config.model.vocab_size.unwrap_or(VOCABULARY));
    let model = ModelConfig { vocab_size, ..config.model.clone() }.to_core()?;
    let threads = if config.train.threads > 0 { config.train.threads } else { cores() };
    let pool = Pool::new(threads)?;
    match request.kind {
        BenchKind::Assign => Ok(BenchOutcome { rows: assign::run(request.repeats, &pool)?, profile: None }),
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
        let scratch = vec![0.0; gemm_scratch_len(&choice, Major::Rows, m, n, k)];
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

/// The products of a block's linear layers and of the head.
fn products(request: &BenchRequest, model: &GptConfig, pool: &Pool) -> Result<BenchOutcome, Error> {
    let train = &request.config.train;
    let (rows, c, inner) = (train.batch_size * train.block_size, model.n_embd, model.n_inner);
    let choice = GemmChoice::new(train.gemm);
    let peak = peak_flops_per_s(pool);
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
    Ok(BenchOutcome { rows: shapes.into_iter().map(measure).collect::<Result<_, Error>>()?, profile: None })
}

/// Tokens without a meaning, for one block and more.
fn noise(config: &RunConfig, vocab_size: usize) -> TokenList {
    let len = 4 * config.train.block_size as u32 + 2;
    TokenList::new("noise", (0..len).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size as u32).collect())
}

/// Whole training steps.
fn steps(request: &BenchRequest, model: GptConfig, pool: &Pool) -> Result<BenchOutcome, Error> {
    let (config, train) = (&request.config, &request.config.train);
    let peak = peak_flops_per_s(pool);
    let engine = Engine::new(pool.threads(), train.gemm)?;
    let shape = Policies::new(&engine, &model, config)?.shape;
    let mut gpt = Gpt::new(engine, model)?;
    let averages = gpt.add_averages(train);
    let mut step = Step::new(&mut gpt.bound(), shape, &averages)?;
    gpt.initialise(train.seed);
    let source = noise(config, model.vocab_size);
    let tokens = 4 * train.block_size as u64 + 2;
    let sampler = Sampler::new(Order::Random, train.seed, train.block_size, tokens, "noise")?;
    let mut number = 0;
    let call = || {
        step.run(&mut gpt.bound(), &sampler, &source, &StepNumbers::new(train, number, 0.0))?;
        number += 1;
        Ok(())
    };
    let seconds = median(times(request.repeats, call)?);
    let programs = [(step.program(), shape.accumulation), (step.update().program(), 1)];
    let flops = programs.iter().map(|(program, calls)| program_cost(program, *calls).flops as f64).sum::<f64>();
    let row = BenchRow {
        name: format!("step of {} tokens, {} parameters", shape.tokens(), gpt.weights().params().trainable_count()),
        milliseconds: 1e3 * seconds,
        figure: shape.tokens() as f64 / seconds,
        unit: "tokens/s",
        floor: flops,
        floor_unit: "FLOP",
        floor_milliseconds: 1e3 * flops / peak,
    };
    // Measuring the memory takes memory: only for those who want to see it.
    let profile = request.profile.then(|| {
        let machine = Machine::measure(pool);
        let on = gpt.on();
        let profile = Profile::new(&mut gpt.session, on, &programs, machine, request.repeats, None);
        Profile { whole_milliseconds: 1e3 * seconds, ..profile }
    });
    Ok(BenchOutcome { rows: vec![row], profile })
}

/// A prompt, then one token at a time: every token reads all weights.
fn decode(request: &BenchRequest, model: GptConfig, pool: &Pool) -> Result<BenchOutcome, Error> {
    let train = &request.config.train;
    let (peak, rate) = (peak_flops_per_s(pool), read_bytes_per_s(pool));
    let mut gpt = Gpt::new(Engine::new(pool.threads(), train.gemm)?, model)?;
    gpt.initialise(train.seed);
    let parameters = gpt.weights().params().trainable_count() - model.n_positions * model.n_embd;
    if let Some(quantize) = request.quantize {
        gpt = gpt.quantised(quantize.dtype()).map_err(|error| refused(quantize, error))?;
    }
    // Of the position embedding a token reads one row.
    let bytes = (gpt.weight_bytes() - model.n_positions * model.n_embd * size_of::<f32>()) as f64;
    let (prompt_tokens, new_tokens) = decode_tokens(request, model.n_positions)?;
    let prompt: Vec<i32> = (0..prompt_tokens).map(|i| (i % model.vocab_size) as i32).collect();
    let (mut prompts_s, mut tokens_s, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..=request.repeats {
        let begun = Instant::now();
        let mut text = Generator::new(&mut gpt.bound(), &prompt, Sampling::GREEDY, train.seed)?;
        black_box(text.next(&mut gpt.bound())?);
        prompts_s.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        for _ in 0..new_tokens {
            black_box(text.next(&mut gpt.bound())?);
        }
        tokens_s.push(begun.elapsed().as_secs_f64() / new_tokens as f64);
        last = Some(text);
    }
    // The first round warms up.
    let [prompt_s, token_s] = [prompts_s, tokens_s].map(|times| median(times.into_iter().skip(1).collect()));
    let row = |name, seconds: f64, tokens: usize, floor: f64, floor_unit, rate: f64| BenchRow {
        name,
        milliseconds: 1e3 * seconds,
        figure: tokens as f64 / seconds,
        unit: "tokens/s",
        floor,
        floor_unit,
        floor_milliseconds: 1e3 * floor / rate,
    };
    let flops = prompt_flops(&model, prompt_tokens);
    let rows = vec![
        row(format!("prompt of {prompt_tokens} tokens, its programs built"), prompt_s, prompt_tokens, flops, "FLOP", peak),
        row(format!("token, {parameters} parameters"), token_s, 1, bytes, "bytes", rate),
    ];
    let profile = last.filter(|_| request.profile).map(|text| {
        let machine = Machine { threads: pool.threads(), flops_per_s: peak, bytes_per_s: rate };
        let live = Some(prompt_tokens + new_tokens);
        let on = text.on();
        let profile = Profile::new(&mut gpt.session, on, &[(text.token_program(), 1)], machine, request.repeats, live);
        Profile { whole_milliseconds: 1e3 * token_s, ..profile }
    });
    Ok(BenchOutcome { rows, profile })
}

/// Tokens of the prompt, and tokens generated after the first.
fn decode_tokens(request: &BenchRequest, positions: usize) -> Result<(usize, usize), Error> {
    let prompt = request.prompt_tokens.max(1);
    let new = request.new_tokens.unwrap_or(NEW_TOKENS.min(positions.saturating_sub(prompt))).max(1);
    if prompt.saturating_add(new) > positions {
        return Err(Error::Usage(format!(
            "a prompt of {prompt} tokens and {new} more: expected at most {positions} together, the model's positions; lower --prompt-tokens or \
             --new-tokens, or raise --set model.n_positions=N"
        )));
    }
    Ok((prompt, new))
}

/// Floating-point operations of the products for a prompt, with the head on its last token only.
fn prompt_flops(model: &GptConfig, tokens: usize) -> f64 {
    let (c, tokens) = (model.n_embd as f64, tokens as f64);
    let weights = model.n_layer as f64 * c * (4.0 * c + 2.0 * model.n_inner as f64);
    let attention = 2.0 * model.n_layer as f64 * c * tokens * (tokens + 1.0);
    2.0 * tokens * weights + 2.0 * model.vocab_size as f64 * c + attention
}
