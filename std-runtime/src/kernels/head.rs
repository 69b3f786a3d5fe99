//! The language-model head with its cross-entropy over chunks of rows: see `samara_core::ops::head` for formulas and shapes.
//!
//! The logits of a chunk are in scratch, are replaced by their gradient, and are multiplied into dX and dW.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::graph::{Node, Op};
use samara_core::math::fast;
use samara_core::ops::head::upstream_of;
use samara_core::ops::weight::Weight;
use samara_core::threads::Threads;

use super::elementwise::add;
use super::epilogue::Epilogue;
use super::linear::column_sums;
use super::simd::{map, max, simd, sum_by};
use super::{Product, per_task, quant, store, through};
use crate::tiles::{Grid, Tile, for_each_item};

pub(super) fn kernels<G: Product>(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(Op::HeadLoss { smoothing: 0.0 }.opcode(), Kernel { run: forward::<G>, scratch_len: forward_scratch::<G> })
        .with(Op::HeadLossTrain { smoothing: 0.0 }.opcode(), Kernel { run: train::<G>, scratch_len: gradient_scratch::<G> })
        .with(Op::HeadLossBackward { smoothing: 0.0 }.opcode(), Kernel { run: backward::<G>, scratch_len: gradient_scratch::<G> })
        .with(
            Op::HeadEntropyBackward { smoothing: 0.0 }.opcode(),
            Kernel { run: entropy_backward::<G>, scratch_len: gradient_scratch::<G> },
        )
}

/// The most logits in memory at a time.
const LOGITS: usize = 13_000_000;
/// Least rows of a chunk: dW is read and written once per chunk.
const ROWS: usize = 64;

/// M, C, V, and rows of a chunk.
fn extents(node: &Node<'_>) -> (usize, usize, usize, usize) {
    let (m, c, v) = (node.input_shape(0).rows(), node.input_shape(0).cols(), node.input_shape(1).rows());
    let most = (LOGITS / v.max(1)).max(ROWS);
    let rows = m.div_ceil(m.div_ceil(most).max(1)).max(1);
    (m, c, v, rows)
}

fn forward_scratch<G: Product>(node: &Node<'_>) -> usize {
    let (m, _, v, rows) = extents(node);
    // The last chunk may be shorter, and yet need more.
    let last = m.saturating_sub(1) % rows + 1;
    rows * v + quant::scratch_len::<G>(node, 1, rows).max(quant::scratch_len::<G>(node, 1, last))
}

fn gradient_scratch<G: Product>(node: &Node<'_>) -> usize {
    let (m, c, v, rows) = extents(node);
    let last = m.saturating_sub(1) % rows + 1;
    let products = |rows| {
        let (logits, dx) = (quant::scratch_len::<G>(node, 1, rows), through::scratch_len::<G>(node, 1, rows));
        [logits, dx, G::scratch_len(Major::Columns, v, c, rows)]
    };
    rows * v + products(rows).into_iter().chain(products(last)).max().unwrap_or(0)
}

/// What to compute for the rows of logits.
#[derive(Clone, Copy)]
struct Rows<'a> {
    targets: &'a [i32],
    upstream: &'a [f32],
    /// The upstream gradient of the entropy; empty without one.
    of_entropy: &'a [f32],
    smoothing: f32,
    /// Whether logits become gradients.
    gradient: bool,
}

fn forward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::HeadLoss { smoothing }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [x, _, b, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [losses, lses, entropies] = views.outputs;
    let (m, c, v, rows) = extents(node);
    let (logits, scratch) = views.scratch.split_at_mut(rows * v);
    for first in (0..m).step_by(rows) {
        let count = rows.min(m - first);
        let logits = &mut logits[..count * v]; // (rows, V)
        let x = MatRef::new(&x[first * c..], count, c);
        multiply_logits::<G>(threads, x, (&w, b), logits, scratch);
        let what =
            Rows { targets: &targets[first..], upstream: &[], of_entropy: &[], smoothing: smoothing as f32, gradient: false };
        let outputs = [&mut *losses, &mut *lses, &mut *entropies].map(|x| part(x, first, count));
        softmax_rows(threads, what, logits, v, outputs);
    }
}

