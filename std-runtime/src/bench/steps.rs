//! Whole training steps.

use samara_core::model::gpt::GptConfig;

use super::error::BenchError;
use super::measure::{Measurement, median, times};
use super::profile::{Profile, program_cost};
use super::rates::{Rates, peak_flops_per_s};
use crate::data::batches::{Order, Sampler};
use crate::data::shards::TokenList;
use crate::gpt::Gpt;
use crate::gpt::step::{Step, StepNumbers};
use crate::session::Engine;
use crate::threads::Pool;
use crate::train::config::RunConfig;
use crate::train::recompute::Policies;

/// Tokens without a meaning, for one block and more.
fn noise(config: &RunConfig, vocab_size: usize) -> TokenList {
    let len = 4 * config.train.block_size as u32 + 2;
    TokenList::new("noise", (0..len).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size as u32).collect())
}

/// Times whole training steps; with `profiled`, node by node as well.
///
/// # Errors
/// The program cannot be built, or the training diverges.
pub fn steps(
    config: &RunConfig,
    model: GptConfig,
    repeats: usize,
    profiled: bool,
    pool: &Pool,
) -> Result<(Measurement, Option<Profile>), BenchError> {
    let train = &config.train;
    let peak = peak_flops_per_s(pool);
    let engine = Engine::new(pool.threads(), train.gemm)?;
    let shape = Policies::new(&engine, &model, config)?.shape;
    let mut gpt = Gpt::new(engine, model)?;
    let averages = gpt.add_averages(train.averages());
    let mut step = Step::new(&mut gpt.bound(), shape, &averages)?;
    gpt.initialise(train.seed);
    let source = noise(config, model.vocab_size);
    let tokens = 4 * train.block_size as u64 + 2;
    let sampler = Sampler::new(Order::Random, train.seed, train.block_size, tokens, "noise")?;
    let mut number = 0;
    let call = || -> Result<(), BenchError> {
        step.run(&mut gpt.bound(), &sampler, &source, &StepNumbers::new(train, number, 0.0))?;
        number += 1;
        Ok(())
    };
    let seconds = median(times(repeats, call)?);
    let programs = [(step.program(), shape.accumulation), (step.update().program(), 1)];
    let flops = programs.iter().map(|(program, calls)| program_cost(program, *calls).flops as f64).sum::<f64>();
    let row = Measurement {
        name: format!("step of {} tokens, {} parameters", shape.tokens(), gpt.weights().params().trainable_count()),
        milliseconds: 1e3 * seconds,
        figure: shape.tokens() as f64 / seconds,
        unit: "tokens/s",
        floor: flops,
        floor_unit: "FLOP",
        floor_milliseconds: 1e3 * flops / peak,
    };
    // Measuring the memory takes memory: only for those who want to see it.
    let profile = profiled.then(|| {
        let rates = Rates::measure(pool);
        let on = gpt.on();
        let profile = Profile::new(&mut gpt.session, on, &programs, rates, repeats, None);
        Profile { whole_milliseconds: 1e3 * seconds, ..profile }
    });
    Ok((row, profile))
}
