//! ViLT: one transformer over the tokens of a text and the patches of an image. Kim et al. 2021; parameter names are those of Hugging Face's
//! `ViltForMaskedLM` and `ViltForImageAndTextRetrieval`, but for queries, keys and values, which are one matrix.

use super::bert::{BertConfig, BertEmbeddings, BertInputs, MaskedLmHead};
use crate::graph::{Activation, BinaryKind, Graph, Over, Shape, Tensor, UnaryKind};
use crate::nn::{Affine, At, Attention, AttentionConfig, Dropout, Embedding, LayerNorm, Mlp, MlpConfig, Stack};
use crate::params::{Init, ParamId, Part, Scope};
use crate::repeat;

/// A model of the family, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViltConfig {
    /// Token ids, V.
    pub vocab_size: usize,
    /// The longest text.
    pub max_position_embeddings: usize,
    /// Kinds of segments of a text.
    pub type_vocab_size: usize,
    /// Kinds of inputs: text and image, M.
    pub modality_type_vocab_size: usize,
    /// Height and width in pixels of the images whose positions the table has.
    pub image_size: usize,
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
    /// Values of a pixel.
    pub num_channels: usize,
    /// Width C.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the hidden layer, usually 4 C.
    pub intermediate_size: usize,
    /// Its activation, and that of the head that restores tokens.
    pub hidden_act: Activation,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
    /// Standard deviation of the initial values of weights.
    pub initializer_range: f64,
    /// Whether the head that restores tokens is tied to the table of tokens.
    pub tie_word_embeddings: bool,
}

impl ViltConfig {
    /// Rows, and columns, of the table of positions: G.
    pub fn grid(&self) -> usize {
        self.image_size.checked_div(self.patch_size).unwrap_or(0)
    }

    /// Values of a patch.
    pub const fn patch_len(&self) -> usize {
        self.num_channels * self.patch_size * self.patch_size
    }

    /// The embeddings of texts and the head that restores their tokens, as BERT has them.
    pub const fn text(&self) -> BertConfig {
        BertConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: 0,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
        }
    }

    fn init(&self) -> Init {
        Init::normal(self.initializer_range)
    }

    fn attention(&self) -> AttentionConfig {
        AttentionConfig {
            bias: [self.qkv_bias, true],
            causal: false,
            init: [self.init(); 2],
            names: ["attention.qkv", "output.dense"],
            split_names: Some(["attention.query", "attention.key", "attention.value"]),
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
        LayerNorm::register(self.hidden_size, true, self.layer_norm_eps, s)
    }
}

/// Which heads a model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViltHeads {
    /// That restores masked tokens.
    pub masked_lm: bool,
    /// That tells whether text and image belong together.
    pub matching: bool,
    /// That scores how well they fit.
    pub rank: bool,
}

/// How many rows of the table of positions a resized position is made of.
pub const TAPS: usize = 4;

/// The positions of patches of images whose grids are not the table's: weighted rows of it.
#[derive(Clone, Copy, Debug)]
pub struct ResizedPositions {
    /// Rows of the table (B, N), of every tap.
    pub rows: [Tensor; TAPS],
    /// Their weights (B, N).
    pub weights: [Tensor; TAPS],
}

/// The inputs of a model.
#[derive(Clone, Copy, Debug)]
pub struct ViltInputs {
    /// Texts of T tokens; their padding is in [`Self::segments`].
    pub texts: BertInputs,
    /// Patches (B, N, channels·P·P), each in the order (channel, y, x).
    pub patches: Tensor,
    /// Their positions; `None`: every image has the patches of the table's grid, in their order.
    pub positions: Option<ResizedPositions>,
    /// Segments (B, T+1+N), −1 for padding and else 0; `None`: no padding.
    pub segments: Option<Tensor>,
}

/// The extents of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViltExtents {
    /// Pairs, B.
    pub batch: usize,
    /// Tokens of a text, T.
    pub tokens: usize,
    /// Patches of an image, N.
    pub patches: usize,
    /// Whether images have other grids than the table.
    pub resized: bool,
    /// Whether texts or images are padded.
    pub padded: bool,
}

/// Normalised hidden states of a batch.
#[derive(Clone, Copy, Debug)]
pub struct ViltStates {
    /// Of all tokens: the text, a class token of the image, its patches (B, T+1+N, C).
    pub all: Tensor,
    /// Of the text (B, T, C).
    pub text: Tensor,
    /// tanh(W x + b) of the first token of the text (B, C).
    pub pooled: Tensor,
}

/// A pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layer {
    layernorm_before: LayerNorm,
    attention: Attention,
    layernorm_after: LayerNorm,
    mlp: Mlp,
}

repeat!(Layer { layernorm_before, attention, layernorm_after, mlp });

