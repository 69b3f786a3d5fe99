//! Attention over tasks of heads: see `samara_core::ops::attention` for formulas, shapes and masks.
//!
//! A task takes one head after another (in the backward pass one key head with all its query heads). Keys, and for gradients values, are packed
//! transposed once a head; then blocks of queries make their scores against the keys that their masks reach, the softmax runs along rows in
//! place, and the products with values, keys and queries read those where they lie.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{AttentionSpec, Node, Op};
use samara_core::math::fast;
use samara_core::ops::attention::Layout;
use samara_core::ops::dropout::Mask;
use samara_core::threads::Threads;

use super::block::{Left, Right, WIDTH, multiply, pack_transposed};
use super::per_task;
use super::simd::{LANES, combine, max, simd, sum_by};
use crate::tiles::{Grid, Tile, for_each_item};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    let spec = AttentionSpec { heads: 1, kv_heads: 1, head_dim: 1, causal: false, window: 0, scale: 1.0, site: 0 };
    table
        .with(Op::Attention(spec).opcode(), Kernel { run: forward, scratch_len: forward_scratch })
        .with(Op::AttentionBackward(spec).opcode(), Kernel { run: backward, scratch_len: backward_scratch })
}

/// Queries whose scores stand in memory together.
const QUERIES: usize = 16;

/// How the work is cut, and where things are.
#[derive(Clone, Copy)]
struct Cut<'a> {
    layout: Layout<'a>,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    scale: f32,
    /// Keys rounded up to whole panels.
    padded: usize,
    mask: Mask,
}

impl<'a> Cut<'a> {
    fn new(layout: Layout<'a>, control: &[i32]) -> Self {
        let spec = layout.spec;
        Self {
            layout,
            heads: spec.heads as usize,
            kv_heads: spec.kv_heads as usize,
            dim: spec.head_dim as usize,
            scale: spec.scale as f32,
            padded: layout.keys.next_multiple_of(WIDTH),
            mask: Mask::new(control, spec.site),
        }
    }

    /// Items and how many of them a task takes, when `products` small products are made for every item.
    fn tasks(&self, items: usize, products: usize) -> (usize, usize) {
        (items, per_task(items, self.layout.queries * self.layout.keys * self.dim * products / 8))
    }

    /// Elements of packed keys, or of packed values.
    fn packed_len(&self) -> usize {
        self.padded * self.dim
    }

    /// Elements of a block of scores.
    fn scores_len(&self) -> usize {
        QUERIES * self.padded
    }

    /// The keys that queries `first..first + count` reach together.
    fn reach(&self, b: usize, first: usize, count: usize) -> (usize, usize) {
        let spans = (first..first + count).map(|t| self.layout.span(b, t)).filter(|(from, to)| from < to);
        spans.reduce(|(f, t), (from, to)| (f.min(from), t.max(to))).unwrap_or((0, 0))
    }

    /// Rows of q (0), k (1) or v (2) from row `t` of head `h` on.
    fn rows<'x>(&self, which: usize, x: &'x [f32], b: usize, t: usize, h: usize) -> Right<'x> {
        Right { data: x.get(self.layout.start(which, b, t, h)..).unwrap_or_default(), ld: self.layout.row_len[which] }
    }

    /// Rows of o or its gradient (B, Tq, heads·dim) from row `t` of head `h` on.
    fn out_rows<'x>(&self, x: &'x [f32], b: usize, t: usize, h: usize) -> Right<'x> {
        let ld = self.heads * self.dim;
        Right { data: x.get((b * self.layout.queries + t) * ld + h * self.dim..).unwrap_or_default(), ld }
    }

    /// Packs the keys or values that a sequence's queries reach.
    fn pack(&self, rows: Right<'_>, (from, to): (usize, usize), packed: &mut [f32]) {
        let from = from / WIDTH * WIDTH;
        let data = rows.data.get(from * rows.ld..).unwrap_or_default();
        pack_transposed(Right { data, ..rows }, to - from, self.dim, &mut packed[from * self.dim..]);
    }

    /// scores (count, padded) = rows · packedᵀ for keys from..to, `from` at the beginning of a panel.
    fn scores(&self, rows: Right<'_>, count: usize, packed: &[f32], (from, to): (usize, usize), scores: &mut [f32]) {
        let mut scores = Tile::new(scores, count, self.padded, self.padded);
        let left = Left { data: rows.data, row_stride: rows.ld, k_stride: 1 };
        let panels = packed[from * self.dim..].chunks_exact(WIDTH * self.dim);
        for (key, panel) in (from..to).step_by(WIDTH).zip(panels) {
            multiply([count, WIDTH, self.dim], left, Right { data: panel, ld: WIDTH }, &mut scores, [0, key], false);
        }
    }

    /// Multiplies probabilities of keys from.. of one query by their dropout factors.
    fn drop(&self, b: usize, h: usize, t: usize, from: usize, p: &mut [f32]) {
        if self.mask.is_off() {
            return;
        }
        let (first, scale) = (self.layout.element(b, h, t, from), self.mask.scale() as f32);
        let skip = (first % 4) as usize;
        let mut block = (first / 4) as u32;
        let (head, rest) = p.split_at_mut(((4 - skip) % 4).min(p.len()));
        if !head.is_empty() {
            apply_dropped(&self.mask.dropped(block)[skip..], scale, head);
            block = block.wrapping_add(1);
        }
        for p in rest.chunks_mut(4) {
            apply_dropped(&self.mask.dropped(block), scale, p);
            block = block.wrapping_add(1);
        }
    }

    /// Sets what the segments of query `t` and keys from.. forbid to `value`.
    fn forbid(&self, b: usize, t: usize, from: usize, scores: &mut [f32], value: f32) {
        if !self.layout.has_segments() {
            return;
        }
        for (j, score) in scores.iter_mut().enumerate() {
            if !self.layout.same_segment(b, t, from + j) {
                *score = value;
            }
        }
    }
}

