//! Multi-head attention with one mask mechanism, see [`AttentionSpec`].
//!
//! Forward: s = scale q kᵀ over the keys that the mask allows, p = softmax(s), o = p v; only ln Σ eˢ is saved. A query without keys gives 0.
//! Backward (Dao 2022, the flash form): p = e^(s − lse), D = do·o, dv += pᵀ do, ds = p (do vᵀ − D), dq = scale ds k, dk = scale dsᵀ q.
//! Dropout multiplies p by a mask drawn from (seed, step, micro-batch, site, element) after the softmax, so that the backward pass draws it again.

use super::dropout::Mask;
use super::{axpy, begin, dot, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::op::AttentionSpec;
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the kernels of this file to a table.
pub fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    let spec = AttentionSpec { heads: 1, kv_heads: 1, head_dim: 1, causal: false, window: 0, scale: 1.0, site: 0 };
    table
        .with(Op::Attention(spec).opcode(), Kernel { run: forward, scratch_len })
        .with(Op::AttentionBackward(spec).opcode(), Kernel { run: backward, scratch_len: super::no_scratch })
}

/// One row of scores.
fn scratch_len(node: &Node<'_>) -> usize {
    node.input_shape(1).dim(1)
}

/// Where rows of q, k, v lie, and what the mask allows.
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
    /// Row lengths of the tensors that hold q, k, v.
    pub row_len: [usize; 3],
    /// First columns of q, k, v in them.
    pub column: [usize; 3],
    /// Segments of queries (B, Tq) and keys (B, Tk); empty for none.
    pub segments: [&'a [i32]; 2],
    /// Live keys (B); empty for all.
    pub live: &'a [i32],
}

impl<'a> Layout<'a> {
    /// The layout of a node whose q is input `first`, with the segments from `segments` on.
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

    /// Where head `h` of row `t` of sequence `b` begins in q (0), k (1) or v (2).
    pub fn start(&self, which: usize, b: usize, t: usize, h: usize) -> usize {
        let rows = if which == 0 { self.queries } else { self.keys };
        let row_len = self.row_len.get(which).copied().unwrap_or(0);
        let column = self.column.get(which).copied().unwrap_or(0);
        (b * rows + t) * row_len + column + h * self.spec.head_dim as usize
    }

    /// The keys that position alone allows query `t` of sequence `b` to see: `from..to`.
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

    /// Whether there are segments at all.
    pub fn has_segments(&self) -> bool {
        let [queries, _] = self.segments;
        !queries.is_empty()
    }

    /// The number of the probability of (b, h, t, j), for dropout.
    pub fn element(&self, b: usize, h: usize, t: usize, j: usize) -> u64 {
        (((b * self.spec.heads as usize + h) * self.queries + t) * self.keys + j) as u64
    }
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Attention(spec)) = node.op() else { return };
    let [q, k, v, ..] = views.inputs;
    let [_, _, _, q_segments, k_segments, live, control, ..] = views.ints;
    let [o, lse, _] = views.outputs;
    let layout = Layout::new(node, spec, 0, [q_segments, k_segments], live);
    let mask = Mask::new(control, spec.site);
    let (heads, dim) = (spec.heads as usize, spec.head_dim as usize);
    let scale = R::from_f64(spec.scale);
    let scores = views.scratch; // (Tk)
    for b in 0..layout.batch {
        for h in 0..heads {
            for t in 0..layout.queries {
                let query = part(q, layout.start(0, b, t, h), dim);
                let (from, to) = layout.span(b, t);
                let mut max = R::NEG_INFINITY;
                for (j, score) in scores.iter_mut().enumerate().take(to).skip(from) {
                    let key = part(k, layout.start(1, b, j, layout.kv_head(h)), dim);
                    *score = if layout.same_segment(b, t, j) { dot(query, key) * scale } else { R::NEG_INFINITY };
                    max = max.max(*score);
                }
                let out = part_mut(o, ((b * layout.queries + t) * heads + h) * dim, dim);
                out.fill(R::ZERO);
                let mut sum = R::ZERO;
                for (j, score) in scores.iter().enumerate().take(to).skip(from).filter(|(_, s)| **s > R::NEG_INFINITY) {
                    let p = (*score - max).exp();
                    sum += p;
                    let value = part(v, layout.start(2, b, j, layout.kv_head(h)), dim);
                    axpy(out, p * mask.factor(layout.element(b, h, t, j)), value);
                }
                if sum > R::ZERO {
                    out.iter_mut().for_each(|x| *x /= sum);
                }
                if let Some(lse) = lse.get_mut((b * heads + h) * layout.queries + t) {
                    *lse = if sum > R::ZERO { max + sum.ln() } else { R::NEG_INFINITY };
                }
            }
        }
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
