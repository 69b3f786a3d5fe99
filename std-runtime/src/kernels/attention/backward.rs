//! The backward pass: probabilities recomputed from the saved log-sum-exp, one block of queries at a time against tiles of keys.

use std::f32::consts::LOG2_E;

use samara_core::exec::Views;
use samara_core::graph::{Node, Op};
use samara_core::ops::attention::Layout;
use samara_core::threads::Threads;

use super::tile::{Saved, score_gradients};
use super::{Cut, Panel, key_tiles, within};
use crate::kernels::block::{Left, Rows, Update, clear, multiply, row_products, transpose};
use crate::kernels::vector::LANES;
use crate::tiles::{Grid, Tile, for_each_item};

/// Panels of queries that share a tile: the gradients of keys and values are summed over their queries in registers.
const PANELS: usize = 2;
/// Queries of a block.
const QUERIES: usize = PANELS * LANES;
/// Keys of a tile: its scores and their gradients stay in the L1 cache.
const KEYS: usize = 64;

/// Scratch per task: transposed queries and output gradients, two tiles of scores and one of dropout factors.
pub(super) fn scratch_len(node: &Node<'_>) -> usize {
    let Some(Op::AttentionBackward(spec)) = node.op() else { return 0 };
    let cut = Cut::new(Layout::new(node, spec, 1, [&[], &[]], &[]), &[]);
    let (items, per_task) = cut.tasks(cut.layout.batch * cut.kv_heads, 5);
    items.div_ceil(per_task) * task_len(&cut)
}

fn task_len(cut: &Cut<'_>) -> usize {
    2 * (cut.dim + KEYS) * QUERIES + KEYS * LANES
}

/// The inputs of the pass.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    d_o: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    lse: &'a [f32],
}

pub(super) fn run(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
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
    let inputs = Inputs { d_o, q, k, v, o, lse };
    for_each_item(threads, cut.tasks(items, 5), grids, (views.scratch, task_len(&cut)), &|item, mut tiles, scratch| {
        for (tile, accumulate) in tiles.iter_mut().zip(accumulate) {
            if !accumulate {
                clear(cut.isa, tile);
            }
        }
        let (b, kv) = (item / cut.kv_heads, item % cut.kv_heads);
        for h in kv * group..(kv + 1) * group {
            for first in (0..cut.layout.queries).step_by(QUERIES) {
                Block::new(&cut, b, h, first).backward(inputs, &mut tiles, scratch);
            }
        }
    });
}

/// The columns of the gradients of q, k, v in their outputs.
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
    // The bands of an output cover it without gaps, as the shape rule requires.
    bands.map(|band| band.unwrap_or_else(|| Tile::new(&mut [], 0, 0, 0)))
}

/// Up to 32 queries of one head.
struct Block<'a> {
    cut: &'a Cut<'a>,
    h: usize,
    first: usize,
    count: usize,
    panels: [Option<Panel<'a>>; PANELS],
}

impl<'a> Block<'a> {
    fn new(cut: &'a Cut<'a>, b: usize, h: usize, first: usize) -> Self {
        let count = QUERIES.min(cut.layout.queries - first);
        let panels = std::array::from_fn(|i| (i * LANES < count).then(|| Panel::new(cut, b, first + i * LANES)));
        Self { cut, h, first, count, panels }
    }

