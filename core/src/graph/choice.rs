//! Options of a backward pass.

use super::attribute::{Epsilon, Momentum};
use super::tensor::Tensor;
use crate::params::{GroupId, MAX_GROUPS};

/// What is recomputed in the backward pass instead of being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Norms and elementwise functions, activations among them: cheap to compute, large to keep.
    Cheap,
    /// Everything between two checkpoints except after the last one, and within each segment whatever is cheap. See [`super::Graph::checkpoint`].
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

/// The tensors with respect to which gradients are taken.
#[derive(Clone, Copy, Debug)]
pub enum Wrt<'a> {
    /// Every trainable parameter.
    Trainable,
    /// These parameters and inputs.
    Tensors(&'a [Tensor]),
}

/// Where an upstream gradient comes from, and when. A bare tensor is [`Upstream::Before`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Known before the forward range runs, or computed by the graph: the head of a language model may use it in the forward range.
    Before(Tensor),
    /// An input that the host writes between the forward and the backward range, such as the gradient of a loss computed outside of the graph. No
    /// node of the forward range reads it.
    After(Tensor),
}

impl Upstream {
    /// The gradient.
    pub(super) const fn tensor(self) -> Tensor {
        match self {
            Self::Before(t) | Self::After(t) => t,
        }
    }
}

impl From<Tensor> for Upstream {
    fn from(t: Tensor) -> Self {
        Self::Before(t)
    }
}

/// The rule by which an optimizer changes parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam with decoupled weight decay, see [`super::Graph::adamw`].
    AdamW(Epsilon),
    /// Stochastic gradient descent, see [`super::Graph::sgd`].
    Sgd(Momentum),
}

/// The hyper-parameter tensor ([`super::HYPER_LEN`]) that the update of each optimizer group reads: one for all groups (converted from a tensor), or
/// separate ones for some. The host writes them before a run, so that a group's learning rate is a property of the run, not of the program.
#[derive(Clone, Copy, Debug)]
pub struct HyperInput {
    by_group: [Tensor; MAX_GROUPS],
}

impl HyperInput {
    /// The same with a tensor of its own for `group`.
    pub fn with(mut self, group: GroupId, hyper: Tensor) -> Self {
        if let Some(to) = self.by_group.get_mut(group.index()) {
            *to = hyper;
        }
        self
    }

    /// The tensor of `group`.
    pub fn of(&self, group: GroupId) -> Tensor {
        self.by_group.get(group.index()).copied().unwrap_or(Tensor::NONE)
    }
}

impl From<Tensor> for HyperInput {
    fn from(hyper: Tensor) -> Self {
        Self { by_group: [hyper; MAX_GROUPS] }
    }
}
