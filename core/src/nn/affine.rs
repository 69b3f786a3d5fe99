//! Linear layers.

use super::dropout::Dropout;
use super::low_rank::LowRank;
use super::stack::repeat;
use crate::graph::{Activation, Graph, Tensor};
use crate::params::{Init, ParamId, Scope};

/// y = x Wᵀ + b, with W (out, in), and a low-rank adapter where the scope configures one ([`Scope::adapted`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    weight: ParamId,
    bias: Option<ParamId>,
    low_rank: Option<LowRank>,
}

repeat!(Affine { weight, bias, low_rank });

impl Affine {
    /// Registers `weight` (outputs, inputs) and optionally `bias` (outputs), which is initialised to 0.
    pub fn register(inputs: usize, outputs: usize, bias: bool, init: Init, s: &mut Scope<'_>) -> Self {
        if bias {
            return Self::with_bias([inputs, outputs], [init, Init::Zeros], s);
        }
        Self { weight: s.add("weight", &[outputs, inputs], init), bias: None, low_rank: LowRank::register(inputs, outputs, s) }
    }

    /// Registers a layer whose weight and bias begin with values of these distributions.
    pub fn with_bias([inputs, outputs]: [usize; 2], [weight, bias]: [Init; 2], s: &mut Scope<'_>) -> Self {
        Self {
            weight: s.add("weight", &[outputs, inputs], weight),
            bias: Some(s.add("bias", &[outputs], bias)),
            low_rank: LowRank::register(inputs, outputs, s),
        }
    }

    /// x Wᵀ + b. x (…, in), result (…, out).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        self.activated(g, x, Activation::None)
    }

    /// act(x Wᵀ + b). x (…, in), result (…, out).
    #[track_caller]
    pub fn activated(&self, g: &Graph<'_>, x: Tensor, activation: Activation) -> Tensor {
        self.adapted(g, x, activation, Dropout::NONE)
    }

    /// [`Self::forward`] with dropout of the adapter's input. The activation is fused into the product unless an adapter is added before it.
    #[track_caller]
    pub fn adapted(&self, g: &Graph<'_>, x: Tensor, activation: Activation, dropout: Dropout) -> Tensor {
        let Some(low_rank) = self.low_rank else { return self.base(g, x, activation, None) };
        let y = low_rank.onto(g, x, self.base(g, x, Activation::None, None), dropout.adapters); // (…, out)
        activation.unary().map_or(y, |kind| g.unary(kind, 0.0, 0.0, y))
    }

    /// residual + dropout(x Wᵀ + b). x (…, in), residual and result (…, out). Without dropout the sum is fused into the epilogue of the product.
    #[track_caller]
    pub fn onto(&self, g: &Graph<'_>, x: Tensor, residual: Tensor, dropout: Dropout) -> Tensor {
        if let Some(control) = dropout.activations {
            return g.add(residual, g.dropout(self.adapted(g, x, Activation::None, dropout), control)); // (…, out)
        }
        let y = self.base(g, x, Activation::None, Some(residual)); // (…, out)
        self.low_rank.map_or(y, |low_rank| low_rank.onto(g, x, y, dropout.adapters))
    }

    /// The cross-entropy of softmax(x Wᵀ + b) in nats; 0 for a negative target. x (…, in), targets and result (…).
    #[track_caller]
    pub fn losses(&self, g: &Graph<'_>, x: Tensor, targets: Tensor) -> Tensor {
        g.head_loss(x, g.param(self.weight), self.bias.map(|bias| g.param(bias)), targets, 0.0)
    }

    /// The weight.
    pub const fn weight(&self) -> ParamId {
        self.weight
    }

    /// act(x Wᵀ + b) + residual without the adapter. x (…, in), residual and result (…, out).
    #[track_caller]
    fn base(&self, g: &Graph<'_>, x: Tensor, activation: Activation, residual: Option<Tensor>) -> Tensor {
        g.linear_with(x, g.param(self.weight), self.bias.map(|b| g.param(b)), activation, residual)
    }
}
