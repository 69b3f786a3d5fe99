//! Self-attention: queries, keys and values from one product, an optional cache, the output projection.

use super::affine::Affine;
use super::dropout::Dropout;
use super::stack::{Repeat, repeat};
use crate::graph::{Activation, AttentionMask, AttentionSpec, Columns, DType, Graph, Pairing, RotarySpec, Tensor};
use crate::params::{Init, Scope};

/// Multi-head attention, optionally with fewer key-value heads than query heads (Vaswani et al. 2017, 3.2; Ainslie et al. 2023).
///
/// Queries, keys and values are one linear layer whose outputs are in this order: (heads + 2 kv_heads) · head_dim rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    qkv: Projections,
    output: Affine,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    causal: bool,
    scale: f64,
    rotary: Option<Rotary>,
}

repeat!(Attention { qkv, output });

/// The projections of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Projections {
    /// One linear layer with outputs in this order: (heads + 2 kv_heads) · head_dim rows.
    Fused(Affine),
    /// A linear layer each, which adapters of their own ask for.
    Split([Affine; 3]),
}

impl Repeat for Projections {
    fn moved(self, by: usize) -> Self {
        match self {
            Self::Fused(qkv) => Self::Fused(qkv.moved(by)),
            Self::Split(layers) => Self::Split(layers.map(|layer| layer.moved(by))),
        }
    }
}

/// The configuration of an [`Attention`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionConfig {
    /// Columns of input and output, C.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Whether queries, keys and values have biases, and whether the output projection has one.
    pub bias: [bool; 2],
    /// Whether a query sees no later key.
    pub causal: bool,
    /// The factor of the scores, usually 1/√head_dim.
    pub scale: f64,
    /// How queries and keys are rotated by their positions, if they are.
    pub rotary: Option<Rotary>,
    /// Initial values of both weights.
    pub init: [Init; 2],
    /// The scopes of both layers.
    pub names: [&'static str; 2],
    /// The scopes of queries, keys and values if one of them gets a low-rank adapter; `None`: they are always one layer.
    pub split_names: Option<[&'static str; 3]>,
}

/// Rotary position embedding of queries and keys. Su et al. 2021.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// Which columns of a head are rotated together.
    pub pairs: Pairing,
    /// Columns of a head that are rotated, its first ones.
    pub rotated: usize,
    /// The base of the wavelengths, usually 10,000.
    pub base: f64,
}

/// The inputs of attention other than x, the same for every layer except for the window.
#[derive(Clone, Copy, Debug)]
pub struct At<'c> {
    /// Positions (B, T), for rotary embeddings.
    pub positions: Tensor,
    /// Segments (B, T) for padding and packing, −1 for padding.
    pub segments: Option<Tensor>,
    /// Dropout.
    pub dropout: Dropout,
    /// How many keys up to its own position a query sees; 0 means all.
    pub window: usize,
    /// The keys and values of earlier tokens.
    pub cache: Option<&'c KvCache>,
}

/// A key-value cache: the keys and values of tokens before those of the program.
#[derive(Clone, Copy, Debug)]
pub struct KvCache {
    /// Tokens of every sequence already in the cache (B).
    pub starts: Tensor,
    /// The same after this program's tokens (B).
    pub live: Tensor,
    /// Capacity in tokens per sequence.
    pub capacity: usize,
    /// How keys and values are stored.
    pub dtype: DType,
    /// Whether attention reads the stored element type directly, row by row; otherwise the cache is first converted into the arena, for kernels that
    /// only take f32.
    pub read_in_place: bool,
    /// Segment ids (B, capacity) of the cached tokens.
    pub segments: Option<Tensor>,
}

impl AttentionConfig {
    /// Causal self-attention with common defaults: as many key heads as query heads, scale 1/√head_dim, no biases, no rotation, weights from N(0,
    /// 0.02²), in the scopes `qkv` and `proj`.
    pub fn causal(width: usize, heads: usize) -> Self {
        let head_dim = width.checked_div(heads).unwrap_or(0);
        Self {
            width,
            heads,
            kv_heads: heads,
            head_dim,
            bias: [false; 2],
            causal: true,
            scale: 1.0 / libm::sqrt(head_dim as f64),
            rotary: None,
            init: [Init::normal(0.02); 2],
            names: ["qkv", "proj"],
            split_names: None,
        }
    }

    /// This configuration with rotary positions: all columns of a head, half-split, base 10,000 (Su et al. 2021).
    pub fn rotated(self) -> Self {
        let rotary = Some(Rotary { pairs: Pairing::Halves, rotated: self.head_dim, base: 10_000.0 });
        Self { rotary, ..self }
    }
}

