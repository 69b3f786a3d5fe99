//! Generating token by token.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use samara_core::decode::argmax;
use samara_core::graph::DType;
use samara_core::model::lm::LmDims;
use samara_core::params::Part;

use super::error::BenchError;
use super::measure::{Measurement, median};
use super::profile::Profile;
use super::rates::{Rates, peak_flops_per_s, read_bytes_per_s};
use crate::decoding::slots::{Slots, SlotsShape};
use crate::lm::Model;
use crate::lm::formats::Quantize;
use crate::lm::open::RowsError;
use crate::model::architecture::Architecture;
use crate::session::Engine;
use crate::threads::Pool;
use crate::train::config::TrainConfig;

/// Tokens that a measurement generates by default.
const NEW_TOKENS: usize = 64;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct DecodeRequest {
    /// Quantise the weights.
    pub quantize: Option<Quantize>,
    /// Measurements, of which the median is reported.
    pub repeats: usize,
    /// Also profile a token node by node.
    pub profiled: bool,
    /// Tokens of the prompt before generating.
    pub prompt_tokens: usize,
    /// Tokens generated after the first; `None`: 64, or fewer if the model's context is shorter.
    pub new_tokens: Option<usize>,
    /// Rows decoded at once.
    pub rows: usize,
}

/// Processes a prompt (one per row), then generates one token per row at a time: each step reads all weights.
///
/// # Errors
/// The model cannot be quantised, or its context is too short.
pub fn decode(
    train: &TrainConfig,
    architecture: Arc<dyn Architecture>,
    request: &DecodeRequest,
    pool: &Pool,
) -> Result<(Vec<Measurement>, Option<Profile>), BenchError> {
    let (peak, rate) = (peak_flops_per_s(pool), read_bytes_per_s(pool)?);
    let mut model = Model::new(Engine::new(pool.threads(), train.gemm)?, architecture)?;
    model.initialise(train.seed);
    let dims = model.dims;
    if let Some(quantize) = request.quantize {
        let quantised = model.quantised(quantize.dtype());
        model = quantised.map_err(|error| RowsError::of(quantize, error).map_or_else(BenchError::from, BenchError::from))?;
    }
    let work = Work::of(&mut model);
    let (prompt_tokens, new_tokens) = decode_tokens(request, dims.n_positions)?;
    let prompt: Vec<i32> = (0..prompt_tokens).map(|i| (i % dims.vocab_size) as i32).collect();
    let shape = SlotsShape { slots: request.rows, tokens: prompt_tokens + new_tokens, prompt: prompt_tokens, dtype: DType::Real };
    let rounds = Rounds::run(&mut model, request, &shape, (&prompt, new_tokens))?;
    let rates = Rates { threads: pool.threads(), flops_per_s: peak, bytes_per_s: rate };
    let rows = rounds.measurements(&work, dims, (request.rows, prompt_tokens), rates);
    let Rounds { step_s, slots, .. } = rounds;
    let profile = slots.filter(|_| request.profiled).map(|slots| {
        let live = Some(prompt_tokens + new_tokens);
        let programs = [(slots.program(), 1)];
        let profile = Profile::new(&mut model.session, slots.on(), &programs, rates, request.repeats, live);
        Profile { whole_milliseconds: 1e3 * step_s, ..profile }
    });
    Ok((rows, profile))
}

/// The times of several rounds.
struct Rounds {
    /// Median seconds of all prompts.
    prompt_s: f64,
    /// Median seconds of a step.
    step_s: f64,
    /// The slots of the last round.
    slots: Option<Slots>,
}

