//! Linear layers by matrix products: see `samara_core::ops::linear` for formulas and shapes.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::graph::{Activation, Node, Op};
use samara_core::ops::weight::Weight;
use samara_core::threads::Threads;

use super::elementwise::{add, add_applied, apply, apply_with_slope, become_slope, copy};
use super::epilogue::Epilogue;
use super::simd::simd;
use super::{Product, per_task, quant, store, through};
use crate::tiles::{Tile, Tiling, for_each_chunk, for_each_tile};

pub(super) fn kernels<G: Product>(table: Kernels<f32>) -> Kernels<f32> {
    let linear = Op::Linear { activation: Activation::None, slope: false };
    table
        .with(linear.opcode(), Kernel { run: forward::<G>, scratch_len: forward_scratch::<G> })
        .with(Op::LinearBackward.opcode(), Kernel { run: backward::<G>, scratch_len: backward_scratch::<G> })
}

/// M, K, N of a product of rows with a weight (N, K).
fn extents(node: &Node<'_>, x: usize, w: usize) -> (usize, usize, usize) {
    (node.input_shape(x).rows(), node.input_shape(w).cols(), node.input_shape(w).rows())
}

/// For the product, and for pre-activations without an output of their own.
fn forward_scratch<G: Product>(node: &Node<'_>) -> usize {
    let (m, _, n) = extents(node, 0, 1);
    let activated = !matches!(node.op(), Some(Op::Linear { activation: Activation::None, .. }));
    quant::scratch_len::<G>(node, 1, m) + if activated && node.has_input(3) { m * n } else { 0 }
}

fn forward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Linear { activation, slope }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [x, _, b, residual, ..] = views.inputs;
    let [y, pre, _] = views.outputs;
    let (m, k, n) = extents(node, 0, 1);
    let x = MatRef::new(x, m, k);
    // The residual is in y before the product is added, by reuse or by copy, so that both give the same bits.
    let has_residual = node.has_input(3);
    if !residual.is_empty() {
        let len = per_task(y.len(), 1);
        for_each_chunk(threads, y, len, &|i, y| copy(y, &residual[i * len..]));
    }
    let biased = |col: usize, c: &mut [f32]| add(c, b.get(col..).unwrap_or_default());
    let Some(kind) = activation.unary() else {
        let add_bias = |_: usize, col: usize, c: &mut [f32], _: &mut [f32]| biased(col, c);
        let epilogue = if b.is_empty() { None } else { Some(Epilogue::new(&add_bias)) };
        return quant::multiply::<G>(threads, x, &w, y, store(has_residual), epilogue, views.scratch);
    };
    if y.is_empty() {
        // Only the gradient reads it: the pre-activation, or the slope there.
        let activate = |_: usize, col: usize, pre: &mut [f32], _: &mut [f32]| {
            biased(col, pre);
            if slope {
                become_slope(kind, pre);
            }
        };
        return quant::multiply::<G>(threads, x, &w, pre, Store::Overwrite, Some(Epilogue::new(&activate)), views.scratch);
    }
    if !has_residual {
        let activate = |_: usize, col: usize, y: &mut [f32], pre: &mut [f32]| {
            biased(col, y);
            if slope && !pre.is_empty() {
                return apply_with_slope(kind, y, pre);
            }
            copy(pre, y);
            apply(kind, 0.0, 0.0, y);
        };
        let epilogue = Epilogue { finish: &activate, second: pre };
        return quant::multiply::<G>(threads, x, &w, y, Store::Overwrite, Some(epilogue), views.scratch);
    }
    let own = if pre.is_empty() { m * n } else { 0 };
    let (own, scratch) = views.scratch.split_at_mut(own);
    let pre = if pre.is_empty() { own } else { pre }; // (M, N)
    let activate = |_: usize, col: usize, pre: &mut [f32], y: &mut [f32]| {
        biased(col, pre);
        add_applied(kind, slope, pre, y);
    };
    let epilogue = Epilogue { finish: &activate, second: y };
    quant::multiply::<G>(threads, x, &w, pre, Store::Overwrite, Some(epilogue), scratch);
}

fn backward_scratch<G: Product>(node: &Node<'_>) -> usize {
    let (m, k, n) = extents(node, 0, 2);
    through::scratch_len::<G>(node, 2, m).max(G::scratch_len(Major::Columns, n, k, m))
}

fn backward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let w = Weight::new(node, &views, 2);
    let [dy, x, _, addend, ..] = views.inputs;
    let [dx, dw, db] = views.outputs;
    let [add_x, add_w, add_b] = views.accumulate;
    let (m, k, n) = extents(node, 0, 2);
    let dy_matrix = MatRef::new(dy, m, n);
    if !dw.is_empty() {
        // If the memory of x is reused, dx holds x until it is written.
        let x = if x.is_empty() { &*dx } else { x };
        G::multiply(threads, dy_matrix.t(), MatRef::new(x, m, k), dw, store(add_w), None, views.scratch);
    }
    if !dx.is_empty() {
        // As in the forward pass: the addend is in the output before the product is added, by reuse or by copy.
        if !addend.is_empty() {
            let len = per_task(dx.len(), 1);
            for_each_chunk(threads, dx, len, &|i, dx| copy(dx, &addend[i * len..]));
        }
        let adds = node.has_input(3) || add_x;
        through::multiply::<G>(threads, dy_matrix, &w, dx, store(adds), views.scratch);
    }
    column_sums(threads, dy, db, add_b);
}

/// out = Σ over rows of x (M, N), or out += it; rows are added in order, and tasks take ranges of columns.
pub(super) fn column_sums(threads: &dyn Threads, x: &[f32], out: &mut [f32], accumulate: bool) {
    let n = out.len();
    if n == 0 {
        return;
    }
    let len = per_task(n, x.len() / n).next_multiple_of(COLUMNS);
    let tiling = Tiling { rows: 1, cols: n, ld: n, tile_rows: 1, tile_cols: len };
    for_each_tile(threads, out, tiling, &|mut tile: Tile<'_, f32>| {
        let first = tile.first_col;
        let out = tile.row(0);
        if !accumulate {
            out.fill(0.0);
        }
        add_rows(x, n, first, out);
    });
}

/// Columns whose sums stay in registers.
const COLUMNS: usize = 32;

simd! {
    /// out += Σ over rows of the columns of x (M, n) from `first` on.
    fn add_rows<M>(x: &[f32], n: usize, first: usize, out: &mut [f32]) {
        let (blocks, rest) = out.as_chunks_mut::<COLUMNS>();
        let rest_at = first + blocks.len() * COLUMNS;
        for (i, out) in blocks.iter_mut().enumerate() {
            let mut sums = *out;
            for row in x.chunks_exact(n) {
                if let Some(row) = row.get(first + i * COLUMNS..).and_then(|row| row.first_chunk::<COLUMNS>()) {
                    for (sum, &x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            }
            *out = sums;
        }
        for row in x.chunks_exact(n) {
            for (sum, &x) in rest.iter_mut().zip(&row[rest_at..]) {
                *sum += x;
            }
        }
    }
}
