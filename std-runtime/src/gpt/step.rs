//! One optimizer step: micro-batches forward and backward, then the update.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{DROPOUT_CONTROL_LEN, Graph, Recompute, Tensor, Wrt};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::ops::dropout;

use super::{Bound, RunError, positions, write, write_ints};
use crate::data::batches::Sampler;
use crate::data::shards::Tokens;
use crate::device::Planner;
use crate::session::update::{Update, UpdateNumbers};
use crate::session::{BuildError, Device, OwnedParams, OwnedProgram, SetId, Ticket};

/// The shape of a training program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepShape {
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub block: usize,
    /// Micro-batches of a step.
    pub accumulation: usize,
    /// Whether dropout nodes are there at all.
    pub dropout: bool,
    /// What is computed twice.
    pub recompute: Recompute,
}

impl StepShape {
    /// Tokens of a step.
    pub fn tokens(&self) -> u64 {
        (self.batch * self.block * self.accumulation) as u64
    }
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// The step, from 0.
    pub step: u64,
    /// Dropout probability.
    pub dropout: f64,
    /// Seed of dropout.
    pub seed: u64,
    /// Those of its update.
    pub update: UpdateNumbers,
}

/// What a step says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Mean loss over the step's tokens.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
}

struct Io {
    inputs: LmInputs,
    targets: Tensor,
    upstream: Tensor,
    losses: Tensor,
}

/// Appends the losses of a micro-batch and their gradient to a graph.
fn append(g: &Graph<'_>, model: &dyn LanguageModel, shape: &StepShape) -> Io {
    let mut inputs = LmInputs::new(g, model, shape.batch, shape.block);
    inputs.dropout = shape.dropout.then(|| g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX));
    let targets = lm::targets(g, model, shape.batch, shape.block);
    let upstream = g.input(&[1]);
    let losses = g.output(lm::losses(g, model, &inputs, targets));
    g.backward(&[(losses, upstream)], Wrt::Trainable, shape.recompute);
    Io { inputs, targets, upstream, losses }
}

/// The program of a micro-batch alone, without memory for it: for plans.
///
/// # Errors
/// The model cannot be planned.
pub fn program(
    planner: &impl Planner,
    registry: &Arc<OwnedParams>,
    model: &dyn LanguageModel,
    shape: &StepShape,
) -> Result<OwnedProgram, BuildError> {
    Ok(OwnedProgram::new(planner, registry, |g| append(g, model, shape))?.0)
}

/// The programs of a step with their host buffers: a step allocates nothing.
pub struct Step {
    shape: StepShape,
    program: OwnedProgram,
    io: Io,
    update: Update,
    losses: Vec<Ticket>, // one for each micro-batch
    tokens: Vec<i32>,    // (B, T)
    targets: Vec<i32>,   // (B, T)
    positions: Vec<i32>, // (B, T)
}

impl Step {
    /// Builds the programs and makes room for them. `averages` are sets that follow the model's.
    ///
    /// # Errors
    /// The model cannot be planned.
    pub fn new<D: Device>(gpt: &mut Bound<'_, D>, shape: StepShape, averages: &[SetId]) -> Result<Self, BuildError> {
        let model = gpt.model;
        let (program, io) = gpt.prepare(gpt.on(), |g| append(g, &model, &shape))?;
        let update = Update::new(gpt.session, gpt.set, averages)?;
        let len = shape.batch * shape.block;
        let losses = Vec::with_capacity(shape.accumulation);
        let positions = positions(shape.batch, shape.block);
        Ok(Self { shape, program, io, update, losses, tokens: vec![0; len], targets: vec![0; len], positions })
    }

    /// The shape.
    pub fn shape(&self) -> &StepShape {
        &self.shape
    }

    /// The program of a micro-batch.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// The update program.
    pub fn update(&self) -> &Update {
        &self.update
    }

    /// Trains on the rows that the sampler gives this step. Weights are unchanged when the loss or the gradient is not finite.
    ///
    /// # Errors
    /// Data that cannot be read, a device that failed, or a loss or gradient that is not finite.
    pub fn run<D: Device>(
        &mut self,
        gpt: &mut Bound<'_, D>,
        sampler: &Sampler,
        source: &(impl Tokens + ?Sized),
        numbers: &StepNumbers,
    ) -> Result<StepResult, RunError> {
        let scale = 1.0 / self.shape.tokens() as f64;
        self.losses.clear();
        gpt.session.clear_untouched(&self.program, gpt.on());
        for micro in 0..self.shape.accumulation {
            let row = (numbers.step * self.shape.accumulation as u64 + micro as u64) * self.shape.batch as u64;
            sampler.fill(source, row, &mut self.tokens, &mut self.targets)?;
            self.write_inputs(gpt, numbers, micro, scale)?;
            let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
            gpt.session.run_all(&self.program, gpt.on(), gradients);
            self.losses.push(gpt.session.fetch(&self.program, self.io.losses));
        }
        let norm = self.update.norm(gpt.session);
        gpt.session.sync()?;
        let sum = |ticket| gpt.session.fetched(ticket).iter().map(|&x| f64::from(x)).sum::<f64>();
        let loss = self.losses.iter().fold(0.0, |loss, ticket| loss + sum(ticket) * scale);
        let norm = gpt.session.fetched(&norm).first().copied().unwrap_or(0.0);
        if !loss.is_finite() || !norm.is_finite() {
            let what = self.first_non_finite(gpt, numbers, scale)?;
            let what = what.unwrap_or_else(|| format!("loss {loss}, gradient norm {norm}"));
            return Err(RunError::Diverged { step: numbers.step + 1, what });
        }
        self.update.apply(gpt.session, &numbers.update, norm);
        Ok(StepResult { loss, grad_norm: f64::from(norm) })
    }

    /// The first tensor of the last micro-batch that is not finite.
    fn first_non_finite<D: Device>(
        &self,
        gpt: &mut Bound<'_, D>,
        numbers: &StepNumbers,
        scale: f64,
    ) -> Result<Option<String>, RunError> {
        // The norm was computed in the memory where the inputs were.
        self.write_inputs(gpt, numbers, self.shape.accumulation - 1, scale)?;
        let nodes = 0..self.program.view().nodes().len();
        Ok(gpt.session.first_non_finite(&self.program, gpt.on(), nodes)?)
    }

    fn write_inputs<D: Device>(
        &self,
        gpt: &mut Bound<'_, D>,
        numbers: &StepNumbers,
        micro: usize,
        scale: f64,
    ) -> Result<(), RunError> {
        let (session, program, io) = (&mut *gpt.session, &self.program, &self.io);
        write_ints(session, program, "training token", io.inputs.tokens, &self.tokens)?;
        write_ints(session, program, "training target", io.targets, &self.targets)?;
        write_ints(session, program, "position", io.inputs.positions, &self.positions)?;
        if let Some(control) = io.inputs.dropout {
            let values = dropout::control(numbers.seed, numbers.step as u32, micro as u32, numbers.dropout);
            write_ints(session, program, "dropout control", control, &values)?;
        }
        write(session, program, "upstream gradient", io.upstream, &[scale as f32])
    }
}
