//! Loss over held-out tokens, in non-overlapping windows.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::lm::{self, LanguageModel, LmInputs};

use super::{Bound, RunError, inputs_of, positions, write_ints, write_places};
use crate::data::dataset::{Dataset, HostBatch, TokenBlocks};
use crate::data::shards::Tokens;
use crate::device::Planner;
use crate::session::{BuildError, Device, OwnedParams, OwnedProgram};

/// An evaluation program with its host buffers.
pub struct Evaluation {
    program: OwnedProgram,
    inputs: LmInputs,
    targets: Tensor,
    losses: Tensor,
    batch: usize,
    block: usize,
    positions: Vec<i32>, // (B, T)
}

/// Appends the per-token losses of a batch to a graph; returns inputs, targets and losses.
fn append(g: &Graph<'_>, model: &dyn LanguageModel, batch: usize, block: usize, packed: bool) -> (LmInputs, Tensor, Tensor) {
    let inputs = inputs_of(g, model, batch, block, packed);
    let targets = lm::targets(g, model, batch, block);
    (inputs, targets, g.output(lm::losses(g, model, &inputs, targets)))
}

/// The evaluation program alone, without memory for it: for plans.
///
/// # Errors
/// The program cannot be built or planned.
pub fn program(
    planner: &impl Planner,
    owned: &Arc<OwnedParams>,
    model: &dyn LanguageModel,
    batch: usize,
    block: usize,
    packed: bool,
) -> Result<OwnedProgram, BuildError> {
    Ok(OwnedProgram::new(planner, owned, |g| append(g, model, batch, block, packed))?.0)
}

/// A mean loss in nats, and the number of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanLoss {
    /// Nats per token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
}

impl Evaluation {
    /// Builds the program and allocates its memory. `packed`: a row may contain several texts, and every batch has segments and positions.
    ///
    /// # Errors
    /// The model cannot be planned.
    pub fn new<D: Device>(model: &mut Bound<'_, D>, batch: usize, block: usize, packed: bool) -> Result<Self, BuildError> {
        let layers = Arc::clone(&model.layers);
        let (program, (inputs, targets, losses)) = model.prepare(model.on(), |g| append(g, &*layers, batch, block, packed))?;
        Ok(Self { program, inputs, targets, losses, batch, block, positions: positions(batch, block) })
    }

    /// The program.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// The mean loss in nats over all tokens of `source` but the first. `progress` is called after every batch.
    ///
    /// # Errors
    /// Too few tokens, tokens beyond the vocabulary, or a device failure.
    pub fn run<D: Device>(
        &self,
        model: &mut Bound<'_, D>,
        source: &dyn Tokens,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<MeanLoss, RunError> {
        let blocks = TokenBlocks::new(source, self.block);
        let (rows, batch) = (blocks.len(), self.batch as u64);
        if rows == 0 {
            return Err(RunError::TooShort { found: source.len() as usize, expected: 2 });
        }
        let (mut host, mut numbers) = (blocks.batch(self.batch), Vec::with_capacity(self.batch));
        let (mut sum, mut tokens) = (0.0, 0);
        for i in 0..rows.div_ceil(batch) {
            numbers.clear();
            numbers.extend(i * batch..rows.min((i + 1) * batch));
            blocks.fill(&numbers, &mut host)?;
            sum += self.batch(model, &host)?;
            tokens += host.tokens;
            progress(i + 1, rows.div_ceil(batch));
        }
        Ok(MeanLoss { loss: sum / tokens.max(1) as f64, tokens })
    }

    /// The sum of the losses of a batch, in nats.
    ///
    /// # Errors
    /// Tokens beyond the vocabulary, or a device failure.
    pub fn batch<D: Device>(&self, model: &mut Bound<'_, D>, batch: &HostBatch) -> Result<f64, RunError> {
        let on = model.on();
        write_ints(model.session, &self.program, "token", self.inputs.tokens, batch.ints("input_ids"))?;
        write_ints(model.session, &self.program, "target", self.targets, batch.ints("labels"))?;
        write_places(model.session, &self.program, &self.inputs, batch, &self.positions)?;
        model.session.run_all(&self.program, on, Gradients::Overwrite);
        let losses = model.session.fetch(&self.program, self.losses);
        model.session.sync()?;
        Ok(model.session.fetched(&losses).iter().map(|&x| f64::from(x)).sum())
    }
}
