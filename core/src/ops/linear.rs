//! Linear layers: y = act(x Wᵀ + b) + r with x (M, K), W (N, K), b (N), r (M, N), and their gradients dx = dy W, dW = dyᵀ x, db = Σ over rows of dy.
//! A frozen W may be of any element type: it gets no dW, and the rounding of activations in the forward pass is treated as the identity
//! (straight-through estimator).
//!
//! The kernel multiplies four rows of W at a time, with hand-unrolled inner loops. It is the oracle, and what devices run. With `opt-level = "s"`,
//! the profile for devices, compilers keep small loops and arrays, and generic code would be three times slower; unrolled, it is as fast as with `3`.
//! Every sum runs from left to right, so that the bits are those of a plain loop. Activations for quantised weights are stored as pairs of 16 bits,
//! which a Cortex-M multiplies without unpacking; with scales and sums that is 72 bytes of scratch per 32 activations.

use super::elementwise::{Activations, activation, activation_derivative, has};
use super::weight::{self, Weight};
use super::{axpy, begin, copy, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::args::{Args, Outputs, Refused};
use crate::graph::rules::{only, only_first};
use crate::graph::{Activation, Node, Op};
use crate::math::Real;
use crate::threads::Threads;

const LINEAR: u8 = Op::Linear { activation: Activation::None, slope: false }.opcode();

const BACKWARD: u8 = Op::LinearBackward.opcode();

/// Adds the forward kernel with these activations to a table, without the output that only training needs.
pub const fn inference<R: Real, A: Activations>(table: Kernels<R>) -> Kernels<R> {
    table.define_by::<LINEAR>(only_first_with::<A>, Kernel { run: forward::<R, A, false>, scratch_len })
}

/// Adds the kernels of this file to a table, with these activations.
pub const fn kernels<R: Real, A: Activations>(table: Kernels<R>) -> Kernels<R> {
    table
        .define_by::<LINEAR>(only_with::<A>, Kernel { run: forward::<R, A, true>, scratch_len })
        .define::<BACKWARD>(Kernel { run: backward, scratch_len: |node| weight::row_scratch_len(node, 2) })
}

/// The shape rule for a kernel with these activations.
fn only_with<A: Activations>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if has_activation::<A>(op) { only::<LINEAR>(op, args) } else { Err(Refused) }
}

/// The shape rule for a kernel with these activations that computes output 0 alone.
fn only_first_with<A: Activations>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if has_activation::<A>(op) { only_first::<LINEAR>(op, args) } else { Err(Refused) }
}

fn has_activation<A: Activations>(op: &Op) -> bool {
    matches!(op, Op::Linear { activation, .. } if has::<A>(*activation))
}

fn scratch_len(node: &Node<'_>) -> usize {
    weight::scratch_len(node, 1)
}

/// Outputs that are finished together: they are in scratch beside y, which may hold the residual.
const PIECE: usize = 32;

/// One row of x against every row of W.
fn forward<R: Real, A: Activations, const TRAINING: bool>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Linear { activation: kind, slope }) = node.op() else { return };
    let w = Weight::new(node, &views, 1);
    let [x, _, b, residual, ..] = views.inputs;
    let [y, pre, _] = views.outputs;
    let (k, n) = (node.input_shape(1).cols(), node.input_shape(1).rows());
    // If the residual's memory is reused, y holds the residual.
    let has_residual = node.has_input(3);
    if has_residual && !residual.is_empty() {
        copy(y, residual);
    }
    let mut sums = [R::ZERO; PIECE];
    for i in 0..node.input_shape(0).rows() {
        let x = w.prepare(part(x, i.wrapping_mul(k), k), views.scratch); // (K)
        for j in (0..n).step_by(PIECE) {
            let len = n.saturating_sub(j).min(PIECE);
            let at = i.wrapping_mul(n).wrapping_add(j);
            let sums = part_mut(&mut sums, 0, len);
            w.dots(j, &x, sums);
            axpy(sums, R::ONE, part(b, j, len));
            if TRAINING {
                keep::<R, A>(kind, slope, sums, part_mut(pre, at, len));
            }
            sums.iter_mut().for_each(|x| *x = activation::<R, A>(kind, *x));
            let y = part_mut(y, at, len); // empty when only pre is wanted
            if has_residual {
                axpy(y, R::ONE, sums);
            } else {
                copy(y, sums);
            }
        }
    }
}

/// Keeps the arguments of f, or its slopes f'(x) in their place.
fn keep<R: Real, A: Activations>(kind: Activation, slope: bool, x: &[R], to: &mut [R]) {
    copy(to, x);
    if slope && kind != Activation::None {
        to.iter_mut().for_each(|x| *x = activation_derivative::<R, A>(kind, *x));
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
    // If the memory of x is reused, dx holds x until it is written.
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
    // Row by row of W, which may need dequantising; skipped if dx has no reader.
    let rows = if dx.is_empty() { 0 } else { n };
    for j in 0..rows {
        let w = w.row(j, views.scratch); // (K)
        for (dx, dy) in dx.chunks_exact_mut(k.max(1)).zip(dy.chunks_exact(n.max(1))) {
            axpy(dx, dy.get(j).copied().unwrap_or(R::ZERO), w);
        }
    }
}
