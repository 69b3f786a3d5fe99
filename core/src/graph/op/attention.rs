//! Multi-head attention.

use super::super::adjoint::Step;
use super::super::args::{Arg, Args, Outputs, shape3};
use super::super::attribute::AttentionSpec;
use super::super::builder::Graph;
use super::super::error::GraphErrorKind as E;
use super::super::family::{Differentiable, Operation};
use super::super::record::attention_grad_outputs;
use super::super::tape::Tape;
use super::super::tensor::{Columns, Tensor};
use super::super::work::{Work, product};
use super::{MAX_OUTPUTS, Op, of};
use crate::shape::Shape;

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
    /// Only the mask of the [`AttentionSpec`].
    pub const NONE: Self = Self { segments: None, live: None, dropout: None };
}

impl Graph<'_> {
    /// Multi-head attention, softmax(scale q kᵀ + mask) v. q (B, Tq, ·), k and v (B, Tk, ·), each read from its first column on; result (B, Tq,
    /// heads·head_dim).
    #[track_caller]
    pub fn attention(&self, spec: AttentionSpec, q: Columns, k: Columns, v: Columns, mask: AttentionMask) -> Tensor {
        let (q_segments, k_segments) = mask.segments.map_or((Tensor::NONE, Tensor::NONE), |s| s);
        let inputs = [q, k, v, q_segments.into(), k_segments.into(), mask.live.into(), mask.dropout.into()];
        let [y, ..] = self.push(Op::Attention(spec), &inputs);
        y
    }

    /// The mean over the tokens of every sequence: attention with equal scores. x (B, T, C); result (B, 1, C).
    #[track_caller]
    pub fn token_mean(&self, x: Tensor) -> Tensor {
        let shape = self.shape(x);
        let [batch, tokens, width] = [0, 1, 2].map(|i| shape.dim(i));
        let (query, keys) = (self.constant(0.0, &[batch, 1, width]), self.constant(0.0, &[batch, tokens, width]));
        let head_dim = u32::try_from(width).unwrap_or(u32::MAX);
        let spec = AttentionSpec { heads: 1, kv_heads: 1, head_dim, causal: false, window: 0, scale: 1.0, site: 0 };
        self.attention(spec, query.into(), keys.into(), x.into(), AttentionMask::NONE)
    }
}

/// (B, Tq, Tk) after checking q, k, v from input `first` on.
fn extents<F: From<E>>(args: &Args<'_, F>, first: usize, spec: &AttentionSpec) -> Result<[usize; 3], F> {
    let (q, [b, tq, _]) = args.tokens(first)?;
    let (k, [_, tk, k_cols]) = args.tokens_of(first + 1)?;
    let (v, [_, _, v_cols]) = args.tokens_of(first + 2)?;
    if spec.heads == 0 || spec.kv_heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
        return Err(F::from(E::Attribute { name: "kv_heads", value: f64::from(spec.kv_heads) }));
    }
    if spec.head_dim == 0 {
        return Err(F::from(E::Attribute { name: "head_dim", value: 0.0 }));
    }
    args.expect(first + 1, k, shape3(b, tk, k_cols)?)?;
    args.expect(first + 2, v, shape3(b, tk, v_cols)?)?;
    for (arg, heads) in [(q, spec.heads), (k, spec.kv_heads), (v, spec.kv_heads)] {
        let count = heads.saturating_mul(spec.head_dim);
        if arg.column.saturating_add(count) as usize > arg.shape.cols() {
            return Err(F::from(E::Columns { first: arg.column, count, cols: arg.shape.cols() as u32 }));
        }
    }
    Ok([b, tq, tk])
}

/// Checks that query and key segments are both present or both absent.
fn segments<F: From<E>>(args: &Args<'_, F>, first: usize, b: usize, tq: usize, tk: usize) -> Result<(), F> {
    let there = |i: usize| args.get(i).is_some();
    if there(first) != there(first + 1) {
        let input = if there(first) { first as u8 + 1 } else { first as u8 };
        return Err(F::from(E::MissingInput { input }));
    }
    args.optional_ints(first, Shape::new(&[b, tq]).ok_or(F::from(E::ShapeTooLarge))?)?;
    args.optional_ints(first + 1, Shape::new(&[b, tk]).ok_or(F::from(E::ShapeTooLarge))?)
}

impl Operation for of::Attention {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let spec = &self.spec;
        let [b, tq, tk] = extents(args, 0, spec)?;
        segments(args, 3, b, tq, tk)?;
        args.optional_ints(5, Shape::new(&[b]).ok_or(F::from(E::ShapeTooLarge))?)?;
        if args.get(6).is_some() {
            args.control(6)?;
        }
        let cols = spec.heads as usize * spec.head_dim as usize;
        Ok([Some(shape3(b, tq, cols)?), Some(shape3(b, spec.heads as usize, tq)?), None])
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        // q kᵀ and p v.
        Attended::new(work, &self.spec, 0, Some(5)).pairs.saturating_mul(4 * u64::from(self.spec.head_dim))
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        Attended::new(work, &self.spec, 0, Some(5)).bytes(work, 0)
    }
}

