//! The gradient of a step: micro-batches forward and backward.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{DROPOUT_CONTROL_LEN, Graph, Recompute, Tensor, Wrt};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::ops::dropout;

use super::{Bound, RunError, inputs_of, positions, write, write_ints, write_places};
use crate::data::dataset::HostBatch;
use crate::device::Planner;
use crate::session::{BuildError, Device, OwnedParams, OwnedProgram, Session, Ticket};
use crate::stop::Stop;

/// The shape of a training program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepShape {
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub block: usize,
    /// Micro-batches of a step.
    pub accumulation: usize,
    /// Whether a sequence may contain several texts: then every batch has segments and positions.
    pub packed: bool,
    /// Whether the program has dropout nodes.
    pub dropout: bool,
    /// Whether it has dropout of adapter inputs.
    pub adapter_dropout: bool,
    /// The recomputation policy.
    pub recompute: Recompute,
}

impl StepShape {
    /// Tokens of a step.
    pub fn tokens(&self) -> u64 {
        (self.batch * self.block * self.accumulation) as u64
    }
}

/// The inputs of dropout masks beside site and element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutNumbers {
    /// Dropout probability.
    pub probability: f64,
    /// The probability for the inputs of low-rank adapters.
    pub of_adapters: f64,
    /// Seed.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
}

struct Io {
    inputs: LmInputs,
    targets: Tensor,
    upstream: Tensor,
    losses: Tensor,
}

/// Appends the losses of a micro-batch and their gradient to a graph.
fn append(g: &Graph<'_>, model: &dyn LanguageModel, shape: &StepShape) -> Io {
    let mut inputs = inputs_of(g, model, shape.batch, shape.block, shape.packed);
    let control = || g.ints(&[DROPOUT_CONTROL_LEN], i32::MIN, i32::MAX);
    inputs.dropout = shape.dropout.then(control);
    inputs.adapter_dropout = shape.adapter_dropout.then(control);
    let targets = lm::targets(g, model, shape.batch, shape.block);
    let upstream = g.input(&[1]);
    let losses = g.output(lm::losses(g, model, &inputs, targets));
    g.backward(&[(losses, upstream)], Wrt::Trainable, shape.recompute);
    Io { inputs, targets, upstream, losses }
}

/// The program of a micro-batch without memory, for planning.
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

/// The program of a micro-batch with its host buffers: a step allocates nothing.
pub struct Step {
    shape: StepShape,
    program: OwnedProgram,
    io: Io,
    losses: Vec<Ticket>, // one for each micro-batch
    scale: f64,
    positions: Vec<i32>, // (B, T)
}

impl Step {
    /// Builds the program and allocates its memory.
    ///
    /// # Errors
    /// The model cannot be planned.
    pub fn new<D: Device>(model: &mut Bound<'_, D>, shape: StepShape) -> Result<Self, BuildError> {
        let layers = Arc::clone(&model.layers);
        let (program, io) = model.prepare(model.on(), |g| append(g, &*layers, &shape))?;
        let losses = Vec::with_capacity(shape.accumulation);
        let positions = positions(shape.batch, shape.block);
        Ok(Self { shape, program, io, losses, scale: 0.0, positions })
    }

    /// The shape.
    pub fn shape(&self) -> &StepShape {
        &self.shape
    }

    /// The program of a micro-batch.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// Queues the gradient of the mean loss over all tokens of the micro-batches, and the losses.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or a signal between two micro-batches.
    pub fn queue<D: Device>(
        &mut self,
        model: &mut Bound<'_, D>,
        batches: &[HostBatch],
        dropout: &DropoutNumbers,
        stop: &Stop,
    ) -> Result<(), RunError> {
        let scale = 1.0 / batches.iter().map(|batch| batch.tokens).sum::<u64>().max(1) as f64;
        self.queue_scaled(model, batches, (scale, Gradients::Overwrite), dropout, stop)
    }

    /// Queues the gradient of `scale` times the sum of the losses of all tokens of the micro-batches; `first` says whether it takes the place of the
    /// gradient that is there or is added to it.
    ///
    /// # Errors
    /// As [`Self::queue`].
    pub fn queue_scaled<D: Device>(
        &mut self,
        model: &mut Bound<'_, D>,
        batches: &[HostBatch],
        (scale, first): (f64, Gradients),
        dropout: &DropoutNumbers,
        stop: &Stop,
    ) -> Result<(), RunError> {
        self.scale = scale;
        self.losses.clear();
        if first == Gradients::Overwrite {
            model.session.clear_untouched(&self.program, model.on());
        }
        for (micro, batch) in batches.iter().enumerate() {
            stop.check()?;
            self.write_inputs(model, batch, micro, dropout)?;
            let gradients = if micro == 0 { first } else { Gradients::Add };
            model.session.run_all(&self.program, model.on(), gradients);
            self.losses.push(model.session.fetch(&self.program, self.io.losses));
        }
        Ok(())
    }

    /// The mean loss in nats over all queued tokens, or the sum of their losses times the scale, after a sync of the session.
    pub fn loss<D: Device>(&self, session: &Session<D>) -> f64 {
        let sum = |ticket| session.fetched(ticket).iter().map(|&x| f64::from(x)).sum::<f64>();
        self.losses.iter().fold(0.0, |loss, ticket| loss + sum(ticket) * self.scale)
    }

    /// The first tensor that is not finite when the last micro-batch is run again.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or a device failure.
    pub fn first_non_finite<D: Device>(
        &self,
        model: &mut Bound<'_, D>,
        batches: &[HostBatch],
        dropout: &DropoutNumbers,
    ) -> Result<Option<String>, RunError> {
        let Some((batch, before)) = batches.split_last() else { return Ok(None) };
        // The norm was computed in the memory where the inputs were.
        self.write_inputs(model, batch, before.len(), dropout)?;
        let nodes = 0..self.program.view().nodes().len();
        Ok(model.session.first_non_finite(&self.program, model.on(), nodes)?)
    }

    fn write_inputs<D: Device>(
        &self,
        model: &mut Bound<'_, D>,
        batch: &HostBatch,
        micro: usize,
        numbers: &DropoutNumbers,
    ) -> Result<(), RunError> {
        let (session, program, io) = (&mut *model.session, &self.program, &self.io);
        write_ints(session, program, "training token", io.inputs.tokens, batch.ints("input_ids"))?;
        write_ints(session, program, "training target", io.targets, batch.ints("labels"))?;
        write_places(session, program, &io.inputs, batch, &self.positions)?;
        for (control, probability) in [(io.inputs.dropout, numbers.probability), (io.inputs.adapter_dropout, numbers.of_adapters)]
        {
            let Some(control) = control else { continue };
            let values = dropout::control(numbers.seed, numbers.step as u32, micro as u32, probability);
            write_ints(session, program, "dropout control", control, &values)?;
        }
        write(session, program, "upstream gradient", io.upstream, &[self.scale as f32])
    }
}
