//! ALBEF: an image and a text encoder that are aligned before a fusion encoder reads both. Li et al. 2021; parameter names are those of the authors' files, but
//! for queries, keys and values, which are one matrix.

use super::bert::{Bert, BertConfig, BertInputs, MaskedLmHead};
use super::clip::normalised;
use super::vit::{Additions, VitConfig, VitEncoder};
use crate::graph::{BinaryKind, Graph, Over, Tensor};
use crate::nn::{Affine, Dropout};
use crate::params::{Init, ParamId, Part, Scope};

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlbefConfig {
    /// The image encoder; its classes are not read.
    pub vision: VitConfig,
    /// The encoder of texts and, from `fusion_layer` on, of both.
    pub text: BertConfig,
    /// The first layer of `text` that attends to the image.
    pub fusion_layer: usize,
    /// Width E of the vectors that are compared.
    pub embed_dim: usize,
    /// The initial temperature τ of their cosines.
    pub temperature: f64,
}

/// A model whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Albef {
    config: AlbefConfig,
    visual_encoder: VitEncoder,
    bert: Bert,
    mlm: MaskedLmHead,
    vision_proj: Affine,
    text_proj: Affine,
    temp: ParamId,
    itm_head: Affine,
}

impl Albef {
    /// The smallest and the largest temperature of the authors.
    pub const TEMPERATURES: [f32; 2] = [0.001, 0.5];

    /// Registers the model's parameters.
    pub fn register(c: &AlbefConfig, s: &mut Scope<'_>) -> Self {
        let visual_encoder = VitEncoder::register(&c.vision, &Additions::default(), &mut s.at("visual_encoder"));
        let mut text = s.at("text_encoder");
        let bert = Bert::register_fused(&c.text, c.fusion_layer, c.vision.hidden_size, &mut text.at("bert"));
        let mlm = MaskedLmHead::register(&c.text, bert.words(), &mut text.at("cls.predictions"));
        let mut head = s.part(Part::Head);
        // PyTorch's initial values of linear layers.
        let linear = |from: usize, to, s: &mut Scope<'_>| {
            let init = Init::Uniform { bound: 1.0 / libm::sqrt(from.max(1) as f64) };
            Affine::with_bias([from, to], [init; 2], s)
        };
        Self {
            config: *c,
            visual_encoder,
            bert,
            mlm,
            vision_proj: linear(c.vision.hidden_size, c.embed_dim, &mut head.at("vision_proj")),
            text_proj: linear(c.text.hidden_size, c.embed_dim, &mut head.at("text_proj")),
            temp: head.add("temp", &[], Init::Between { low: c.temperature, high: c.temperature }),
            itm_head: linear(c.text.hidden_size, 2, &mut head.at("itm_head")),
        }
    }

    /// The model's sizes.
    pub const fn config(&self) -> &AlbefConfig {
        &self.config
    }

    /// The head that restores tokens.
    pub const fn mlm(&self) -> &MaskedLmHead {
        &self.mlm
    }

    /// The temperature τ (1), which training keeps in [`Self::TEMPERATURES`].
    pub const fn temp(&self) -> ParamId {
        self.temp
    }

    /// Declares the patches of `batch` images: (B, N, channels·P·P), each in the order (channel, y, x).
    #[track_caller]
    pub fn pixels(&self, g: &Graph<'_>, batch: usize) -> Tensor {
        self.visual_encoder.pixels(g, batch)
    }

    /// The tokens of images (B, 1+N, Cv). pixels as [`Self::pixels`] declares them.
    #[track_caller]
    pub fn image_tokens(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        self.visual_encoder.tokens(g, pixels, dropout)
    }

    /// The hidden states of texts before the fusion (B, T, C).
    #[track_caller]
    pub fn text_tokens(&self, g: &Graph<'_>, inputs: &BertInputs, dropout: Dropout) -> Tensor {
        self.bert.forward(g, inputs, dropout)
    }

    /// The vectors of images (B, E), of length 1, from their tokens (B, 1+N, Cv).
    #[track_caller]
    pub fn image_vectors(&self, g: &Graph<'_>, tokens: Tensor) -> Tensor {
        normalised(g, self.vision_proj.forward(g, first(g, tokens)))
    }

    /// The vectors of texts (B, E), of length 1, from their hidden states (B, T, C).
    #[track_caller]
    pub fn text_vectors(&self, g: &Graph<'_>, tokens: Tensor) -> Tensor {
        normalised(g, self.text_proj.forward(g, first(g, tokens)))
    }

    /// The hidden states of texts that have attended to images (B, T, C), from those before the fusion (B, T, C) with their segments (B, T), and from the tokens of
    /// images (B, 1+N, Cv).
    #[track_caller]
    pub fn fuse(&self, g: &Graph<'_>, text: Tensor, segments: Option<Tensor>, images: Tensor, dropout: Dropout) -> Tensor {
        self.bert.fuse(g, text, segments, images, dropout)
    }

    /// The logits of a mismatch and a match (B, 2), from fused hidden states (B, T, C).
    #[track_caller]
    pub fn match_logits(&self, g: &Graph<'_>, fused: Tensor) -> Tensor {
        self.itm_head.forward(g, first(g, fused))
    }

    /// The cross-entropy of each target, 0 for a mismatch and 1 for a match, in nats: from fused hidden states (B, T, C), targets and result (B).
    #[track_caller]
    pub fn match_losses(&self, g: &Graph<'_>, fused: Tensor, targets: Tensor) -> Tensor {
        self.itm_head.losses(g, first(g, fused), targets)
    }

    /// The cosines of vectors (B, E) with `others` (M, E), divided by the temperature: (B, M).
    #[track_caller]
    pub fn similarities(&self, g: &Graph<'_>, vectors: Tensor, others: Tensor) -> Tensor {
        g.linear(g.binary(BinaryKind::Div, Over::Scalar, vectors, g.param(self.temp)), others, None)
    }
}

/// The first token of every row. x (B, T, C), result (B, C).
#[track_caller]
fn first(g: &Graph<'_>, x: Tensor) -> Tensor {
    let shape = g.shape(x);
    g.reshape(g.token_slice(x, 0, 1), &[shape.dim(0), shape.cols()])
}
