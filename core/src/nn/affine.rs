//! Linear layers.

use super::stack::repeat;
use crate::graph::{Activation, Graph, Tensor};
use crate::params::{Init, ParamId, Scope};

/// y = x Wᵀ + b, with W (out, in).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    weight: ParamId,
    bias: Option<ParamId>,
}

repeat!(Affine { weight, bias });

impl Affine {
    /// Adds `weight` (outputs, inputs) and, if there is one, `bias` (outputs), which begins at 0.
    pub fn register(inputs: usize, outputs: usize, bias: bool, init: Init, s: &mut Scope<'_>) -> Self {
        Self { weight: s.add("weight", &[outputs, inputs], init), bias: bias.then(|| s.add("bias", &[outputs], Init::Zeros)) }
    }

    /// x Wᵀ + b. x (…, in), result (…, out).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        self.activated(g, x, Activation::None)
    }

    /// act(x Wᵀ + b). x (…, in), result (…, out).
    #[track_caller]
    pub fn activated(&self, g: &Graph<'_>, x: Tensor, activation: Activation) -> Tensor {
        g.linear_with(x, g.param(self.weight), self.bias(g), activation, None) // (…, out)
    }

    /// residual + dropout(x Wᵀ + b). x (…, in), residual and result (…, out). Without dropout the sum is made in the epilogue of the product.
    #[track_caller]
    pub fn onto(&self, g: &Graph<'_>, x: Tensor, residual: Tensor, dropout: Option<Tensor>) -> Tensor {
        match dropout {
            Some(control) => g.add(residual, g.dropout(self.forward(g, x), control)), // (…, out)
            None => g.linear_with(x, g.param(self.weight), self.bias(g), Activation::None, Some(residual)), // (…, out)
        }
    }

    /// The weight.
    pub const fn weight(&self) -> ParamId {
        self.weight
    }

    fn bias(&self, g: &Graph<'_>) -> Option<Tensor> {
        self.bias.map(|b| g.param(b))
    }
}
