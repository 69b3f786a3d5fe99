//! The GPT family: GPT-2 (pre-norm), GPT-1 (post-norm), GPT-3 (alternating dense and locally banded attention).
//!
//! Radford et al. 2018 and 2019, Brown et al. 2020; parameter names are those of Hugging Face's `GPT2LMHeadModel` and `OpenAIGPTLMHeadModel`.

use crate::graph::{Activation, AttentionMask, AttentionSpec, Columns, DType, Graph, Tensor};
use crate::params::{Init, ParamId, Registry};

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
    /// Standard deviation of initial weights; residual projections have it divided by √(2 n_layer).
    pub initializer_range: f64,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// GPT-1: norms after the residual additions, none at the end.
    pub post_norm: bool,
    /// Whether scores are divided by √(C / n_head).
    pub scale_attn_weights: bool,
    /// GPT-3: every second block, beginning with the second, sees only this many keys; 0 for dense attention everywhere.
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

    /// Parameters that a registry must hold; one more with a head of its own ([`Tune::Head`]).
    pub const fn param_count(&self) -> usize {
        let vectors = if self.bias { PER_LAYER } else { PER_LAYER - BIASES };
        let final_norm = match (self.post_norm, self.bias) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        2 + self.n_layer * vectors + final_norm
    }

    /// Node records that a training program of this model needs, without recomputation; twice as many always suffice.
    pub const fn node_count(&self) -> usize {
        40 + self.n_layer * 48
    }

    /// Tensor records that a training program of this model needs, without recomputation; twice as many always suffice.
    pub const fn tensor_count(&self) -> usize {
        80 + self.param_count() + self.n_layer * 96
    }
}

/// What is trained of a model that exists; see [`GptParams::tune`]. V tokens, width C, hidden layer 4 C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tune {
    /// Nothing: the model only runs.
    None,
    /// A head of its own, `lm_head.weight` (V, C), beside the token embedding, from which it starts. V C numbers and as many for their gradient and
    /// each moment; nothing is kept for a backward pass through the blocks, for there is none.
    Head,
    /// Every bias, and weights and biases of layer norms: all vectors. (BitFit, Ben Zaken et al. 2022, with the gains.) About 11 C numbers a block,
    /// but gradients go through all blocks, so that every block keeps activations; what linear layers read is not among them.
    Bias,
    /// The last block and the final norm, where the model has one. 12 C² numbers, of which the gradient of one matrix, 4 C², stands at a time
    /// with updates in the backward pass; the blocks below keep no activations.
    LastBlock,
    /// Everything.
    #[default]
    All,
}

impl Tune {
    /// Parameters that it adds to those of [`GptConfig::param_count`].
    pub const fn added_params(self) -> usize {
        match self {
            Self::Head => 1,
            Self::None | Self::Bias | Self::LastBlock | Self::All => 0,
        }
    }
}

/// The position embedding among the parameters of a model.
const WPE: usize = 1;
/// Parameters of a block: two norms and four linear layers, each a weight and perhaps a bias.
const PER_LAYER: usize = 12;
const BIASES: usize = 6;

/// Where the parameters of a model stand in a registry.
#[derive(Clone, Copy, Debug)]
pub struct GptParams {
    wte: ParamId,
    wpe: ParamId,
    /// The head's weight: the token embedding, or one of its own.
    head: ParamId,
    blocks: ParamId,
    per_layer: usize,
    bias: bool,
}

/// A weight and perhaps a bias.
type Affine = (Tensor, Option<Tensor>);

impl GptParams {
    /// Adds the model's parameters to a registry.
    pub fn register(config: &GptConfig, registry: &mut Registry<'_>) -> Self {
        let (c, inner, std) = (config.n_embd, config.n_inner, config.initializer_range);
        let normal = Init::Normal { std };
        let residual = Init::Normal { std: std / libm::sqrt(2.0 * config.n_layer as f64) };
        let names = if config.post_norm { &GPT1_NAMES } else { &GPT2_NAMES };
        let &[wte_name, wpe_name] = names;
        let wte = registry.add(wte_name, 0, &[config.vocab_size, c], normal);
        let wpe = registry.add(wpe_name, 0, &[config.n_positions, c], normal);
        let blocks = wte.plus(WPE + 1);
        let mut per_layer = 0;
        for i in 0..config.n_layer {
            per_layer = 0;
            let mut affine = |weight, bias, extents: &[usize], init| {
                registry.add(weight, i, extents, init);
                per_layer += 1;
                if config.bias {
                    registry.add(bias, i, extents.get(..1).unwrap_or(&[]), Init::Zeros);
                    per_layer += 1;
                }
            };
            affine("h.{}.ln_1.weight", "h.{}.ln_1.bias", &[c], Init::Ones);
            affine("h.{}.attn.c_attn.weight", "h.{}.attn.c_attn.bias", &[3 * c, c], normal);
            affine("h.{}.attn.c_proj.weight", "h.{}.attn.c_proj.bias", &[c, c], residual);
            affine("h.{}.ln_2.weight", "h.{}.ln_2.bias", &[c], Init::Ones);
            affine("h.{}.mlp.c_fc.weight", "h.{}.mlp.c_fc.bias", &[inner, c], normal);
            affine("h.{}.mlp.c_proj.weight", "h.{}.mlp.c_proj.bias", &[c, inner], residual);
        }
        if !config.post_norm {
            registry.add("ln_f.weight", 0, &[c], Init::Ones);
            if config.bias {
                registry.add("ln_f.bias", 0, &[c], Init::Zeros);
            }
        }
        Self { wte, wpe, head: wte, blocks, per_layer, bias: config.bias }
    }

