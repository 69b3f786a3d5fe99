//! Self-attention: queries, keys and values from one product, an optional cache, the output projection.

use super::affine::Affine;
use super::stack::repeat;
use crate::graph::{AttentionMask, AttentionSpec, Columns, DType, Graph, Tensor};
use crate::params::{Init, Scope};

/// Multi-head attention with fewer key and value heads than query heads if wanted (Vaswani et al. 2017, 3.2; Ainslie et al. 2023).
///
/// Queries, keys and values are one linear layer whose outputs stand in this order: (heads + 2 kv_heads) · head_dim rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    qkv: Affine,
    output: Affine,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    causal: bool,
    scale: f64,
}

repeat!(Attention { qkv, output });

/// What an [`Attention`] is built from.
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
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// The factor of the scores, usually 1/√head_dim.
    pub scale: f64,
    /// Initial values of both weights.
    pub init: [Init; 2],
    /// The scopes of both layers.
    pub names: [&'static str; 2],
}

/// What attention reads beside its input, the same for every layer but for the window.
#[derive(Clone, Copy, Debug)]
pub struct At<'c> {
    /// Segments (B, T) for padding and packing, −1 for padding.
    pub segments: Option<Tensor>,
    /// Dropout control, see [`Graph::dropout`].
    pub dropout: Option<Tensor>,
    /// How many keys up to its own position a query sees; 0 means all.
    pub window: usize,
    /// What came before the tokens of this program.
    pub cache: Option<&'c KvCache>,
}

/// A key and value cache: what came before the tokens of a program.
#[derive(Clone, Copy, Debug)]
pub struct KvCache {
    /// Tokens of every sequence already in the cache (B).
    pub starts: Tensor,
    /// The same after this program's tokens (B).
    pub live: Tensor,
    /// Tokens that a sequence has room for.
    pub capacity: usize,
    /// How keys and values are stored.
    pub dtype: DType,
    /// Whether attention reads them as they are stored, row by row; otherwise they are read into the arena first, for kernels that take f32 only.
    pub read_in_place: bool,
    /// Segments (B, capacity) of what is in the cache.
    pub segments: Option<Tensor>,
}

impl Attention {
    /// Adds the parameters of both linear layers.
    pub fn register(c: &AttentionConfig, s: &mut Scope<'_>) -> Self {
        let ([qkv, output], [qkv_init, output_init]) = (c.names, c.init);
        let (q_cols, kv_cols) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        Self {
            qkv: Affine::register(c.width, q_cols + 2 * kv_cols, c.qkv_bias, qkv_init, &mut s.at(qkv)),
            output: Affine::register(q_cols, c.width, c.output_bias, output_init, &mut s.at(output)),
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            causal: c.causal,
            scale: c.scale,
        }
    }

    /// residual + dropout(output(attention(x))). x, residual and result (B, T, C).
    ///
    /// With a cache it declares two states of (B, capacity, kv_heads · head_dim): keys, then values.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, x: Tensor, residual: Tensor, at: &At<'_>) -> Tensor {
        let spec = self.spec(g.site(), at.window);
        let (q_cols, kv_cols) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let qkv = self.qkv.forward(g, x); // (B, T, q_cols + 2*kv_cols)
        let (q, k, v) = (Columns::from(qkv), qkv.from_column(q_cols), qkv.from_column(q_cols + kv_cols));
        let h = match at.cache {
            None => {
                let segments = at.segments.map(|s| (s, s));
                g.attention(spec, q, k, v, AttentionMask { segments, live: None, dropout: at.dropout }) // (B, T, q_cols)
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

impl KvCache {
    /// Writes x (B, T, `width` columns) behind what is there; what attention reads, (B, capacity, width).
    #[track_caller]
    fn append(&self, g: &Graph<'_>, x: Columns, width: usize) -> Tensor {
        let batch = g.shape(x.tensor).dim(0);
        let state = g.state_of(self.dtype, &[batch, self.capacity, width]); // (B, capacity, width)
        let written = g.cache_write(x, self.starts, state);
        if self.dtype == DType::Real || self.read_in_place { written } else { g.cache_read(written, self.live) }
    }
}
