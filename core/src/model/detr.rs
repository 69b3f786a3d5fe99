//! DETR: detection of objects as prediction of a set. Carion et al. 2020; parameter names are those of the authors' code, where queries and keys of
//! self-attention have one matrix and values another.

use super::resnet::{Body, ResNetConfig};
use crate::graph::{
    Activation, AttentionMask, AttentionSpec, BinaryKind, Columns, Graph, Over, Recompute, Tensor, UnaryKind, Upstream, Wrt,
};
use crate::nn::{Affine, Dropout, Embedding, LayerNorm, Mlp, MlpConfig, Stack};
use crate::params::{GroupId, Init, ParamId, Scope};
use crate::repeat;

/// Rows and columns of a feature map that learned positions distinguish.
pub const LEARNED_PLACES: usize = 50;

/// Positions of places in a feature map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// Sines and cosines: [`crate::detect::sine_positions`].
    #[default]
    Sine,
    /// A vector for every column and every row.
    Learned,
}

/// A model of the family, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetrConfig {
    /// The network from pixels to features; its classes are not used.
    pub backbone: ResNetConfig,
    /// Width d.
    pub d_model: usize,
    /// Layers of encoder and decoder.
    pub layers: [usize; 2],
    /// Heads of encoder and decoder.
    pub heads: [usize; 2],
    /// Width of the hidden layers of encoder and decoder.
    pub ffn_dim: [usize; 2],
    /// Their activation.
    pub activation: Activation,
    /// Queries Q.
    pub num_queries: usize,
    /// Classes C; class C means no object.
    pub num_labels: usize,
    /// Whether layers normalise their inputs (the authors' `--pre_norm`), and not their results.
    pub pre_norm: bool,
    /// Whether the decoder's last norm follows every layer and its result enters the next one, as in `transformers` with `auxiliary_loss`; the authors'
    /// layers read results that are not normalised.
    pub norm_between: bool,
    /// Positions of the places of the feature map.
    pub positions: Positions,
}

impl DetrConfig {
    /// Extents of the feature map of images of these extents; `None` if they are too small.
    pub fn map(&self, image: [usize; 2]) -> Option<[usize; 2]> {
        self.backbone.extents(image)
    }

    /// Glorot and Bengio's uniform values.
    fn xavier(inputs: usize, outputs: usize) -> Init {
        Init::Uniform { bound: libm::sqrt(6.0 / (inputs + outputs).max(1) as f64) }
    }

    fn mlp(&self, inner: usize) -> MlpConfig {
        let init = Self::xavier(self.d_model, inner);
        let (width, activation) = (self.d_model, self.activation);
        MlpConfig { width, inner, bias: true, activation, init: [init; 2], names: ["linear1", "linear2"] }
    }

    fn norm(&self, word: &'static str, s: &mut Scope<'_>) -> LayerNorm {
        LayerNorm::register(self.d_model, true, 1e-5, &mut s.at(word))
    }
}

/// PyTorch's default of a layer with this many inputs.
fn uniform(inputs: usize) -> Init {
    Init::Uniform { bound: 1.0 / libm::sqrt(inputs.max(1) as f64) }
}

/// What attention reads beside its arguments.
#[derive(Clone, Copy)]
struct At {
    /// Segments of queries and keys, −1 for keys in padding.
    segments: Option<(Tensor, Tensor)>,
    dropout: Dropout,
}

/// The inputs of attention are x with positions for queries and keys, x for values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SelfAttention {
    qk: Affine,
    v: Affine,
    out_proj: Affine,
    heads: usize,
}

repeat!(SelfAttention { qk, v, out_proj });

impl SelfAttention {
    fn register(c: &DetrConfig, heads: usize, s: &mut Scope<'_>) -> Self {
        // The authors initialise the matrix of all three at once.
        let (d, init) = (c.d_model, DetrConfig::xavier(c.d_model, 3 * c.d_model));
        Self {
            qk: Affine::register(d, 2 * d, true, init, &mut s.at("qk")),
            v: Affine::register(d, d, true, init, &mut s.at("v")),
            out_proj: Affine::register(d, d, true, DetrConfig::xavier(d, d), &mut s.at("out_proj")),
            heads,
        }
    }

