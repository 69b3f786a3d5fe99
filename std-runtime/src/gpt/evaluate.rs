//! Loss over held-out tokens, in blocks that do not overlap.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::lm::{self, LanguageModel, LmInputs};

use super::{Bound, RunError, positions, write_ints};
use crate::data::batches::{fill_sweep, sweep_rows};
use crate::data::shards::Tokens;
use crate::device::Planner;
use crate::session::{BuildError, Device, OwnedParams, OwnedProgram};

/// Targets with this value do not count.
const IGNORE: i32 = -100;

/// An evaluation program with its host buffers.
pub struct Evaluation {
    program: OwnedProgram,
    inputs: LmInputs,
    targets_io: Tensor,
    losses: Tensor,
    batch: usize,
    block: usize,
    tokens: Vec<i32>,    // (B, T)
    targets: Vec<i32>,   // (B, T)
    positions: Vec<i32>, // (B, T)
}

/// Appends the losses of a batch to a graph; returns inputs, targets and row losses.
fn append(g: &Graph<'_>, model: &dyn LanguageModel, batch: usize, block: usize) -> (LmInputs, Tensor, Tensor) {
    let inputs = LmInputs::new(g, model, batch, block);
    let targets = lm::targets(g, model, batch, block);
    (inputs, targets, g.output(lm::losses(g, model, &inputs, targets)))
}

/// The evaluation program alone, without memory for it: for plans.
pub fn program(
    planner: &impl Planner,
    owned: &Arc<OwnedParams>,
    model: &dyn LanguageModel,
    batch: usize,
    block: usize,
) -> Result<OwnedProgram, BuildError> {
    Ok(OwnedProgram::new(planner, owned, |g| append(g, model, batch, block))?.0)
}

/// A mean loss and what it is the mean of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanLoss {
    /// Nats per token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
}

impl Evaluation {
    /// Builds the program and makes room for it.
    pub fn new<D: Device>(gpt: &mut Bound<'_, D>, batch: usize, block: usize) -> Result<Self, BuildError> {
        let model = gpt.model;
        let (program, (inputs, targets_io, losses)) = gpt.prepare(gpt.on(), |g| append(g, &model, batch, block))?;
        let len = batch * block;
        let positions = positions(batch, block);
        Ok(Self { program, inputs, targets_io, losses, batch, block, tokens: vec![0; len], targets: vec![0; len], positions })
    }

    /// The program.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// The mean loss of `source`. With `batches` > 0 only so many batches are read, spread evenly over it. `progress` hears of every batch done.
    pub fn run<D: Device>(
        &mut self,
        gpt: &mut Bound<'_, D>,
        source: &(impl Tokens + ?Sized),
        batches: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<MeanLoss, RunError> {
        let all = sweep_rows(source.len(), self.block).div_ceil(self.batch as u64);
        if all == 0 {
            return Err(RunError::TooShort { found: source.len() as usize, expected: 2 });
        }
        let count = if batches == 0 { all } else { batches.min(all) };
        let (mut sum, mut tokens) = (0.0, 0);
        for i in 0..count {
            let mean = self.batch(gpt, source, i * all / count)?;
            (sum, tokens) = (sum + mean.0, tokens + mean.1);
            progress(i + 1, count);
        }
        Ok(MeanLoss { loss: sum / tokens.max(1) as f64, tokens })
    }

    /// The sum of the losses of batch `batch` of a sweep over `source`, and how many tokens it predicts.
    fn batch<D: Device>(
        &mut self,
        gpt: &mut Bound<'_, D>,
        source: &(impl Tokens + ?Sized),
        batch: u64,
    ) -> Result<(f64, u64), RunError> {
        let (first_row, on) = (batch * self.batch as u64, gpt.on());
        let tokens = fill_sweep(source, self.block, first_row, IGNORE, &mut self.tokens, &mut self.targets)?;
        write_ints(gpt.session, &self.program, "token", self.inputs.tokens, &self.tokens)?;
        write_ints(gpt.session, &self.program, "target", self.targets_io, &self.targets)?;
        write_ints(gpt.session, &self.program, "position", self.inputs.positions, &self.positions)?;
        gpt.session.run_all(&self.program, on, Gradients::Overwrite);
        let losses = gpt.session.fetch(&self.program, self.losses);
        gpt.session.sync()?;
        Ok((gpt.session.fetched(&losses).iter().map(|&x| f64::from(x)).sum(), tokens))
    }
}
