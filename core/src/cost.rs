//! What a node costs at least: floating-point operations and bytes moved, from its shapes alone.
//!
//! An operation with matrix products counts these, 2 for each multiplication with its addition; its bias, softmax or activation vanish beside
//! them. Every other operation counts the arithmetic of its formula, a function such as e^x as one. Bytes are those of every tensor read once
//! and written once, as if no two nodes met in a cache: divided by the bandwidth of the memory they are a floor for large tensors, and small
//! ones that are still in a cache can be faster.

use crate::graph::op::{MAX_INPUTS, MAX_OUTPUTS, Op};
use crate::graph::{AttentionSpec, Momentum, Node, Program, Role, RotarySpec};
use crate::plan::Plan;

/// Floating-point operations of an element in operations without products, as their formulas stand in `ops/`.
const LAYER_NORM_FLOPS: usize = 8;
const LAYER_NORM_BACKWARD_FLOPS: usize = 14;
const RMS_NORM_FLOPS: usize = 4;
const RMS_NORM_BACKWARD_FLOPS: usize = 10;
const ROTARY_FLOPS: usize = 3;
const ADAMW_FLOPS: usize = 15;
const EMA_FLOPS: usize = 3;

/// Work of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl Cost {
    /// The cost of node `i`; none for a node that nobody needs.
    ///
    /// `live_keys` is how many keys of a cache attention reads where a program learns it at run time, and all of them without it. Gradients are
    /// those of a first micro-batch, which overwrites.
    pub fn of(program: &Program<'_>, plan: &Plan<'_>, i: usize, real_bytes: usize, live_keys: Option<usize>) -> Option<Self> {
        let node = program.node(i).filter(|n| !n.record().dead)?;
        let tensors = Tensors { program, plan, node, real_bytes };
        Some(Self { flops: flops(&tensors, &node.op()?, live_keys), bytes: bytes(&tensors, &node.op()?, live_keys) })
    }

    /// The sum of two costs.
    pub const fn plus(self, other: Self) -> Self {
        Self { flops: self.flops.saturating_add(other.flops), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// The tensors of a node, and which of them are there.
struct Tensors<'a> {
    program: &'a Program<'a>,
    plan: &'a Plan<'a>,
    node: Node<'a>,
    real_bytes: usize,
}

impl Tensors<'_> {
    /// Whether somebody reads output `i`.
    fn wanted(&self, i: usize) -> bool {
        let t = self.node.record().output(i);
        self.node.output(i).is_some_and(|record| record.role != Role::Activation || !self.plan.value(t).is_empty())
    }

    /// Bytes of `len` elements of input `i`.
    fn input_bytes(&self, i: usize, len: usize) -> u64 {
        self.node.input(i).and_then(|t| t.dtype.bytes(len, self.real_bytes)).unwrap_or(0) as u64
    }

    /// Bytes of input `i`, 0 when it is absent.
    fn read(&self, i: usize) -> u64 {
        self.input_bytes(i, self.node.input_shape(i).len())
    }

    /// Bytes of output `i`, 0 when nobody reads it; what it adds to is read first.
    fn written(&self, i: usize) -> u64 {
        let bytes = self.reals(self.node.output_shape(i).len());
        let adds = self.node.record().is_later(i);
        if self.wanted(i) { bytes.saturating_mul(if adds { 2 } else { 1 }) } else { 0 }
    }

    /// Bytes of `len` numbers.
    fn reals(&self, len: usize) -> u64 {
        product(&[len, self.real_bytes])
    }

    /// Every input read and every wanted output written.
    fn all(&self) -> u64 {
        let read = (0..MAX_INPUTS).fold(0u64, |sum, i| sum.saturating_add(self.read(i)));
        (0..MAX_OUTPUTS).fold(read, |sum, i| sum.saturating_add(self.written(i)))
    }

    /// Everything but the given inputs.
    fn all_but(&self, inputs: &[usize]) -> u64 {
        inputs.iter().fold(self.all(), |sum, &i| sum.saturating_sub(self.read(i)))
    }

    /// How many of outputs `first..first + 2` are wanted.
    fn products(&self, first: usize) -> usize {
        (first..first.saturating_add(2)).filter(|&i| self.wanted(i)).count()
    }

    /// Live keys of a sequence: `live_keys` where the node reads their count.
    fn live(&self, keys: usize, count_input: Option<usize>, live_keys: Option<usize>) -> usize {
        let counted = count_input.is_some_and(|i| self.node.has_input(i));
        if counted { live_keys.unwrap_or(keys).min(keys) } else { keys }
    }

    /// Elements of the columns of k and v that attention reads, q being input `first`, and how often a query meets a key in all heads.
    fn attention(&self, spec: &AttentionSpec, first: usize, count_input: Option<usize>, live_keys: Option<usize>) -> Attended {
        let (q, k) = (self.node.input_shape(first), self.node.input_shape(first.saturating_add(1)));
        let (batch, queries) = (q.dim(0), q.dim(1));
        let (heads, dim) = (spec.heads as usize, spec.head_dim as usize);
        let live = self.live(k.dim(1), count_input, live_keys);
        let spans =
            (0..queries).map(|t| spec.span(live, queries, t)).fold(0usize, |sum, (from, to)| sum.saturating_add(to - from));
        Attended {
            pairs: product(&[batch, heads, spans]),
            query_len: batch * queries * heads * dim,
            key_len: batch * live * spec.kv_heads as usize * dim,
        }
    }
}

