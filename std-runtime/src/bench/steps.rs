//! Whole training steps.

use std::sync::Arc;

use super::error::BenchError;
use super::measure::{Measurement, median, times};
use super::profile::{Profile, program_cost};
use super::rates::{Rates, peak_flops_per_s};
use crate::model::architecture::Architecture;
use crate::session::{CpuDevice, Engine, On, Session};
use crate::threads::Pool;
use crate::train::config::RunConfig;
use crate::train::objectives::lm::Lm;
use crate::train::recompute::Policies;
use crate::train::shape::update_numbers;
use crate::train::step::Stepper;

/// Times whole training steps; with `profiled`, node by node as well.
///
/// # Errors
/// The program cannot be built, or the training diverges.
pub fn steps(
    config: &RunConfig,
    model: Arc<dyn Architecture>,
    repeats: usize,
    profiled: bool,
    pool: &Pool,
) -> Result<(Measurement, Option<Profile>), BenchError> {
    let train = &config.train;
    let peak = peak_flops_per_s(pool);
    let engine = Engine::new(pool.threads(), train.gemm)?;
    let Policies { shape, plan, .. } = Policies::new(&engine, &*model, config)?;
    let parameters = plan.trainable_parameters;
    let mut lm = Lm::on_noise(model, shape, train)?;
    let mut stepper = Stepper::new(Session::new(CpuDevice::new(engine)), &mut lm, train.rule())?;
    stepper.initialise(train.seed)?;
    let mut number = 0;
    let call = || -> Result<(), BenchError> {
        stepper.step(&mut lm, number, &update_numbers(train, 0.0))?;
        number += 1;
        Ok(())
    };
    let seconds = median(times(repeats, call)?);
    let (session, updates) = stepper.session_and_updates();
    let gradients = lm.program().map(|program| (program, shape.accumulation));
    let updates: Vec<_> = updates.collect();
    let programs: Vec<_> = gradients.into_iter().chain(updates.iter().map(|update| (update.program(), 1))).collect();
    let flops = programs.iter().map(|(program, calls)| program_cost(program, *calls).flops as f64).sum::<f64>();
    let row = Measurement {
        name: format!("step of {} tokens, {} parameters", shape.tokens(), parameters),
        milliseconds: 1e3 * seconds,
        figure: shape.tokens() as f64 / seconds,
        unit: "tokens/s",
        floor: flops,
        floor_unit: "FLOP",
        floor_milliseconds: 1e3 * flops / peak,
    };
    // Measuring the memory bandwidth takes memory itself, so it is done only for a profile.
    let Some(update) = updates.first().filter(|_| profiled) else { return Ok((row, None)) };
    let rates = Rates::measure(pool)?;
    let profile = Profile::new(session, On::set(update.set()), &programs, rates, repeats, None);
    Ok((row, Some(Profile { whole_milliseconds: 1e3 * seconds, ..profile })))
}
