//! Causal language models: the interface that training, scoring and generation need, and the graphs that all families share.

use crate::graph::{DType, Graph, Tensor};
use crate::nn::{At, Dropout, KvCache};
use crate::params::{ParamId, Scope};

/// The sizes of a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LmDims {
    /// Token ids, V.
    pub vocab_size: usize,
    /// The longest sequence.
    pub n_positions: usize,
    /// Columns of hidden states, C.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Width of the queries of a block, which determines the cost of its scores.
    pub attention_width: usize,
    /// Width of the cached keys of a block; the values have the same.
    pub kv_width: usize,
}

impl LmDims {
    /// Node records of a training program of this model without recomputation; twice as many always suffice.
    pub const fn node_count(&self) -> usize {
        40 + self.n_layer * 48
    }

    /// Tensor records of a training program of this model with `params` parameters, without recomputation; twice as many always suffice.
    pub const fn tensor_count(&self, params: usize) -> usize {
        80 + params + self.n_layer * 96
    }
}

/// A causal language model with registered parameters. Programs may be built from it on several threads.
pub trait LanguageModel: Send + Sync {
    /// Its sizes.
    fn dims(&self) -> LmDims;

    /// The last hidden states (B, T, C), after the final norm: the input of the head, see [`logits`].
    ///
    /// With a cache, the states of keys and values are declared in the order of the blocks.
    #[track_caller]
    fn hidden(&self, g: &Graph<'_>, inputs: &LmInputs, cache: Option<&KvCache>) -> Tensor;

    /// The token embedding (V, C).
    fn embedding(&self) -> ParamId;

    /// The weight of the head (V, C): the token embedding, or a parameter of its own.
    fn head(&self) -> ParamId;

    /// Replaces a head that is tied to the token embedding by a parameter of its own, `lm_head.weight` in this scope; the caller copies its initial
    /// values from the embedding. No effect on a model with an untied head.
    fn untie(&mut self, s: &mut Scope<'_>);
}

/// The inputs of a language model's program.
#[derive(Clone, Copy, Debug)]
pub struct LmInputs {
    /// Token ids (B, T).
    pub tokens: Tensor,
    /// Positions (B, T).
    pub positions: Tensor,
    /// Segments (B, T) for padding and packing, −1 for padding.
    pub segments: Option<Tensor>,
    /// Dropout control.
    pub dropout: Option<Tensor>,
    /// Dropout control for the inputs of low-rank adapters.
    pub adapter_dropout: Option<Tensor>,
}

impl LmInputs {
    /// Declares tokens and positions of `batch` sequences of `len` tokens.
    #[track_caller]
    pub fn new(g: &Graph<'_>, model: &dyn LanguageModel, batch: usize, len: usize) -> Self {
        let LmDims { vocab_size, n_positions, .. } = model.dims();
        Self {
            tokens: g.ints(&[batch, len], 0, vocab_size as i32 - 1),     // (B, T)
            positions: g.ints(&[batch, len], 0, n_positions as i32 - 1), // (B, T)
            segments: None,
            dropout: None,
            adapter_dropout: None,
        }
    }

    /// The inputs of every block's attention.
    pub fn at<'c>(&self, cache: Option<&'c KvCache>) -> At<'c> {
        let dropout = Dropout { activations: self.dropout, adapters: self.adapter_dropout };
        At { positions: self.positions, segments: self.segments, dropout, window: 0, cache }
    }
}

/// Declares the targets (B, T) of `batch` sequences of `len` tokens: token ids, negative for positions without a prediction.
#[track_caller]
pub fn targets(g: &Graph<'_>, model: &dyn LanguageModel, batch: usize, len: usize) -> Tensor {
    g.ints(&[batch, len], i32::MIN, model.dims().vocab_size as i32 - 1)
}

/// The cross-entropy of every target, −ln softmax(logits)\[target\], in nats; 0 for a negative target. targets and result (B, T).
#[track_caller]
pub fn losses(g: &Graph<'_>, model: &dyn LanguageModel, inputs: &LmInputs, targets: Tensor) -> Tensor {
    losses_of(g, model, model.hidden(g, inputs, None), targets) // (B, T)
}

/// The same from hidden states (…, C). targets and result (…).
#[track_caller]
pub fn losses_of(g: &Graph<'_>, model: &dyn LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor {
    g.head_loss(hidden, g.param(model.head()), None, targets, 0.0)
}

/// The logits (…, V) of hidden states (…, C).
#[track_caller]
pub fn logits(g: &Graph<'_>, model: &dyn LanguageModel, hidden: Tensor) -> Tensor {
    g.linear(hidden, g.param(model.head()), None)
}

/// The shape of a program that appends tokens to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeShape {
    /// Sequences, B.
    pub batch: usize,
    /// Tokens of each that a run appends, T.
    pub len: usize,
    /// Capacity of the cache in tokens per sequence.
    pub capacity: usize,
    /// How keys and values are stored.
    pub dtype: DType,
    /// See [`KvCache::read_in_place`].
    pub read_in_place: bool,
}

/// The tensors of a program that appends tokens to a cache.
#[derive(Clone, Copy, Debug)]
pub struct DecodeStep {
    /// Tokens and positions.
    pub inputs: LmInputs,
    /// The cache.
    pub cache: KvCache,
    /// The logits after the last token (B, 1, V).
    pub logits: Tensor,
}

/// Appends `len` tokens of every sequence to its cache and returns the logits after the last one.
#[track_caller]
pub fn decode_step(g: &Graph<'_>, model: &dyn LanguageModel, shape: &DecodeShape) -> DecodeStep {
    let &DecodeShape { batch, len, capacity, dtype, read_in_place } = shape;
    let inputs = LmInputs::new(g, model, batch, len);
    let starts = g.ints(&[batch], 0, capacity as i32); // (B)
    let live = g.ints(&[batch], 0, capacity as i32); // (B)
    let cache = KvCache { starts, live, capacity, dtype, read_in_place, segments: None };
    let hidden = model.hidden(g, &inputs, Some(&cache)); // (B, T, C)
    let last = if len > 1 { g.token_slice(hidden, len - 1, 1) } else { hidden }; // (B, 1, C)
    DecodeStep { inputs, cache, logits: g.output(logits(g, model, last)) } // (B, 1, V)
}