fn train<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::HeadLossTrain { smoothing }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [losses, dx, dw] = views.outputs;
    let [x, _, _, _, upstream, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [_, _, add_w] = views.accumulate;
    let what = Rows { targets, upstream, of_entropy: &[], smoothing: smoothing as f32, gradient: true };
    gradients::<G>(node, threads, what, (x, &w, &[]), (losses, dx, dw, &mut []), (add_w, false), views.scratch);
}

fn backward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::HeadLossBackward { smoothing }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [dx, dw, db] = views.outputs;
    let [x, _, b, _, upstream, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [_, add_w, add_b] = views.accumulate;
    let what = Rows { targets, upstream, of_entropy: &[], smoothing: smoothing as f32, gradient: true };
    gradients::<G>(node, threads, what, (x, &w, b), (&mut [], dx, dw, db), (add_w, add_b), views.scratch);
}

fn entropy_backward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::HeadEntropyBackward { smoothing }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [dx, dw, db] = views.outputs;
    let [x, _, b, _, upstream, _, of_entropy, ..] = views.inputs;
    let [_, _, _, targets, ..] = views.ints;
    let [_, add_w, add_b] = views.accumulate;
    let what = Rows { targets, upstream, of_entropy, smoothing: smoothing as f32, gradient: true };
    gradients::<G>(node, threads, what, (x, &w, b), (&mut [], dx, dw, db), (add_w, add_b), views.scratch);
}

type Outputs<'a> = (&'a mut [f32], &'a mut [f32], &'a mut [f32], &'a mut [f32]);

