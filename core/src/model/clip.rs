//! CLIP and SigLIP: an image encoder and a text encoder whose vectors are compared by their cosine. Radford et al. 2021; Zhai et al. 2023; parameter names
//! are those of Hugging Face's `CLIPModel` and `SiglipModel`, but for queries, keys and values, which are one matrix.

use super::tower::{Tower, TowerConfig};
use crate::graph::{AttentionMask, AttentionSpec, BinaryKind, Columns, Graph, Over, ReduceKind, Shape, Tensor, UnaryKind};
use crate::nn::{Affine, At, Dropout, Embedding, LayerNorm, Mlp};
use crate::params::{Init, ParamId, Part, Scope};

/// Which of the two families a model belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipKind {
    /// The image's vector is that of a class token, the text's that of its end; softmax over the batch.
    Clip,
    /// A head with attention pools the image, the text's vector is that of its last position; a sigmoid of every pair.
    SigLip,
}

/// A model of the families, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipConfig {
    /// The family.
    pub kind: ClipKind,
    /// Height and width of images in pixels.
    pub image_size: usize,
    /// Height and width of a patch in pixels; divides it.
    pub patch_size: usize,
    /// Values of a pixel.
    pub num_channels: usize,
    /// The image encoder.
    pub vision: TowerConfig,
    /// Token ids, V.
    pub vocab_size: usize,
    /// The longest text, P.
    pub max_position_embeddings: usize,
    /// The text encoder.
    pub text: TowerConfig,
    /// Width E of both vectors.
    pub projection_dim: usize,
    /// The initial logarithm of the factor of cosines.
    pub logit_scale: f64,
}

impl ClipConfig {
    /// Patches of an image, N.
    pub fn patches(&self) -> usize {
        let side = self.image_size.checked_div(self.patch_size).unwrap_or(0);
        side * side
    }
}

/// The inputs of the text encoder.
#[derive(Clone, Copy, Debug)]
pub struct ClipTexts {
    /// Token ids (B, T).
    pub tokens: Tensor,
    /// Positions (B, T).
    pub positions: Tensor,
    /// Where the text's vector is taken, as a row of (B·T): the end of every text (B).
    pub ends: Tensor,
}

/// SigLIP's head: attention of one learnt query to all patches, then an MLP.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PoolingHead {
    probe: ParamId,
    q: Affine,
    kv: Affine,
    out_proj: Affine,
    layernorm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl PoolingHead {
    fn register(c: &TowerConfig, s: &mut Scope<'_>) -> Self {
        let (width, init) = (c.hidden_size, Init::normal(c.std()));
        let probe = s.add("probe", &[1, 1, width], init);
        let mut attention = s.at("attention");
        Self {
            probe,
            q: Affine::register(width, width, true, init, &mut attention.at("q")),
            kv: Affine::register(width, 2 * width, true, init, &mut attention.at("kv")),
            out_proj: Affine::register(width, width, true, init, &mut attention.at("out_proj")),
            layernorm: c.norm(&mut s.at("layernorm")),
            mlp: Mlp::register(&c.mlp(), &mut s.at("mlp")),
            heads: c.num_attention_heads,
        }
    }

    /// x (B, N, C); result (B, 1, C).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, dropout: Dropout) -> Tensor {
        let (batch, width) = (g.shape(x).dim(0), g.shape(x).cols());
        let one = Shape::new(&[batch, 1, width]).unwrap_or_default();
        let probe = g.broadcast(g.param(self.probe), Over::Row, one); // (B, 1, C)
        let (q, kv) = (self.q.forward(g, probe), self.kv.forward(g, x)); // (B, 1, C), (B, N, 2C)
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
        let h = self.out_proj.forward(g, g.attention(spec, q.into(), Columns::from(kv), kv.from_column(width), mask)); // (B, 1, C)
        self.mlp.forward(g, self.layernorm.forward(g, h), h, dropout) // (B, 1, C)
    }
}

