//! The programs that a device runs, planned for the kernels of core.

use std::sync::Arc;

use samara_core::file::{Port, ProgramKind};
use samara_core::graph::{DType, Epsilon, Graph, HYPER_LEN, Momentum, Recompute, Rule, Tensor};
use samara_core::model::gpt::{GptCache, GptConfig, GptInputs, GptParams, hidden};

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

/// A model as a device has it.
pub struct DeviceModel<'m> {
    /// Kernels to plan for.
    pub engine: &'m Engine,
    /// The registry.
    pub owned: &'m Arc<OwnedParams>,
    /// The model; its positions are the context.
    pub config: &'m GptConfig,
    /// Where its parameters stand.
    pub params: &'m GptParams,
}

impl DeviceModel<'_> {
    fn build(&self, kind: ProgramKind, build: impl Fn(&Graph<'_>) -> Vec<(Port, Tensor)>) -> Result<DeviceProgram, BuildError> {
        let (program, ports) = OwnedProgram::new(self.engine, self.owned, build)?;
        Ok(DeviceProgram { kind, program, ports })
    }

    /// One token after those in the cache, whose keys and values attention reads as they are stored.
    pub fn decode(&self, kv: DType) -> Result<DeviceProgram, BuildError> {
        self.build(ProgramKind::Decode, |g| {
            let inputs = GptInputs::new(g, self.config, 1, 1);
            let capacity = self.config.n_positions;
            let (starts, live) = (g.ints(&[1], 0, capacity as i32), g.ints(&[1], 0, capacity as i32));
            let cache = GptCache { starts, live, capacity, dtype: kv, read_in_place: true, segments: None };
            let h = hidden(g, self.config, self.params, &inputs, Some(&cache));
            let logits = g.output(g.linear(h, g.param(self.params.head()), None)); // (1, 1, V)
            let mut ports = text_ports(&inputs);
            ports.extend([(Port::Starts, starts), (Port::Live, live), (Port::Logits, logits)]);
            ports
        })
    }

    /// A step of training whose updates stand in the backward pass, so that gradients never coexist.
    pub fn train(&self, shape: TrainShape, optimizer: Optimizer) -> Result<DeviceProgram, BuildError> {
        self.build(ProgramKind::Train, |g| {
            let (inputs, targets, losses) = self.losses(g, shape);
            let (upstream, hyper) = (g.input(&[1]), g.input(&[HYPER_LEN]));
            g.backward_updating(&[(losses, upstream)], rule(optimizer), hyper, Recompute::None);
            let mut ports = text_ports(&inputs);
            ports.extend([(Port::Targets, targets), (Port::Upstream, upstream), (Port::Hyper, hyper), (Port::Losses, losses)]);
            ports
        })
    }

    /// The losses of a text.
    pub fn evaluate(&self, shape: TrainShape) -> Result<DeviceProgram, BuildError> {
        self.build(ProgramKind::Evaluate, |g| {
            let (inputs, targets, losses) = self.losses(g, shape);
            let mut ports = text_ports(&inputs);
            ports.extend([(Port::Targets, targets), (Port::Losses, losses)]);
            ports
        })
    }

    fn losses(&self, g: &Graph<'_>, shape: TrainShape) -> (GptInputs, Tensor, Tensor) {
        let inputs = GptInputs::new(g, self.config, shape.batch, shape.block);
        let targets = g.ints(&[shape.batch, shape.block], i32::MIN, self.config.vocab_size as i32 - 1);
        let h = hidden(g, self.config, self.params, &inputs, None);
        let losses = g.output(g.head_loss(h, g.param(self.params.head()), None, targets, 0.0));
        (inputs, targets, losses)
    }
}

fn text_ports(inputs: &GptInputs) -> Vec<(Port, Tensor)> {
    vec![(Port::Tokens, inputs.tokens), (Port::Positions, inputs.positions)]
}

/// The rule of an optimizer's updates.
fn rule(optimizer: Optimizer) -> Rule {
    match optimizer {
        Optimizer::Adamw => Rule::AdamW(Epsilon::AfterCorrection),
        Optimizer::Sgd => Rule::Sgd(Momentum::None),
    }
}
