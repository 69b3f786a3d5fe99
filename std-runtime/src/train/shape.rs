//! The shape of a step from `[train]`, and the values that change from step to step.

use super::config::{Optimizer, RunConfig, TrainConfig};
use crate::lm::step::StepShape;
use crate::session::update::UpdateNumbers;

/// The shape of a step, without recomputation where the choice is left to [`Policies`](super::recompute::Policies).
pub fn shape_of(config: &RunConfig) -> StepShape {
    let t = &config.train;
    StepShape {
        batch: t.batch_size,
        block: t.block_size,
        accumulation: t.grad_accumulation,
        packed: false,
        dropout: t.dropout > 0.0,
        adapter_dropout: config.tune.adapter_dropout() > 0.0,
        recompute: t.recompute.without_budget(),
    }
}

/// The hyper-parameters of an update; the set counts its updates itself.
pub fn update_numbers(config: &TrainConfig, lr: f64) -> UpdateNumbers {
    UpdateNumbers {
        count: 0,
        lr,
        beta1: match config.optimizer {
            Optimizer::AdamW => config.beta1,
            Optimizer::Sgd => config.momentum,
        },
        beta2: config.beta2,
        eps: config.eps,
        weight_decay: config.weight_decay,
        grad_clip: config.grad_clip,
        ema_decay: config.ema_decay,
        ema_copies: 1,
    }
}
