//! What the caller of a backward pass chooses.

use super::attribute::{Epsilon, Momentum};
use super::tensor::Tensor;

/// What is computed a second time in the backward pass instead of being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Norms and functions of one element, activations among them: cheap to compute, large to keep.
    Cheap,
    /// Everything between two checkpoints but for the last part, and within each part what is cheap. See [`super::Graph::checkpoint`].
    Blocks,
}

impl Recompute {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Cheap, Self::Blocks];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cheap => "cheap",
            Self::Blocks => "blocks",
        }
    }
}

/// With respect to what gradients are taken.
#[derive(Clone, Copy, Debug)]
pub enum Wrt<'a> {
    /// Every trainable parameter.
    Trainable,
    /// These parameters and inputs.
    Tensors(&'a [Tensor]),
}

/// The rule by which an optimizer changes parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam with decoupled weight decay, see [`super::Graph::adamw`].
    AdamW(Epsilon),
    /// Stochastic gradient descent, see [`super::Graph::sgd`].
    Sgd(Momentum),
}
