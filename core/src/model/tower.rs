//! A tower of pre-norm transformer blocks, as image and text encoders of CLIP and SigLIP have one each: x + attention(norm(x)), then x + mlp(norm(x)).
//! Parameter names are those of Hugging Face's `CLIPEncoder`, but for queries, keys and values, which are one matrix.

use crate::graph::{Activation, Graph, Tensor};
use crate::nn::{At, Attention, AttentionConfig, LayerNorm, Mlp, MlpConfig, Stack};
use crate::params::{Init, Scope};
use crate::repeat;

/// The sizes of a tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TowerConfig {
    /// Width C.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the hidden layer, usually 4 C.
    pub intermediate_size: usize,
    /// Its activation.
    pub hidden_act: Activation,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
}

impl TowerConfig {
    /// The standard deviation C^−½ of CLIP's projections.
    pub fn std(&self) -> f64 {
        1.0 / libm::sqrt(self.hidden_size.max(1) as f64)
    }

    /// A norm of the tower's width.
    pub fn norm(&self, s: &mut Scope<'_>) -> LayerNorm {
        LayerNorm::register(self.hidden_size, true, self.layer_norm_eps, s)
    }

    /// Initial values of weights of residual projections: CLIP's C^−½ (2L)^−½.
    fn residual(&self) -> Init {
        Init::normal(self.std() / libm::sqrt(2.0 * self.num_hidden_layers.max(1) as f64))
    }

    fn attention(&self, causal: bool) -> AttentionConfig {
        AttentionConfig {
            bias: [true; 2],
            causal,
            init: [Init::normal(self.std()), self.residual()],
            names: ["qkv", "out_proj"],
            split_names: Some(["q_proj", "k_proj", "v_proj"]),
            ..AttentionConfig::causal(self.hidden_size, self.num_attention_heads)
        }
    }

    /// The hidden layer of a block, or of a head that pools.
    pub fn mlp(&self) -> MlpConfig {
        MlpConfig {
            width: self.hidden_size,
            inner: self.intermediate_size,
            bias: true,
            activation: self.hidden_act,
            init: [Init::normal(self.std() / core::f64::consts::SQRT_2), self.residual()],
            names: ["fc1", "fc2"],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

repeat!(Block { layer_norm1, self_attn, layer_norm2, mlp });

/// A tower whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tower {
    blocks: Stack<Block>,
}

impl Tower {
    /// Registers the blocks as `layers.i`.
    pub fn register(c: &TowerConfig, causal: bool, s: &mut Scope<'_>) -> Self {
        let blocks = Stack::register(c.num_hidden_layers, "layers", s, |s| Block {
            layer_norm1: c.norm(&mut s.at("layer_norm1")),
            self_attn: Attention::register(&c.attention(causal), &mut s.at("self_attn")),
            layer_norm2: c.norm(&mut s.at("layer_norm2")),
            mlp: Mlp::register(&c.mlp(), &mut s.at("mlp")),
        });
        Self { blocks }
    }

    /// x and result (B, T, C); hidden states between blocks are marked as checkpoints.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, mut x: Tensor, at: &At<'_>) -> Tensor {
        for block in self.blocks.iter() {
            let before = g.checkpoint(x); // (B, T, C)
            x = block.self_attn.forward(g, block.layer_norm1.forward(g, before), before, at); // (B, T, C)
            x = block.mlp.forward(g, block.layer_norm2.forward(g, x), x, at.dropout); // (B, T, C)
        }
        g.checkpoint(x) // (B, T, C)
    }
}
