//! The command `plan`: what a training will take. Nothing is written.

use std::time::Instant;

use crate::cli::requests::{Bytes, PlanOutcome, PlanRequest};
use crate::config::{Invalid, ModelConfig, TokenizerChoice};
use crate::data::batches::{Order, Sampler};
use crate::data::shards::TokenList;
use crate::error::Error;
use crate::gpt::Gpt;
use crate::gpt::plan::TrainingPlan;
use crate::gpt::step::{Step, StepNumbers};
use crate::session::Engine;
use crate::tokenizer::Tokenizer;
use crate::train::run::shape_of;

/// Plans a training, and takes the time of three steps if asked to.
pub fn run(request: &PlanRequest) -> Result<PlanOutcome, Error> {
    let config = &request.config;
    let model = ModelConfig { vocab_size: Some(vocabulary(request)?), ..config.model.clone() }.to_core()?;
    let engine = Engine::new(config.train.threads, config.train.gemm)?;
    let shape = shape_of(config);
    let plan = TrainingPlan::new(&engine, &model, &shape)?;
    let class = |class, bytes| Bytes { class, bytes };
    let seconds_per_step = if request.time { Some(timed(request, Gpt::new(engine, model)?)?) } else { None };
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
        flops_per_token: plan.flops_per_token as f64,
        tokens_per_step: plan.tokens_per_step,
        train_tokens: None,
        checkpoint_bytes: plan.checkpoint_bytes,
        seconds_per_step,
    })
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
            let data = crate::train::prepare::DataRequest::new(data);
            Ok(crate::train::prepare::Splits::load(&data)?.tokenizer(&data)?.vocab_size())
        }
        (None, TokenizerChoice::Char) => Err(Invalid {
            key: "model.vocab_size",
            expected: "a number of token ids, or --data".to_owned(),
            found: "neither".to_owned(),
        }
        .into()),
    }
}

/// Steps whose time counts; one comes before them.
const TIMED_STEPS: u64 = 3;

/// Seconds of a step on tokens that mean nothing.
fn timed(request: &PlanRequest, mut gpt: Gpt) -> Result<f64, Error> {
    let config = &request.config.train;
    let mut step = Step::new(&mut gpt, shape_of(&request.config))?;
    gpt.session.initialise(config.seed);
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
        step.run(&mut gpt, &sampler, &source, &numbers)?;
    }
    Ok(begun.elapsed().as_secs_f64() / TIMED_STEPS as f64)
}
