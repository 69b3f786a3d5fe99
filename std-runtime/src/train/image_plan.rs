//! The resources of a training of an image classifier, known before it starts.

use std::sync::Arc;

use samara_core::cost::Cost;
use samara_core::graph::{DType, Recompute};
use samara_core::model::image::{ImageDims, ImageModel, PixelOrder};
use samara_core::params::Part;

use super::config::{ImageRunConfig, TrainConfig};
use super::objectives::classify::Classify;
use super::objectives::supervised;
use crate::device::Planner;
use crate::lm::plan::TrainingPlan;
use crate::session::{BuildError, OwnedParams, OwnedProgram, update};

/// The recomputation policy of a configuration.
pub fn recompute(config: &ImageRunConfig) -> Recompute {
    config.train.recompute.without_budget()
}

/// Whether the features of every image are computed once: nothing of the backbone is trained, and an image is the same in every epoch.
pub fn caches(config: &ImageRunConfig) -> bool {
    config.tune.caches() && !config.augment.changes()
}

/// The task of a configuration.
pub fn task(config: &ImageRunConfig, model: Arc<dyn ImageModel>) -> Classify {
    Classify { model, label_smoothing: config.augment.label_smoothing, mixes: config.augment.mixes(), cached: caches(config) }
}

/// Plans a training; a token of the plan is an image.
///
/// # Errors
/// The model cannot be planned.
pub fn plan(
    planner: &impl Planner,
    registry: &Arc<OwnedParams>,
    task: &Classify,
    config: &ImageRunConfig,
) -> Result<TrainingPlan, BuildError> {
    let train = &config.train;
    let programs = supervised::programs(planner, registry, train.batch_size, task, recompute(config))?;
    let dims = task.model.dims();
    let row = if task.cached { dims.width } else { dims.image_len() } + 1 + if task.mixes { dims.classes } else { 0 };
    of_programs(planner, registry, train, &programs, (row, flops_per_image(registry, &dims)))
}

/// The resources of a training by its programs, the one of a training step first. `row`: input values of an image; then the floating-point operations of a step for
/// each image.
///
/// # Errors
/// The update cannot be planned.
pub fn of_programs(
    planner: &impl Planner,
    registry: &Arc<OwnedParams>,
    train: &TrainConfig,
    programs: &[OwnedProgram],
    (row, flops_per_token): (usize, u64),
) -> Result<TrainingPlan, BuildError> {
    let update = update::program(planner, registry, train.rule())?;
    let (view, real) = (registry.view(), planner.real_bytes() as u64);
    let averages = train.averages() as u64;
    let moments = train.rule().moments() as u64 + averages;
    let (flat, frozen) = (view.trainable_len() as u64 * real, view.frozen_bytes() as u64);
    let all = || programs.iter().chain([&update]);
    let arena = all().map(OwnedProgram::arena_len).max().unwrap_or(0) as u64;
    // Inputs of all micro-batches and of a validation batch.
    let inputs = (row * train.batch_size * (train.grad_accumulation + 1) * size_of::<f32>()) as u64;
    let ints = |p: &OwnedProgram| u64::from(p.view().info().ints_len) * 4;
    let tables =
        all().map(|program| program.table_bytes() as u64).sum::<u64>() + programs.iter().map(ints).max().unwrap_or(0) + inputs;
    let scratch =
        |program: &OwnedProgram| (0..program.view().nodes().len()).map(|i| program.plan().scratch(i).len() as u64).max();
    let scratch = programs.first().and_then(scratch).unwrap_or(0);
    let (count, parameters) = (view.trainable_count() as u64, view.infos().iter().map(|info| info.shape.len() as u64).sum());
    let bytes = DType::Real.bytes(1, size_of::<f32>()).unwrap_or(4) as u64;
    Ok(TrainingPlan {
        parameters,
        trainable_parameters: count,
        weights_bytes: flat,
        frozen_bytes: (1 + averages) * frozen,
        gradients_bytes: flat,
        optimizer_bytes: moments * flat,
        activations_bytes: arena * real,
        scratch_bytes: scratch * real,
        tables_bytes: tables,
        mapped_bytes: 0,
        total_bytes: (2 + moments) * flat + (1 + averages) * frozen + arena * real + tables,
        flops_per_token,
        tokens_per_step: (train.batch_size * train.grad_accumulation) as u64,
        checkpoint_bytes: (1 + moments) * count * bytes,
        model_bytes: parameters * bytes,
    })
}

/// Floating-point operations of a program.
pub fn flops(program: &OwnedProgram) -> u64 {
    let (view, plan) = (program.view(), program.plan());
    (0..view.nodes().len()).filter_map(|i| Cost::of(&view, &plan, i, size_of::<f32>(), None)).map(|cost| cost.flops).sum()
}

/// 6 N + 12 layers · width · T for each of T patches, N the parameters in matrix products; 4 instead of 6 for frozen weights.
fn flops_per_image(registry: &Arc<OwnedParams>, dims: &ImageDims) -> u64 {
    let PixelOrder::Patches(side) = dims.order else { return 0 };
    let patches = (dims.image[0] / side.max(1)) * (dims.image[1] / side.max(1)) + 1;
    let view = registry.view();
    let multiplied =
        view.infos().iter().filter(|info| info.shape.rank() == 2 && !matches!(info.part, Part::Positions | Part::Head));
    let weights: u64 = multiplied.map(|info| info.shape.len() as u64 * if info.frozen { 4 } else { 6 }).sum();
    (weights + 12 * (dims.blocks * dims.width * patches) as u64) * patches as u64
}
