//! Layer norm over columns: y = (x − μ) r · w + b with r = 1/√(σ² + ε), x (M, C), w and b (C). Ba, Kiros, Hinton 2016.
//!
//! The backward pass uses the saved μ and r (M, 2): with x̂ = (x − μ) r and g = dy · w,
//! dx = r (g − mean(g) − x̂ mean(g x̂)), dw = Σ dy x̂, db = Σ dy.

use super::{axpy, begin, copy, no_scratch, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the forward kernel to a table.
pub const fn inference<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const LAYER_NORM: u8 = Op::LayerNorm { eps: 1.0 }.opcode();
    table.define::<LAYER_NORM>(Kernel { run: forward, scratch_len: no_scratch })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const BACKWARD: u8 = Op::LayerNormBackward.opcode();
    inference(table).define::<BACKWARD>(Kernel { run: backward, scratch_len: no_scratch })
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::LayerNorm { eps }) = node.op() else { return };
    let [x, w, b, ..] = views.inputs;
    let [y, statistics, _] = views.outputs;
    let c = node.input_shape(0).cols();
    for (i, x) in x.chunks_exact(c.max(1)).enumerate() {
        let (mean, scale) = statistics_of(x, R::from_f64(eps));
        if let [m, s] = part_mut(statistics, i.wrapping_mul(2), 2) {
            (*m, *s) = (mean, scale);
        }
        for (j, (y, &x)) in part_mut(y, i.wrapping_mul(c), c).iter_mut().zip(x).enumerate() {
            *y = (x - mean) * scale * weight(w, j) + b.get(j).copied().unwrap_or(R::ZERO);
        }
    }
}

/// μ and 1/√(σ² + ε), in two passes.
fn statistics_of<R: Real>(x: &[R], eps: R) -> (R, R) {
    let n = R::from_usize(x.len());
    let mean = x.iter().fold(R::ZERO, |sum, &x| sum + x) / n;
    let variance = x.iter().fold(R::ZERO, |sum, &x| sum + (x - mean) * (x - mean)) / n;
    (mean, R::ONE / (variance + eps).sqrt())
}

fn weight<R: Real>(w: &[R], j: usize) -> R {
    w.get(j).copied().unwrap_or(R::ONE)
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [dy, x, w, statistics, addend, ..] = views.inputs;
    let [dx, dw, db] = views.outputs;
    let [add_x, add_w, add_b] = views.accumulate;
    let c = node.input_shape(1).cols();
    let n = R::from_usize(c);
    if !node.has_input(4) {
        begin(dx, add_x);
    } else if !addend.is_empty() {
        copy(dx, addend);
    }
    begin(dw, add_w);
    begin(db, add_b);
    for (i, (dy, x)) in dy.chunks_exact(c.max(1)).zip(x.chunks_exact(c.max(1))).enumerate() {
        let &[mean, scale] = part(statistics, i.wrapping_mul(2), 2) else { continue };
        let normed = |x: R| (x - mean) * scale;
        let mut sum = R::ZERO;
        let mut product = R::ZERO;
        for (j, (&dy, &x)) in dy.iter().zip(x).enumerate() {
            let g = dy * weight(w, j);
            sum += g;
            product += g * normed(x);
        }
        for (j, ((dx, &dy), &x)) in part_mut(dx, i.wrapping_mul(c), c).iter_mut().zip(dy).zip(x).enumerate() {
            *dx += scale * (dy * weight(w, j) - sum / n - normed(x) * (product / n));
        }
        for ((dw, &dy), &x) in dw.iter_mut().zip(dy).zip(x) {
            *dw += dy * normed(x);
        }
        axpy(db, R::ONE, dy);
    }
}
