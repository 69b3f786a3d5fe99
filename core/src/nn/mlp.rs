//! The feed-forward part of a transformer block.

use super::affine::Affine;
use super::dropout::Dropout;
use super::stack::repeat;
use crate::graph::{Activation, Graph, Tensor};
use crate::params::{Init, Scope};

/// down(act(up(x))). Vaswani et al. 2017, 3.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mlp {
    up: Affine,
    down: Affine,
    activation: Activation,
}

repeat!(Mlp { up, down });

/// The configuration of an [`Mlp`].
#[derive(Clone, Copy, Debug)]
pub struct MlpConfig {
    /// Columns of input and output, C.
    pub width: usize,
    /// Columns of the hidden layer.
    pub inner: usize,
    /// Whether both layers have biases.
    pub bias: bool,
    /// The activation of the hidden layer.
    pub activation: Activation,
    /// Initial values of both weights.
    pub init: [Init; 2],
    /// The scopes of both layers.
    pub names: [&'static str; 2],
}

impl Mlp {
    /// Adds the parameters of both layers.
    pub fn register(c: &MlpConfig, s: &mut Scope<'_>) -> Self {
        let ([up, down], [up_init, down_init]) = (c.names, c.init);
        Self {
            up: Affine::register(c.width, c.inner, c.bias, up_init, &mut s.at(up)),
            down: Affine::register(c.inner, c.width, c.bias, down_init, &mut s.at(down)),
            activation: c.activation,
        }
    }

    /// residual + dropout(down(act(up(x)))). x, residual and result (B, T, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor, residual: Tensor, dropout: Dropout) -> Tensor {
        let h = self.up.adapted(g, x, self.activation, dropout); // (B, T, inner)
        self.down.onto(g, h, residual, dropout) // (B, T, C)
    }

    /// down(act(up(x))), without a residual connection. x and result (B, T, C).
    #[track_caller]
    pub fn alone(&self, g: &Graph<'_>, x: Tensor, dropout: Dropout) -> Tensor {
        let h = self.up.adapted(g, x, self.activation, dropout); // (B, T, inner)
        self.down.adapted(g, h, Activation::None, dropout) // (B, T, C)
    }
}

/// Gated MLP, down(act(gate(x)) · up(x)); SwiGLU with SiLU as activation. Shazeer 2020.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedMlp {
    gate: Affine,
    up: Affine,
    down: Affine,
    activation: Activation,
}

repeat!(GatedMlp { gate, up, down });

/// The configuration of a [`GatedMlp`].
#[derive(Clone, Copy, Debug)]
pub struct GatedMlpConfig {
    /// Columns of input and output, C.
    pub width: usize,
    /// Columns of the hidden layer.
    pub inner: usize,
    /// Whether all layers have biases.
    pub bias: bool,
    /// The activation of the gate.
    pub activation: Activation,
    /// Initial values of all weights.
    pub init: Init,
    /// The scopes of gate, up and down.
    pub names: [&'static str; 3],
}

impl GatedMlp {
    /// Adds the parameters of the three layers.
    pub fn register(c: &GatedMlpConfig, s: &mut Scope<'_>) -> Self {
        let [gate, up, down] = c.names;
        Self {
            gate: Affine::register(c.width, c.inner, c.bias, c.init, &mut s.at(gate)),
            up: Affine::register(c.width, c.inner, c.bias, c.init, &mut s.at(up)),
            down: Affine::register(c.inner, c.width, c.bias, c.init, &mut s.at(down)),
            activation: c.activation,
        }
    }

    /// residual + dropout(down(act(gate(x)) · up(x))). x, residual and result (B, T, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor, residual: Tensor, dropout: Dropout) -> Tensor {
        let gate = self.gate.adapted(g, x, self.activation, dropout); // (B, T, inner)
        let h = g.mul(gate, self.up.adapted(g, x, Activation::None, dropout)); // (B, T, inner)
        self.down.onto(g, h, residual, dropout) // (B, T, C)
    }
}