    /// Freezes what every token reads whole — the matrices of blocks, and the token embedding, which is also the head — and keeps it in another
    /// element type. To be called between [`Self::register`] and [`Registry::finish`], and before [`Self::tune`].
    pub fn store_as(&self, dtype: DType, config: &GptConfig, registry: &mut Registry<'_>) {
        let own = registry.infos_mut().iter_mut().skip(self.wte.index()).take(config.param_count());
        for (_, info) in own.enumerate().filter(|&(i, ref info)| info.shape.rank() == 2 && i != WPE) {
            (info.frozen, info.dtype) = (true, dtype);
        }
    }

    /// Makes what `tune` says trainable, as numbers, and freezes all the rest in the element types that [`Self::store_as`] chose, or as numbers.
    /// To be called between [`Self::register`] and [`Registry::finish`].
    ///
    /// With [`Tune::Head`] it adds the parameter of the head, whose first values the caller copies from the token embedding.
    pub fn tune(&mut self, tune: Tune, config: &GptConfig, registry: &mut Registry<'_>) {
        let last = self.blocks.plus(config.n_layer.saturating_sub(1) * self.per_layer);
        let own = registry.infos_mut().iter_mut().enumerate().skip(self.wte.index()).take(config.param_count());
        for (number, info) in own {
            let trained = match tune {
                Tune::None | Tune::Head => false,
                Tune::Bias => info.shape.rank() == 1,
                // The final norm comes after the blocks.
                Tune::LastBlock => number >= last.index(),
                Tune::All => true,
            };
            info.frozen = !trained;
            if trained {
                info.dtype = DType::Real;
            }
        }
        if tune == Tune::Head {
            let normal = Init::Normal { std: config.initializer_range };
            self.head = registry.add(HEAD_NAME, 0, &[config.vocab_size, config.n_embd], normal);
        }
    }

    /// The token embedding.
    pub const fn wte(&self) -> ParamId {
        self.wte
    }

    /// The weight of the head: the token embedding, or with [`Tune::Head`] a parameter of its own.
    pub const fn head(&self) -> ParamId {
        self.head
    }

    /// Part `k` of block `i`: norm, attention, projection, norm, hidden layer, projection.
    fn affine(&self, g: &Graph<'_>, i: usize, k: usize) -> Affine {
        let stride = if self.bias { 2 } else { 1 };
        let weight = self.blocks.plus(i * self.per_layer + k * stride);
        (g.param(weight), self.bias.then(|| g.param(weight.plus(1))))
    }
}

const GPT2_NAMES: [&str; 2] = ["wte.weight", "wpe.weight"];
const GPT1_NAMES: [&str; 2] = ["tokens_embed.weight", "positions_embed.weight"];
const HEAD_NAME: &str = "lm_head.weight";

/// What a program of this model reads.
#[derive(Clone, Copy, Debug)]
pub struct GptInputs {
    /// Token ids (B, T).
    pub tokens: Tensor,
    /// Positions (B, T).
    pub positions: Tensor,
    /// Segments (B, T) for padding and packing, −1 for padding.
    pub segments: Option<Tensor>,
    /// Dropout control.
    pub dropout: Option<Tensor>,
}

impl GptInputs {
    /// Declares tokens and positions of `batch` sequences of `len` tokens.
    #[track_caller]
    pub fn new(g: &Graph<'_>, config: &GptConfig, batch: usize, len: usize) -> Self {
        Self {
            tokens: g.ints(&[batch, len], 0, config.vocab_size as i32 - 1),
            positions: g.ints(&[batch, len], 0, config.n_positions as i32 - 1),
            segments: None,
            dropout: None,
        }
    }
}

