//! Rows of a table over tasks: see `samara_core::ops::embedding`.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op};
use samara_core::threads::Threads;

use super::elementwise::{add, copy};
use super::{no_scratch, per_task};
use crate::tiles::{Tiling, for_each_chunk, for_each_tile};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(Op::Embedding.opcode(), Kernel { run: forward, scratch_len: no_scratch })
        .with(Op::EmbeddingBackward { vocab: 0 }.opcode(), Kernel { run: backward, scratch_len: no_scratch })
}

/// Row `id` of a table; empty when it is not there.
fn row(table: &[f32], id: i32, c: usize) -> &[f32] {
    let start = usize::try_from(id).unwrap_or(0).saturating_mul(c);
    table.get(start..start.saturating_add(c)).unwrap_or_default()
}

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [_, table, addend, ..] = views.inputs;
    let [ids, ..] = views.ints;
    let [y, ..] = views.outputs;
    let c = node.input_shape(1).cols().max(1);
    let has_addend = node.has_input(2);
    let rows = per_task(ids.len(), c);
    for_each_chunk(threads, y, rows * c, &|i, y| {
        copy(y, addend.get(i * rows * c..).unwrap_or_default());
        for (y, &id) in y.chunks_exact_mut(c).zip(&ids[i * rows..]) {
            if has_addend { add(y, row(table, id, c)) } else { copy(y, row(table, id, c)) }
        }
    });
}

/// Rows are added in the order of the ids; tasks take columns of the table.
fn backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [_, dy, ..] = views.inputs;
    let [ids, ..] = views.ints;
    let [dtable, ..] = views.outputs;
    let [accumulate, ..] = views.accumulate;
    let c = node.input_shape(1).cols().max(1);
    let vocab = dtable.len() / c;
    let touched = ids.len() + if accumulate { 0 } else { vocab };
    let cols = per_task(c, touched).next_multiple_of(LINE);
    let tiling = Tiling { rows: vocab, cols: c, ld: c, tile_rows: vocab, tile_cols: cols };
    for_each_tile(threads, dtable, tiling, &|mut table| {
        if !accumulate {
            (0..table.rows()).for_each(|i| table.row(i).fill(0.0));
        }
        for (dy, &id) in dy.chunks_exact(c).zip(ids) {
            let first = table.first_col;
            add(table.row(usize::try_from(id).unwrap_or(0)), &dy[first..]);
        }
    });
}

/// Numbers of a cache line, which two tasks should not share.
const LINE: usize = 16;