impl Attention {
    /// Adds the parameters of both linear layers.
    pub fn register(c: &AttentionConfig, s: &mut Scope<'_>) -> Self {
        let ([_, output], [_, output_init], [_, output_bias], q_cols) = (c.names, c.init, c.bias, c.heads * c.head_dim);
        Self {
            qkv: Projections::register(c, s),
            output: Affine::register(q_cols, c.width, output_bias, output_init, &mut s.at(output)),
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            causal: c.causal,
            scale: c.scale,
            rotary: c.rotary,
        }
    }

    /// residual + dropout(output(attention(x))). x, residual and result (B, T, C).
    ///
    /// With a cache it declares two states (B, capacity, kv_heads · head_dim): keys, then values.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor, residual: Tensor, at: &At<'_>) -> Tensor {
        let spec = self.spec(g.site(), at.window);
        let [q, k, v] = self.projected(g, x, at); // (B, T, q_cols), twice (B, T, kv_cols)
        let kv_cols = self.kv_heads * self.head_dim;
        let h = match at.cache {
            None => {
                let segments = at.segments.map(|s| (s, s));
                g.attention(spec, q, k, v, AttentionMask { segments, live: None, dropout: at.dropout.activations }) // (B, T, q_cols)
            }
            Some(cache) => {
                let (keys, values) = (cache.append(g, k, kv_cols), cache.append(g, v, kv_cols)); // (B, capacity, kv_cols)
                let segments = at.segments.zip(cache.segments);
                let mask = AttentionMask { segments, live: Some(cache.live), dropout: None };
                g.attention(spec, q, keys.into(), values.into(), mask) // (B, T, q_cols)
            }
        };
        self.output.onto(g, h, residual, at.dropout) // (B, T, C)
    }

    /// Queries (B, T, q_cols), keys and values (B, T, kv_cols), the first two rotated.
    #[track_caller]
    fn projected(&self, g: &Graph<'_>, x: Tensor, at: &At<'_>) -> [Columns; 3] {
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);
        match self.qkv {
            Projections::Fused(qkv) => {
                let qkv = qkv.adapted(g, x, Activation::None, at.dropout); // (B, T, q_cols + 2*kv_cols)
                let qkv = self.rotated(g, qkv, heads + kv_heads, at.positions);
                [Columns::from(qkv), qkv.from_column(heads * head_dim), qkv.from_column((heads + kv_heads) * head_dim)]
            }
            Projections::Split(layers) => {
                let [q, k, v] = layers.map(|layer| layer.adapted(g, x, Activation::None, at.dropout));
                [self.rotated(g, q, heads, at.positions), self.rotated(g, k, kv_heads, at.positions), v].map(Columns::from)
            }
        }
    }

    /// Rotates the first heads of x and leaves the rest unchanged. x and result (B, T, columns).
    #[track_caller]
    fn rotated(&self, g: &Graph<'_>, x: Tensor, heads: usize, positions: Tensor) -> Tensor {
        let Some(Rotary { pairs, rotated, base }) = self.rotary else { return x };
        let (heads, head_dim) = (heads as u32, self.head_dim as u32);
        g.rotary(x, positions, RotarySpec { heads, head_dim, rotated: rotated as u32, pairs, base, inverse: false })
    }

    fn spec(&self, site: u32, window: usize) -> AttentionSpec {
        AttentionSpec {
            heads: self.heads as u32,
            kv_heads: self.kv_heads as u32,
            head_dim: self.head_dim as u32,
            causal: self.causal,
            window: window as u32,
            scale: self.scale,
            site,
        }
    }
}

impl Projections {
    /// One layer, or three when one of them is a target of adapters.
    fn register(c: &AttentionConfig, s: &mut Scope<'_>) -> Self {
        let ([fused, _], [bias, _], [init, _]) = (c.names, c.bias, c.init);
        let (q_cols, kv_cols) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        if let Some([q, k, v]) = c.split_names.filter(|names| names.iter().any(|name| s.at(name).lora().is_some())) {
            return Self::Split(
                [(q, q_cols), (k, kv_cols), (v, kv_cols)]
                    .map(|(name, cols)| Affine::register(c.width, cols, bias, init, &mut s.at(name))),
            );
        }
        Self::Fused(Affine::register(c.width, q_cols + 2 * kv_cols, bias, init, &mut s.at(fused)))
    }
}

impl KvCache {
    /// Appends x (B, T, `width` columns) to the cache; returns what attention reads, (B, capacity, width).
    #[track_caller]
    fn append(&self, g: &Graph<'_>, x: Columns, width: usize) -> Tensor {
        let batch = g.shape(x.tensor).dim(0);
        let state = g.state_of(self.dtype, &[batch, self.capacity, width]); // (B, capacity, width)
        let written = g.cache_write(x, self.starts, state);
        if self.dtype == DType::Real || self.read_in_place { written } else { g.cache_read(written, self.live) }
    }
}