impl Layer {
    fn register(c: &ViltConfig, s: &mut Scope<'_>) -> Self {
        Self {
            layernorm_before: c.norm(&mut s.at("layernorm_before")),
            attention: Attention::register(&c.attention(), &mut s.at("attention")),
            layernorm_after: c.norm(&mut s.at("layernorm_after")),
            mlp: Mlp::register(&c.mlp(), s),
        }
    }

    /// x and result (B, T+1+N, C).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> Tensor {
        let x = self.attention.forward(g, self.layernorm_before.forward(g, x), x, at); // (B, T+1+N, C)
        self.mlp.forward(g, self.layernorm_after.forward(g, x), x, at.dropout) // (B, T+1+N, C)
    }
}

/// Vectors of patches, a class token, positions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PatchEmbeddings {
    cls_token: ParamId,
    positions: ParamId,
    projection: Affine,
}

/// A model whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vilt {
    config: ViltConfig,
    text: BertEmbeddings,
    image: PatchEmbeddings,
    modalities: Embedding,
    layers: Stack<Layer>,
    layernorm: LayerNorm,
    pooler: Affine,
    masked_lm: Option<MaskedLmHead>,
    matching: Option<Affine>,
    rank: Option<Affine>,
}

impl Vilt {
    /// Registers the model's parameters.
    pub fn register(c: &ViltConfig, heads: ViltHeads, s: &mut Scope<'_>) -> Self {
        let (width, init) = (c.hidden_size, c.init());
        let mut model = s.at("vilt");
        let mut embeddings = model.at("embeddings");
        let text = BertEmbeddings::register(&c.text(), &mut embeddings.at("text_embeddings"));
        let image = PatchEmbeddings::register(c, &mut embeddings);
        let modalities =
            Embedding::register(c.modality_type_vocab_size, width, init, &mut embeddings.at("token_type_embeddings"));
        let layers = Stack::register(c.num_hidden_layers, "layer", &mut model.at("encoder"), |s| Layer::register(c, s));
        let layernorm = c.norm(&mut model.at("layernorm").part(Part::Final));
        let pooler = Affine::register(width, width, true, init, &mut model.at("pooler.dense").part(Part::Final));
        let head =
            |name, outputs, s: &mut Scope<'_>| Affine::register(width, outputs, true, init, &mut s.at(name).part(Part::Head));
        Self {
            config: *c,
            masked_lm: heads.masked_lm.then(|| masked_lm(c, text.words(), &mut s.at("mlm_score"))),
            matching: heads.matching.then(|| head("itm_score.fc", 2, s)),
            rank: heads.rank.then(|| head("rank_output", 1, s)),
            text,
            image,
            modalities,
            layers,
            layernorm,
            pooler,
        }
    }

    /// The model's sizes.
    pub const fn config(&self) -> &ViltConfig {
        &self.config
    }

    /// Which heads it has.
    pub const fn heads(&self) -> ViltHeads {
        ViltHeads { masked_lm: self.masked_lm.is_some(), matching: self.matching.is_some(), rank: self.rank.is_some() }
    }

    /// Declares the inputs of a batch.
    #[track_caller]
    pub fn inputs(&self, g: &Graph<'_>, of: &ViltExtents) -> ViltInputs {
        let &ViltExtents { batch, tokens, patches, resized, padded } = of;
        let (c, table) = (&self.config, self.config.grid() * self.config.grid());
        let last = i32::try_from(table).unwrap_or(i32::MAX);
        let positions = resized.then(|| ResizedPositions {
            rows: [(); TAPS].map(|()| g.ints(&[batch, patches], 1, last)), // (B, N)
            weights: [(); TAPS].map(|()| g.input(&[batch, patches])),      // (B, N)
        });
        ViltInputs {
            texts: BertInputs::new(g, &c.text(), batch, tokens, false),
            patches: g.input(&[batch, patches, c.patch_len()]), // (B, N, channels·P·P)
            positions,
            segments: padded.then(|| g.ints(&[batch, tokens + 1 + patches], -1, 0)), // (B, T+1+N)
        }
    }

