//! Convolutions followed by a batch norm whose statistics are fixed.

use super::stack::repeat;
use crate::graph::{BinaryKind, ConvEpilogue, Graph, Over, Tensor, UnaryKind, Window};
use crate::params::{Init, ParamId, Scope};

/// (x − μ) / √(σ² + ε) · w + b for each channel, with fixed μ and σ². Ioffe and Szegedy 2015, in the form of evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    weight: ParamId,
    bias: ParamId,
    mean: ParamId,
    variance: ParamId,
    eps: f64,
}

repeat!(BatchNorm { weight, bias, mean, variance });

impl BatchNorm {
    /// Registers `weight` (C), initialised to 1, and `bias` (C), initialised to 0, trained or not; and the buffers `running_mean` (C), 0, and
    /// `running_var` (C), 1.
    pub fn register(channels: usize, trained: bool, eps: f64, s: &mut Scope<'_>) -> Self {
        let mut add = |word, init| match trained {
            true => s.add(word, &[channels], init),
            false => s.add_buffer(word, &[channels], init),
        };
        let (weight, bias) = (add("weight", Init::Ones), add("bias", Init::Zeros));
        let mean = s.add_buffer("running_mean", &[channels], Init::Zeros);
        Self { weight, bias, mean, variance: s.add_buffer("running_var", &[channels], Init::Ones), eps }
    }

    /// Factor w / √(σ² + ε) and offset b − μ · factor of every channel, each (C).
    #[track_caller]
    pub fn factors(&self, g: &Graph<'_>) -> [Tensor; 2] {
        let variance = g.unary(UnaryKind::Offset, self.eps, 0.0, g.param(self.variance)); // (C)
        let deviation = g.unary(UnaryKind::Sqrt, 0.0, 0.0, variance); // (C)
        let factor = g.binary(BinaryKind::Div, Over::Same, g.param(self.weight), deviation); // (C)
        let mean = g.mul(factor, g.param(self.mean)); // (C)
        [factor, g.binary(BinaryKind::Sub, Over::Same, g.param(self.bias), mean)]
    }
}

/// A convolution without bias and its batch norm, computed as one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvNorm {
    weight: ParamId,
    norm: BatchNorm,
    window: Window,
}

repeat!(ConvNorm { weight, norm });

impl ConvNorm {
    /// Registers `weight` (outputs, kh·kw·inputs) in scope `names[0]` with N(0, 2 / (kh·kw·outputs)) (He et al. 2015, by outputs), and the norm in
    /// scope `names[1]`, each of which may have a number.
    pub fn register(
        [inputs, outputs]: [usize; 2],
        window: Window,
        (trained, eps): (bool, f64),
        names: [(&'static str, Option<usize>); 2],
        s: &mut Scope<'_>,
    ) -> Self {
        let [conv, norm] = names;
        let taps = window.taps();
        let init = Init::normal(libm::sqrt(2.0 / (taps * outputs).max(1) as f64));
        let weight = scope(s, conv).add("weight", &[outputs, taps * inputs], init);
        Self { weight, norm: BatchNorm::register(outputs, trained, eps, &mut scope(s, norm)), window }
    }

    /// act(norm(x ∗ W) + residual), with max(·, 0) as activation or none. x (N, H, W, inputs), residual and result (N, Ho, Wo, outputs).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor, residual: Option<Tensor>, relu: bool) -> Tensor {
        let [scale, bias] = self.norm.factors(g).map(Some);
        g.conv2d(x, g.param(self.weight), self.window, ConvEpilogue { scale, bias, residual, relu }) // (N, Ho, Wo, outputs)
    }
}

fn scope<'s>(s: &'s mut Scope<'_>, (word, number): (&'static str, Option<usize>)) -> Scope<'s> {
    match number {
        Some(number) => s.item(word, number),
        None => s.at(word),
    }
}
