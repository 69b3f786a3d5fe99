//! Multi-head attention with one mask mechanism, see [`AttentionSpec`].
//!
//! Forward: s = scale q kᵀ over the unmasked keys, p = softmax(s), o = p v; only ln Σ eˢ is saved. A query without keys gives 0.
//! Backward (Dao 2022, the flash form): p = e^(s − lse), D = do·o, dv += pᵀ do, ds = p (do vᵀ − D), dq = scale ds k, dk = scale dsᵀ q.
//! Dropout multiplies p by a mask drawn from (seed, step, micro-batch, site, element) after the softmax, so that the backward pass draws the same
//! mask.

use core::ops::Range;

use super::dropout::Mask;
use super::weight::dtype;
use super::{axpy, begin, dot, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::rules::without_dropout;
use crate::graph::{AttentionSpec, DType, Node, Op};
use crate::math::Real;
use crate::quant::read_row;
use crate::threads::Threads;

const SPEC: AttentionSpec = AttentionSpec { heads: 1, kv_heads: 1, head_dim: 1, causal: false, window: 0, scale: 1.0, site: 0 };

const ATTENTION: u8 = Op::Attention(SPEC).opcode();

/// Adds the forward kernel to a table, without what only training needs: dropout, and ln Σ eˢ.
pub const fn inference<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table.define_by::<ATTENTION>(without_dropout::<ATTENTION>, Kernel { run: attend::<R, false>, scratch_len })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const BACKWARD: u8 = Op::AttentionBackward(SPEC).opcode();
    table
        .define::<ATTENTION>(Kernel { run: forward, scratch_len })
        .define::<BACKWARD>(Kernel { run: backward, scratch_len: super::no_scratch })
}

/// Whether keys or values are of an element type other than `R`: only this file's forward kernel supports that.
pub fn reads_stored(node: &Node<'_>) -> bool {
    dtype(node, 1) != DType::Real || dtype(node, 2) != DType::Real
}

/// Scratch: a score per key and head, a sum per head, and a converted row of keys or values if they are not of type `R`.
pub fn scratch_len(node: &Node<'_>) -> usize {
    let heads = match node.op() {
        Some(Op::Attention(spec)) => spec.heads as usize,
        _ => 0,
    };
    let row = |i: usize| if dtype(node, i) == DType::Real { 0 } else { node.input_shape(i).cols() };
    heads.saturating_mul(node.input_shape(1).dim(1).saturating_add(1)).saturating_add(row(1).max(row(2)))
}

/// The positions of rows of q, k, v, and the mask.
#[derive(Clone, Copy)]
pub struct Layout<'a> {
    /// The node's attributes.
    pub spec: AttentionSpec,
    /// Sequences.
    pub batch: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys of a sequence.
    pub keys: usize,
    /// Row lengths of the tensors that contain q, k, v.
    pub row_len: [usize; 3],
    /// First columns of q, k, v in them.
    pub column: [usize; 3],
    /// Segments of queries (B, Tq) and keys (B, Tk); empty for none.
    pub segments: [&'a [i32]; 2],
    /// Live keys (B); empty for all.
    pub live: &'a [i32],
}