fn apply_dropped(dropped: &[bool], scale: f32, p: &mut [f32]) {
    for (p, &dropped) in p.iter_mut().zip(dropped) {
        *p = if dropped { 0.0 } else { *p * scale };
    }
}

/// Packed keys and a block of scores for every task.
fn forward_scratch(node: &Node<'_>) -> usize {
    let Some(Op::Attention(spec)) = node.op() else { return 0 };
    let cut = Cut::new(Layout::new(node, spec, 0, [&[], &[]], &[]), &[]);
    let (items, per_task) = cut.tasks(cut.layout.batch * cut.heads, 2);
    items.div_ceil(per_task) * (cut.packed_len() + cut.scores_len())
}

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Attention(spec)) = node.op() else { return };
    let [q, k, v, ..] = views.inputs;
    let [_, _, _, q_segments, k_segments, live, control, ..] = views.ints;
    let [o, lse, _] = views.outputs;
    let cut = Cut::new(Layout::new(node, spec, 0, [q_segments, k_segments], live), control);
    let (items, queries, dim) = (cut.layout.batch * cut.heads, cut.layout.queries, cut.dim);
    let cols = cut.heads * dim;
    let grids = [
        Grid { matrix: Tile::new(o, cut.layout.batch * queries, cols, cols), tile_rows: queries, tile_cols: dim },
        Grid { matrix: Tile::new(lse, items, queries, queries), tile_rows: 1, tile_cols: queries },
    ];
    let scratch = (views.scratch, cut.packed_len() + cut.scores_len());
    for_each_item(threads, cut.tasks(items, 2), grids, scratch, &|item, [o, mut lse], scratch| {
        let (keys, scores) = scratch.split_at_mut(cut.packed_len());
        forward_head(&cut, (item / cut.heads, item % cut.heads), [q, k, v], o, lse.row(0), keys, scores);
    });
}

fn forward_head(
    cut: &Cut<'_>,
    (b, h): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    mut o: Tile<'_, f32>,
    lse: &mut [f32],
    keys: &mut [f32],
    scores: &mut [f32],
) {
    let (queries, kv) = (cut.layout.queries, cut.layout.kv_head(h));
    cut.pack(cut.rows(1, k, b, 0, kv), cut.reach(b, 0, queries), keys);
    for first in (0..queries).step_by(QUERIES) {
        let count = QUERIES.min(queries - first);
        let (from, to) = cut.reach(b, first, count);
        let from = from / WIDTH * WIDTH;
        cut.scores(cut.rows(0, q, b, first, h), count, keys, (from, to), scores);
        let mut sums = [0.0; QUERIES];
        for (i, (row, sum)) in scores.chunks_exact_mut(cut.padded).zip(&mut sums).take(count).enumerate() {
            let t = first + i;
            let (row_from, row_to) = cut.layout.span(b, t);
            let p = keep_span(row, (from, to), (row_from, row_to));
            cut.forbid(b, t, row_from, p, f32::NEG_INFINITY);
            let (largest, total) = softmax(p, cut.scale);
            *sum = total;
            if let Some(lse) = lse.get_mut(t) {
                *lse = if total > 0.0 { largest + total.ln() } else { f32::NEG_INFINITY };
            }
            cut.drop(b, h, t, row_from, p);
        }
        if o.rows() == 0 {
            continue;
        }
        let left = Left { data: &scores[from..], row_stride: cut.padded, k_stride: 1 };
        multiply([count, cut.dim, to - from], left, cut.rows(2, v, b, from, kv), &mut o, [first, 0], false);
        for (i, &sum) in sums.iter().take(count).enumerate() {
            divide(o.row(first + i), if sum > 0.0 { sum } else { 1.0 });
        }
    }
}

