//! Broadcasts and reductions on threads: see `samara_core::ops::reduce`. Sums have its order, and so its bits.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op, Over, ReduceKind, Shape};
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::linear::column_sums;
use super::simd::simd;
use super::{no_scratch, per_task};
use crate::tiles::{Tile, Tiling, for_each_chunk, for_each_tile};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(
            Op::Broadcast { over: Over::Same, dims: [1; 4], rank: 0 }.opcode(),
            Kernel { run: broadcast, scratch_len: no_scratch },
        )
        .with(Op::Reduce { kind: ReduceKind::Sum, over: Over::Same }.opcode(), Kernel { run: reduce, scratch_len: no_scratch })
}

/// The extent along which a small operand repeats: of a row or an item it is the length, of a column the elements that share a value.
fn unit(over: Over, full: Shape) -> usize {
    match over {
        Over::Same | Over::Scalar => full.len(),
        Over::Row | Over::Column => full.cols(),
        Over::Batch => full.without_batch().len(),
    }
    .max(1)
}

fn broadcast(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Broadcast { over, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let len = per_task(y.len(), 1);
    if matches!(over, Over::Same | Over::Scalar) {
        return for_each_chunk(threads, y, len, &|i, y| match over {
            Over::Same => copy(y, &x[i * len..]),
            _ => y.fill(x.first().copied().unwrap_or(0.0)),
        });
    }
    let unit = unit(over, node.output_shape(0));
    let units = len.div_ceil(unit);
    for_each_chunk(threads, y, units * unit, &|i, y| {
        for (j, y) in y.chunks_mut(unit).enumerate() {
            match over {
                Over::Column => y.fill(x.get(i * units + j).copied().unwrap_or(0.0)),
                _ => copy(y, x),
            }
        }
    });
}

fn reduce(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Reduce { kind, over }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let unit = unit(over, node.input_shape(0));
    match (kind, over) {
        (_, Over::Same) => {
            let len = per_task(y.len(), 1);
            for_each_chunk(threads, y, len, &|i, y| copy(y, &x[i * len..]));
        }
        (_, Over::Scalar) => y.fill(fold(kind, x)),
        (_, Over::Column) => {
            let rows = per_task(y.len(), unit);
            for_each_chunk(threads, y, rows, &|i, y| {
                let rows = x.get(i * rows * unit..).unwrap_or_default();
                y.iter_mut()
                    .enumerate()
                    .for_each(|(j, y)| *y = fold(kind, rows.get(j * unit..(j + 1) * unit).unwrap_or_default()));
            });
        }
        (ReduceKind::Sum, Over::Row | Over::Batch) => column_sums(threads, x, y, false),
        (ReduceKind::Max, Over::Row | Over::Batch) => column_maxima(threads, x, y),
    }
}

/// The sum or the maximum, from left to right.
fn fold(kind: ReduceKind, x: &[f32]) -> f32 {
    match kind {
        ReduceKind::Sum => x.iter().fold(0.0, |sum, x| sum + x),
        ReduceKind::Max => x.iter().fold(f32::NEG_INFINITY, |max, &x| if max > x { max } else { x }),
    }
}

/// out = the maxima over rows of x (M, N); tasks take ranges of columns.
fn column_maxima(threads: &dyn Threads, x: &[f32], out: &mut [f32]) {
    let n = out.len().max(1);
    let len = per_task(n, x.len() / n);
    let tiling = Tiling { rows: 1, cols: out.len(), ld: n, tile_rows: 1, tile_cols: len };
    for_each_tile(threads, out, tiling, &|mut tile: Tile<'_, f32>| {
        let first = tile.first_col;
        let out = tile.row(0);
        out.fill(f32::NEG_INFINITY);
        x.chunks_exact(n).for_each(|x| raise(out, &x[first..]));
    });
}

simd! {
    /// y = y if y > x, else x: the maximum that `samara_core::ops::reduce` computes.
    fn raise<M>(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if *y > x { *y } else { x };
        }
    }
}
