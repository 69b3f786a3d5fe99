//! A network beside a model: both see the image, and their features are mixed.

use super::Affine;
use crate::graph::{Activation, BinaryKind, ConvEpilogue, Graph, Over, Tensor, UnaryKind, Window};
use crate::params::{Init, ParamId, Scope};

/// σ(a) · features + (1 − σ(a)) · side(image) with a trained a, 0 at first (Zhang et al. 2020, as Jia et al. 2022 use it). The side network is AlexNet's features
/// (Krizhevsky 2014) and a projection, with patches in the place of its first convolution, and as much narrower as the model is narrower than 768 columns. It
/// begins with random weights, where the authors' begins with ImageNet's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Side {
    stem: Affine,
    convolutions: [Convolution; 4],
    projection: Affine,
    gate: ParamId,
    grid: [usize; 2],
}

/// max(x ∗ W + b, 0).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Convolution {
    weight: ParamId,
    bias: ParamId,
    window: Window,
}

/// The sizes of the image that it sees, and of the features that it is mixed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideConfig {
    /// Rows and columns of patches, h and w.
    pub grid: [usize; 2],
    /// Values of a patch.
    pub patch_len: usize,
    /// Columns of the features, C.
    pub width: usize,
}

/// Channels of AlexNet's convolutions, and the width of the model that they are for.
const CHANNELS: [usize; 5] = [64, 192, 384, 256, 256];
const WIDTH: usize = 768;
/// Rows and columns of the convolutions after the first.
const KERNELS: [u8; 4] = [5, 3, 3, 3];
const POOL: Window = Window::square(3, 2, 0);

impl Side {
    /// Registers `side.stem`, `side.conv.i`, `side.proj` and `side.gate` (1). Weights are N(0, 2/inputs) (He et al. 2015).
    pub fn register(c: &SideConfig, s: &mut Scope<'_>) -> Self {
        let [first, second, third, fourth, fifth] = CHANNELS.map(|all| (all * c.width).div_ceil(WIDTH).max(1));
        let pairs = [[first, second], [second, third], [third, fourth], [fourth, fifth]];
        let he = |inputs: usize| Init::normal(libm::sqrt(2.0 / inputs.max(1) as f64));
        let mut s = s.at("side");
        let stem = Affine::register(c.patch_len, first, true, he(c.patch_len), &mut s.at("stem"));
        let mut number = 0;
        let convolutions = pairs.map(|[inputs, outputs]| {
            let kernel = KERNELS.get(number).copied().unwrap_or(1);
            let window = Window::square(kernel, 1, kernel / 2);
            let taps = window.taps() * inputs;
            let mut s = s.item("conv", number);
            number += 1;
            let weight = s.add("weight", &[outputs, taps], he(taps));
            Convolution { weight, bias: s.add("bias", &[outputs], Init::Zeros), window }
        });
        let flat = pooled(c.grid).iter().product::<usize>() * fifth;
        let projection = Affine::register(flat, c.width, true, he(flat), &mut s.at("proj"));
        Self { stem, convolutions, projection, gate: s.add("gate", &[1], Init::Zeros), grid: c.grid }
    }

    /// pixels (B, h·w, patch), features and result (B, C).
    #[track_caller]
    pub fn mix(&self, g: &Graph<'_>, pixels: Tensor, features: Tensor) -> Tensor {
        let (batch, [h, w]) = (g.shape(pixels).dim(0), self.grid);
        let stem = self.stem.activated(g, pixels, Activation::Relu); // (B, h·w, 64)
        let mut x = g.reshape(stem, &[batch, h, w, g.shape(stem).cols()]); // (B, h, w, 64)
        for conv in &self.convolutions {
            let epilogue = ConvEpilogue { bias: Some(g.param(conv.bias)), relu: true, ..ConvEpilogue::default() };
            x = g.conv2d(x, g.param(conv.weight), conv.window, epilogue); // (B, h, w, 192), …, (B, h, w, 256)
        }
        if pooled(self.grid) != self.grid {
            x = g.max_pool(x, POOL); // (B, h', w', 256)
        }
        let flat = g.shape(x).len().checked_div(batch).unwrap_or(0);
        let side = self.projection.forward(g, g.reshape(x, &[batch, flat])); // (B, C)
        let share = g.unary(UnaryKind::Sigmoid, 0.0, 0.0, g.param(self.gate)); // (1)
        let apart = g.binary(BinaryKind::Sub, Over::Same, features, side); // (B, C)
        g.add(side, g.binary(BinaryKind::Mul, Over::Scalar, apart, share)) // (B, C)
    }
}

/// Rows and columns after the pooling; a grid of less than a window is not pooled.
fn pooled(grid: [usize; 2]) -> [usize; 2] {
    if grid.iter().all(|&side| side >= 3) { grid.map(|side| (side.saturating_sub(3)) / 2 + 1) } else { grid }
}