/// What attention works on.
struct Attended {
    /// Pairs of a query and a key over all heads.
    pairs: u64,
    /// Elements of q.
    query_len: usize,
    /// Elements of k that are read, as many as of v.
    key_len: usize,
}

/// Operations of SGD for an element.
const fn sgd_flops(momentum: Momentum) -> usize {
    match momentum {
        Momentum::None => 5,
        Momentum::Classical => 7,
        Momentum::Nesterov => 9,
    }
}

/// Elements that a rotary embedding turns.
fn rotated_len(t: &Tensors<'_>, spec: &RotarySpec) -> usize {
    t.node.input_shape(0).rows().saturating_mul(spec.heads as usize).saturating_mul(spec.rotated as usize)
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1u64, |all, &x| all.saturating_mul(x as u64))
}

fn flops(t: &Tensors<'_>, op: &Op, live_keys: Option<usize>) -> u64 {
    let node = &t.node;
    let (input, output) = (|i: usize| node.input_shape(i).len(), |i: usize| node.output_shape(i).len());
    // One product of x (M, K) with W (N, K): the shapes of a linear layer and of the head.
    let one_product = |x: usize, w: usize| product(&[2, node.input_shape(x).rows(), node.input_shape(w).len()]);
    match *op {
        Op::Linear { .. } => one_product(0, 1),
        Op::LinearBackward => one_product(0, 2).saturating_mul(t.products(0) as u64),
        Op::LayerNorm { centre, .. } => product(&[if centre { LAYER_NORM_FLOPS } else { RMS_NORM_FLOPS }, input(0)]),
        Op::LayerNormBackward { centre } => {
            product(&[if centre { LAYER_NORM_BACKWARD_FLOPS } else { RMS_NORM_BACKWARD_FLOPS }, input(1)])
        }
        Op::Rotary(spec) => product(&[ROTARY_FLOPS, rotated_len(t, &spec)]),
        Op::Embedding => {
            if node.has_input(2) {
                output(0) as u64
            } else {
                0
            }
        }
        Op::EmbeddingBackward { .. } => input(1) as u64,
        // q kᵀ and p v.
        Op::Attention(spec) => t.attention(&spec, 0, Some(5), live_keys).pairs.saturating_mul(4 * u64::from(spec.head_dim)),
        // q kᵀ again, dO vᵀ, pᵀ dO, dS k, dSᵀ q.
        Op::AttentionBackward(spec) => t.attention(&spec, 1, None, live_keys).pairs.saturating_mul(10 * u64::from(spec.head_dim)),
        Op::HeadLoss { .. } => one_product(0, 1),
        Op::HeadLossTrain { .. } | Op::HeadLossBackward { .. } => {
            let first = usize::from(matches!(op, Op::HeadLossTrain { .. }));
            one_product(0, 1).saturating_mul(1 + t.products(first) as u64)
        }
        Op::Dropout { .. } | Op::Unary { .. } | Op::Binary { .. } => output(0) as u64,
        Op::UnaryBackward { .. } | Op::SelectBackward { .. } | Op::ReduceMaxBackward { .. } => product(&[2, output(0)]),
        Op::Reduce { .. } => input(0) as u64,
        Op::AccumulateGrad => {
            if node.record().is_later(0) {
                output(0) as u64
            } else {
                0
            }
        }
        Op::GlobalNorm => product(&[2, t.program.params().trainable_count()]),
        Op::AdamW { len, .. } => product(&[ADAMW_FLOPS, len as usize]),
        Op::Sgd { len, momentum, .. } => product(&[sgd_flops(momentum), len as usize]),
        Op::Ema { .. } => product(&[EMA_FLOPS, t.program.params().trainable_count()]),
        Op::CacheWrite
        | Op::CacheRead
        | Op::Broadcast { .. }
        | Op::TokenSlice { .. }
        | Op::TokenPad { .. }
        | Op::TokenConcat
        | Op::TokenReplace { .. }
        | Op::Reshape { .. }
        | Op::Constant { .. } => 0,
    }
}