/// Losses, dx, dW, db of all rows, a chunk after the other.
fn gradients<G: Product>(
    node: &Node<'_>,
    threads: &dyn Threads,
    what: Rows<'_>,
    (x, w, b): (&[f32], &Weight<'_, f32>, &[f32]),
    (losses, dx, dw, db): Outputs<'_>,
    (add_w, add_b): (bool, bool),
    scratch: &mut [f32],
) {
    let (m, c, v, rows) = extents(node);
    let (logits, scratch) = scratch.split_at_mut(rows * v);
    for first in (0..m).step_by(rows) {
        let count = rows.min(m - first);
        let logits = &mut logits[..count * v]; // (rows, V)
        let x = MatRef::new(&x[first * c..], count, c);
        multiply_logits::<G>(threads, x, (w, b), logits, scratch);
        let [upstream, of_entropy] = [what.upstream, what.of_entropy].map(|x| if x.len() <= 1 { x } else { &x[first..] });
        let what = Rows { targets: &what.targets[first..], upstream, of_entropy, ..what };
        softmax_rows(threads, what, logits, v, [part(losses, first, count), &mut [], &mut []]);
        let dz = MatRef::new(logits, count, v);
        let dx = part(dx, first * c, count * c);
        if !dx.is_empty() {
            through::multiply::<G>(threads, dz, w, dx, Store::Overwrite, scratch);
        }
        if !dw.is_empty() {
            G::multiply(threads, dz.t(), x, dw, store(add_w || first > 0), None, scratch);
        }
        column_sums(threads, logits, db, add_b || first > 0);
    }
}

/// z = x Wᵀ + b.
fn multiply_logits<G: Product>(
    threads: &dyn Threads,
    x: MatRef<'_, f32>,
    (w, b): (&Weight<'_, f32>, &[f32]),
    logits: &mut [f32],
    scratch: &mut [f32],
) {
    let bias = |_: usize, col: usize, z: &mut [f32], _: &mut [f32]| add(z, b.get(col..).unwrap_or_default());
    let epilogue = if b.is_empty() { None } else { Some(Epilogue::new(&bias)) };
    quant::multiply::<G>(threads, x, w, logits, Store::Overwrite, epilogue, scratch);
}

/// Elements start..start+len; empty if they are out of bounds.
fn part(x: &mut [f32], start: usize, len: usize) -> &mut [f32] {
    x.get_mut(start..start + len).unwrap_or_default()
}

/// Losses, log-sum-exps and entropies of rows of logits (rows, V), each if requested, and the gradients of the losses in place.
fn softmax_rows(threads: &dyn Threads, what: Rows<'_>, logits: &mut [f32], v: usize, outputs: [&mut [f32]; 3]) {
    let count = logits.len() / v;
    let rows = per_task(count, v * 16);
    let column = |x| Grid { matrix: Tile::new(x, count, 1, 1), tile_rows: rows, tile_cols: 1 };
    let logits = Grid { matrix: Tile::new(logits, count, v, v), tile_rows: rows, tile_cols: v };
    let [losses, lses, entropies] = outputs;
    let with_entropy = !entropies.is_empty();
    let grids = [logits, column(losses), column(lses), column(entropies)];
    for_each_item(
        threads,
        (count.div_ceil(rows), 1),
        grids,
        (&mut [], 0),
        &|item, [mut z, mut losses, mut lses, mut entropies], _| {
            for i in 0..z.rows() {
                let row = item * rows + i;
                if !what.of_entropy.is_empty() {
                    let upstreams = [what.upstream, what.of_entropy].map(|upstream| upstream_of(upstream, row));
                    entropy_gradient(z.row(i), what.targets[row], upstreams, what.smoothing);
                    continue;
                }
                let (loss, lse) =
                    softmax(z.row(i), what.targets[row], upstream_of(what.upstream, row), what.smoothing, what.gradient);
                losses.row(i).fill(loss);
                lses.row(i).fill(lse);
                if with_entropy {
                    entropies.row(i).fill(entropy(z.row(i), lse));
                }
            }
        },
    );
}

simd! {
    /// The loss and the log-sum-exp of a row of logits; with `gradient` the logits are replaced by their gradient times `g`.
    fn softmax<M>(z: &mut [f32], target: i32, g: f32, smoothing: f32, gradient: bool) -> (f32, f32) {
        let hit = usize::try_from(target).ok().and_then(|t| z.get(t)).copied();
        let uniform = smoothing / z.len() as f32;
        let largest = max(z);
        let mean = if smoothing == 0.0 { 0.0 } else { sum_by(z, |z| z) / z.len() as f32 };
        let sum = if gradient {
            map(z, |z| fast::exp(z - largest));
            sum_by(z, |z| z)
        } else {
            sum_by(z, |z| fast::exp(z - largest))
        };
        let lse = largest + sum.ln();
        let Some(hit) = hit else {
            if gradient {
                z.fill(0.0);
            }
            return (0.0, lse);
        };
        if gradient {
            let scale = 1.0 / sum;
            map(z, |z| (z * scale - uniform) * g);
            if let Some(z) = z.get_mut(target as usize) {
                *z -= (1.0 - smoothing) * g;
            }
        }
        (lse - (1.0 - smoothing) * hit - smoothing * mean, lse)
    }
}

simd! {
    /// −Σ p ln p of a row of logits whose log-sum-exp is known.
    fn entropy<M>(z: &[f32], lse: f32) -> f32 {
        // z − lse is ln p, which is never far above 0: no sum overflows.
        -sum_by(z, |z| fast::exp(z - lse) * (z - lse))
    }
}

simd! {
    /// Turns a row of logits into `g` times the gradient of its loss and `u` times that of its entropy.
    fn entropy_gradient<M>(z: &mut [f32], target: i32, upstreams: [f32; 2], smoothing: f32) {
        let [g, u] = upstreams;
        let target = usize::try_from(target).ok().filter(|&t| t < z.len());
        let g = if target.is_some() { g } else { 0.0 };
        let uniform = smoothing / z.len() as f32;
        let largest = max(z);
        let lse = largest + sum_by(z, |z| fast::exp(z - largest)).ln();
        let entropy = -sum_by(z, |z| fast::exp(z - lse) * (z - lse));
        map(z, |z| {
            let p = fast::exp(z - lse);
            (p - uniform) * g - u * p * (z - lse + entropy)
        });
        if let Some(z) = target.and_then(|target| z.get_mut(target)) {
            *z -= (1.0 - smoothing) * g;
        }
    }
}