/// A key and value cache: what came before the tokens of this program.
#[derive(Clone, Copy, Debug)]
pub struct GptCache {
    /// Tokens of every sequence already in the cache (B).
    pub starts: Tensor,
    /// The same after this program's tokens (B).
    pub live: Tensor,
    /// Tokens that a sequence has room for.
    pub capacity: usize,
    /// How its keys and values are stored.
    pub dtype: DType,
    /// Whether attention reads them as they are stored, row by row; otherwise they are read into the arena first, for kernels that take numbers only.
    pub read_in_place: bool,
    /// Segments (B, capacity) of what is in the cache.
    pub segments: Option<Tensor>,
}

/// The last hidden states (B, T, C), ready for the head: logits are `g.linear(hidden, g.param(params.head()), None)`.
///
/// With a cache the states of every block's keys and values are declared in the order of the blocks.
#[track_caller]
pub fn hidden(g: &Graph<'_>, config: &GptConfig, params: &GptParams, inputs: &GptInputs, cache: Option<&GptCache>) -> Tensor {
    let drop = |x: Tensor| inputs.dropout.map_or(x, |control| g.dropout(x, control));
    let x = g.embedding(inputs.tokens, g.param(params.wte), None);
    let mut x = drop(g.embedding(inputs.positions, g.param(params.wpe), Some(x)));
    for i in 0..config.n_layer {
        x = g.checkpoint(x);
        x = block(g, config, params, inputs, cache, i, x);
    }
    if config.post_norm {
        return x;
    }
    let x = g.checkpoint(x);
    let (w, b) = params.affine(g, config.n_layer, 0);
    g.layer_norm(x, Some(w), b, config.layer_norm_epsilon)
}

#[track_caller]
fn block(
    g: &Graph<'_>,
    config: &GptConfig,
    params: &GptParams,
    inputs: &GptInputs,
    cache: Option<&GptCache>,
    i: usize,
    x: Tensor,
) -> Tensor {
    let norm = |k: usize, x: Tensor| {
        let (w, b) = params.affine(g, i, k);
        g.layer_norm(x, Some(w), b, config.layer_norm_epsilon)
    };
    // y + x, with dropout on y.
    let project = |k: usize, h: Tensor, x: Tensor| {
        let (w, b) = params.affine(g, i, k);
        match inputs.dropout {
            Some(control) => g.add(x, g.dropout(g.linear(h, w, b), control)),
            None => g.linear_with(h, w, b, Activation::None, Some(x)),
        }
    };
    let expand = |x: Tensor| {
        let (w, b) = params.affine(g, i, 4);
        g.linear_with(x, w, b, config.activation_function, None)
    };
    if config.post_norm {
        let x = norm(0, project(2, attention(g, config, params, inputs, cache, i, x), x));
        return norm(3, project(5, expand(x), x));
    }
    let x = project(2, attention(g, config, params, inputs, cache, i, norm(0, x)), x);
    project(5, expand(norm(3, x)), x)
}

#[track_caller]
fn attention(
    g: &Graph<'_>,
    config: &GptConfig,
    params: &GptParams,
    inputs: &GptInputs,
    cache: Option<&GptCache>,
    i: usize,
    x: Tensor,
) -> Tensor {
    let c = config.n_embd;
    let head_dim = c.checked_div(config.n_head).unwrap_or(0);
    let spec = AttentionSpec {
        heads: config.n_head as u32,
        kv_heads: config.n_head as u32,
        head_dim: head_dim as u32,
        causal: true,
        window: if i % 2 == 1 { config.window_size as u32 } else { 0 },
        scale: if config.scale_attn_weights { 1.0 / libm::sqrt(head_dim as f64) } else { 1.0 },
        site: g.site(),
    };
    let (w, b) = params.affine(g, i, 1);
    let qkv = g.linear(x, w, b); // (B, T, 3*C)
    let (q, k, v) = (Columns::from(qkv), qkv.from_column(c), qkv.from_column(2 * c));
    let Some(cache) = cache else {
        let segments = inputs.segments.map(|s| (s, s));
        return g.attention(spec, q, k, v, AttentionMask { segments, live: None, dropout: inputs.dropout });
    };
    let batch = g.shape(inputs.tokens).dim(0);
    let kept = |x: Columns| {
        let state = g.cache_write(x, cache.starts, g.state_of(cache.dtype, &[batch, cache.capacity, c]));
        if cache.dtype == DType::Real || cache.read_in_place { state } else { g.cache_read(state, cache.live) }
    };
    let (keys, values) = (kept(k), kept(v));
    let segments = inputs.segments.zip(cache.segments);
    g.attention(spec, q, keys.into(), values.into(), AttentionMask { segments, live: Some(cache.live), dropout: None })
}
