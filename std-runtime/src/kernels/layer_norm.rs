//! Layer norm over tasks of rows: see `samara_core::ops::layer_norm` for formulas and shapes.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op};
use samara_core::threads::Threads;

use super::elementwise::{add, copy};
use super::simd::{LANES, combine, simd, sum_by};
use super::{no_scratch, per_task};
use crate::tiles::{Grid, Tile, for_each_item};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(Op::LayerNorm { eps: 1.0 }.opcode(), Kernel { run: forward, scratch_len: no_scratch })
        .with(Op::LayerNormBackward.opcode(), Kernel { run: backward, scratch_len: backward_scratch })
}

/// Rows of a task.
fn task_rows(m: usize, c: usize) -> usize {
    per_task(m, 8 * c)
}

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::LayerNorm { eps }) = node.op() else { return };
    let [x, w, b, ..] = views.inputs;
    let [y, statistics, _] = views.outputs;
    let (m, c) = (node.input_shape(0).rows(), node.input_shape(0).cols());
    let rows = task_rows(m, c);
    let grids = [
        Grid { matrix: Tile::new(y, m, c, c), tile_rows: rows, tile_cols: c },
        Grid { matrix: Tile::new(statistics, m, 2, 2), tile_rows: rows, tile_cols: 2 },
    ];
    for_each_item(threads, (m.div_ceil(rows), 1), grids, (&mut [], 0), &|item, [mut y, mut statistics], _| {
        let x = &x[item * rows * c..];
        for (i, x) in x.chunks_exact(c).take(rows).enumerate() {
            let (mean, scale) = statistics_of(x, eps as f32);
            if let [m, s] = statistics.row(i) {
                (*m, *s) = (mean, scale);
            }
            normalize(x, mean, scale, w, b, y.row(i));
        }
    });
}

simd! {
    /// μ and 1/√(σ² + ε), in two passes.
    fn statistics_of<M>(x: &[f32], eps: f32) -> (f32, f32) {
        let n = x.len() as f32;
        let mean = sum_by(x, |x| x) / n;
        let variance = sum_by(x, |x| (x - mean) * (x - mean)) / n;
        (mean, 1.0 / (variance + eps).sqrt())
    }
}

simd! {
    /// y = (x − μ) r · w + b.
    fn normalize<M>(x: &[f32], mean: f32, scale: f32, w: &[f32], b: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - mean) * scale;
        }
        for (y, &w) in y.iter_mut().zip(w) {
            *y *= w;
        }
        for (y, &b) in y.iter_mut().zip(b) {
            *y += b;
        }
    }
}

/// Partial sums of dw and db for every task.
fn backward_scratch(node: &Node<'_>) -> usize {
    let (m, c) = (node.input_shape(1).rows(), node.input_shape(1).cols());
    m.div_ceil(task_rows(m, c)) * 2 * c
}

fn backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [dy, x, w, statistics, addend, ..] = views.inputs;
    let [dx, dw, db] = views.outputs;
    let [add_x, add_w, add_b] = views.accumulate;
    let (m, c) = (node.input_shape(1).rows(), node.input_shape(1).cols());
    let rows = task_rows(m, c);
    let tasks = m.div_ceil(rows);
    let keep = if node.has_input(4) { addend.is_empty() } else { add_x };
    let (sums_w, sums_b) = views.scratch.split_at_mut(tasks * c);
    let sums_w: &mut [f32] = if dw.is_empty() { &mut [] } else { sums_w }; // (tasks, C)
    let sums_b: &mut [f32] = if db.is_empty() { &mut [] } else { &mut sums_b[..tasks * c] }; // (tasks, C)
    let grids = [
        Grid { matrix: Tile::new(dx, m, c, c), tile_rows: rows, tile_cols: c },
        Grid { matrix: Tile::new(&mut *sums_w, tasks, c, c), tile_rows: 1, tile_cols: c },
        Grid { matrix: Tile::new(&mut *sums_b, tasks, c, c), tile_rows: 1, tile_cols: c },
    ];
    for_each_item(threads, (tasks, 1), grids, (&mut [], 0), &|item, [mut dx, mut sum_w, mut sum_b], _| {
        let (sum_w, sum_b) = (sum_w.row(0), sum_b.row(0));
        sum_w.fill(0.0);
        sum_b.fill(0.0);
        for i in item * rows..m.min((item + 1) * rows) {
            let (dy, x) = (&dy[i * c..][..c], &x[i * c..][..c]);
            let (mean, scale) = (statistics[2 * i], statistics[2 * i + 1]);
            let dx = dx.row(i - item * rows);
            if !dx.is_empty() {
                if !keep {
                    dx.fill(0.0);
                }
                copy(dx, addend.get(i * c..).unwrap_or_default());
                add_row_gradient(dy, x, w, mean, scale, dx);
            }
            add_normed(dy, x, mean, scale, sum_w);
            add(sum_b, dy);
        }
    });
    add_in_order(sums_w, dw, add_w);
    add_in_order(sums_b, db, add_b);
}

/// out = Σ over rows of sums (tasks, C), or out += it.
fn add_in_order(sums: &[f32], out: &mut [f32], accumulate: bool) {
    if !accumulate {
        out.fill(0.0);
    }
    if !out.is_empty() {
        sums.chunks_exact(out.len()).for_each(|sums| add(out, sums));
    }
}

simd! {
    /// dw += dy x̂.
    fn add_normed<M>(dy: &[f32], x: &[f32], mean: f32, scale: f32, dw: &mut [f32]) {
        for ((dw, &dy), &x) in dw.iter_mut().zip(dy).zip(x) {
            *dw += dy * ((x - mean) * scale);
        }
    }
}

simd! {
    /// dx += r (g − mean(g) − x̂ mean(g x̂)) with g = dy w.
    fn add_row_gradient<M>(dy: &[f32], x: &[f32], w: &[f32], mean: f32, scale: f32, dx: &mut [f32]) {
        // Without w the loops read dy for it and take 1 instead.
        let (w, has_w) = if w.is_empty() { (dy, false) } else { (w, true) };
        let weight = |w: f32| if has_w { w } else { 1.0 };
        let (mut sum, mut product) = ([0.0; LANES], [0.0; LANES]);
        let (dy_blocks, dy_rest) = dy.as_chunks::<LANES>();
        let (x_blocks, x_rest) = x.as_chunks::<LANES>();
        let (w_blocks, w_rest) = w.as_chunks::<LANES>();
        for ((dy, x), w) in dy_blocks.iter().zip(x_blocks).zip(w_blocks) {
            for lane in 0..LANES {
                let g = dy[lane] * weight(w[lane]);
                sum[lane] += g;
                product[lane] += g * ((x[lane] - mean) * scale);
            }
        }
        for (lane, ((&dy, &x), &w)) in dy_rest.iter().zip(x_rest).zip(w_rest).enumerate() {
            let g = dy * weight(w);
            sum[lane] += g;
            product[lane] += g * ((x - mean) * scale);
        }
        let n = dy.len() as f32;
        let (sum, product) = (combine(sum) / n, combine(product) / n);
        for (((dx, &dy), &x), &w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
            *dx += scale * (dy * weight(w) - sum - (x - mean) * scale * product);
        }
    }
}
