//! The Llama family: Llama 1 to 3 (Touvron et al. 2023), Mistral, Qwen2, SmolLM2: RMS norms, rotary positions, SwiGLU, grouped-query attention.
//!
//! Parameter names are those of Hugging Face's `LlamaForCausalLM`, except that queries, keys and values are one matrix, `self_attn.qkv`, unless one
//! of them gets a low-rank adapter.

use super::lm::{LanguageModel, LmDims, LmInputs};
use crate::graph::{Activation, Graph, Pairing, Tensor};
use crate::nn::{At, Attention, AttentionConfig, Embedding, GatedMlp, GatedMlpConfig, KvCache, RmsNorm, Rotary, Stack};
use crate::params::{Init, ParamId, Part, Registry, Scope};
use crate::repeat;

/// A model of the family, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Token ids, V.
    pub vocab_size: usize,
    /// Width C.
    pub hidden_size: usize,
    /// Width of the hidden layer of an MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Columns of a head, usually C / query heads.
    pub head_dim: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// ε of RMS norms.
    pub rms_norm_eps: f64,
    /// The base of rotary wavelengths.
    pub rope_theta: f64,
    /// Which columns of a head are rotated as pairs: half-split in Hugging Face's files, adjacent in those of the paper's authors.
    pub rope_pairs: Pairing,
    /// Attention window in keys, the query's own position included (Mistral); 0 for all keys.
    pub sliding_window: usize,
    /// Whether queries, keys and values have biases: `attention_bias`, and always in Qwen2.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias: `attention_bias`.
    pub o_bias: bool,
    /// Whether the layers of an MLP have biases.
    pub mlp_bias: bool,
    /// Whether the head is the token embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
}

impl LlamaConfig {
    /// SmolLM2 135M (Ben Allal et al. 2025).
    pub const SMOLLM2_135M: Self = Self {
        vocab_size: 49152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        max_position_embeddings: 8192,
        rms_norm_eps: 1e-5,
        rope_theta: 100_000.0,
        rope_pairs: Pairing::Halves,
        sliding_window: 0,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        tie_word_embeddings: true,
        initializer_range: 1.0 / 24.0,
    };

    /// Capacity of a registry for the model; one more when a tied head is [untied](LanguageModel::untie).
    pub fn param_count(&self) -> usize {
        Registry::count(|s| Llama::register(self, s))
    }

    fn attention(&self) -> AttentionConfig {
        AttentionConfig {
            width: self.hidden_size,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            bias: [self.qkv_bias, self.o_bias],
            causal: true,
            scale: 1.0 / libm::sqrt(self.head_dim as f64),
            rotary: Some(Rotary { pairs: self.rope_pairs, rotated: self.head_dim, base: self.rope_theta }),
            init: [Init::normal(self.initializer_range); 2],
            names: ["qkv", "o_proj"],
            split_names: Some(["q_proj", "k_proj", "v_proj"]),
        }
    }

    fn mlp(&self) -> GatedMlpConfig {
        GatedMlpConfig {
            width: self.hidden_size,
            inner: self.intermediate_size,
            bias: self.mlp_bias,
            activation: Activation::Silu,
            init: Init::normal(self.initializer_range),
            names: ["gate_proj", "up_proj", "down_proj"],
        }
    }

    /// A table (V, C): the token embedding, or a head of its own.
    fn embedding(&self, s: &mut Scope<'_>) -> Embedding {
        Embedding::register(self.vocab_size, self.hidden_size, Init::normal(self.initializer_range), s)
    }
}

/// x + attn(norm(x)), then x + mlp(norm(x)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: GatedMlp,
}

repeat!(Block { input_layernorm, self_attn, post_attention_layernorm, mlp });

impl Block {
    fn register(c: &LlamaConfig, s: &mut Scope<'_>) -> Self {
        Self {
            input_layernorm: RmsNorm::register(c.hidden_size, c.rms_norm_eps, &mut s.at("input_layernorm")),
            self_attn: Attention::register(&c.attention(), &mut s.at("self_attn")),
            post_attention_layernorm: RmsNorm::register(c.hidden_size, c.rms_norm_eps, &mut s.at("post_attention_layernorm")),
            mlp: GatedMlp::register(&c.mlp(), &mut s.at("mlp")),
        }
    }

    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> Tensor {
        let x = self.self_attn.forward(g, self.input_layernorm.forward(g, x), x, at); // (B, T, C)
        self.mlp.forward(g, self.post_attention_layernorm.forward(g, x), x, at.dropout) // (B, T, C)
    }
}

/// A Llama whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama {
    config: LlamaConfig,
    embed_tokens: Embedding,
    layers: Stack<Block>,
    norm: RmsNorm,
    head: Embedding,
}

impl Llama {
    /// Adds the model's parameters.
    pub fn register(c: &LlamaConfig, s: &mut Scope<'_>) -> Self {
        let mut model = s.at("model");
        let embed_tokens = c.embedding(&mut model.at("embed_tokens").part(Part::Tokens));
        let layers = Stack::register(c.num_hidden_layers, "layers", &mut model, |s| Block::register(c, s));
        let norm = RmsNorm::register(c.hidden_size, c.rms_norm_eps, &mut model.at("norm").part(Part::Final));
        let head = if c.tie_word_embeddings { embed_tokens } else { c.embedding(&mut s.at("lm_head").part(Part::Head)) };
        Self { config: *c, embed_tokens, layers, norm, head }
    }
}

impl LanguageModel for Llama {
    fn dims(&self) -> LmDims {
        let c = &self.config;
        LmDims {
            vocab_size: c.vocab_size,
            n_positions: c.max_position_embeddings,
            n_embd: c.hidden_size,
            n_layer: c.num_hidden_layers,
            attention_width: c.num_attention_heads * c.head_dim,
            kv_width: c.num_key_value_heads * c.head_dim,
        }
    }

    #[track_caller]
    fn hidden(&self, g: &Graph<'_>, inputs: &LmInputs, cache: Option<&KvCache>) -> Tensor {
        let at = At { window: self.config.sliding_window, ..inputs.at(cache) };
        let x = self.embed_tokens.forward(g, inputs.tokens, None); // (B, T, C)
        let mut x = inputs.dropout.map_or(x, |control| g.dropout(x, control));
        for layer in self.layers.iter() {
            x = layer.forward(g, g.checkpoint(x), &at); // (B, T, C)
        }
        self.norm.forward(g, g.checkpoint(x)) // (B, T, C)
    }

    fn embedding(&self) -> ParamId {
        self.embed_tokens.table()
    }

    fn head(&self) -> ParamId {
        self.head.table()
    }

    fn untie(&mut self, s: &mut Scope<'_>) {
        if self.head == self.embed_tokens {
            self.head = self.config.embedding(&mut s.at("lm_head").part(Part::Head));
        }
    }
}