impl Rounds {
    fn run(
        model: &mut Model,
        request: &DecodeRequest,
        shape: &SlotsShape,
        (prompt, new_tokens): (&[i32], usize),
    ) -> Result<Self, BenchError> {
        let (mut prompts_s, mut steps_s, mut last) = (Vec::new(), Vec::new(), None);
        for _ in 0..=request.repeats {
            let (model, begun) = (&mut model.bound(), Instant::now());
            let mut slots = Slots::new(model, shape)?;
            for slot in 0..request.rows {
                slots.fill(model, slot, prompt)?;
            }
            prompts_s.push(begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            for _ in 0..new_tokens {
                for slot in 0..request.rows {
                    let token = argmax(slots.logits(slot)) as i32;
                    black_box(slots.feed(slot, token));
                }
                slots.step(model)?;
            }
            steps_s.push(begun.elapsed().as_secs_f64() / new_tokens as f64);
            last = Some(slots);
        }
        // The first round warms up.
        let [prompt_s, step_s] = [prompts_s, steps_s].map(|times| median(times.into_iter().skip(1).collect()));
        Ok(Self { prompt_s, step_s, slots: last })
    }

    /// Both times with their floors. A step reads all weights once and multiplies them with every row: its floor is the larger of the two times.
    fn measurements(&self, work: &Work, dims: LmDims, (rows, prompt_tokens): (usize, usize), rates: Rates) -> Vec<Measurement> {
        let row = |name, seconds: f64, tokens: usize, (floor, floor_unit, rate): (f64, &'static str, f64)| Measurement {
            name,
            milliseconds: 1e3 * seconds,
            figure: tokens as f64 / seconds,
            unit: "tokens/s",
            floor,
            floor_unit,
            floor_milliseconds: 1e3 * floor / rate,
        };
        let of_flops = |flops: f64| (flops, "FLOP", rates.flops_per_s);
        let prompt = of_flops(rows as f64 * work.prompt_flops(dims, prompt_tokens));
        let step = of_flops(2.0 * rows as f64 * (work.blocks + work.head) as f64);
        let read = (work.bytes as f64, "bytes", rates.bytes_per_s);
        let step = if step.0 / step.2 > read.0 / read.2 { step } else { read };
        let parameters = work.blocks + work.head;
        let (prompts, tokens) = match rows {
            1 => (format!("prompt of {prompt_tokens} tokens, its programs built"), format!("token, {parameters} parameters")),
            n => (
                format!("{n} prompts of {prompt_tokens} tokens, their programs built"),
                format!("token of {n} rows, {parameters} parameters"),
            ),
        };
        vec![row(prompts, self.prompt_s, rows * prompt_tokens, prompt), row(tokens, self.step_s, rows, step)]
    }
}

/// Tokens of the prompt, and tokens generated after the first.
fn decode_tokens(request: &DecodeRequest, positions: usize) -> Result<(usize, usize), BenchError> {
    let prompt = request.prompt_tokens.max(1);
    let new = request.new_tokens.unwrap_or(NEW_TOKENS.min(positions.saturating_sub(prompt))).max(1);
    if prompt.saturating_add(new) > positions {
        return Err(BenchError::Positions { prompt, new, positions });
    }
    Ok((prompt, new))
}

/// The parameters that a token is multiplied by; embeddings count one row.
struct Work {
    /// Outside of embeddings and of the head.
    blocks: usize,
    /// Of the head.
    head: usize,
    /// Bytes of both.
    bytes: usize,
}

impl Work {
    fn of(model: &mut Model) -> Self {
        let head = model.bound().layers.head().index();
        let mut work = Self { blocks: 0, head: 0, bytes: 0 };
        for (i, info) in model.weights().params().infos().iter().enumerate() {
            let count = info.shape.len();
            match info.part {
                _ if i == head => work.head += count,
                Part::Tokens | Part::Positions => continue,
                Part::Other | Part::Block(_) | Part::Final | Part::Head => work.blocks += count,
            }
            work.bytes += info.dtype.bytes(count, size_of::<f32>()).unwrap_or(0);
        }
        work
    }

    /// Floating-point operations of the matrix products for a prompt, with the head on its last token only.
    fn prompt_flops(&self, dims: LmDims, tokens: usize) -> f64 {
        let [blocks, head, layers, width, tokens] =
            [self.blocks, self.head, dims.n_layer, dims.attention_width, tokens].map(|x| x as f64);
        2.0 * tokens * blocks + 2.0 * head + 2.0 * layers * width * tokens * (tokens + 1.0)
    }
}
