//! Normalisation of rows.

use super::stack::repeat;
use crate::graph::{Graph, Tensor};
use crate::params::{Init, ParamId, Scope};

/// (x − μ) / √(σ² + ε) · w + b over the last extent. Ba, Kiros, Hinton 2016.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    weight: ParamId,
    bias: Option<ParamId>,
    eps: f64,
}

repeat!(LayerNorm { weight, bias });

impl LayerNorm {
    /// Registers `weight` (C), initialised to 1, and optionally `bias` (C), initialised to 0.
    pub fn register(width: usize, bias: bool, eps: f64, s: &mut Scope<'_>) -> Self {
        let weight = s.add("weight", &[width], Init::Ones);
        Self { weight, bias: bias.then(|| s.add("bias", &[width], Init::Zeros)), eps }
    }

    /// x and result (…, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        g.layer_norm(x, Some(g.param(self.weight)), self.bias.map(|b| g.param(b)), self.eps) // (…, C)
    }
}

/// x / √(mean x² + ε) · w over the last extent. Zhang and Sennrich 2019.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    weight: ParamId,
    eps: f64,
}

repeat!(RmsNorm { weight });

impl RmsNorm {
    /// Registers `weight` (C), initialised to 1.
    pub fn register(width: usize, eps: f64, s: &mut Scope<'_>) -> Self {
        Self { weight: s.add("weight", &[width], Init::Ones), eps }
    }

    /// x and result (…, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        g.rms_norm(x, Some(g.param(self.weight)), self.eps) // (…, C)
    }
}
