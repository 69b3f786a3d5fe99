//! Linear layers: y = act(x Wᵀ + b) + r with x (M, K), W (N, K), b (N), r (M, N), and their gradients
//! dx = dy W, dW = dyᵀ x, db = Σ over rows of dy. W may be of any element type where it is frozen: then there is no dW, and activations that the
//! forward pass rounds count as if it did not.

use super::elementwise::{derivative, unary};
use super::weight::{self, Weight};
use super::{axpy, begin, copy, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Activation, Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the forward kernel to a table.
pub fn inference<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const LINEAR: u8 = Op::Linear { activation: Activation::None, slope: false }.opcode();
    table.define::<LINEAR>(Kernel { run: forward, scratch_len: |node| weight::scratch_len(node, 1) })
}

/// Adds the kernels of this file to a table.
pub fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const BACKWARD: u8 = Op::LinearBackward.opcode();
    inference(table).define::<BACKWARD>(Kernel { run: backward, scratch_len: |node| weight::row_scratch_len(node, 2) })
}

/// One row of x against every row of W.
fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Linear { activation, slope }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [x, _, b, residual, ..] = views.inputs;
    let [y, pre, _] = views.outputs;
    let (k, n) = (node.input_shape(1).cols(), node.input_shape(1).rows());
    let has_residual = node.has_input(3);
    // When the residual was taken over, y holds it.
    if has_residual && !residual.is_empty() {
        copy(y, residual);
    }
    for i in 0..node.input_shape(0).rows() {
        let x = w.prepare(part(x, i.wrapping_mul(k), k), views.scratch); // (K)
        let y = part_mut(y, i.wrapping_mul(n), n); // (N), empty when only the value before the activation is wanted
        let pre = part_mut(pre, i.wrapping_mul(n), n); // (N)
        for j in 0..n {
            let sum = w.dot(j, &x) + b.get(j).copied().unwrap_or(R::ZERO);
            if let Some(pre) = pre.get_mut(j) {
                *pre = match activation.unary().filter(|_| slope) {
                    Some(kind) => derivative(kind, R::ZERO, R::ZERO, sum),
                    None => sum,
                };
            }
            if let Some(y) = y.get_mut(j) {
                let value = activation.unary().map_or(sum, |kind| unary(kind, R::ZERO, R::ZERO, sum));
                *y = if has_residual { *y + value } else { value };
            }
        }
    }
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let w = Weight::new(node, &views, 2);
    let [dy, x, _, addend, ..] = views.inputs;
    let [dx, dw, db] = views.outputs;
    let [add_x, add_w, add_b] = views.accumulate;
    let (k, n) = (node.input_shape(2).cols(), node.input_shape(2).rows());
    begin(dw, add_w);
    begin(db, add_b);
    // When the place of x was taken over, dx holds it until it is written.
    let x = if x.is_empty() { &*dx } else { x };
    for (i, dy) in dy.chunks_exact(n.max(1)).enumerate() {
        let x = part(x, i.wrapping_mul(k), k); // (K)
        for (j, &g) in dy.iter().enumerate() {
            axpy(part_mut(dw, j.wrapping_mul(k), k), g, x);
        }
        axpy(db, R::ONE, dy);
    }
    if !node.has_input(3) {
        begin(dx, add_x);
    } else if !addend.is_empty() {
        copy(dx, addend);
    }
    // Row by row of W, which may have to be read out of blocks: not where nobody wants dx.
    let rows = if dx.is_empty() { 0 } else { n };
    for j in 0..rows {
        let w = w.row(j, views.scratch); // (K)
        for (dx, dy) in dx.chunks_exact_mut(k.max(1)).zip(dy.chunks_exact(n.max(1))) {
            axpy(dx, dy.get(j).copied().unwrap_or(R::ZERO), w);
        }
    }
}
