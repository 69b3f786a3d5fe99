//! The forward pass: tiles of keys against sixteen queries at a time with an online softmax (Milakov and Gimelshein 2018; Dao 2022).

use std::f32::consts::{LN_2, LOG2_E};

use samara_core::exec::Views;
use samara_core::graph::{Node, Op};
use samara_core::ops::attention::{self, Layout, reads_stored};
use samara_core::threads::Threads;

use super::tile::{Softmax, multiply_all, softmax};
use super::{Cut, Panel, few, key_tiles, within};
use crate::kernels::block::{Left, Rows, Update, multiply, transpose};
use crate::kernels::vector::LANES;
use crate::tiles::{Grid, Tile, for_each_item};

/// Keys of a tile: its scores stay in the first-level cache.
const KEYS: usize = 128;

/// Scratch per task: sixteen queries, a tile of scores and one of dropout factors.
pub(super) fn scratch_len(node: &Node<'_>) -> usize {
    let Some(Op::Attention(spec)) = node.op() else { return 0 };
    if reads_stored(node) {
        return attention::scratch_len(node);
    }
    let cut = Cut::new(Layout::new(node, spec, 0, [&[], &[]], &[]), &[]);
    if cut.layout.queries <= few::QUERIES {
        return few::scratch_len(&cut);
    }
    let (items, per_task) = cut.tasks(cut.layout.batch * cut.heads, 2);
    items.div_ceil(per_task) * task_len(&cut)
}

fn task_len(cut: &Cut<'_>) -> usize {
    (cut.dim + 2 * KEYS) * LANES
}

pub(super) fn run(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Attention(spec)) = node.op() else { return };
    if reads_stored(node) {
        return attention::forward(node, views, threads);
    }
    let [q, k, v, ..] = views.inputs;
    let [_, _, _, q_segments, k_segments, live, control, ..] = views.ints;
    let [o, lse, _] = views.outputs;
    let cut = Cut::new(Layout::new(node, spec, 0, [q_segments, k_segments], live), control);
    if cut.layout.queries <= few::QUERIES {
        return few::run(&cut, [q, k, v], [o, lse], views.scratch, threads);
    }
    let (items, queries) = (cut.layout.batch * cut.heads, cut.layout.queries);
    let cols = cut.heads * cut.dim;
    let grids = [
        Grid { matrix: Tile::new(o, cut.layout.batch * queries, cols, cols), tile_rows: queries, tile_cols: cut.dim },
        Grid { matrix: Tile::new(lse, items, queries, queries), tile_rows: 1, tile_cols: queries },
    ];
    for_each_item(threads, cut.tasks(items, 2), grids, (views.scratch, task_len(&cut)), &|item, [mut o, mut lse], scratch| {
        for first in (0..queries).step_by(LANES) {
            let panel = Panel::new(&cut, item / cut.heads, first);
            forward(&panel, item % cut.heads, [q, k, v], &mut o, lse.row(0), scratch);
        }
    });
}

/// The queries of a panel against all keys that they see.
fn forward(panel: &Panel<'_>, h: usize, [q, k, v]: [&[f32]; 3], o: &mut Tile<'_, f32>, lse: &mut [f32], scratch: &mut [f32]) {
    let (cut, b, first, count) = (panel.cut, panel.b, panel.first, panel.count);
    let (isa, dim, kv) = (cut.isa, cut.dim, cut.layout.kv_head(h));
    let (queries, rest) = scratch.split_at_mut(dim * LANES);
    let (scores, factors) = rest.split_at_mut(KEYS * LANES);
    // Scores in units of ln 2, for powers of two.
    transpose(isa, cut.rows(0, q, b, first, h), count, dim, cut.scale * LOG2_E, queries);
    let mut state = Softmax::NONE;
    let mut tiles = key_tiles(panel.reach, KEYS).filter_map(|keys| panel.seen(keys)).peekable();
    let mut fresh = true;
    while let Some((from, to)) = tiles.next() {
        let keys = to - from;
        let left = Left::Rows(cut.rows(1, k, b, from, kv));
        let right = Rows { data: queries, ld: LANES };
        multiply(isa, [keys, LANES, dim], left, right, &[], &mut Tile::new(scores, keys, LANES, LANES), [0, 0], Update::Store);
        let p = &mut scores[..keys * LANES];
        panel.forbid((from, to), p, LANES);
        let keep = softmax(isa, p, &mut state);
        multiply_all(isa, p, panel.factors(h, (from, to), factors));
        let inverse = state.total.map(|total| if total > 0.0 { 1.0 / total } else { 1.0 });
        let factor = if tiles.peek().is_some() { [1.0; LANES] } else { inverse };
        let mut scaled = factor;
        scaled.iter_mut().zip(&keep).for_each(|(f, keep)| *f *= keep);
        let update = if fresh { Update::Scale(&factor) } else { Update::Mix(&scaled, &factor) };
        fresh = false;
        let spans = panel.spans.map(|span| within(span, (from, to)));
        let left = Left::Columns(Rows { data: p, ld: LANES });
        multiply(isa, [count, dim, keys], left, cut.rows(2, v, b, from, kv), &spans, o, [first, 0], update);
    }
    if fresh {
        (first..first + count).for_each(|t| o.row(t).fill(0.0));
    }
    let sums = state.largest.iter().zip(&state.total);
    for (lse, (largest, &total)) in lse.iter_mut().skip(first).zip(sums).take(count) {
        *lse = if total > 0.0 { largest * LN_2 + total.ln() } else { f32::NEG_INFINITY };
    }
}