impl<'a> Layout<'a> {
    /// The layout of a node whose q is input `first` and whose segments begin at input `segments`.
    pub fn new(node: &Node<'_>, spec: AttentionSpec, first: usize, segments: [&'a [i32]; 2], live: &'a [i32]) -> Self {
        let inputs = [first, first + 1, first + 2];
        let (q, k) = (node.input_shape(first), node.input_shape(first + 1));
        Self {
            spec,
            batch: q.dim(0),
            queries: q.dim(1),
            keys: k.dim(1),
            row_len: inputs.map(|i| node.input_shape(i).cols()),
            column: inputs.map(|i| node.column(i)),
            segments,
            live,
        }
    }

    /// The key head that query head `h` reads.
    pub fn kv_head(&self, h: usize) -> usize {
        let group = (self.spec.heads / self.spec.kv_heads.max(1)).max(1) as usize;
        h / group
    }

    /// The start of head `h` of row `t` of sequence `b` in q (0), k (1) or v (2).
    pub fn start(&self, which: usize, b: usize, t: usize, h: usize) -> usize {
        let rows = if which == 0 { self.queries } else { self.keys };
        let row_len = self.row_len.get(which).copied().unwrap_or(0);
        (b * rows + t) * row_len + self.head_column(which, h)
    }

    /// The first column of head `h` in a row of q (0), k (1) or v (2).
    pub fn head_column(&self, which: usize, h: usize) -> usize {
        self.column.get(which).copied().unwrap_or(0) + h * self.spec.head_dim as usize
    }

    /// The keys that the position of query `t` of sequence `b` permits: `from..to`.
    pub fn span(&self, b: usize, t: usize) -> (usize, usize) {
        let live = self.live.get(b).map_or(self.keys, |&n| (n.max(0) as usize).min(self.keys));
        self.spec.span(live, self.queries, t)
    }

    /// Whether the segments of query `t` and key `j` of sequence `b` agree.
    pub fn same_segment(&self, b: usize, t: usize, j: usize) -> bool {
        let [queries, keys] = self.segments;
        match (queries.get(b * self.queries + t), keys.get(b * self.keys + j)) {
            (Some(&q), Some(&k)) => q == k && q >= 0,
            _ => true,
        }
    }

    /// Whether there are segment ids.
    pub fn has_segments(&self) -> bool {
        let [queries, _] = self.segments;
        !queries.is_empty()
    }

    /// The index of the probability of (b, h, t, j), for dropout.
    pub fn element(&self, b: usize, h: usize, t: usize, j: usize) -> u64 {
        (((b * self.spec.heads as usize + h) * self.queries + t) * self.keys + j) as u64
    }
}

/// The forward pass.
pub fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, threads: &dyn Threads) {
    attend::<R, true>(node, views, threads);
}