    /// The hidden states; those before every layer and after the last one are marked as checkpoints.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, inputs: &ViltInputs, dropout: Dropout) -> ViltStates {
        let tokens = g.shape(inputs.texts.tokens).dim(1);
        let text = self.text.forward(g, &inputs.texts, dropout); // (B, T, C)
        let image = self.image.forward(g, inputs); // (B, 1+N, C)
        let image = dropout.activations.map_or(image, |control| g.dropout(image, control));
        let [text, image] = [(text, 0), (image, 1)].map(|(x, kind)| self.of_modality(g, x, kind));
        let mut x = g.token_concat(text, image); // (B, T+1+N, C)
        let at = At { positions: Tensor::NONE, segments: inputs.segments, dropout, window: 0, cache: None };
        for layer in self.layers.iter() {
            x = layer.forward(g, g.checkpoint(x), &at); // (B, T+1+N, C)
        }
        let all = self.layernorm.forward(g, g.checkpoint(x)); // (B, T+1+N, C)
        let first = g.token_slice(all, 0, 1); // (B, 1, C)
        let first = g.reshape(first, &[g.shape(all).dim(0), self.config.hidden_size]); // (B, C)
        let pooled = g.unary(UnaryKind::Tanh, 0.0, 0.0, self.pooler.forward(g, first)); // (B, C)
        ViltStates { all, text: g.token_slice(all, 0, tokens), pooled }
    }

    /// x (B, T, C) and the vector of its kind.
    #[track_caller]
    fn of_modality(&self, g: &Graph<'_>, x: Tensor, kind: usize) -> Tensor {
        let width = self.config.hidden_size;
        let kinds = g.reshape(g.param(self.modalities.table()), &[1, self.config.modality_type_vocab_size, width]); // (1, M, C)
        let own = g.reshape(g.token_slice(kinds, kind, 1), &[width]); // (C)
        g.binary(BinaryKind::Add, Over::Row, x, own) // (B, T, C)
    }

    /// The head that restores masked tokens.
    pub const fn masked_lm(&self) -> Option<&MaskedLmHead> {
        self.masked_lm.as_ref()
    }

    /// Logits (B, 2) that a text and an image do not belong together, and that they do; `None` without the head. pooled (B, C).
    #[track_caller]
    pub fn matching(&self, g: &Graph<'_>, pooled: Tensor) -> Option<Tensor> {
        self.matching.map(|head| head.forward(g, pooled))
    }

    /// The weight and the bias of the head of [`Self::matching`], and those of [`Self::rank`], which begin as its second row.
    pub fn ranking(&self) -> Option<[Affine; 2]> {
        self.matching.zip(self.rank).map(|(matching, rank)| [matching, rank])
    }

    /// How well text and image fit (B, 1); `None` without the head. pooled (B, C).
    #[track_caller]
    pub fn rank(&self, g: &Graph<'_>, pooled: Tensor) -> Option<Tensor> {
        self.rank.map(|head| head.forward(g, pooled))
    }
}

/// The head that restores tokens, tied to the table of tokens or with a table of its own.
fn masked_lm(c: &ViltConfig, words: ParamId, s: &mut Scope<'_>) -> MaskedLmHead {
    let own = (!c.tie_word_embeddings)
        .then(|| s.at("decoder").part(Part::Head).add("weight", &[c.vocab_size, c.hidden_size], c.init()));
    MaskedLmHead::register(&c.text(), own.unwrap_or(words), s)
}

impl PatchEmbeddings {
    fn register(c: &ViltConfig, s: &mut Scope<'_>) -> Self {
        let (rows, init) = (1 + c.grid() * c.grid(), c.init());
        let mut places = s.part(Part::Positions);
        let cls_token = places.add("cls_token", &[1, 1, c.hidden_size], init);
        let positions = places.add("position_embeddings", &[1, rows, c.hidden_size], init);
        let mut patches = s.at("patch_embeddings.projection");
        let projection = Affine::register(c.patch_len(), c.hidden_size, true, init, &mut patches.part(Part::Tokens));
        Self { cls_token, positions, projection }
    }

    /// The class token and the patches, each with its position (B, 1+N, C).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, inputs: &ViltInputs) -> Tensor {
        let patches = self.projection.forward(g, inputs.patches); // (B, N, C)
        let (batch, width) = (g.shape(patches).dim(0), g.shape(patches).cols());
        let one = Shape::new(&[batch, 1, width]).unwrap_or_default();
        let cls = g.broadcast(g.param(self.cls_token), Over::Row, one); // (B, 1, C)
        let table = g.param(self.positions); // (1, 1+G·G, C)
        let Some(resized) = inputs.positions else {
            return g.binary(BinaryKind::Add, Over::Batch, g.token_concat(cls, patches), table); // (B, 1+N, C)
        };
        let first = g.reshape(g.token_slice(table, 0, 1), &[width]); // (C)
        let cls = g.binary(BinaryKind::Add, Over::Row, cls, first); // (B, 1, C)
        let rows = g.reshape(table, &[g.shape(table).dim(1), width]); // (1+G·G, C)
        let taps = resized.rows.iter().zip(resized.weights);
        let placed = taps.fold(patches, |x, (&ids, weights)| {
            let tap = g.binary(BinaryKind::Mul, Over::Column, g.embedding(ids, rows, None), weights); // (B, N, C)
            g.add(x, tap) // (B, N, C)
        });
        g.token_concat(cls, placed) // (B, 1+N, C)
    }
}