    /// residual + attention of x (B, T, d), of which `placed` has the positions added. Result (B, T, d).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, placed: Tensor, residual: Tensor, at: &At) -> Tensor {
        let width = g.shape(x).cols();
        let (qk, v) = (self.qk.forward(g, placed), self.v.forward(g, x)); // (B, T, 2d), (B, T, d)
        let h = attend(g, self.heads, width, [qk.into(), qk.from_column(width), v.into()], at); // (B, T, d)
        self.out_proj.onto(g, h, residual, at.dropout)
    }
}

/// Attention of queries to the places of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CrossAttention {
    q: Affine,
    k: Affine,
    v: Affine,
    out_proj: Affine,
    heads: usize,
}

repeat!(CrossAttention { q, k, v, out_proj });

impl CrossAttention {
    fn register(c: &DetrConfig, s: &mut Scope<'_>) -> Self {
        let (d, init, [_, heads]) = (c.d_model, DetrConfig::xavier(c.d_model, 3 * c.d_model), c.heads);
        let mut part = |word, init| Affine::register(d, d, true, init, &mut s.at(word));
        let (q, k, v) = (part("q", init), part("k", init), part("v", init));
        Self { q, k, v, out_proj: part("out_proj", DetrConfig::xavier(d, d)), heads }
    }

    /// residual + attention of `placed` queries (B, Q, d) to the encoded image. Result (B, Q, d).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, placed: Tensor, memory: &Memory, residual: Tensor, at: &At) -> Tensor {
        let (q, k) = (self.q.forward(g, placed), self.k.forward(g, memory.placed)); // (B, Q, d), (B, T, d)
        let v = self.v.forward(g, memory.values); // (B, T, d)
        let h = attend(g, self.heads, g.shape(placed).cols(), [q, k, v].map(Columns::from), at); // (B, Q, d)
        self.out_proj.onto(g, h, residual, at.dropout)
    }
}

/// Attention of heads of equal width, without a causal mask. q (B, Tq, width), k and v (B, Tk, width); result (B, Tq, width).
#[track_caller]
fn attend(g: &Graph<'_>, heads: usize, width: usize, [q, k, v]: [Columns; 3], at: &At) -> Tensor {
    let head_dim = width.checked_div(heads).unwrap_or(0);
    let spec = AttentionSpec {
        heads: heads as u32,
        kv_heads: heads as u32,
        head_dim: head_dim as u32,
        causal: false,
        window: 0,
        scale: 1.0 / libm::sqrt(head_dim as f64),
        site: g.site(),
    };
    g.attention(spec, q, k, v, AttentionMask { segments: at.segments, live: None, dropout: at.dropout.activations })
}

/// The encoded image: values (B, T, d), and the same with positions.
#[derive(Clone, Copy)]
struct Memory {
    values: Tensor,
    placed: Tensor,
}

/// A layer of the encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
struct EncoderLayer {
    self_attn: SelfAttention,
    mlp: Mlp,
    norm1: LayerNorm,
    norm2: LayerNorm,
}

repeat!(EncoderLayer { self_attn, mlp, norm1, norm2 });

impl EncoderLayer {
    fn register(c: &DetrConfig, s: &mut Scope<'_>) -> Self {
        let ([heads, _], [inner, _]) = (c.heads, c.ffn_dim);
        Self {
            self_attn: SelfAttention::register(c, heads, &mut s.at("self_attn")),
            mlp: Mlp::register(&c.mlp(inner), s),
            norm1: c.norm("norm1", s),
            norm2: c.norm("norm2", s),
        }
    }

    /// x, positions and result (B, T, d).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, positions: Place, pre_norm: bool, at: &At) -> Tensor {
        if pre_norm {
            let y = self.norm1.forward(g, x);
            let x = self.self_attn.forward(g, y, positions.onto(g, y), x, at);
            return self.mlp.forward(g, self.norm2.forward(g, x), x, at.dropout);
        }
        let x = self.norm1.forward(g, self.self_attn.forward(g, x, positions.onto(g, x), x, at));
        self.norm2.forward(g, self.mlp.forward(g, x, x, at.dropout))
    }
}