fn bytes(t: &Tensors<'_>, op: &Op, live_keys: Option<usize>) -> u64 {
    let node = &t.node;
    let trainable = t.program.params().trainable_count();
    match *op {
        Op::LinearBackward => {
            let unread = [(1, !t.wanted(1)), (2, !t.wanted(0))];
            unread.iter().filter(|(_, unread)| *unread).fold(t.all(), |sum, (i, _)| sum.saturating_sub(t.read(*i)))
        }
        // One row of the table for every id.
        Op::Embedding => t.all_but(&[1]).saturating_add(t.input_bytes(1, node.output_shape(0).len())),
        // A later contribution touches the rows of its ids only.
        Op::EmbeddingBackward { .. } if node.record().is_later(0) => t.read(0).saturating_add(t.read(1).saturating_mul(3)),
        Op::Attention(spec) => attention_bytes(t, &spec, 0, Some(5), live_keys),
        Op::AttentionBackward(spec) => attention_bytes(t, &spec, 1, None, live_keys),
        // The rows that are written, not the whole state.
        Op::CacheWrite => {
            let x = node.input_shape(0);
            t.read(1).saturating_add(t.reals(2 * x.rows() * node.output_shape(0).cols()))
        }
        Op::TokenSlice { .. } => t.written(0).saturating_mul(2),
        // In place, what is not turned is not touched.
        Op::Rotary(spec) if t.plan.value(node.record().input(0)) == t.plan.value(node.record().output(0)) => {
            t.read(1).saturating_add(t.reals(2 * rotated_len(t, &spec)))
        }
        Op::Reshape { .. } => 0,
        Op::GlobalNorm => t.reals(trainable),
        // Weights and two moments read and written, gradients read.
        Op::AdamW { len, .. } => t.reals(7 * len as usize),
        // Weights and perhaps a moment read and written, gradients read.
        Op::Sgd { len, momentum, .. } => t.reals(if momentum == Momentum::None { 3 } else { 5 } * len as usize),
        // The average read and written, weights read.
        Op::Ema { .. } => t.reals(3 * trainable),
        Op::Linear { .. }
        | Op::LayerNorm { .. }
        | Op::LayerNormBackward { .. }
        | Op::EmbeddingBackward { .. }
        | Op::HeadLoss { .. }
        | Op::HeadLossTrain { .. }
        | Op::HeadLossBackward { .. }
        | Op::Dropout { .. }
        | Op::Unary { .. }
        | Op::UnaryBackward { .. }
        | Op::Binary { .. }
        | Op::SelectBackward { .. }
        | Op::Broadcast { .. }
        | Op::Reduce { .. }
        | Op::ReduceMaxBackward { .. }
        | Op::TokenPad { .. }
        | Op::TokenConcat
        | Op::TokenReplace { .. }
        | Op::Rotary(_)
        | Op::CacheRead
        | Op::AccumulateGrad
        | Op::Constant { .. } => t.all(),
    }
}

/// Whole tensors but q, k and v, of which only the columns and the keys that count are read.
fn attention_bytes(
    t: &Tensors<'_>,
    spec: &AttentionSpec,
    first: usize,
    count_input: Option<usize>,
    live_keys: Option<usize>,
) -> u64 {
    let attended = t.attention(spec, first, count_input, live_keys);
    let columns = t.reals(attended.query_len + 2 * attended.key_len);
    t.all_but(&[first, first + 1, first + 2]).saturating_add(columns)
}
