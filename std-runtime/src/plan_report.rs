//! The command `plan`: what a training will take. Nothing is written.

use std::fs;
use std::time::Instant;

use samara_core::graph::Program;
use samara_core::model::gpt::{GptConfig, GptParams};

use crate::cli::requests::{Bytes, Peak, PeakRow, PlanOutcome, PlanRequest, PolicyBytes};
use crate::config::{DataConfig, Invalid, ModelConfig, TokenizerChoice};
use crate::data::batches::{Order, Sampler};
use crate::data::shards::{TokenList, Tokens};
use crate::error::Error;
use crate::gpt::Gpt;
use crate::gpt::recompute::Policies;
use crate::gpt::step::{self, Step, StepNumbers, StepShape};
use crate::session::{Engine, OwnedParams};
use crate::tokenizer::Tokenizer;
use crate::train::prepare::{DataRequest, Splits, shards_of};

/// Plans a training, and takes the time of three steps if asked to.
pub fn run(request: &PlanRequest) -> Result<PlanOutcome, Error> {
    let config = &request.config;
    let train_tokens = train_tokens(&config.data)?;
    let model = ModelConfig { vocab_size: Some(vocabulary(request)?), ..config.model.clone() }.to_core()?;
    let engine = Engine::new(config.train.threads, config.train.gemm)?;
    let Policies { all, shape, plan } = Policies::new(&engine, &model, config)?;
    let class = |class, bytes| Bytes { class, bytes };
    let peak = if request.peak { Some(peak(&engine, &model, &shape)?) } else { None };
    let seconds_per_step = if request.time { Some(timed(request, Gpt::new(engine, model)?, shape)?) } else { None };
    Ok(PlanOutcome {
        parameters: plan.parameters,
        trainable_parameters: plan.trainable_parameters,
        memory: vec![
            class("weights", plan.weights_bytes),
            class("gradients", plan.gradients_bytes),
            class("optimizer", plan.optimizer_bytes),
            class("activations", plan.activations_bytes - plan.scratch_bytes),
            class("scratch", plan.scratch_bytes),
            class("tables", plan.tables_bytes),
            class("mapped", plan.mapped_bytes),
        ],
        resident_bytes: plan.total_bytes,
        policies: all
            .iter()
            .map(|(recompute, plan)| PolicyBytes {
                recompute: recompute.name(),
                bytes: plan.total_bytes,
                chosen: *recompute == shape.recompute,
            })
            .collect(),
        peak,
        flops_per_token: plan.flops_per_token as f64,
        tokens_per_step: plan.tokens_per_step,
        train_tokens,
        checkpoint_bytes: plan.checkpoint_bytes,
        seconds_per_step,
    })
}

/// Tokens of the training split, when they are there already: text is not encoded for a plan, but its file must be there.
fn train_tokens(data: &DataConfig) -> Result<Option<u64>, Error> {
    if let Some(path) = &data.path {
        fs::metadata(path).map_err(Error::io(path, "read"))?;
    }
    Ok(shards_of(&DataRequest::new(data).source)?.map(|(train, _)| train.len()))
}

/// The vocabulary, without reading the data where that can be avoided.
fn vocabulary(request: &PlanRequest) -> Result<usize, Error> {
    let (model, data) = (&request.config.model, &request.config.data);
    match (model.vocab_size, &data.tokenizer) {
        (Some(size), _) => Ok(size),
        (None, TokenizerChoice::Byte) => Ok(256),
        (None, TokenizerChoice::Bpe) => Ok(data.tokenizer_vocab_size),
        (None, TokenizerChoice::Path(path)) => Ok(Tokenizer::load(path)?.vocab_size()),
        (None, TokenizerChoice::Char) if data.path.is_some() => {
            let data = DataRequest::new(data);
            Ok(Splits::load(&data)?.tokenizer(&data)?.vocab_size())
        }
        (None, TokenizerChoice::Char) => Err(Invalid {
            key: "model.vocab_size",
            expected: "a number of token ids, or --data".to_owned(),
            found: "neither".to_owned(),
        }
        .into()),
    }
}

/// What stands in the arena of a training step when it is fullest.
fn peak(engine: &Engine, model: &GptConfig, shape: &StepShape) -> Result<Peak, Error> {
    let (owned, params) = OwnedParams::new(model.param_count(), |registry| GptParams::register(model, registry))?;
    let program = step::program(engine, &owned, model, &params, shape)?;
    let (view, plan) = (program.view(), program.plan());
    let node = plan.peak();
    let mut rows: Vec<PeakRow> = Vec::new();
    for slot in plan.taken_at(node) {
        let (what, bytes) = (kind(&view, slot.owner), u64::from(slot.len) * size_of::<f32>() as u64);
        match rows.iter_mut().find(|row| row.what == what) {
            Some(row) => (row.count, row.bytes) = (row.count + 1, row.bytes + bytes),
            None => rows.push(PeakRow { what, count: 1, bytes }),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    Ok(Peak { node: view.node(node).map_or_else(String::new, |node| node.to_string()), rows })
}

/// What the tensors are whose slots have this owner: the operation that writes them, without the number of its block.
fn kind(program: &Program<'_>, owner: u16) -> String {
    let Some(tensor) = program.tensors().get(usize::from(owner)) else { return "scratch".to_owned() };
    let Some(node) = program.node(tensor.producer.into()) else { return "input".to_owned() };
    let any_block = |part: &str| if part.parse::<usize>().is_ok() { "*".to_owned() } else { part.to_owned() };
    let name: Vec<String> = node.to_string().split('.').map(any_block).collect();
    let pass = if usize::from(tensor.producer) < program.forward().end { "forward" } else { "backward" };
    match node.record().outputs.iter().position(|t| t.index() == usize::from(owner)) {
        Some(output @ 1..) => format!("{pass}: {}, output {output}", name.join(".")),
        _ => format!("{pass}: {}", name.join(".")),
    }
}

/// Steps whose time counts; one comes before them.
const TIMED_STEPS: u64 = 3;

/// Seconds of a step on tokens that mean nothing.
fn timed(request: &PlanRequest, mut gpt: Gpt, shape: StepShape) -> Result<f64, Error> {
    let config = &request.config.train;
    let averages = gpt.add_averages(config);
    let mut step = Step::new(&mut gpt.bound(), shape, &averages)?;
    gpt.initialise(config.seed);
    let vocab = gpt.config.vocab_size as u32;
    let ids = (0..4 * config.block_size as u32 + 2).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect();
    let source = TokenList::new("timing", ids);
    let sampler = Sampler::new(Order::Random, config.seed, config.block_size, 4 * config.block_size as u64 + 2, "timing")?;
    let mut begun = Instant::now();
    for i in 0..=TIMED_STEPS {
        if i == 1 {
            begun = Instant::now();
        }
        let numbers = StepNumbers::new(config, i, 0.0);
        step.run(&mut gpt.bound(), &sampler, &source, &numbers)?;
    }
    Ok(begun.elapsed().as_secs_f64() / TIMED_STEPS as f64)
}