/// Zeroes what a row of scores has between `block` and its own span; returns the scores of the span.
fn keep_span(row: &mut [f32], (from, to): (usize, usize), (row_from, row_to): (usize, usize)) -> &mut [f32] {
    if row_from >= row_to {
        row[from..to].fill(0.0);
        return &mut [];
    }
    row[from..row_from].fill(0.0);
    row[row_to..to].fill(0.0);
    &mut row[row_from..row_to]
}

simd! {
    /// p = e^(scale s − max) in place; returns the maximum and Σ p. Scores of −∞ become 0.
    fn softmax<M>(p: &mut [f32], scale: f32) -> (f32, f32) {
        for s in p.iter_mut() {
            *s *= scale;
        }
        let largest = max(p);
        if largest == f32::NEG_INFINITY {
            p.fill(0.0);
            return (largest, 0.0);
        }
        for s in p.iter_mut() {
            *s = fast::exp(*s - largest);
        }
        (largest, sum_by(p, |p| p))
    }
}

simd! {
    /// x = x / by.
    fn divide<M>(x: &mut [f32], by: f32) {
        let factor = 1.0 / by;
        for x in x.iter_mut() {
            *x *= factor;
        }
    }
}

/// Packed keys and values, and two blocks of scores, for every task.
fn backward_scratch(node: &Node<'_>) -> usize {
    let Some(Op::AttentionBackward(spec)) = node.op() else { return 0 };
    let cut = Cut::new(Layout::new(node, spec, 1, [&[], &[]], &[]), &[]);
    let (items, per_task) = cut.tasks(cut.layout.batch * cut.kv_heads, 5);
    items.div_ceil(per_task) * 2 * (cut.packed_len() + cut.scores_len())
}

/// What the backward pass of a head reads.
#[derive(Clone, Copy)]
struct Saved<'a> {
    d_o: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    lse: &'a [f32],
}

fn backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::AttentionBackward(spec)) = node.op() else { return };
    let [d_o, q, k, v, o, lse, ..] = views.inputs;
    let [_, _, _, _, _, _, q_segments, k_segments, control, _] = views.ints;
    let cut = Cut::new(Layout::new(node, spec, 1, [q_segments, k_segments], &[]), control);
    let group = cut.heads / cut.kv_heads.max(1);
    let slots = node.record().attention_grad_outputs();
    let accumulate = slots.map(|slot| views.accumulate[slot]);
    let [dq, dk, dv] = bands(&cut, views.outputs, slots);
    let grids = [
        Grid { matrix: dq, tile_rows: cut.layout.queries, tile_cols: group * cut.dim },
        Grid { matrix: dk, tile_rows: cut.layout.keys, tile_cols: cut.dim },
        Grid { matrix: dv, tile_rows: cut.layout.keys, tile_cols: cut.dim },
    ];
    let items = cut.layout.batch * cut.kv_heads;
    let scratch = (views.scratch, 2 * (cut.packed_len() + cut.scores_len()));
    let saved = Saved { d_o, q, k, v, o, lse };
    for_each_item(threads, cut.tasks(items, 5), grids, scratch, &|item, mut tiles, scratch| {
        for (tile, accumulate) in tiles.iter_mut().zip(accumulate) {
            if !accumulate {
                (0..tile.rows()).for_each(|i| tile.row(i).fill(0.0));
            }
        }
        backward_heads(&cut, (item / cut.kv_heads, item % cut.kv_heads), saved, tiles, scratch);
    });
}

/// The columns of the gradients of q, k, v in the outputs that take them.
fn bands<'a>(cut: &Cut<'_>, outputs: [&'a mut [f32]; 3], slots: [usize; 3]) -> [Tile<'a, f32>; 3] {
    let layout = &cut.layout;
    let rows = [layout.queries, layout.keys, layout.keys].map(|rows| rows * layout.batch);
    let width = [cut.heads, cut.kv_heads, cut.kv_heads].map(|heads| heads * cut.dim);
    let mut by_column = [0, 1, 2];
    by_column.sort_unstable_by_key(|&which| layout.column[which]);
    let mut bands = [const { None }; 3];
    for (slot, output) in outputs.into_iter().enumerate() {
        let Some(first) = slots.iter().position(|&s| s == slot) else { continue };
        let mut rest = Tile::new(output, rows[first], layout.row_len[first], layout.row_len[first]);
        for which in by_column.into_iter().filter(|&which| slots[which] == slot) {
            let (band, after) = rest.split_cols(width[which]);
            (bands[which], rest) = (Some(band), after);
        }
    }
    // The bands of an output cover it without gaps, as the shape rule asks.
    bands.map(|band| band.unwrap_or_else(|| Tile::new(&mut [], 0, 0, 0)))
}

