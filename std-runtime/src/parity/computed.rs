//! The results of a model on a batch.

use std::collections::BTreeMap;

/// An output.
pub(super) struct Output {
    /// Its shape.
    pub(super) shape: Vec<usize>,
    /// Its values.
    pub(super) values: Vec<f32>,
    /// Which rows (all extents but the last) are compared; `None`: all.
    pub(super) live: Option<Vec<bool>>,
}

/// What a model computed.
pub(super) struct Computed {
    /// By the name that a recording has after `out.`.
    pub(super) outputs: BTreeMap<String, Output>,
    /// Mean over targets, in nats; `None` without labels.
    pub(super) loss: Option<f64>,
    /// Whether loss and gradients are comparable.
    pub(super) is_loss_comparable: bool,
}
