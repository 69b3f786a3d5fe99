//! Which dropout layers apply.

use crate::graph::Tensor;

/// The controls of dropout ([`Graph::dropout`](crate::graph::Graph::dropout)) of a forward pass: one for each probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// Of attention's probabilities and of what is added to the residual stream.
    pub activations: Option<Tensor>,
    /// Of what low-rank adapters read.
    pub adapters: Option<Tensor>,
}

impl Dropout {
    /// None at all.
    pub const NONE: Self = Self { activations: None, adapters: None };
}
