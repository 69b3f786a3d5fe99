//! The resources of a training run, known before it starts: nothing is allocated or written.

use samara_core::graph::Rule;
use samara_core::model::lm::LanguageModel;
use samara_core::params::{ParamInfo, Params, Part};
use serde::Serialize;

use super::step::StepShape;
use super::{count_of, evaluate, register, step};
use crate::device::Planner;
use crate::model::architecture::Architecture;
use crate::session::{BuildError, OwnedProgram, update};

/// Sizes and work of a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// Parameters.
    pub parameters: u64,
    /// Parameters that are trained.
    pub trainable_parameters: u64,
    /// Weights that are trained.
    pub weights_bytes: u64,
    /// Weights that are frozen.
    pub frozen_bytes: u64,
    /// Gradients.
    pub gradients_bytes: u64,
    /// Optimizer moments and moving averages.
    pub optimizer_bytes: u64,
    /// The arena: activations, their gradients, and scratch.
    pub activations_bytes: u64,
    /// The largest scratch of a node, a part of the arena.
    pub scratch_bytes: u64,
    /// Token ids, program tables, host buffers.
    pub tables_bytes: u64,
    /// Token shards that are mapped from files; small ones are copied.
    pub mapped_bytes: u64,
    /// Everything that is not mapped.
    pub total_bytes: u64,
    /// Floating-point operations per training token: 6 N + 12 layers · width · T, N without embeddings that are only looked up; 4 instead of 6 for
    /// frozen weights.
    pub flops_per_token: u64,
    /// Tokens of a step.
    pub tokens_per_step: u64,
    /// A checkpoint on disk.
    pub checkpoint_bytes: u64,
    /// `model.safetensors` on disk.
    pub model_bytes: u64,
}

/// Bytes of a value in a checkpoint and in a model folder, on any device.
const STORED_BYTES: u64 = size_of::<f32>() as u64;

impl TrainingPlan {
    /// Builds and plans the programs of a run that updates by `rule` and keeps `averages` averages of the weights.
    ///
    /// # Errors
    /// The model cannot be planned.
    pub fn new(
        planner: &impl Planner,
        architecture: &dyn Architecture,
        shape: &StepShape,
        rule: Rule,
        averages: u8,
    ) -> Result<Self, BuildError> {
        let (owned, layers) = register(architecture, 0, |_, _| ())?;
        let training = step::program(planner, &owned, &*layers, shape)?;
        let evaluation = evaluate::program(planner, &owned, &*layers, shape.batch, shape.block, shape.packed)?;
        let view = owned.view();
        let real_bytes = planner.real_bytes() as u64;
        let flat = view.trainable_len() as u64 * real_bytes;
        let moments = rule.moments() as u64 + u64::from(averages);
        let count = view.trainable_count() as u64;
        let parameters: u64 = view.infos().iter().map(|info| info.shape.len() as u64).sum();
        let frozen = view.frozen_bytes() as u64;
        let update = update::program(planner, &owned, rule)?;
        let arena_len = training.arena_len().max(evaluation.arena_len()).max(update.arena_len()) as u64;
        let rows = (shape.batch * shape.block) as u64;
        let ints = |p: &OwnedProgram| u64::from(p.view().info().ints_len) * 4;
        // Host buffers hold the inputs of all micro-batches and of a validation batch, and the positions of both programs: tokens and targets, and
        // for packed rows segments and positions.
        let inputs = if shape.packed { 4 } else { 2 };
        let tables = (training.table_bytes() + evaluation.table_bytes() + update.table_bytes()) as u64
            + ints(&training).max(ints(&evaluation))
            + (inputs * (shape.accumulation as u64 + 1) + 2) * 4 * rows;
        let activations = arena_len * real_bytes;
        Ok(Self {
            parameters,
            trainable_parameters: count,
            weights_bytes: flat,
            frozen_bytes: (1 + u64::from(averages)) * frozen,
            gradients_bytes: flat,
            optimizer_bytes: moments * flat,
            activations_bytes: activations,
            scratch_bytes: largest_scratch(&training) * real_bytes,
            tables_bytes: tables,
            mapped_bytes: 0,
            total_bytes: (2 + moments) * flat + (1 + u64::from(averages)) * frozen + activations + tables,
            flops_per_token: flops_per_token(&*layers, &view, shape.block),
            tokens_per_step: shape.tokens(),
            checkpoint_bytes: (1 + moments) * count * STORED_BYTES,
            model_bytes: if architecture.adapters().is_some() { count } else { parameters } * STORED_BYTES,
        })
    }
}

/// 6 N + 12 layers · attention width · T (Kaplan et al. 2020, 2.1, with the head): N are the parameters in matrix products, without a position
/// embedding and without an untied token embedding. A frozen weight has no gradient: 4 operations instead of 6.
fn flops_per_token(layers: &dyn LanguageModel, params: &Params<'_>, block: usize) -> u64 {
    let dims = layers.dims();
    let tokens = if layers.head() == layers.embedding() { 0 } else { count_of(params, Part::Tokens) };
    let all: usize = params.infos().iter().map(|info| info.shape.len()).sum();
    let multiplied = all - count_of(params, Part::Positions) - tokens;
    let looked_up = |info: &&ParamInfo| info.part == Part::Positions || info.part == Part::Tokens && tokens > 0;
    let frozen: usize = params.infos().iter().filter(|info| info.frozen && !looked_up(info)).map(|info| info.shape.len()).sum();
    6 * multiplied as u64 - 2 * frozen as u64 + 12 * (dims.n_layer * dims.attention_width * block) as u64
}

fn largest_scratch(program: &OwnedProgram) -> u64 {
    let plan = program.plan();
    (0..program.view().nodes().len()).map(|i| plan.scratch(i).len() as u64).max().unwrap_or(0)
}
