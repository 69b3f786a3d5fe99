//! The Vision Transformer: an image as a sequence of patches. Dosovitskiy et al. 2021; parameter names are those of timm's `VisionTransformer`, which the
//! authors of visual prompt tuning use as well.

use super::image::{ImageDims, ImageModel, PixelOrder};
use crate::graph::{Activation, BinaryKind, Graph, Over, Shape, Tensor};
use crate::nn::{
    Adapter, AdapterConfig, Affine, At, Attention, AttentionConfig, Dropout, HiddenLayers, LayerNorm, Mlp, MlpConfig,
    PromptConfig, Prompts, Side, SideConfig, Stack,
};
use crate::params::{Init, ParamId, Part, Scope};
use crate::repeat;

/// A model of the family, with the names of Hugging Face's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitConfig {
    /// Height and width of images in pixels.
    pub image_size: [usize; 2],
    /// Height and width of a patch in pixels; divides both.
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
    /// Its activation.
    pub hidden_act: Activation,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Standard deviation of the initial values of embeddings and of the patch embedding.
    pub initializer_range: f64,
    /// Classes.
    pub num_labels: usize,
}

impl VitConfig {
    /// ViT-Ti/16 at 224 pixels: 5.7 M parameters with 1000 classes.
    pub const TINY: Self = Self {
        image_size: [224; 2],
        patch_size: 16,
        num_channels: 3,
        hidden_size: 192,
        num_hidden_layers: 12,
        num_attention_heads: 3,
        intermediate_size: 768,
        hidden_act: Activation::GeluErf,
        layer_norm_eps: 1e-6,
        qkv_bias: true,
        initializer_range: 0.02,
        num_labels: 1000,
    };

    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|size| size.checked_div(self.patch_size).unwrap_or(0))
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        self.grid().iter().product()
    }

    /// Glorot and Bengio's uniform values for a weight of these extents: the variance is 2/(in + out).
    fn xavier(inputs: usize, outputs: usize) -> Init {
        Init::Uniform { bound: libm::sqrt(6.0 / (inputs + outputs).max(1) as f64) }
    }

    fn attention(&self) -> AttentionConfig {
        let (c, head_dim) = (self.hidden_size, self.hidden_size.checked_div(self.num_attention_heads).unwrap_or(0));
        AttentionConfig {
            bias: [self.qkv_bias, true],
            causal: false,
            init: [Self::xavier(c, c), Self::xavier(c, c)],
            names: ["qkv", "proj"],
            split_names: Some(["q", "k", "v"]),
            head_dim,
            ..AttentionConfig::causal(c, self.num_attention_heads)
        }
    }

    fn mlp(&self) -> MlpConfig {
        let init = Self::xavier(self.hidden_size, self.intermediate_size);
        MlpConfig {
            width: self.hidden_size,
            inner: self.intermediate_size,
            bias: true,
            activation: self.hidden_act,
            init: [init; 2],
            names: ["fc1", "fc2"],
        }
    }

    fn norm(&self, s: &mut Scope<'_>) -> LayerNorm {
        LayerNorm::register(self.hidden_size, true, self.layer_norm_eps, s)
    }
}

/// What a tuning adds to a model; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Additions {
    /// Prompts beside the patches.
    pub prompts: Option<PromptConfig>,
    /// An adapter in every block.
    pub adapter: Option<AdapterConfig>,
    /// Hidden layers of the head.
    pub hidden: usize,
    /// Whether a side network stands beside the model.
    pub side: bool,
}

/// A transformer block: x + attn(norm1(x)), then x + mlp(norm2(x)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    adapter: Option<Adapter>,
}

repeat!(Block { norm1, attn, norm2, mlp, adapter });

impl Block {
    fn register(c: &VitConfig, adapter: Option<AdapterConfig>, s: &mut Scope<'_>) -> Self {
        Self {
            norm1: c.norm(&mut s.at("norm1")),
            attn: Attention::register(&c.attention(), &mut s.at("attn")),
            norm2: c.norm(&mut s.at("norm2")),
            mlp: Mlp::register(&c.mlp(), &mut s.at("mlp")),
            adapter: adapter.map(|adapter| Adapter::register(&adapter, c.hidden_size, s)),
        }
    }

    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> Tensor {
        let x = self.attn.forward(g, self.norm1.forward(g, x), x, at); // (B, 1+N, C)
        let normed = self.norm2.forward(g, x); // (B, 1+N, C)
        match self.adapter {
            None => self.mlp.forward(g, normed, x, at.dropout), // (B, 1+N, C)
            Some(adapter) => adapter.forward(g, self.mlp.alone(g, normed, at.dropout), x), // (B, 1+N, C)
        }
    }
}

/// The encoder of a Vision Transformer: everything but its head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitEncoder {
    config: VitConfig,
    cls_token: ParamId,
    pos_embed: ParamId,
    patch_embed: Affine,
    blocks: Stack<Block>,
    norm: LayerNorm,
    prompts: Option<Prompts>,
    side: Option<Side>,
}

