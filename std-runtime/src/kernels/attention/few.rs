//! The forward pass of a few queries against many keys, as in decoding: each query separately, so that keys and values are read once, in place, with
//! little overhead.

use std::f32::consts::{LN_2, LOG2_E};

use samara_core::threads::Threads;

use super::tile::softmax_of_one;
use super::{Cut, key_tiles};
use crate::kernels::block::{Left, Rows, Update, multiply, row_products};
use crate::kernels::vector::LANES;
use crate::tiles::{Grid, Tile, for_each_item};

/// The most queries that are not worth transposing.
pub(super) const QUERIES: usize = 4;

/// Keys of a tile: its keys and values stay in the L1 cache for the other queries and heads that read them.
const KEYS: usize = 64;

/// Scratch per task: scores of a tile, and maximum and sum of every query of a group of heads.
fn task_len(cut: &Cut<'_>) -> usize {
    KEYS + 2 * group(cut) * cut.layout.queries
}

fn group(cut: &Cut<'_>) -> usize {
    cut.heads / cut.kv_heads.max(1)
}

/// Heads of keys, and how many of them a task takes.
fn tasks(cut: &Cut<'_>) -> (usize, usize) {
    cut.tasks(cut.layout.batch * cut.kv_heads, 2 * group(cut))
}

pub(super) fn scratch_len(cut: &Cut<'_>) -> usize {
    let (items, per_task) = tasks(cut);
    items.div_ceil(per_task) * task_len(cut)
}

pub(super) fn run(cut: &Cut<'_>, inputs: [&[f32]; 3], [o, lse]: [&mut [f32]; 2], scratch: &mut [f32], threads: &dyn Threads) {
    let (queries, group, cols) = (cut.layout.queries, group(cut), cut.heads * cut.dim);
    let (rows, lse_rows) = (cut.layout.batch * queries, cut.layout.batch * cut.heads);
    let grids = [
        Grid { matrix: Tile::new(o, rows, cols, cols), tile_rows: queries, tile_cols: group * cut.dim },
        Grid { matrix: Tile::new(lse, lse_rows, queries, queries), tile_rows: group, tile_cols: queries },
    ];
    for_each_item(threads, tasks(cut), grids, (scratch, task_len(cut)), &|item, [mut o, mut lse], scratch| {
        let (scores, state) = scratch.split_at_mut(KEYS);
        let (state, _) = state.as_chunks_mut(); // (group, queries, 2)
        group_of_heads(cut, (item / cut.kv_heads, item % cut.kv_heads), inputs, &mut o, scores, state);
        for (i, [largest, total]) in state.iter().enumerate() {
            if let Some(lse) = lse.row(i / queries).get_mut(i % queries) {
                *lse = if *total > 0.0 { largest * LN_2 + total.ln() } else { f32::NEG_INFINITY };
            }
        }
    });
}

/// All queries of the heads that read one head of keys.
fn group_of_heads(
    cut: &Cut<'_>,
    (b, kv): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    o: &mut Tile<'_, f32>,
    scores: &mut [f32],
    state: &mut [[f32; 2]],
) {
    let (queries, dim) = (cut.layout.queries, cut.dim);
    state.fill([f32::MIN, 0.0]);
    (0..o.rows()).for_each(|t| o.row(t).fill(0.0));
    let reach = (0..queries)
        .map(|t| cut.layout.span(b, t))
        .fold((usize::MAX, 0), |(from, to), span| if span.0 < span.1 { (from.min(span.0), to.max(span.1)) } else { (from, to) });
    for tile in key_tiles(reach, KEYS) {
        for (i, state) in state.iter_mut().enumerate() {
            let (head, t) = (i / queries, i % queries);
            let span = cut.layout.span(b, t);
            let (from, to) = (span.0.max(tile.0), span.1.min(tile.1));
            if from >= to {
                continue;
            }
            let h = kv * group(cut) + head;
            let scores = &mut scores[..(to - from).next_multiple_of(LANES)];
            let query = Rows { data: cut.rows(0, q, b, t, h).data, ld: 0 };
            for (i, scores) in scores.chunks_exact_mut(LANES).enumerate() {
                let first = from + i * LANES;
                let products = row_products(cut.isa, cut.rows(1, k, b, first, kv), query, LANES.min(to - first), dim);
                for (j, (score, product)) in (first..).zip(scores.iter_mut().zip(products)) {
                    let seen = j < to && cut.layout.same_segment(b, t, j);
                    *score = if seen { product * (cut.scale * LOG2_E) } else { f32::NEG_INFINITY };
                }
            }
            let keep = softmax_of_one(cut.isa, scores, state);
            if !cut.mask.is_off() {
                for (j, p) in (from..to).zip(scores.iter_mut()) {
                    *p *= cut.mask.factor::<f32>(cut.layout.element(b, h, t, j));
                }
            }
            let update = Update::Mix(&[keep; LANES], &[1.0; LANES]);
            let left = Left::Rows(Rows { data: scores, ld: KEYS });
            multiply(cut.isa, [1, dim, to - from], left, cut.rows(2, v, b, from, kv), &[], o, [t, head * dim], update);
        }
    }
    for (i, &[_, total]) in state.iter().enumerate().filter(|(_, state)| state[1] > 0.0) {
        let head = i / queries * dim;
        if let Some(o) = o.row(i % queries).get_mut(head..head + dim) {
            o.iter_mut().for_each(|o| *o /= total);
        }
    }
}
