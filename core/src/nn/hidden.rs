//! Hidden layers of a classifier's head.

use super::stack::repeat;
use super::{Affine, LayerNorm, Stack};
use crate::graph::{Activation, Graph, Tensor};
use crate::params::{Init, Scope};

/// norm(max(x Wᵀ + b, 0)) several times, each as wide as its input: with the linear layer behind them the head "mlp-k" of Jia et al. 2022. Their code has a
/// batch norm and dropout where this has a layer norm, whose result does not depend on the other images of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HiddenLayers {
    layers: Stack<Layer>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Layer {
    fc: Affine,
    norm: LayerNorm,
}

repeat!(Layer { fc, norm });

impl HiddenLayers {
    /// Registers `hidden.i.fc` and `hidden.i.norm` for `count` layers, in the part of the model that `s` has. Weights are N(0, 2/C) (He et al. 2015).
    pub fn register(count: usize, width: usize, eps: f64, s: &mut Scope<'_>) -> Self {
        let init = Init::normal(libm::sqrt(2.0 / width.max(1) as f64));
        let layers = Stack::numbered(0..count, "hidden", s, |_, s| Layer {
            fc: Affine::register(width, width, true, init, &mut s.at("fc")),
            norm: LayerNorm::register(width, true, eps, &mut s.at("norm")),
        });
        Self { layers }
    }

    /// x and result (B, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        self.layers.iter().fold(x, |x, layer| layer.norm.forward(g, layer.fc.activated(g, x, Activation::Relu)))
    }
}
