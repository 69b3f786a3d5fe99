//! Low-rank adapters of linear layers.

use super::stack::repeat;
use crate::graph::{Activation, Graph, Tensor};
use crate::params::{Init, ParamId, Scope};

/// The low-rank term of a linear layer: scale · dropout(x) Aᵀ Bᵀ, with A (r, in) and B (out, r). Hu et al. 2021, 4.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LowRank {
    a: ParamId,
    b: ParamId,
    scale: f64,
}

repeat!(LowRank { a, b });

impl LowRank {
    /// Registers `lora_A.weight` (r, inputs), uniform within ±1/√inputs (He et al. 2015 with a = √5, as PEFT), and `lora_B.weight` (outputs, r), 0,
    /// so that the layer's output is unchanged at first; `None` when this scope is not a target.
    pub(super) fn register(inputs: usize, outputs: usize, s: &mut Scope<'_>) -> Option<Self> {
        let lora = s.lora()?;
        let (rank, scale) = (lora.rank, lora.scale);
        let bound = 1.0 / libm::sqrt(inputs as f64);
        Some(Self {
            a: s.at("lora_A").add_adapter("weight", &[rank, inputs], Init::Uniform { bound }),
            b: s.at("lora_B").add_adapter("weight", &[outputs, rank], Init::Zeros),
            scale,
        })
    }

    /// y + scale · dropout(x) Aᵀ Bᵀ. x (…, in), y and result (…, out).
    #[track_caller]
    pub(super) fn onto(&self, g: &Graph<'_>, x: Tensor, y: Tensor, dropout: Option<Tensor>) -> Tensor {
        let x = dropout.map_or(x, |control| g.dropout(x, control)); // (…, in)
        let u = g.scale(g.linear(x, g.param(self.a), None), self.scale); // (…, r)
        g.linear_with(u, g.param(self.b), None, Activation::None, Some(y)) // (…, out)
    }
}
