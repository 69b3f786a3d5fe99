//! Embedding on threads: see `samara_core::ops::embedding`.
//!
//! The gradient of an untied embedding zeroes its whole table, although few rows are touched. Which rows are nonzero is a property of the gradient
//! buffer, which many programs share, and not of one node: to zero only the rows of the last step, every run would need that list. It would save
//! little: for 50257 rows of 768 the clear takes 7 to 9 ms (two threads of a Zen 4, about 20 GB/s of writes, memory bandwidth), where AdamW takes 22
//! ms for the same table and the norm of its gradient 7 ms, in a step of 400 ms. Both read the zeros, so they must exist. A tied table is overwritten
//! by the head's gradient and never cleared.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{DType, Node, Op};
use samara_core::ops::weight::Weight;
use samara_core::quant::dequantise_row;
use samara_core::threads::Threads;

use super::elementwise::{add, copy};
use super::{no_scratch, per_task};
use crate::tiles::{Tiling, for_each_chunk, for_each_tile};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(Op::Embedding.opcode(), Kernel { run: forward, scratch_len: no_scratch })
        .with(Op::EmbeddingBackward { vocab: 0 }.opcode(), Kernel { run: backward, scratch_len: no_scratch })
}

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let table = Weight::new(node, &views, 1);
    let [_, _, addend, ..] = views.inputs;
    let [ids, ..] = views.ints;
    let [y, ..] = views.outputs;
    let c = node.input_shape(1).cols().max(1);
    let has_addend = node.has_input(2);
    let rows = per_task(ids.len(), c);
    for_each_chunk(threads, y, rows * c, &|i, y| {
        copy(y, addend.get(i * rows * c..).unwrap_or_default());
        for (y, &id) in y.chunks_exact_mut(c).zip(&ids[i * rows..]) {
            let id = usize::try_from(id).unwrap_or(0);
            match (has_addend, table.dtype) {
                (true, _) => add_row(&table, id, y),
                (false, DType::Real) => copy(y, table.real.get(id.saturating_mul(c)..).unwrap_or_default()),
                (false, _) => table.read_row(id, y),
            }
        }
    });
}

/// y += row `id` of a table of any element type, in pieces of whole quantisation blocks.
fn add_row(table: &Weight<'_, f32>, id: usize, y: &mut [f32]) {
    const PIECE: usize = 256;
    if table.dtype == DType::Real {
        return add(y, table.real.get(id.saturating_mul(table.cols)..).unwrap_or_default());
    }
    let mut piece = [0.0; PIECE];
    let piece_bytes = table.dtype.bytes(PIECE, size_of::<f32>()).unwrap_or(1);
    for (y, bytes) in y.chunks_mut(PIECE).zip(table.row_bytes(id).chunks(piece_bytes)) {
        let piece = &mut piece[..y.len()];
        dequantise_row(table.dtype, bytes, piece);
        add(y, piece);
    }
}

/// The table is cleared in contiguous pieces, at memory bandwidth; by columns it took half as long again. Then rows are added in the order of the
/// ids; each task takes a range of columns of the table.
fn backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [_, dy, ..] = views.inputs;
    let [ids, ..] = views.ints;
    let [dtable, ..] = views.outputs;
    let [accumulate, ..] = views.accumulate;
    if !accumulate {
        for_each_chunk(threads, dtable, CLEARED, &|_, piece| piece.fill(0.0));
    }
    let c = node.input_shape(1).cols().max(1);
    let vocab = dtable.len() / c;
    let cols = per_task(c, ids.len()).next_multiple_of(LINE);
    let tiling = Tiling { rows: vocab, cols: c, ld: c, tile_rows: vocab, tile_cols: cols };
    for_each_tile(threads, dtable, tiling, &|mut table| {
        for (dy, &id) in dy.chunks_exact(c).zip(ids) {
            let first = table.first_col;
            add(table.row(usize::try_from(id).unwrap_or(0)), &dy[first..]);
        }
    });
}

/// f32 values that a task clears at a time.
const CLEARED: usize = 1 << 18;
/// f32 values of a cache line, which two tasks should not share.
const LINE: usize = 16;