/// Reads keys row by row, and then values: each row once for all heads, because it may need conversion.
fn attend<R: Real, const TRAINING: bool>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Attention(spec)) = node.op() else { return };
    let [q, ..] = views.inputs;
    let [_, _, _, q_segments, k_segments, live, control, ..] = views.ints;
    let [o, lse, _] = views.outputs;
    let layout = Layout::new(node, spec, 0, [q_segments, k_segments], live);
    let (keys, values) = (Rows::new(node, &views.inputs, 1), Rows::new(node, &views.inputs, 2));
    let mask = TRAINING.then(|| Mask::new(control, spec.site));
    let (heads, dim, scale) = (spec.heads as usize, spec.head_dim as usize, R::from_f64(spec.scale));
    let Some((scores, rest)) = views.scratch.split_at_mut_checked(heads * layout.keys) else { return }; // (Tk, H)
    let Some((sums, row)) = rest.split_at_mut_checked(heads) else { return }; // (H)
    for (b, t) in (0..layout.batch).flat_map(|b| (0..layout.queries).map(move |t| (b, t))) {
        let (from, to) = layout.span(b, t);
        for j in from..to {
            let scores = part_mut(scores, j * heads, heads); // (H)
            if !layout.same_segment(b, t, j) {
                scores.fill(R::NEG_INFINITY);
                continue;
            }
            let key = keys.read(b * layout.keys + j, row);
            for (h, score) in scores.iter_mut().enumerate() {
                let query = part(q, layout.start(0, b, t, h), dim);
                *score = dot(query, part(key, layout.head_column(1, layout.kv_head(h)), dim)) * scale;
            }
        }
        let out = part_mut(o, (b * layout.queries + t) * heads * dim, heads * dim); // (H, D)
        out.fill(R::ZERO);
        for (h, sum) in sums.iter_mut().enumerate() {
            let max;
            (max, *sum) = exponentials(scores, heads, h, from..to);
            if TRAINING && let Some(lse) = lse.get_mut((b * heads + h) * layout.queries + t) {
                *lse = if *sum > R::ZERO { max + sum.ln() } else { R::NEG_INFINITY };
            }
        }
        for j in (from..to).filter(|&j| layout.same_segment(b, t, j)) {
            let value = values.read(b * layout.keys + j, row);
            for (h, (&p, out)) in part(scores, j * heads, heads).iter().zip(out.chunks_exact_mut(dim.max(1))).enumerate() {
                let value = part(value, layout.head_column(2, layout.kv_head(h)), dim);
                let kept = mask.map_or(R::ONE, |mask| mask.factor(layout.element(b, h, t, j)));
                axpy(out, p * kept, value);
            }
        }
        for (out, &sum) in out.chunks_exact_mut(dim.max(1)).zip(&*sums).filter(|(_, sum)| **sum > R::ZERO) {
            out.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

/// Replaces the scores of one head (stride `heads`) by e^(s − max); returns the maximum and the sum of the exponentials.
fn exponentials<R: Real>(scores: &mut [R], heads: usize, h: usize, keys: Range<usize>) -> (R, R) {
    let own = part_mut(scores, keys.start * heads, keys.len() * heads);
    let max = own.iter().skip(h).step_by(heads.max(1)).fold(R::NEG_INFINITY, |max, &s| max.max(s));
    let mut sum = R::ZERO;
    for score in own.iter_mut().skip(h).step_by(heads.max(1)) {
        // Without any key the maximum is −∞ as well.
        *score = if *score > R::NEG_INFINITY { (*score - max).exp() } else { R::ZERO };
        sum += *score;
    }
    (max, sum)
}

/// Rows of keys or values, of any element type.
struct Rows<'a, R> {
    dtype: DType,
    data: &'a [R],
    cols: usize,
    row_bytes: usize,
}

impl<'a, R: Real> Rows<'a, R> {
    /// Input `i` of a node.
    fn new(node: &Node<'_>, inputs: &[&'a [R]], i: usize) -> Self {
        let (dtype, cols) = (dtype(node, i), node.input_shape(i).cols());
        let row_bytes = dtype.bytes(cols, size_of::<R>()).unwrap_or(0);
        Self { dtype, data: inputs.get(i).copied().unwrap_or(&[]), cols, row_bytes }
    }

    /// Row `i` (C), converted into `scratch` if it is not of type `R`.
    fn read<'s>(&self, i: usize, scratch: &'s mut [R]) -> &'s [R]
    where
        'a: 's,
    {
        if self.dtype == DType::Real {
            return part(self.data, i * self.cols, self.cols);
        }
        let bytes: &[u8] = bytemuck::try_cast_slice(self.data).unwrap_or(&[]);
        read_row(self.dtype, part(bytes, i * self.row_bytes, self.row_bytes), scratch);
        scratch
    }
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::AttentionBackward(spec)) = node.op() else { return };
    let [d_o, q, k, v, o, lse, ..] = views.inputs;
    let [_, _, _, _, _, _, q_segments, k_segments, control, _] = views.ints;
    let mut outputs = views.outputs;
    let layout = Layout::new(node, spec, 1, [q_segments, k_segments], &[]);
    let [dq_out, dk_out, dv_out] = node.record().attention_grad_outputs();
    let mask = Mask::new(control, spec.site);
    let (heads, dim) = (spec.heads as usize, spec.head_dim as usize);
    let scale = R::from_f64(spec.scale);
    for (out, &accumulate) in outputs.iter_mut().zip(&views.accumulate) {
        begin(out, accumulate);
    }
    let mut add = |which: usize, start: usize, a: R, x: &[R]| {
        if let Some(out) = outputs.get_mut(which) {
            axpy(part_mut(out, start, dim), a, x);
        }
    };
    for b in 0..layout.batch {
        for h in 0..heads {
            let kv = layout.kv_head(h);
            for t in 0..layout.queries {
                let row = ((b * layout.queries + t) * heads + h) * dim;
                let (d_out, out) = (part(d_o, row, dim), part(o, row, dim));
                let at_q = layout.start(0, b, t, h);
                let query = part(q, at_q, dim);
                let log_sum = lse.get((b * heads + h) * layout.queries + t).copied().unwrap_or(R::ZERO);
                let delta = dot(d_out, out);
                let (from, to) = layout.span(b, t);
                for j in (from..to).filter(|&j| layout.same_segment(b, t, j)) {
                    let (at_k, at_v) = (layout.start(1, b, j, kv), layout.start(2, b, j, kv));
                    let (key, value) = (part(k, at_k, dim), part(v, at_v, dim));
                    let p = (dot(query, key) * scale - log_sum).exp();
                    let factor = mask.factor(layout.element(b, h, t, j));
                    let ds = p * (factor * dot(d_out, value) - delta) * scale;
                    add(dv_out, at_v, p * factor, d_out);
                    add(dq_out, at_q, ds, key);
                    add(dk_out, at_k, ds, query);
                }
            }
        }
    }
}
