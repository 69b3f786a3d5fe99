//! BERT: a bidirectional encoder of text, trained to restore masked tokens. Devlin et al. 2019; parameter names are those of Hugging Face's
//! `BertForMaskedLM`, but for queries, keys and values, which are one matrix.

use crate::graph::{Activation, AttentionMask, AttentionSpec, Graph, Tensor};
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

/// Attention of a text's tokens to those of an image, with its norm.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CrossAttention {
    query: Affine,
    kv: Affine,
    output: Affine,
    norm: LayerNorm,
    heads: usize,
}

repeat!(CrossAttention { query, kv, output, norm });

impl CrossAttention {
    fn register(c: &BertConfig, memory_width: usize, s: &mut Scope<'_>) -> Self {
        let (width, init) = (c.hidden_size, c.init());
        let mut own = s.at("self");
        let query = Affine::register(width, width, true, init, &mut own.at("query"));
        let kv = Affine::register(memory_width, 2 * width, true, init, &mut own.at("kv"));
        let mut output = s.at("output");
        let dense = Affine::register(width, width, true, init, &mut output.at("dense"));
        Self { query, kv, output: dense, norm: c.norm(&mut output), heads: c.num_attention_heads }
    }

    /// norm(x + attention of x to the memory). x and result (B, T, C), memory (B, M, Cm).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, memory: Tensor, dropout: Dropout) -> Tensor {
        let (q, kv) = (self.query.forward(g, x), self.kv.forward(g, memory)); // (B, T, C), (B, M, 2C)
        let width = g.shape(x).cols();
        let head_dim = width.checked_div(self.heads).unwrap_or(0);
        let spec = AttentionSpec {
            heads: self.heads as u32,
            kv_heads: self.heads as u32,
            head_dim: head_dim as u32,
            causal: false,
            window: 0,
            scale: 1.0 / libm::sqrt(head_dim as f64),
            site: g.site(),
        };
        let mask = AttentionMask { dropout: dropout.activations, ..AttentionMask::NONE };
        let h = g.attention(spec, q.into(), kv.into(), kv.from_column(width), mask); // (B, T, C)
        self.norm.forward(g, self.output.onto(g, h, x, dropout)) // (B, T, C)
    }
}

/// A layer: norm(x + attention(x)), of a fusion norm(x + attention to the image), then norm(x + mlp(x)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    cross: Option<CrossAttention>,
    mlp: Mlp,
    norm: LayerNorm,
}

repeat!(Layer { attention, attention_norm, cross, mlp, norm });

impl Layer {
    /// `memory_width`: the width of the tokens of images that a layer of a fusion attends to.
    fn register(c: &BertConfig, memory_width: Option<usize>, s: &mut Scope<'_>) -> Self {
        Self {
            attention: Attention::register(&c.attention(), &mut s.at("attention")),
            attention_norm: c.norm(&mut s.at("attention.output")),
            cross: memory_width.map(|width| CrossAttention::register(c, width, &mut s.at("crossattention"))),
            mlp: Mlp::register(&c.mlp(), s),
            norm: c.norm(&mut s.at("output")),
        }
    }

    /// x and result (B, T, C), memory (B, M, Cm).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, memory: Option<Tensor>, at: &At<'_>) -> Tensor {
        let x = self.attention_norm.forward(g, self.attention.forward(g, x, x, at)); // (B, T, C)
        let x = self.cross.zip(memory).map_or(x, |(cross, memory)| cross.forward(g, x, memory, at.dropout)); // (B, T, C)
        self.norm.forward(g, self.mlp.forward(g, x, x, at.dropout)) // (B, T, C)
    }
}

/// An encoder whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bert {
    config: BertConfig,
    embeddings: BertEmbeddings,
    layers: Stack<Layer>,
    fusion: Stack<Layer>,
}

impl Bert {
    /// Registers the encoder's parameters.
    pub fn register(c: &BertConfig, s: &mut Scope<'_>) -> Self {
        Self::register_fused(c, c.num_hidden_layers, 0, s)
    }

    /// The same of an encoder whose layers from `first` on attend to the tokens of an image as well, which have `memory_width` columns.
    pub fn register_fused(c: &BertConfig, first: usize, memory_width: usize, s: &mut Scope<'_>) -> Self {
        let embeddings = BertEmbeddings::register(c, &mut s.at("embeddings"));
        let mut encoder = s.at("encoder");
        let mut stack = |range: core::ops::Range<usize>, memory| {
            Stack::numbered(range, "layer", &mut encoder, |i, s| {
                Layer::register(c, memory, &mut s.part(Part::Block(u16::try_from(i).unwrap_or(u16::MAX))))
            })
        };
        let (layers, fusion) = (stack(0..first, None), stack(first..c.num_hidden_layers, Some(memory_width)));
        Self { config: *c, embeddings, layers, fusion }
    }

    /// The encoder's sizes.
    pub const fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The table of tokens (V, C).
    pub const fn words(&self) -> ParamId {
        self.embeddings.words()
    }

    /// The hidden states after the layers that read the text alone (B, T, C); they and those before every layer are marked as checkpoints.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, inputs: &BertInputs, dropout: Dropout) -> Tensor {
        let x = self.embeddings.forward(g, inputs, dropout); // (B, T, C)
        run(g, &self.layers, x, (inputs.segments, None), dropout) // (B, T, C)
    }

    /// The hidden states after the layers that attend to an image (B, T, C), from those that [`Self::forward`] returns and the image's tokens (B, M, Cm).
    /// segments (B, T): those of the text.
    #[track_caller]
    pub fn fuse(&self, g: &Graph<'_>, x: Tensor, segments: Option<Tensor>, memory: Tensor, dropout: Dropout) -> Tensor {
        run(g, &self.fusion, x, (segments, Some(memory)), dropout) // (B, T, C)
    }
}

/// Runs layers one after the other. x and result (B, T, C), segments (B, T), memory (B, M, Cm).
#[track_caller]
fn run(
    g: &Graph<'_>,
    layers: &Stack<Layer>,
    mut x: Tensor,
    (segments, memory): (Option<Tensor>, Option<Tensor>),
    dropout: Dropout,
) -> Tensor {
    let at = At { positions: Tensor::NONE, segments, dropout, window: 0, cache: None };
    for layer in layers.iter() {
        x = layer.forward(g, g.checkpoint(x), memory, &at); // (B, T, C)
    }
    g.checkpoint(x) // (B, T, C)
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

    /// The cross-entropy in nats against (1 − mix)·one-hot + mix·q, where a negative target has no one-hot part. hidden (…, C), q (…, V), targets and result (…),
    /// mix (1).
    #[track_caller]
    pub fn soft_losses(&self, g: &Graph<'_>, hidden: Tensor, q: Tensor, [targets, mix]: [Tensor; 2]) -> Tensor {
        g.soft_loss(self.logits(g, hidden), q, Some([targets, mix]))
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
