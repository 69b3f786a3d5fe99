//! BERT: a bidirectional encoder of text, trained to restore masked tokens. Devlin et al. 2019; parameter names are those of Hugging Face's
//! `BertForMaskedLM`, but for queries, keys and values, which are one matrix.

use crate::graph::{Activation, Graph, Tensor};
use crate::nn::{Affine, At, Attention, AttentionConfig, Dropout, Embedding, LayerNorm, Mlp, MlpConfig, Stack};
use crate::params::{Init, ParamId, Part, Scope};
use crate::repeat;

/// A model of the family, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BertConfig {
    /// Token ids, V.
    pub vocab_size: usize,
    /// Width C.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the hidden layer, usually 4 C.
    pub intermediate_size: usize,
    /// Its activation, and that of the head.
    pub hidden_act: Activation,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Kinds of segments that a sequence can have: first and second text.
    pub type_vocab_size: usize,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
    /// Standard deviation of the initial values of weights.
    pub initializer_range: f64,
}

impl BertConfig {
    fn init(&self) -> Init {
        Init::normal(self.initializer_range)
    }

    fn attention(&self) -> AttentionConfig {
        AttentionConfig {
            bias: [true; 2],
            causal: false,
            init: [self.init(); 2],
            names: ["self.qkv", "output.dense"],
            split_names: Some(["self.query", "self.key", "self.value"]),
            ..AttentionConfig::causal(self.hidden_size, self.num_attention_heads)
        }
    }

    fn mlp(&self) -> MlpConfig {
        MlpConfig {
            width: self.hidden_size,
            inner: self.intermediate_size,
            bias: true,
            activation: self.hidden_act,
            init: [self.init(); 2],
            names: ["intermediate.dense", "output.dense"],
        }
    }

    fn norm(&self, s: &mut Scope<'_>) -> LayerNorm {
        LayerNorm::register(self.hidden_size, true, self.layer_norm_eps, &mut s.at("LayerNorm"))
    }
}

/// The inputs of an encoder of text.
#[derive(Clone, Copy, Debug)]
pub struct BertInputs {
    /// Token ids (B, T).
    pub tokens: Tensor,
    /// Positions (B, T).
    pub positions: Tensor,
    /// Whether a token belongs to the first (0) or the second text (1), (B, T).
    pub types: Tensor,
    /// Segments (B, T), −1 for padding and else 0; `None`: no padding.
    pub segments: Option<Tensor>,
}

impl BertInputs {
    /// Declares the inputs of `batch` sequences of `len` tokens.
    #[track_caller]
    pub fn new(g: &Graph<'_>, c: &BertConfig, batch: usize, len: usize, padded: bool) -> Self {
        let below = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).saturating_sub(1);
        Self {
            tokens: g.ints(&[batch, len], 0, below(c.vocab_size)), // (B, T)
            positions: g.ints(&[batch, len], 0, below(c.max_position_embeddings)), // (B, T)
            types: g.ints(&[batch, len], 0, below(c.type_vocab_size)), // (B, T)
            segments: padded.then(|| g.ints(&[batch, len], -1, 0)), // (B, T)
        }
    }
}

/// The sum of a token's, a position's and a segment's vector, normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BertEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    norm: LayerNorm,
}

impl BertEmbeddings {
    /// Registers the tables and the norm.
    pub fn register(c: &BertConfig, s: &mut Scope<'_>) -> Self {
        let table = |count: usize, s: &mut Scope<'_>| Embedding::register(count, c.hidden_size, c.init(), s);
        Self {
            word_embeddings: table(c.vocab_size, &mut s.at("word_embeddings").part(Part::Tokens)),
            position_embeddings: table(c.max_position_embeddings, &mut s.at("position_embeddings").part(Part::Positions)),
            token_type_embeddings: table(c.type_vocab_size, &mut s.at("token_type_embeddings")),
            norm: c.norm(s),
        }
    }

