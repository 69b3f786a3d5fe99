//! The GPT family: GPT-2 (pre-norm), GPT-1 (post-norm), GPT-3 (alternating dense and locally banded attention).
//!
//! Radford et al. 2018 and 2019, Brown et al. 2020; parameter names are those of Hugging Face's `GPT2LMHeadModel` and `OpenAIGPTLMHeadModel`.

use super::lm::{LanguageModel, LmDims, LmInputs};
use crate::graph::{Activation, Graph, Tensor};
use crate::nn::{At, Attention, AttentionConfig, Embedding, KvCache, LayerNorm, Mlp, MlpConfig, Stack};
use crate::params::{Init, ParamId, Part, Registry, Scope, Streams};
use crate::repeat;

/// A model of the family, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GptConfig {
    /// Token ids.
    pub vocab_size: usize,
    /// The longest sequence.
    pub n_positions: usize,
    /// Width C.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Heads.
    pub n_head: usize,
    /// Width of the hidden layer, usually 4 C.
    pub n_inner: usize,
    /// Its activation.
    pub activation_function: Activation,
    /// ε of layer norms.
    pub layer_norm_epsilon: f64,
    /// Standard deviation of initial weights; for residual projections it is divided by √(2 n_layer).
    pub initializer_range: f64,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// GPT-1: norms after the residual additions, and no final norm.
    pub post_norm: bool,
    /// Whether scores are divided by √(C / n_head).
    pub scale_attn_weights: bool,
    /// GPT-3: every second block, from the second on, attends to only this many keys; 0 for dense attention everywhere.
    pub window_size: usize,
}

impl GptConfig {
    /// GPT-2 124M.
    pub const GPT2: Self = Self {
        vocab_size: 50257,
        n_positions: 1024,
        n_embd: 768,
        n_layer: 12,
        n_head: 12,
        n_inner: 3072,
        activation_function: Activation::GeluTanh,
        layer_norm_epsilon: 1e-5,
        initializer_range: 0.02,
        bias: true,
        post_norm: false,
        scale_attn_weights: true,
        window_size: 0,
    };

    /// Capacity of a registry for the model; one more when the head is [untied](LanguageModel::untie).
    pub fn param_count(&self) -> usize {
        Registry::count(|s| Gpt::register(self, s))
    }

    /// Initial values of weights, and of weights of residual projections.
    fn init(&self) -> [Init; 2] {
        let std = self.initializer_range;
        [Init::normal(std), Init::normal(std / libm::sqrt(2.0 * self.n_layer as f64))]
    }

    fn attention(&self) -> AttentionConfig {
        let head_dim = self.n_embd.checked_div(self.n_head).unwrap_or(0);
        AttentionConfig {
            width: self.n_embd,
            heads: self.n_head,
            kv_heads: self.n_head,
            head_dim,
            bias: [self.bias; 2],
            causal: true,
            scale: if self.scale_attn_weights { 1.0 / libm::sqrt(head_dim as f64) } else { 1.0 },
            rotary: None,
            init: self.init(),
            names: ["c_attn", "c_proj"],
            split_names: None,
        }
    }

    fn mlp(&self) -> MlpConfig {
        MlpConfig {
            width: self.n_embd,
            inner: self.n_inner,
            bias: self.bias,
            activation: self.activation_function,
            init: self.init(),
            names: ["c_fc", "c_proj"],
        }
    }

    fn embedding(&self, count: usize, s: &mut Scope<'_>) -> Embedding {
        let [init, _] = self.init();
        Embedding::register(count, self.n_embd, init, s)
    }

    fn norm(&self, s: &mut Scope<'_>) -> LayerNorm {
        LayerNorm::register(self.n_embd, self.bias, self.layer_norm_epsilon, s)
    }
}

/// A transformer block. Pre-norm: x + attn(norm(x)), then x + mlp(norm(x)). Post-norm: norm(x + attn(x)), then norm(x + mlp(x)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: Mlp,
    post_norm: bool,
}

repeat!(Block { ln_1, attn, ln_2, mlp });

impl Block {
    fn register(c: &GptConfig, s: &mut Scope<'_>) -> Self {
        Self {
            ln_1: c.norm(&mut s.at("ln_1")),
            attn: Attention::register(&c.attention(), &mut s.at("attn")),
            ln_2: c.norm(&mut s.at("ln_2")),
            mlp: Mlp::register(&c.mlp(), &mut s.at("mlp")),
            post_norm: c.post_norm,
        }
    }

    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> Tensor {
        if self.post_norm {
            let x = self.ln_1.forward(g, self.attn.forward(g, x, x, at)); // (B, T, C)
            return self.ln_2.forward(g, self.mlp.forward(g, x, x, at.dropout)); // (B, T, C)
        }
        let x = self.attn.forward(g, self.ln_1.forward(g, x), x, at); // (B, T, C)
        self.mlp.forward(g, self.ln_2.forward(g, x), x, at.dropout) // (B, T, C)
    }
}

/// A GPT whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpt {
    config: GptConfig,
    wte: Embedding,
    wpe: Embedding,
    h: Stack<Block>,
    ln_f: Option<LayerNorm>,
    head: Embedding,
}

impl Gpt {
    /// Registers the model's parameters; the head is tied to the token embedding. Initial values come from numbered streams ([`Streams::Number`]).
    pub fn register(c: &GptConfig, s: &mut Scope<'_>) -> Self {
        let mut s = s.streams(Streams::Number);
        let [wte, wpe] = if c.post_norm { ["tokens_embed", "positions_embed"] } else { ["wte", "wpe"] };
        let wte = c.embedding(c.vocab_size, &mut s.at(wte).part(Part::Tokens));
        let wpe = c.embedding(c.n_positions, &mut s.at(wpe).part(Part::Positions));
        let h = Stack::register(c.n_layer, "h", &mut s, |s| Block::register(c, s));
        let ln_f = (!c.post_norm).then(|| c.norm(&mut s.at("ln_f").part(Part::Final)));
        Self { config: *c, wte, wpe, h, ln_f, head: wte }
    }
}

impl LanguageModel for Gpt {
    fn dims(&self) -> LmDims {
        let GptConfig { vocab_size, n_positions, n_embd, n_layer, .. } = self.config;
        LmDims { vocab_size, n_positions, n_embd, n_layer, attention_width: n_embd, kv_width: n_embd }
    }

    #[track_caller]
    fn hidden(&self, g: &Graph<'_>, inputs: &LmInputs, cache: Option<&KvCache>) -> Tensor {
        let x = self.wpe.forward(g, inputs.positions, Some(self.wte.forward(g, inputs.tokens, None))); // (B, T, C)
        let mut x = inputs.dropout.map_or(x, |control| g.dropout(x, control));
        for (i, block) in self.h.iter().enumerate() {
            let window = if i % 2 == 1 { self.config.window_size } else { 0 };
            x = block.forward(g, g.checkpoint(x), &At { window, ..inputs.at(cache) }); // (B, T, C)
        }
        self.ln_f.map_or(x, |norm| norm.forward(g, g.checkpoint(x))) // (B, T, C)
    }

    fn embedding(&self) -> ParamId {
        self.wte.table()
    }

    fn head(&self) -> ParamId {
        self.head.table()
    }

    fn untie(&mut self, s: &mut Scope<'_>) {
        if self.head == self.wte {
            let c = &self.config;
            self.head = c.embedding(c.vocab_size, &mut s.streams(Streams::Number).at("lm_head").part(Part::Head));
        }
    }
}