/// A layer of the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
struct DecoderLayer {
    self_attn: SelfAttention,
    multihead_attn: CrossAttention,
    mlp: Mlp,
    norm1: LayerNorm,
    norm2: LayerNorm,
    norm3: LayerNorm,
}

repeat!(DecoderLayer { self_attn, multihead_attn, mlp, norm1, norm2, norm3 });

impl DecoderLayer {
    fn register(c: &DetrConfig, s: &mut Scope<'_>) -> Self {
        let ([_, heads], [_, inner]) = (c.heads, c.ffn_dim);
        Self {
            self_attn: SelfAttention::register(c, heads, &mut s.at("self_attn")),
            multihead_attn: CrossAttention::register(c, &mut s.at("multihead_attn")),
            mlp: Mlp::register(&c.mlp(inner), s),
            norm1: c.norm("norm1", s),
            norm2: c.norm("norm2", s),
            norm3: c.norm("norm3", s),
        }
    }

    /// x and result (B, Q, d); `queries` are their positions.
    #[track_caller]
    fn forward(
        &self,
        g: &Graph<'_>,
        x: Tensor,
        queries: Place,
        memory: &Memory,
        pre_norm: bool,
        [own, cross]: [&At; 2],
    ) -> Tensor {
        if pre_norm {
            let y = self.norm1.forward(g, x);
            let x = self.self_attn.forward(g, y, queries.onto(g, y), x, own);
            let y = queries.onto(g, self.norm2.forward(g, x));
            let x = self.multihead_attn.forward(g, y, memory, x, cross);
            return self.mlp.forward(g, self.norm3.forward(g, x), x, own.dropout);
        }
        let x = self.norm1.forward(g, self.self_attn.forward(g, x, queries.onto(g, x), x, own));
        let x = self.norm2.forward(g, self.multihead_attn.forward(g, queries.onto(g, x), memory, x, cross));
        self.norm3.forward(g, self.mlp.forward(g, x, x, own.dropout))
    }
}

/// Positions to add: of the places of every image (B, T, d), or the same for all items of a batch (T, d).
#[derive(Clone, Copy)]
struct Place {
    values: Tensor,
    over: Over,
}

impl Place {
    /// x + positions. x and result (B, T, d).
    #[track_caller]
    fn onto(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        g.binary(BinaryKind::Add, self.over, x, self.values)
    }
}

/// Positions of places whose parameters are trained.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LearnedPositions {
    row_embed: Embedding,
    col_embed: Embedding,
}

/// The optimizer groups of a model's backbone: of matrices, and of vectors.
pub type BackboneGroups = [GroupId; 2];

/// A DETR whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detr {
    config: DetrConfig,
    body: Body,
    learned: Option<LearnedPositions>,
    input_proj: Affine,
    query_embed: ParamId,
    encoder: Stack<EncoderLayer>,
    encoder_norm: Option<LayerNorm>,
    decoder: Stack<DecoderLayer>,
    decoder_norm: LayerNorm,
    class_embed: Affine,
    bbox_embed: [Affine; 3],
}

/// The inputs of a program of DETR.
#[derive(Clone, Copy, Debug)]
pub struct DetrInputs {
    /// (B, H, W, channels), 0 in padding.
    pub pixels: Tensor,
    /// Positions: sines (B, T, d); or the column and the row of every place (T), each below [`LEARNED_PLACES`].
    pub places: [Option<Tensor>; 3],
    /// Of padded batches: segments of places as queries (B, T), all 0; as keys (B, T), −1 in padding and else 0; of queries (B, Q), all 0.
    pub segments: Option<[Tensor; 3]>,
}

/// What DETR computes for a batch. L decoder layers, or the last one alone.
#[derive(Clone, Copy, Debug)]
pub struct Detections {
    /// The encoded image (B, T, d).
    pub memory: Tensor,
    /// The decoder's normalised results (B, L·Q, d), layer by layer.
    pub hidden: Tensor,
    /// (B, L·Q, C + 1).
    pub logits: Tensor,
    /// (B, L·Q, 4) as (center x, center y, width, height), relative to the image.
    pub boxes: Tensor,
}