    /// The vectors of tokens (B, T, C).
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, inputs: &BertInputs, dropout: Dropout) -> Tensor {
        let x = self.word_embeddings.forward(g, inputs.tokens, None); // (B, T, C)
        let x = self.position_embeddings.forward(g, inputs.positions, Some(x)); // (B, T, C)
        let x = self.norm.forward(g, self.token_type_embeddings.forward(g, inputs.types, Some(x))); // (B, T, C)
        dropout.activations.map_or(x, |control| g.dropout(x, control))
    }

    /// The table of tokens (V, C).
    pub const fn words(&self) -> ParamId {
        self.word_embeddings.table()
    }
}

/// A layer: norm(x + attention(x)), then norm(x + mlp(x)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    norm: LayerNorm,
}

repeat!(Layer { attention, attention_norm, mlp, norm });

impl Layer {
    fn register(c: &BertConfig, s: &mut Scope<'_>) -> Self {
        Self {
            attention: Attention::register(&c.attention(), &mut s.at("attention")),
            attention_norm: c.norm(&mut s.at("attention.output")),
            mlp: Mlp::register(&c.mlp(), s),
            norm: c.norm(&mut s.at("output")),
        }
    }

    /// x and result (B, T, C).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> Tensor {
        let x = self.attention_norm.forward(g, self.attention.forward(g, x, x, at)); // (B, T, C)
        self.norm.forward(g, self.mlp.forward(g, x, x, at.dropout)) // (B, T, C)
    }
}

/// An encoder whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bert {
    config: BertConfig,
    embeddings: BertEmbeddings,
    layers: Stack<Layer>,
}

impl Bert {
    /// Registers the encoder's parameters.
    pub fn register(c: &BertConfig, s: &mut Scope<'_>) -> Self {
        Self {
            config: *c,
            embeddings: BertEmbeddings::register(c, &mut s.at("embeddings")),
            layers: Stack::register(c.num_hidden_layers, "layer", &mut s.at("encoder"), |s| Layer::register(c, s)),
        }
    }

    /// The encoder's sizes.
    pub const fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The table of tokens (V, C).
    pub const fn words(&self) -> ParamId {
        self.embeddings.words()
    }

    /// The hidden states after the last layer (B, T, C); they and those before every layer are marked as checkpoints.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, inputs: &BertInputs, dropout: Dropout) -> Tensor {
        let at = At { positions: Tensor::NONE, segments: inputs.segments, dropout, window: 0, cache: None };
        let mut x = self.embeddings.forward(g, inputs, dropout); // (B, T, C)
        for layer in self.layers.iter() {
            x = layer.forward(g, g.checkpoint(x), &at); // (B, T, C)
        }
        g.checkpoint(x) // (B, T, C)
    }
}

/// The head that restores tokens: norm(act(x Wᵀ + b)), then a product with the table of tokens, and a bias of every token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskedLmHead {
    dense: Affine,
    activation: Activation,
    norm: LayerNorm,
    bias: ParamId,
    words: ParamId,
}

impl MaskedLmHead {
    /// Registers the head's parameters. `words`: the table of tokens, to which it is tied.
    pub fn register(c: &BertConfig, words: ParamId, s: &mut Scope<'_>) -> Self {
        let mut s = s.part(Part::Head);
        let mut transform = s.at("transform");
        let dense = Affine::register(c.hidden_size, c.hidden_size, true, c.init(), &mut transform.at("dense"));
        let norm = c.norm(&mut transform);
        Self { dense, activation: c.hidden_act, norm, bias: s.add("bias", &[c.vocab_size], Init::Zeros), words }
    }

    /// The logits (…, V) of hidden states (…, C).
    #[track_caller]
    pub fn logits(&self, g: &Graph<'_>, hidden: Tensor) -> Tensor {
        g.linear(self.transformed(g, hidden), g.param(self.words), Some(g.param(self.bias)))
    }

    /// The cross-entropy of each target in nats; 0 for a negative target. hidden (…, C), targets and result (…).
    #[track_caller]
    pub fn losses(&self, g: &Graph<'_>, hidden: Tensor, targets: Tensor) -> Tensor {
        g.head_loss(self.transformed(g, hidden), g.param(self.words), Some(g.param(self.bias)), targets, 0.0)
    }

    #[track_caller]
    fn transformed(&self, g: &Graph<'_>, hidden: Tensor) -> Tensor {
        self.norm.forward(g, self.dense.activated(g, hidden, self.activation)) // (…, C)
    }
}