impl Differentiable for of::Attention {
    fn gradient(self, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
        let [q, k, v, q_segments, k_segments, live, control] = [0, 1, 2, 3, 4, 5, 6].map(|i| step.input(i));
        if live.is_some() {
            return Err(E::NoGradientThroughLiveLengths);
        }
        let dy = tape.upstream(step, 0)?;
        let o = tape.saved(step.output(0))?;
        let lse = tape.saved(step.output(1))?;
        let mut inputs = [dy, q, k, v, o, lse, q_segments, k_segments, control].map(Columns::from);
        let columns = [0, 1, 2].map(|i| step.node.columns.get(i).copied().unwrap_or(0));
        for (input, first) in inputs.iter_mut().skip(1).zip(columns) {
            *input = Columns { tensor: tape.saved(input.tensor)?, first };
        }
        let outputs = tape.push(Op::AttentionBackward(self.spec), &inputs, [true; MAX_OUTPUTS])?;
        let slots = attention_grad_outputs(q, k, v);
        let mut done = [false; MAX_OUTPUTS];
        for (slot, t) in slots.into_iter().zip([q, k, v]) {
            if let (Some(&out), Some(done)) = (outputs.get(slot), done.get_mut(slot))
                && !core::mem::replace(done, true)
            {
                tape.contribute(t, out)?;
            }
        }
        Ok(())
    }
}

impl Operation for of::AttentionBackward {
    fn shapes<F: From<E>>(self, args: &Args<'_, F>) -> Result<Outputs, F> {
        let spec = &self.spec;
        let [b, tq, tk] = extents(args, 1, spec)?;
        let (q, k, v) = (args.real(1)?, args.real(2)?, args.real(3)?);
        let cols = spec.heads as usize * spec.head_dim as usize;
        args.expect(0, args.real(0)?, shape3(b, tq, cols)?)?;
        args.expect(4, args.real(4)?, shape3(b, tq, cols)?)?;
        args.expect(5, args.real(5)?, shape3(b, spec.heads as usize, tq)?)?;
        segments(args, 6, b, tq, tk)?;
        if args.get(8).is_some() {
            args.control(8)?;
        }
        packed_gradients([(q, spec.heads), (k, spec.kv_heads), (v, spec.kv_heads)], spec.head_dim as usize)
    }

    fn flops(self, work: &Work<'_>) -> u64 {
        // q kᵀ again, dO vᵀ, pᵀ dO, dS k, dSᵀ q.
        Attended::new(work, &self.spec, 1, None).pairs.saturating_mul(10 * u64::from(self.spec.head_dim))
    }

    fn bytes(self, work: &Work<'_>) -> u64 {
        Attended::new(work, &self.spec, 1, None).bytes(work, 1)
    }
}

/// The gradients of the distinct tensors among q, k, v, each with its heads. Every column must be read exactly once, because its gradient is written
/// once.
fn packed_gradients<F: From<E>>(parts: [(&Arg, u32); 3], head_dim: usize) -> Result<Outputs, F> {
    let [q, k, v] = parts;
    let slots = attention_grad_outputs(q.0.tensor, k.0.tensor, v.0.tensor);
    let mut outputs = [None; MAX_OUTPUTS];
    let mut covered = [0usize; MAX_OUTPUTS];
    let columns = |(arg, heads): (&Arg, u32)| {
        let first = arg.column as usize;
        first..first.saturating_add(heads as usize * head_dim)
    };
    for (slot, part) in slots.iter().zip(parts) {
        if let (Some(out), Some(cols)) = (outputs.get_mut(*slot), covered.get_mut(*slot)) {
            *out = Some(part.0.shape);
            *cols = cols.saturating_add(columns(part).len());
        }
    }
    let overlap = |a: (&Arg, u32), b: (&Arg, u32)| {
        a.0.tensor == b.0.tensor && columns(a).start < columns(b).end && columns(b).start < columns(a).end
    };
    if overlap(q, k) || overlap(q, v) || overlap(k, v) {
        return Err(F::from(E::ColumnsNotCovered));
    }
    let all = outputs.iter().zip(&covered).all(|(out, &cols)| out.is_none_or(|s: Shape| s.cols() == cols));
    if all { Ok(outputs) } else { Err(F::from(E::ColumnsNotCovered)) }
}

/// The inputs of attention.
struct Attended {
    /// Pairs of a query and a key over all heads.
    pairs: u64,
    /// Elements of q.
    query_len: usize,
    /// Elements of k that are read; the same for v.
    key_len: usize,
}

impl Attended {
    /// q is input `first`; live keys are counted by input `count_input` if it is present.
    fn new(work: &Work<'_>, spec: &AttentionSpec, first: usize, count_input: Option<usize>) -> Self {
        let (q, k) = (work.node.input_shape(first), work.node.input_shape(first.saturating_add(1)));
        let (batch, queries, keys) = (q.dim(0), q.dim(1), k.dim(1));
        let (heads, dim) = (spec.heads as usize, spec.head_dim as usize);
        let counted = count_input.is_some_and(|i| work.node.has_input(i));
        let live = if counted { work.live_keys.unwrap_or(keys).min(keys) } else { keys };
        let spans =
            (0..queries).map(|t| spec.span(live, queries, t)).fold(0usize, |sum, (from, to)| sum.saturating_add(to - from));
        Self {
            pairs: product(&[batch, heads, spans]),
            query_len: batch * queries * heads * dim,
            key_len: batch * live * spec.kv_heads as usize * dim,
        }
    }

    /// Bytes of whole tensors, except for q, k and v: of these only the columns and live keys that are read.
    fn bytes(&self, work: &Work<'_>, first: usize) -> u64 {
        let columns = work.reals(self.query_len + 2 * self.key_len);
        work.all_but(&[first, first + 1, first + 2]).saturating_add(columns)
    }
}