/// A model whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    config: ClipConfig,
    vision: ImageTower,
    text: TextTower,
    visual_projection: Option<Affine>,
    text_projection: Affine,
    logit_scale: ParamId,
    logit_bias: Option<ParamId>,
}

/// The image encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ImageTower {
    class_embedding: Option<ParamId>,
    patch_embedding: Affine,
    positions: ParamId,
    pre_norm: Option<LayerNorm>,
    tower: Tower,
    post_norm: LayerNorm,
    pooling: Option<PoolingHead>,
}

impl ImageTower {
    fn register(c: &ClipConfig, s: &mut Scope<'_>) -> Self {
        let (is_clip, of) = (c.kind == ClipKind::Clip, &c.vision);
        let mut embeddings = s.at("embeddings");
        let class_embedding = is_clip.then(|| embeddings.add("class_embedding", &[of.hidden_size], Init::normal(of.std())));
        let patch_len = c.num_channels * c.patch_size * c.patch_size;
        let bound = Init::Uniform { bound: 1.0 / libm::sqrt(patch_len.max(1) as f64) };
        let mut patches = embeddings.at("patch_embedding");
        let patch_embedding = Affine::register(patch_len, of.hidden_size, !is_clip, bound, &mut patches.part(Part::Tokens));
        let rows = c.patches() + usize::from(is_clip);
        let mut positions = embeddings.at("position_embedding");
        let positions = positions.part(Part::Positions).add("weight", &[rows, of.hidden_size], Init::normal(of.std()));
        Self {
            class_embedding,
            patch_embedding,
            positions,
            pre_norm: is_clip.then(|| of.norm(&mut s.at("pre_layrnorm"))),
            tower: Tower::register(of, false, &mut s.at("encoder")),
            post_norm: of.norm(&mut s.at("post_layernorm").part(Part::Final)),
            pooling: (!is_clip).then(|| PoolingHead::register(of, &mut s.at("head").part(Part::Final))),
        }
    }
}

/// The text encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TextTower {
    tokens: Embedding,
    positions: Embedding,
    tower: Tower,
    final_norm: LayerNorm,
}

impl TextTower {
    fn register(c: &ClipConfig, s: &mut Scope<'_>) -> Self {
        let of = &c.text;
        let table = |count, std, s: &mut Scope<'_>| Embedding::register(count, of.hidden_size, Init::normal(std), s);
        let mut embeddings = s.at("embeddings");
        let tokens = table(c.vocab_size, 0.02, &mut embeddings.at("token_embedding").part(Part::Tokens));
        let mut positions = embeddings.at("position_embedding");
        let positions = table(c.max_position_embeddings, 0.01, &mut positions.part(Part::Positions));
        Self {
            tokens,
            positions,
            tower: Tower::register(of, c.kind == ClipKind::Clip, &mut s.at("encoder")),
            final_norm: of.norm(&mut s.at("final_layer_norm").part(Part::Final)),
        }
    }
}