impl VitEncoder {
    /// Registers the encoder's parameters, with what a tuning adds to them.
    pub fn register(c: &VitConfig, added: &Additions, s: &mut Scope<'_>) -> Self {
        let (width, init) = (c.hidden_size, Init::normal(c.initializer_range));
        let patch_len = c.num_channels * c.patch_size * c.patch_size;
        let mut positions = s.part(Part::Positions);
        let cls_token = positions.add("cls_token", &[1, 1, width], init);
        let pos_embed = positions.add("pos_embed", &[1, 1 + c.patches(), width], init);
        let patch_embed = Affine::register(patch_len, width, true, init, &mut s.at("patch_embed.proj").part(Part::Tokens));
        let blocks = Stack::register(c.num_hidden_layers, "blocks", s, |s| Block::register(c, added.adapter, s));
        // Glorot's bound for the patch embedding, as its authors draw prompts.
        let bound = libm::sqrt(6.0 / (patch_len + width).max(1) as f64);
        let prompts = added.prompts.map(|prompts| Prompts::register(prompts, c.num_hidden_layers, width, bound, s));
        let side = added.side.then(|| {
            let side = SideConfig { grid: c.grid(), patch_len, width };
            Side::register(&side, s)
        });
        let norm = c.norm(&mut s.at("norm").part(Part::Final));
        Self { config: *c, cls_token, pos_embed, patch_embed, blocks, norm, prompts, side }
    }

    /// Declares the patches of `batch` images: (B, N, channels·P·P), each in the order (channel, y, x).
    #[track_caller]
    pub fn pixels(&self, g: &Graph<'_>, batch: usize) -> Tensor {
        let c = &self.config;
        g.input(&[batch, c.patches(), c.num_channels * c.patch_size * c.patch_size])
    }

    /// The vectors of the class token and the patches (B, 1+N, C), normalised.
    #[track_caller]
    pub fn tokens(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        self.norm.forward(g, self.hidden(g, pixels, dropout)) // (B, 1+N, C)
    }

    /// The vector of the class token (B, C), normalised, and mixed with that of a side network.
    #[track_caller]
    fn class_vector(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        let (batch, width) = (g.shape(pixels).dim(0), self.config.hidden_size);
        let cls = g.token_slice(self.hidden(g, pixels, dropout), 0, 1); // (B, 1, C)
        let own = g.reshape(self.norm.forward(g, cls), &[batch, width]); // (B, C)
        self.side.map_or(own, |side| side.mix(g, pixels, own)) // (B, C)
    }

    /// The hidden states after the last block (B, 1+N, C), prompts included, before the final norm; they and those before every block are marked as checkpoints.
    #[track_caller]
    fn hidden(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        let batch = g.shape(pixels).dim(0);
        let patches = self.patch_embed.forward(g, pixels); // (B, N, C)
        let one = Shape::new(&[batch, 1, self.config.hidden_size]).unwrap_or_default();
        let cls = g.broadcast(g.param(self.cls_token), Over::Row, one); // (B, 1, C)
        let x = g.binary(BinaryKind::Add, Over::Batch, g.token_concat(cls, patches), g.param(self.pos_embed)); // (B, 1+N, C)
        let mut x = dropout.activations.map_or(x, |control| g.dropout(x, control));
        let at = At { positions: Tensor::NONE, segments: None, dropout, window: 0, cache: None };
        if let Some(prompts) = self.prompts {
            x = prompts.insert(g, x); // (B, 1+p+N, C)
        }
        for (i, block) in self.blocks.iter().enumerate() {
            if let (Some(prompts), 1..) = (self.prompts, i) {
                x = prompts.replace(g, x, i); // (B, 1+p+N, C)
            }
            x = block.forward(g, g.checkpoint(x), &at); // (B, 1+N, C)
        }
        g.checkpoint(x) // (B, 1+N, C)
    }
}

/// A Vision Transformer whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vit {
    encoder: VitEncoder,
    hidden: HiddenLayers,
    head: [ParamId; 2],
}

impl Vit {
    /// Registers the model's parameters.
    pub fn register(c: &VitConfig, s: &mut Scope<'_>) -> Self {
        Self::register_with(c, &Additions::default(), s)
    }

    /// The same with what a tuning adds.
    pub fn register_with(c: &VitConfig, added: &Additions, s: &mut Scope<'_>) -> Self {
        let encoder = VitEncoder::register(c, added, s);
        let mut head = s.part(Part::Head);
        let hidden = HiddenLayers::register(added.hidden, c.hidden_size, c.layer_norm_eps, &mut head);
        let mut head = head.at("head");
        let weight = head.add("weight", &[c.num_labels, c.hidden_size], Init::Zeros);
        Self { encoder, hidden, head: [weight, head.add("bias", &[c.num_labels], Init::Zeros)] }
    }
}

impl ImageModel for Vit {
    fn dims(&self) -> ImageDims {
        let c = &self.encoder.config;
        ImageDims {
            image: c.image_size,
            channels: c.num_channels,
            order: PixelOrder::Patches(c.patch_size),
            width: c.hidden_size,
            classes: c.num_labels,
            blocks: c.num_hidden_layers,
        }
    }

    #[track_caller]
    fn backbone(&self, g: &Graph<'_>, pixels: Tensor, dropout: Dropout) -> Tensor {
        self.encoder.class_vector(g, pixels, dropout) // (B, C)
    }

    #[track_caller]
    fn before_head(&self, g: &Graph<'_>, features: Tensor) -> Tensor {
        self.hidden.forward(g, features) // (B, C)
    }

    fn head(&self) -> [ParamId; 2] {
        self.head
    }
}
