//! The programs that a device runs, planned for the kernels of core.

use std::sync::Arc;

use samara_core::file::{Port, ProgramKind};
use samara_core::graph::{DType, Graph, HYPER_LEN, Recompute, Tensor};
use samara_core::model::lm::{self, DecodeShape, LanguageModel, LmInputs, decode_step};

use super::spec::{Optimizer, TrainShape};
use crate::session::{BuildError, Engine, OwnedParams, OwnedProgram};

/// A program with the tensors of its ports.
pub struct DeviceProgram {
    /// What it does.
    pub kind: ProgramKind,
    /// Its tables.
    pub program: OwnedProgram,
    /// Its ports.
    pub ports: Vec<(Port, Tensor)>,
}

impl DeviceProgram {
    /// Builds a program from its ports, and plans it for the kernels of `engine`.
    ///
    /// # Errors
    /// The program cannot be built or planned.
    pub(super) fn new(
        kind: ProgramKind,
        engine: &Engine,
        owned: &Arc<OwnedParams>,
        build: impl Fn(&Graph<'_>) -> Vec<(Port, Tensor)>,
    ) -> Result<Self, BuildError> {
        let (program, ports) = OwnedProgram::new(engine, owned, build)?;
        Ok(Self { kind, program, ports })
    }
}

/// A language model as a device has it.
pub struct DeviceModel<'m> {
    /// Kernels to plan for.
    pub engine: &'m Engine,
    /// The registry.
    pub owned: &'m Arc<OwnedParams>,
    /// The model; its positions are the context.
    pub model: &'m dyn LanguageModel,
}

impl DeviceModel<'_> {
    fn build(&self, kind: ProgramKind, build: impl Fn(&Graph<'_>) -> Vec<(Port, Tensor)>) -> Result<DeviceProgram, BuildError> {
        DeviceProgram::new(kind, self.engine, self.owned, build)
    }

    /// Decodes one token after those in the cache; attention reads keys and values in their stored type.
    ///
    /// # Errors
    /// The program cannot be built or planned.
    pub fn decode(&self, kv: DType) -> Result<DeviceProgram, BuildError> {
        self.build(ProgramKind::Decode, |g| {
            let capacity = self.model.dims().n_positions;
            let shape = DecodeShape { batch: 1, len: 1, capacity, dtype: kv, read_in_place: true };
            let step = decode_step(g, self.model, &shape);
            let mut ports = text_ports(&step.inputs);
            ports.extend([(Port::Starts, step.cache.starts), (Port::Live, step.cache.live), (Port::Logits, step.logits)]);
            ports
        })
    }

    /// A training step with updates in the backward pass, so that gradients never coexist.
    ///
    /// # Errors
    /// The program cannot be built or planned.
    pub fn train(&self, shape: TrainShape, optimizer: Optimizer) -> Result<DeviceProgram, BuildError> {
        self.build(ProgramKind::Train, |g| {
            let (inputs, targets, losses) = self.losses(g, shape);
            let each = [shape.batch, shape.block];
            let upstream = g.input(if shape.weighted { &each } else { &[1] });
            let hyper = g.input(&[HYPER_LEN]);
            g.backward_updating(&[(losses, upstream)], optimizer.rule(), hyper, Recompute::None);
            let mut ports = text_ports(&inputs);
            ports.extend([(Port::Targets, targets), (Port::Upstream, upstream), (Port::Hyper, hyper), (Port::Losses, losses)]);
            ports
        })
    }

    /// The losses of a text.
    ///
    /// # Errors
    /// The program cannot be built or planned.
    pub fn evaluate(&self, shape: TrainShape) -> Result<DeviceProgram, BuildError> {
        self.build(ProgramKind::Evaluate, |g| {
            let (inputs, targets, losses) = self.losses(g, shape);
            let mut ports = text_ports(&inputs);
            ports.extend([(Port::Targets, targets), (Port::Losses, losses)]);
            ports
        })
    }

    fn losses(&self, g: &Graph<'_>, shape: TrainShape) -> (LmInputs, Tensor, Tensor) {
        let inputs = LmInputs::new(g, self.model, shape.batch, shape.block);
        let targets = lm::targets(g, self.model, shape.batch, shape.block);
        (inputs, targets, g.output(lm::losses(g, self.model, &inputs, targets)))
    }
}

fn text_ports(inputs: &LmInputs) -> Vec<(Port, Tensor)> {
    vec![(Port::Tokens, inputs.tokens), (Port::Positions, inputs.positions)]
}
