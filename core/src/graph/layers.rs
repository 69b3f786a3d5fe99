//! One builder method per operation, and the small compositions that models are written in.

use super::builder::Graph;
use super::grad::Rule;
use super::op::{Activation, AttentionSpec, BinaryKind, Epsilon, Momentum, Op, Over, ReduceKind, UnaryKind};
use super::record::{Columns, Tensor};
use crate::params::Group;
use crate::shape::{MAX_RANK, Shape};

/// The optional inputs of attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionMask {
    /// Segment of every query (B, Tq) and of every key (B, Tk).
    pub segments: Option<(Tensor, Tensor)>,
    /// Live keys of every sequence (B).
    pub live: Option<Tensor>,
    /// Dropout control, see [`Graph::dropout`].
    pub dropout: Option<Tensor>,
}

impl AttentionMask {
    /// Nothing but what the [`AttentionSpec`] says.
    pub const NONE: Self = Self { segments: None, live: None, dropout: None };
}

/// Extents as attributes; those of an impossible shape have a rank that the shape rule refuses.
fn padded(extents: &[usize]) -> ([u32; MAX_RANK], u32) {
    Shape::new(extents).map_or(([1; MAX_RANK], u32::MAX), |shape| shape.padded())
}

/// An extent as an attribute; the shape rule refuses what does not fit.
fn extent(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn optional(t: Option<Tensor>) -> Columns {
    t.unwrap_or(Tensor::NONE).into()
}

impl Graph<'_> {
    /// x Wᵀ + b. x (…, K), W (N, K), b (N).
    #[track_caller]
    pub fn linear(&self, x: Tensor, w: Tensor, b: Option<Tensor>) -> Tensor {
        self.linear_with(x, w, b, Activation::None, None)
    }

    /// act(x Wᵀ + b) + residual. x (…, K), W (N, K), b (N), residual (…, N).
    #[track_caller]
    pub fn linear_with(
        &self,
        x: Tensor,
        w: Tensor,
        b: Option<Tensor>,
        activation: Activation,
        residual: Option<Tensor>,
    ) -> Tensor {
        let [y, ..] = self.push(Op::Linear { activation, slope: false }, &[x.into(), w.into(), optional(b), optional(residual)]);
        y
    }

    /// Layer norm over the last extent. x (…, C), w (C), b (C). Ba, Kiros, Hinton 2016.
    #[track_caller]
    pub fn layer_norm(&self, x: Tensor, w: Option<Tensor>, b: Option<Tensor>, eps: f64) -> Tensor {
        let [y, ..] = self.push(Op::LayerNorm { eps }, &[x.into(), optional(w), optional(b)]);
        y
    }

    /// Rows of a table, added to `addend` when given. ids (…) i32, table (V, C), result (…, C). Also gathers rows of an activation.
    #[track_caller]
    pub fn embedding(&self, ids: Tensor, table: Tensor, addend: Option<Tensor>) -> Tensor {
        let [y, ..] = self.push(Op::Embedding, &[ids.into(), table.into(), optional(addend)]);
        y
    }

    /// Multi-head attention. q (B, Tq, ·), k and v (B, Tk, ·), each read from its first column on; result (B, Tq, heads·head_dim).
    #[track_caller]
    pub fn attention(&self, spec: AttentionSpec, q: Columns, k: Columns, v: Columns, mask: AttentionMask) -> Tensor {
        let (q_segments, k_segments) = mask.segments.map_or((Tensor::NONE, Tensor::NONE), |s| s);
        let inputs = [q, k, v, q_segments.into(), k_segments.into(), optional(mask.live), optional(mask.dropout)];
        let [y, ..] = self.push(Op::Attention(spec), &inputs);
        y
    }

    /// Writes x (B, T, ·) into a state (B, Tmax, C), sequence b from token `starts[b]` on; returns the state as it is afterwards.
    #[track_caller]
    pub fn cache_write(&self, x: Columns, starts: Tensor, state: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::CacheWrite, &[x, starts.into(), state.into()]);
        y
    }

    /// A state (B, Tmax, C) of any element type as numbers, sequence b up to token `live[b]`; what comes after them is undefined.
    #[track_caller]
    pub fn cache_read(&self, state: Tensor, live: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::CacheRead, &[state.into(), live.into()]);
        y
    }

    /// Cross-entropy of softmax(x Wᵀ + b) against targets, per row; a negative target (−100 in PyTorch) gives 0. The logits of all rows never
    /// stand in memory together. x (…, C), W (V, C), b (V), targets (…), result (…).
    #[track_caller]
    pub fn head_loss(&self, x: Tensor, w: Tensor, b: Option<Tensor>, targets: Tensor, smoothing: f64) -> Tensor {
        let [y, ..] = self.push(Op::HeadLoss { smoothing }, &[x.into(), w.into(), optional(b), targets.into()]);
        y
    }

    /// `ln softmax(x Wᵀ + b)[target]` per row; 0 for a negative target.
    #[track_caller]
    pub fn token_logprob(&self, x: Tensor, w: Tensor, b: Option<Tensor>, targets: Tensor) -> Tensor {
        self.scale(self.head_loss(x, w, b, targets, 0.0), -1.0)
    }

    /// Zeroes elements with probability p and divides the others by 1 − p. `control` is (5) i32: seed (low, high), step, micro-batch, p·2²⁴.
    #[track_caller]
    pub fn dropout(&self, x: Tensor, control: Tensor) -> Tensor {
        let site = self.site();
        let [y, ..] = self.push(Op::Dropout { site }, &[x.into(), control.into()]);
        y
    }

    /// f(x) for a function with attributes.
    #[track_caller]
    pub fn unary(&self, kind: UnaryKind, a: f64, b: f64, x: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::Unary { kind, a, b }, &[x.into()]);
        y
    }

    /// a x.
    #[track_caller]
    pub fn scale(&self, x: Tensor, a: f64) -> Tensor {
        self.unary(UnaryKind::Scale, a, 0.0, x)
    }

    /// f(a, b), b spread over a.
    #[track_caller]
    pub fn binary(&self, kind: BinaryKind, over: Over, a: Tensor, b: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::Binary { kind, over }, &[a.into(), b.into()]);
        y
    }

    /// a + b of the same shape.
    #[track_caller]
    pub fn add(&self, a: Tensor, b: Tensor) -> Tensor {
        self.binary(BinaryKind::Add, Over::Same, a, b)
    }

    /// a b of the same shape.
    #[track_caller]
    pub fn mul(&self, a: Tensor, b: Tensor) -> Tensor {
        self.binary(BinaryKind::Mul, Over::Same, a, b)
    }

    /// A small tensor spread over a shape.
    #[track_caller]
    pub fn broadcast(&self, x: Tensor, over: Over, to: Shape) -> Tensor {
        let (dims, rank) = to.padded();
        let [y, ..] = self.push(Op::Broadcast { over, dims, rank }, &[x.into()]);
        y
    }

    /// Sum or maximum over everything that `over` lets fall together.
    #[track_caller]
    pub fn reduce(&self, kind: ReduceKind, over: Over, x: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::Reduce { kind, over }, &[x.into()]);
        y
    }

    /// The sum of all elements.
    #[track_caller]
    pub fn sum(&self, x: Tensor) -> Tensor {
        self.reduce(ReduceKind::Sum, Over::Scalar, x)
    }

    /// Tokens first..first+count of every sequence. x (B, T, C).
    #[track_caller]
    pub fn token_slice(&self, x: Tensor, first: usize, count: usize) -> Tensor {
        let [y, ..] = self.push(Op::TokenSlice { first: extent(first), count: extent(count) }, &[x.into()]);
        y
    }

    /// a (B, Ta, C) and then b (B, Tb, C).
    #[track_caller]
    pub fn token_concat(&self, a: Tensor, b: Tensor) -> Tensor {
        let [y, ..] = self.push(Op::TokenConcat, &[a.into(), b.into()]);
        y
    }

    /// x (B, T, C) with its tokens from `first` on replaced by p (B, P, C).
    #[track_caller]
    pub fn token_replace(&self, x: Tensor, p: Tensor, first: usize) -> Tensor {
        let [y, ..] = self.push(Op::TokenReplace { first: extent(first) }, &[x.into(), p.into()]);
        y
    }

    /// The same elements with another shape.
    #[track_caller]
    pub fn reshape(&self, x: Tensor, to: &[usize]) -> Tensor {
        let (dims, rank) = padded(to);
        let [y, ..] = self.push(Op::Reshape { dims, rank }, &[x.into()]);
        y
    }

    /// A tensor filled with one value.
    #[track_caller]
    pub fn constant(&self, value: f64, to: &[usize]) -> Tensor {
        let (dims, rank) = padded(to);
        let [y, ..] = self.push(Op::Constant { value, dims, rank }, &[]);
        y
    }

    /// ‖all gradients‖₂, (1).
    #[track_caller]
    pub fn global_norm(&self) -> Tensor {
        let [y, ..] = self.push(Op::GlobalNorm, &[]);
        y
    }

    /// Adam with decoupled weight decay on every trainable parameter; decay applies to the decay group only. Loshchilov and Hutter 2019.
    ///
    /// `hyper` (8): learning rate, β₁, β₂, ε, weight decay, 1 − β₁ᵗ, 1 − β₂ᵗ, largest norm (0 = no clipping); `norm` scales gradients as
    /// PyTorch's `clip_grad_norm_` does.
    #[track_caller]
    pub fn adamw(&self, hyper: Tensor, norm: Option<Tensor>, epsilon: Epsilon) {
        self.update_groups(Rule::AdamW(epsilon), hyper, norm);
    }

    /// Stochastic gradient descent with momentum β₁ on every trainable parameter, as PyTorch's `SGD`. `hyper` as for [`Graph::adamw`].
    #[track_caller]
    pub fn sgd(&self, hyper: Tensor, norm: Option<Tensor>, momentum: Momentum) {
        self.update_groups(Rule::Sgd(momentum), hyper, norm);
    }

    /// One update of each group.
    #[track_caller]
    fn update_groups(&self, rule: Rule, hyper: Tensor, norm: Option<Tensor>) {
        self.needs_moments(rule.moments());
        for group in [Group::Decay, Group::NoDecay] {
            self.push(rule.op(self.group_range(group), group), &[hyper.into(), optional(norm)]);
        }
    }

    /// Moving average of all trainable parameters in moment buffer `slot`: e = d e + (1 − d) w with d = `decay` (1).
    #[track_caller]
    pub fn ema(&self, decay: Tensor, slot: usize) {
        self.needs_moments(slot.saturating_add(1));
        self.push(Op::Ema { slot: slot as u32 }, &[decay.into()]);
    }

    /// The elements of a group in the flat trainable buffer.
    fn group_range(&self, group: Group) -> core::ops::Range<usize> {
        let mut range = 0..0;
        self.with(core::panic::Location::caller(), |inner| {
            range = inner.params.group_range(group);
            Ok(())
        });
        range
    }

    #[track_caller]
    pub(super) fn needs_moments(&self, count: usize) {
        self.with(core::panic::Location::caller(), |inner| {
            inner.info.moments = inner.info.moments.max(count as u32);
            Ok(())
        });
    }
}
