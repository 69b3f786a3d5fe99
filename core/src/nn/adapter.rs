//! Adapters between a layer's output and its residual connection.

use super::Affine;
use super::stack::repeat;
use crate::graph::{Activation, Graph, Tensor};
use crate::params::{Init, Scope};

/// x + up(gelu(down(x))), behind the feed-forward part of a block (Pfeiffer et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    down: Affine,
    up: Affine,
}

repeat!(Adapter { down, up });

/// The configuration of a [`Adapter`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Columns of the hidden layer.
    pub inner: usize,
    /// Initial values of the first weight; the second begins with 0, so that the model begins as it was. With 0 for both, only the last bias ever learns:
    /// each weight's gradient is a product with the other.
    pub init: Init,
}

impl Adapter {
    /// Registers `adapter.down` and `adapter.up`.
    pub fn register(c: &AdapterConfig, width: usize, s: &mut Scope<'_>) -> Self {
        Self {
            down: Affine::register(width, c.inner, true, c.init, &mut s.at("adapter.down")),
            up: Affine::register(c.inner, width, true, Init::Zeros, &mut s.at("adapter.up")),
        }
    }

    /// residual + x + up(gelu(down(x))). x, residual and result (B, T, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor, residual: Tensor) -> Tensor {
        let h = self.down.activated(g, x, Activation::GeluErf); // (B, T, inner)
        g.add(residual, self.up.onto(g, h, x, super::Dropout::NONE)) // (B, T, C)
    }
}