/// All query heads of one key head.
fn backward_heads(
    cut: &Cut<'_>,
    (b, kv): (usize, usize),
    saved: Saved<'_>,
    [mut dq, mut dk, mut dv]: [Tile<'_, f32>; 3],
    scratch: &mut [f32],
) {
    let (queries, dim, padded) = (cut.layout.queries, cut.dim, cut.padded);
    let (keys, rest) = scratch.split_at_mut(cut.packed_len());
    let (values, rest) = rest.split_at_mut(cut.packed_len());
    let (p, ds) = rest.split_at_mut(cut.scores_len());
    let reach = cut.reach(b, 0, queries);
    cut.pack(cut.rows(1, saved.k, b, 0, kv), reach, keys);
    cut.pack(cut.rows(2, saved.v, b, 0, kv), reach, values);
    let group = cut.heads / cut.kv_heads;
    for h in kv * group..(kv + 1) * group {
        for first in (0..queries).step_by(QUERIES) {
            let count = QUERIES.min(queries - first);
            let (from, to) = cut.reach(b, first, count);
            let from = from / WIDTH * WIDTH;
            let (q, d_o) = (cut.rows(0, saved.q, b, first, h), cut.out_rows(saved.d_o, b, first, h));
            cut.scores(q, count, keys, (from, to), p);
            cut.scores(d_o, count, values, (from, to), ds);
            for (i, (p, ds)) in p.chunks_exact_mut(padded).zip(ds.chunks_exact_mut(padded)).take(count).enumerate() {
                backward_row(cut, (b, h, first + i), saved, (from, to), p, ds);
            }
            let (p, ds) = (&p[from..], &ds[from..]);
            let (rows, transposed) = ([count, dim, to - from], [to - from, dim, count]);
            if dq.rows() > 0 {
                let left = Left { data: ds, row_stride: padded, k_stride: 1 };
                multiply(rows, left, cut.rows(1, saved.k, b, from, kv), &mut dq, [first, (h - kv * group) * dim], true);
            }
            if dk.rows() > 0 {
                multiply(transposed, Left { data: ds, row_stride: 1, k_stride: padded }, q, &mut dk, [from, 0], true);
            }
            if dv.rows() > 0 {
                multiply(transposed, Left { data: p, row_stride: 1, k_stride: padded }, d_o, &mut dv, [from, 0], true);
            }
        }
    }
}

/// Turns scores into dropped probabilities and do·v into ds, for one query.
fn backward_row(
    cut: &Cut<'_>,
    (b, h, t): (usize, usize, usize),
    saved: Saved<'_>,
    block: (usize, usize),
    p: &mut [f32],
    ds: &mut [f32],
) {
    let span = cut.layout.span(b, t);
    let (p, ds) = (keep_span(p, block, span), keep_span(ds, block, span));
    let lse = saved.lse[(b * cut.heads + h) * cut.layout.queries + t];
    let row = |x| &cut.out_rows(x, b, t, h).data[..cut.dim];
    let delta = dot(row(saved.d_o), row(saved.o));
    probabilities(p, cut.scale, lse);
    cut.forbid(b, t, span.0, p, 0.0);
    cut.drop(b, h, t, span.0, ds);
    score_gradients(p, delta, cut.scale, ds);
    cut.drop(b, h, t, span.0, p);
}

simd! {
    /// p = e^(scale s − lse) in place.
    fn probabilities<M>(p: &mut [f32], scale: f32, lse: f32) {
        for s in p.iter_mut() {
            *s = fast::exp(*s * scale - lse);
        }
    }
}

simd! {
    /// ds = p (dp − δ) scale in place of dp; 0 where p is.
    fn score_gradients<M>(p: &[f32], delta: f32, scale: f32, ds: &mut [f32]) {
        for (ds, &p) in ds.iter_mut().zip(p) {
            *ds = if p == 0.0 { 0.0 } else { p * (*ds - delta) * scale };
        }
    }
}

simd! {
    /// Σ aᵢ bᵢ in lanes.
    fn dot<M>(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [0.0; LANES];
        let (a_blocks, a_rest) = a.as_chunks::<LANES>();
        let (b_blocks, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum = M::mul_add(a, b, *sum);
            }
        }
        for (sum, (&a, &b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
            *sum = M::mul_add(a, b, *sum);
        }
        combine(sums)
    }
}
