//! Which dropout layers apply.

use crate::graph::Tensor;

/// The dropout controls ([`Graph::dropout`](crate::graph::Graph::dropout)) of a forward pass, one per probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// For attention probabilities and residual branches.
    pub activations: Option<Tensor>,
    /// For the inputs of low-rank adapters.
    pub adapters: Option<Tensor>,
}

impl Dropout {
    /// No dropout.
    pub const NONE: Self = Self { activations: None, adapters: None };
}