impl Clip {
    /// Registers the model's parameters.
    pub fn register(c: &ClipConfig, s: &mut Scope<'_>) -> Self {
        let (is_clip, constant) = (c.kind == ClipKind::Clip, |value: f64| Init::Between { low: value, high: value });
        let vision = ImageTower::register(c, &mut s.at("vision_model"));
        let text = TextTower::register(c, &mut s.at("text_model"));
        let project = |from: &TowerConfig, bias, s: &mut Scope<'_>| {
            Affine::register(from.hidden_size, c.projection_dim, bias, Init::normal(from.std()), &mut s.part(Part::Head))
        };
        let of_text = if is_clip { "text_projection" } else { "text_model.head" };
        Self {
            config: *c,
            vision,
            text,
            text_projection: project(&c.text, !is_clip, &mut s.at(of_text)),
            visual_projection: is_clip.then(|| project(&c.vision, false, &mut s.at("visual_projection"))),
            // A scalar of rank 0 in CLIP's files, of rank 1 in SigLIP's.
            logit_scale: s.add("logit_scale", if is_clip { &[] } else { &[1] }, constant(c.logit_scale)),
            logit_bias: (!is_clip).then(|| s.add("logit_bias", &[1], constant(-10.0))),
        }
    }

    /// The model's sizes.
    pub const fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The logarithm of the factor of cosines (1), which training keeps in [0, ln 100].
    pub const fn logit_scale(&self) -> ParamId {
        self.logit_scale
    }

    /// Declares the patches of `batch` images: (B, N, channels·P·P), each in the order (channel, y, x).
    #[track_caller]
    pub fn pixels(&self, g: &Graph<'_>, batch: usize) -> Tensor {
        let c = &self.config;
        g.input(&[batch, c.patches(), c.num_channels * c.patch_size * c.patch_size])
    }

    /// Declares the inputs of `batch` texts of `len` tokens.
    #[track_caller]
    pub fn texts(&self, g: &Graph<'_>, batch: usize, len: usize) -> ClipTexts {
        let below = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).saturating_sub(1);
        ClipTexts {
            tokens: g.ints(&[batch, len], 0, below(self.config.vocab_size)), // (B, T)
            positions: g.ints(&[batch, len], 0, below(self.config.max_position_embeddings)), // (B, T)
            ends: g.ints(&[batch], 0, below(batch.saturating_mul(len))),     // (B)
        }
    }

    /// The vectors of images (B, E), of any length. pixels as [`Self::pixels`] declares them.
    #[track_caller]
    pub fn image_vectors(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        let (batch, width) = (g.shape(pixels).dim(0), self.config.vision.hidden_size);
        let patches = self.vision.patch_embedding.forward(g, pixels); // (B, N, C)
        let x = self.vision.class_embedding.map_or(patches, |class| {
            let one = Shape::new(&[batch, 1, width]).unwrap_or_default();
            g.token_concat(g.broadcast(g.param(class), Over::Row, one), patches) // (B, 1+N, C)
        });
        let x = g.binary(BinaryKind::Add, Over::Batch, x, g.param(self.vision.positions)); // (B, 1+N, C)
        let x = self.vision.pre_norm.map_or(x, |norm| norm.forward(g, x)); // (B, 1+N, C)
        let x = self.vision.tower.forward(g, x, &at(dropout)); // (B, 1+N, C)
        let pooled = match self.vision.pooling {
            None => self.vision.post_norm.forward(g, g.token_slice(x, 0, 1)), // (B, 1, C)
            Some(head) => head.forward(g, self.vision.post_norm.forward(g, x), dropout), // (B, 1, C)
        };
        let pooled = g.reshape(pooled, &[batch, width]); // (B, C)
        self.visual_projection.map_or(pooled, |projection| projection.forward(g, pooled)) // (B, E)
    }

    /// The vectors of texts (B, E), of any length.
    #[track_caller]
    pub fn text_vectors(&self, g: &Graph<'_>, inputs: &ClipTexts, dropout: Dropout) -> Tensor {
        let (shape, width) = (g.shape(inputs.tokens), self.config.text.hidden_size);
        let tokens = self.text.tokens.forward(g, inputs.tokens, None); // (B, T, C)
        let x = self.text.positions.forward(g, inputs.positions, Some(tokens)); // (B, T, C)
        let x = g.reshape(self.text.tower.forward(g, x, &at(dropout)), &[shape.len(), width]); // (B·T, C)
        let ends = g.embedding(inputs.ends, x, None); // (B, C)
        self.text_projection.forward(g, self.text.final_norm.forward(g, ends)) // (B, E)
    }

    /// The parameters beside both encoders: the logarithm of the factor, and SigLIP's bias.
    pub const fn scalars(&self) -> [Option<ParamId>; 2] {
        [Some(self.logit_scale), self.logit_bias]
    }

    /// The factor of cosines (1).
    #[track_caller]
    pub fn factor(&self, g: &Graph<'_>) -> Tensor {
        g.unary(UnaryKind::Exp, 0.0, 0.0, g.param(self.logit_scale))
    }

    /// [`Self::losses`] where a pair may belong to several: `targets` (B, B) are CLIP's distributions over the batch, the same for both directions, or SigLIP's
    /// signs.
    #[track_caller]
    pub fn soft_losses(&self, g: &Graph<'_>, [images, texts]: [Tensor; 2], targets: Tensor) -> Tensor {
        if self.config.kind == ClipKind::SigLip {
            return self.losses(g, [images, texts], targets);
        }
        let factor = self.factor(g); // (1)
        let loss = |of: Tensor, among: Tensor| {
            let logits = g.linear(g.binary(BinaryKind::Mul, Over::Scalar, of, factor), among, None); // (B, B)
            g.soft_loss(logits, targets, None) // (B)
        };
        g.scale(g.add(loss(images, texts), loss(texts, images)), 0.5) // (B)
    }

    /// Declares the targets of [`Self::losses`] of `batch` pairs.
    #[track_caller]
    pub fn targets(&self, g: &Graph<'_>, batch: usize) -> Tensor {
        match self.config.kind {
            ClipKind::Clip => g.ints(&[batch], i32::MIN, i32::try_from(batch).unwrap_or(i32::MAX).saturating_sub(1)), // (B)
            ClipKind::SigLip => g.input(&[batch, batch]),                                                             // (B, B)
        }
    }

    /// The signs of SigLIP's pairs (B, B): 1 where text and image belong together, else −1.
    pub fn signs(&self, batch: usize) -> impl Iterator<Item = f32> {
        (0..batch).flat_map(move |i| (0..batch).map(move |j| if i == j { 1.0 } else { -1.0 }))
    }

    /// The losses of a batch of pairs from its vectors of length 1, images and texts (B, E): a term of every pair, whose mean is the loss.
    ///
    /// CLIP: half the cross-entropies of the pair among all texts and among all images, `targets` is the row of every pair (B). SigLIP: −Σⱼ ln σ(sᵢⱼ zᵢⱼ) with
    /// the signs (B, B) of `targets`, 1 for a pair and else −1.
    #[track_caller]
    pub fn losses(&self, g: &Graph<'_>, [images, texts]: [Tensor; 2], targets: Tensor) -> Tensor {
        let factor = self.factor(g); // (1)
        let scaled = |x: Tensor| g.binary(BinaryKind::Mul, Over::Scalar, x, factor); // (B, E)
        let Some(bias) = self.logit_bias else {
            let of_images = g.head_loss(scaled(images), texts, None, targets, 0.0); // (B)
            let of_texts = g.head_loss(scaled(texts), images, None, targets, 0.0); // (B)
            return g.scale(g.add(of_images, of_texts), 0.5); // (B)
        };
        let logits = g.binary(BinaryKind::Add, Over::Scalar, g.linear(scaled(texts), images, None), g.param(bias)); // (B, B)
        let fits = g.unary(UnaryKind::LogSigmoid, 0.0, 0.0, g.mul(logits, targets)); // (B, B)
        g.scale(g.reduce(ReduceKind::Sum, Over::Column, fits), -1.0) // (B)
    }
}

/// Vectors (B, E) divided by their lengths.
#[track_caller]
pub fn normalised(g: &Graph<'_>, x: Tensor) -> Tensor {
    let width = g.shape(x).cols();
    g.scale(g.rms_norm(x, None, 1e-24), 1.0 / libm::sqrt(width.max(1) as f64)) // (B, E)
}

fn at<'c>(dropout: Dropout) -> At<'c> {
    At { positions: Tensor::NONE, segments: None, dropout, window: 0, cache: None }
}
