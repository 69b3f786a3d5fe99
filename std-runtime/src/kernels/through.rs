//! Input gradients through a weight of any element type: dX = dY W.
//!
//! A weight that is not f32 is dequantised into scratch, some rows at a time, and multiplied there. The number of rows depends on its shape alone.

use samara_core::gemm::{Major, MatRef, Store};
use samara_core::graph::{DType, Node};
use samara_core::ops::weight::{Weight, dtype};
use samara_core::threads::Threads;

use super::{Product, per_task};
use crate::tiles::for_each_chunk;

/// f32 values of a weight that are dequantised at a time: they stay in the L2 cache.
const READ_LEN: usize = 1 << 17;
/// Least rows read at a time.
const READ_ROWS: usize = 16;

/// Rows of a weight (N, K) that are read at a time.
fn rows_read(n: usize, k: usize) -> usize {
    (READ_LEN / k.max(1)).max(READ_ROWS).min(n)
}

/// Elements of scratch that [`multiply`] needs for `m` rows and input `i` of a node.
pub(super) fn scratch_len<G: Product>(node: &Node<'_>, i: usize, m: usize) -> usize {
    let (n, k) = (node.input_shape(i).rows(), node.input_shape(i).cols());
    if dtype(node, i) == DType::Real {
        return G::scratch_len(Major::Rows, m, k, n);
    }
    let rows = rows_read(n, k);
    let last = n.saturating_sub(1) % rows.max(1) + 1;
    rows * k + G::scratch_len(Major::Rows, m, k, rows).max(G::scratch_len(Major::Rows, m, k, last))
}

/// `dX = dY·W` or `dX += dY·W` for a weight (N, K).
pub(super) fn multiply<G: Product>(
    threads: &dyn Threads,
    dy: MatRef<'_, f32>,
    weight: &Weight<'_, f32>,
    dx: &mut [f32],
    store: Store,
    scratch: &mut [f32],
) {
    let (n, k) = (dy.cols, weight.cols);
    if weight.dtype == DType::Real {
        return G::multiply(threads, dy, MatRef::new(weight.real, n, k), dx, store, None, scratch);
    }
    let rows = rows_read(n, k);
    let (numbers, scratch) = scratch.split_at_mut(rows * k);
    for first in (0..n).step_by(rows.max(1)) {
        let count = rows.min(n - first);
        let numbers = &mut numbers[..count * k]; // (rows, K)
        let len = per_task(count, 4 * k);
        for_each_chunk(threads, numbers, len * k, &|task, numbers| {
            for (j, row) in numbers.chunks_mut(k.max(1)).enumerate() {
                weight.read_row(first + task * len + j, row);
            }
        });
        let store = if first == 0 { store } else { Store::Add };
        G::multiply(threads, dy.part(0, first, dy.rows, count), MatRef::new(numbers, count, k), dx, store, None, scratch);
    }
}