impl Detections {
    /// Appends the gradient of a loss of logits and boxes that the host computes between forward and backward range; returns the inputs of its
    /// derivatives by both, in their shapes.
    #[track_caller]
    pub fn backward(&self, g: &Graph<'_>, recompute: Recompute) -> [Tensor; 2] {
        let [logits, boxes] = [self.logits, self.boxes].map(|t| {
            let shape = g.shape(t);
            g.input(&[0, 1, 2].map(|i| shape.dim(i)))
        });
        g.backward(&[(self.logits, Upstream::After(logits)), (self.boxes, Upstream::After(boxes))], Wrt::Trainable, recompute);
        [logits, boxes]
    }
}

impl Detr {
    /// Registers the model's parameters, those of the backbone in optimizer groups of their own if there are some.
    pub fn register(c: &DetrConfig, groups: Option<BackboneGroups>, s: &mut Scope<'_>) -> Self {
        let (d, [encoder_layers, decoder_layers]) = (c.d_model, c.layers);
        let body = {
            let mut s = s.item("backbone", 0);
            let mut s = s.at("body");
            match groups {
                Some([matrices, vectors]) => Body::register(&c.backbone, &mut s.groups(matrices, vectors)),
                None => Body::register(&c.backbone, &mut s),
            }
        };
        let learned = (c.positions == Positions::Learned).then(|| LearnedPositions::register(d, &mut s.item("backbone", 1)));
        let width = c.backbone.width();
        let input_proj = Affine::with_bias([width, d], [uniform(width); 2], &mut s.at("input_proj"));
        let query_embed = s.at("query_embed").add("weight", &[c.num_queries, d], Init::normal(1.0));
        let mut transformer = s.at("transformer");
        let mut part = transformer.at("encoder");
        let encoder = Stack::register(encoder_layers, "layers", &mut part, |s| EncoderLayer::register(c, s));
        let encoder_norm = c.pre_norm.then(|| c.norm("norm", &mut part));
        let mut part = transformer.at("decoder");
        let decoder = Stack::register(decoder_layers, "layers", &mut part, |s| DecoderLayer::register(c, s));
        let decoder_norm = c.norm("norm", &mut part);
        let class_embed = Affine::with_bias([d, c.num_labels + 1], [uniform(d); 2], &mut s.at("class_embed"));
        let mut s = s.at("bbox_embed");
        let mut number = 0..3;
        let bbox_embed = [d, d, 4]
            .map(|outputs| Affine::with_bias([d, outputs], [uniform(d); 2], &mut s.item("layers", number.next().unwrap_or(0))));
        Self {
            config: *c,
            body,
            learned,
            input_proj,
            query_embed,
            encoder,
            encoder_norm,
            decoder,
            decoder_norm,
            class_embed,
            bbox_embed,
        }
    }

    /// The model's sizes.
    pub fn config(&self) -> &DetrConfig {
        &self.config
    }

    /// Declares the inputs of a batch of images of these extents, which are large enough; `padded` if some images have padding.
    #[track_caller]
    pub fn inputs(&self, g: &Graph<'_>, batch: usize, [height, width]: [usize; 2], padded: bool) -> DetrInputs {
        let c = &self.config;
        let places = c.map([height, width]).map_or(0, |[h, w]| h * w);
        let pixels = g.input(&[batch, height, width, c.backbone.num_channels]);
        let index = || Some(g.ints(&[places], 0, LEARNED_PLACES as i32 - 1));
        let places_of = match c.positions {
            Positions::Sine => [Some(g.input(&[batch, places, c.d_model])), None, None],
            Positions::Learned => [None, index(), index()],
        };
        let segments =
            padded.then(|| [(places, 0), (places, -1), (c.num_queries, 0)].map(|(count, low)| g.ints(&[batch, count], low, 0)));
        DetrInputs { pixels, places: places_of, segments }
    }