    fn panels(&self) -> impl Iterator<Item = &Panel<'a>> {
        self.panels.iter().flatten()
    }

    /// Adds the contribution of the block's queries to the gradients of q, k and v.
    fn backward(&self, inputs: Inputs<'_>, gradients: &mut [Tile<'_, f32>; 3], scratch: &mut [f32]) {
        let (cut, h) = (self.cut, self.h);
        let (q, rest) = scratch.split_at_mut(cut.dim * QUERIES); // (panels, dim, 16)
        let (d_o, rest) = rest.split_at_mut(cut.dim * QUERIES); // (panels, dim, 16)
        let (p, rest) = rest.split_at_mut(KEYS * QUERIES); // (keys, 32)
        let (ds, factors) = rest.split_at_mut(KEYS * QUERIES); // (keys, 32)
        let mut saved = [const { Saved { lse: [f32::INFINITY; LANES], delta: [0.0; LANES] } }; PANELS];
        let panel_len = (cut.dim * LANES).max(1);
        for ((panel, saved), (q, d_o)) in
            self.panels().zip(&mut saved).zip(q.chunks_exact_mut(panel_len).zip(d_o.chunks_exact_mut(panel_len)))
        {
            // Scores in units of ln 2, for powers of two.
            let rows = cut.rows(0, inputs.q, panel.b, panel.first, h);
            transpose(cut.isa, rows, panel.count, cut.dim, cut.scale * LOG2_E, q);
            transpose(cut.isa, cut.out_rows(inputs.d_o, panel.b, panel.first, h), panel.count, cut.dim, 1.0, d_o);
            *saved = self.saved(panel, inputs);
        }
        let reach = self.panels().fold((usize::MAX, 0), |(from, to), p| (from.min(p.reach.0), to.max(p.reach.1)));
        for tile in key_tiles(reach, KEYS) {
            let seen = self.panels().filter_map(|panel| panel.seen(tile));
            let Some(keys) = seen.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { continue };
            for (i, panel) in self.panels().enumerate() {
                let columns = [&q[i * panel_len..], &d_o[i * panel_len..]];
                let tiles = [&mut p[i * LANES..], &mut ds[i * LANES..]];
                self.scores(panel, keys, inputs, columns, &saved[i], tiles, factors);
            }
            self.add(keys, inputs, p, ds, gradients);
        }
    }

    fn saved(&self, panel: &Panel<'_>, inputs: Inputs<'_>) -> Saved {
        let cut = self.cut;
        let rows = |x| cut.out_rows(x, panel.b, panel.first, self.h);
        let delta = row_products(cut.isa, rows(inputs.d_o), rows(inputs.o), panel.count, cut.dim);
        let mut saved = Saved { lse: [f32::INFINITY; LANES], delta };
        let first = (panel.b * cut.heads + self.h) * cut.layout.queries + panel.first;
        for (i, &lse) in inputs.lse[first..].iter().enumerate().take(panel.count) {
            saved.lse[i] = if lse == f32::NEG_INFINITY { f32::INFINITY } else { lse * LOG2_E };
        }
        saved
    }

    /// Probabilities and score gradients of a panel for keys from..to; zeros for masked keys.
    #[allow(clippy::too_many_arguments)]
    fn scores(
        &self,
        panel: &Panel<'_>,
        (from, to): (usize, usize),
        inputs: Inputs<'_>,
        [q, d_o]: [&[f32]; 2],
        saved: &Saved,
        [p, ds]: [&mut [f32]; 2],
        factors: &mut [f32],
    ) {
        let cut = self.cut;
        let (first, end) = panel.seen((from, to)).unwrap_or((to, to));
        for (key, (p, ds)) in (from..to).zip(p.chunks_mut(QUERIES).zip(ds.chunks_mut(QUERIES))) {
            if key < first || key >= end {
                p[..LANES].fill(0.0);
                ds[..LANES].fill(0.0);
            }
        }
        if first == end {
            return;
        }
        let (p, ds) = (&mut p[(first - from) * QUERIES..], &mut ds[(first - from) * QUERIES..]);
        let (keys, kv) = (end - first, cut.layout.kv_head(self.h));
        for (which, x, columns, tile) in [(1, inputs.k, q, &mut *p), (2, inputs.v, d_o, &mut *ds)] {
            let left = Left::Rows(cut.rows(which, x, panel.b, first, kv));
            let right = Rows { data: columns, ld: LANES };
            let mut tile = Tile::new(tile, keys, LANES, QUERIES);
            multiply(cut.isa, [keys, LANES, cut.dim], left, right, &[], &mut tile, [0, 0], Update::Store);
        }
        let (p, ds) = (&mut p[..(keys - 1) * QUERIES + LANES], &mut ds[..(keys - 1) * QUERIES + LANES]);
        panel.forbid((first, end), p, QUERIES);
        let factors = panel.factors(self.h, (first, end), factors);
        score_gradients(cut.isa, p, ds, QUERIES, saved, factors);
    }

    /// dq += scale ds k, dk += scale dsᵀ q, dv += pᵀ do.
    fn add(&self, keys: (usize, usize), inputs: Inputs<'_>, p: &[f32], ds: &[f32], [dq, dk, dv]: &mut [Tile<'_, f32>; 3]) {
        let (cut, h, count) = (self.cut, self.h, keys.1 - keys.0);
        let (dim, kv) = (cut.dim, cut.layout.kv_head(h));
        let Some(b) = self.panels().next().map(|panel| panel.b) else { return };
        let scaled = Update::Add(cut.scale);
        let mut all = [(0, 0); QUERIES];
        for ((i, panel), all) in self.panels().enumerate().zip(all.as_chunks_mut::<LANES>().0) {
            let spans = panel.spans.map(|span| within(span, keys));
            *all = spans;
            if dq.rows() > 0 {
                let left = Left::Columns(Rows { data: &ds[i * LANES..], ld: QUERIES });
                let at = [panel.first, (h - kv * (cut.heads / cut.kv_heads)) * dim];
                multiply(cut.isa, [panel.count, dim, count], left, cut.rows(1, inputs.k, b, keys.0, kv), &spans, dq, at, scaled);
            }
        }
        let (shape, queries) = ([count, dim, self.count], seen_by(&all[..self.count]));
        if dk.rows() > 0 {
            let (left, right) = (Left::Rows(Rows { data: ds, ld: QUERIES }), cut.rows(0, inputs.q, b, self.first, h));
            multiply(cut.isa, shape, left, right, &queries, dk, [keys.0, 0], scaled);
        }
        if dv.rows() > 0 {
            let (left, right) = (Left::Rows(Rows { data: p, ld: QUERIES }), cut.out_rows(inputs.d_o, b, self.first, h));
            multiply(cut.isa, shape, left, right, &queries, dv, [keys.0, 0], Update::Add(1.0));
        }
    }
}

/// The range of queries that attend to each key of a tile. Both ends of the queries' key ranges increase, so both ends of these ranges do.
fn seen_by(spans: &[(usize, usize)]) -> [(usize, usize); KEYS] {
    let (mut first, mut end) = (0, 0);
    std::array::from_fn(|key| {
        first += spans[first..].iter().take_while(|span| span.1 <= key).count();
        end += spans[end..].iter().take_while(|span| span.0 <= key).count();
        (first, end)
    })
}