    /// The detections of every decoder layer, or of the last one alone.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, inputs: &DetrInputs, dropout: Dropout, every_layer: bool) -> Detections {
        let memory = self.encoded(g, inputs, dropout);
        let hidden = self.decoded(g, inputs, &memory, dropout, every_layer); // (B, L·Q, d)
        let logits = self.class_embed.forward(g, hidden); // (B, L·Q, C+1)
        let [first, second, third] = &self.bbox_embed;
        let h = second.activated(g, first.activated(g, hidden, Activation::Relu), Activation::Relu); // (B, L·Q, d)
        let boxes = g.unary(UnaryKind::Sigmoid, 0.0, 0.0, third.forward(g, h)); // (B, L·Q, 4)
        Detections { memory: memory.values, hidden, logits, boxes }
    }

    /// The images through backbone and encoder; hidden states between layers are marked as checkpoints.
    #[track_caller]
    fn encoded(&self, g: &Graph<'_>, inputs: &DetrInputs, dropout: Dropout) -> Memory {
        let features = self.body.forward(g, inputs.pixels); // (B, h, w, C)
        let shape = g.shape(features);
        let [batch, height, width, channels] = [0, 1, 2, 3].map(|i| shape.dim(i));
        let features = g.reshape(features, &[batch, height * width, channels]); // (B, T, C)
        let positions = self.places(g, inputs);
        let segments = inputs.segments.map(|[queries, keys, _]| (queries, keys));
        let at = At { segments, dropout };
        let mut x = self.input_proj.forward(g, g.checkpoint(features)); // (B, T, d)
        for layer in self.encoder.iter() {
            x = layer.forward(g, g.checkpoint(x), positions, self.config.pre_norm, &at); // (B, T, d)
        }
        let values = self.encoder_norm.map_or(x, |norm| norm.forward(g, x)); // (B, T, d)
        Memory { values, placed: positions.onto(g, values) }
    }

    /// The normalised results of the decoder's layers (B, L·Q, d).
    #[track_caller]
    fn decoded(&self, g: &Graph<'_>, inputs: &DetrInputs, memory: &Memory, dropout: Dropout, every_layer: bool) -> Tensor {
        let c = &self.config;
        let queries = Place { values: g.param(self.query_embed), over: Over::Batch };
        let segments = inputs.segments.map(|[_, keys, queries]| (queries, keys));
        let (own, cross) = (At { segments: None, dropout }, At { segments, dropout });
        let mut x = g.constant(0.0, &[g.shape(memory.values).dim(0), c.num_queries, c.d_model]); // (B, Q, d)
        let mut all = None;
        for (i, layer) in self.decoder.iter().enumerate() {
            let is_last = i.saturating_add(1) == self.decoder.len();
            if c.norm_between && i > 0 {
                x = self.decoder_norm.forward(g, x); // (B, Q, d)
            }
            x = layer.forward(g, g.checkpoint(x), queries, memory, c.pre_norm, [&own, &cross]); // (B, Q, d)
            // The last result is normalised twice then.
            let result = if c.norm_between && is_last { self.decoder_norm.forward(g, x) } else { x };
            all = Some(all.filter(|_| every_layer).map_or(result, |all| g.token_concat(all, result))); // (B, l·Q, d)
        }
        self.decoder_norm.forward(g, all.unwrap_or(x)) // (B, L·Q, d)
    }

    /// The positions of the places of the feature map.
    #[track_caller]
    fn places(&self, g: &Graph<'_>, inputs: &DetrInputs) -> Place {
        let [sine, columns, rows] = inputs.places;
        match (self.learned, columns, rows) {
            (Some(learned), Some(columns), Some(rows)) => {
                let x = learned.col_embed.forward(g, columns, None); // (T, d/2)
                let y = learned.row_embed.forward(g, rows, None); // (T, d/2)
                Place { values: g.column_concat(x, y), over: Over::Batch }
            }
            _ => Place { values: sine.unwrap_or(Tensor::NONE), over: Over::Same },
        }
    }
}

impl LearnedPositions {
    /// Half of the columns for the row, half for the column of a place, from U(0, 1).
    fn register(width: usize, s: &mut Scope<'_>) -> Self {
        let init = Init::Between { low: 0.0, high: 1.0 };
        let mut table = |word| Embedding::register(LEARNED_PLACES, width / 2, init, &mut s.at(word));
        Self { row_embed: table("row_embed"), col_embed: table("col_embed") }
    }
}
