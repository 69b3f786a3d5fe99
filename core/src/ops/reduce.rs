//! Broadcasts and reductions over the variants of [`Over`], and the gradient of a maximum.

use super::elementwise::Spread;
use super::no_scratch;
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op, Over, ReduceKind};
use crate::math::Real;
use crate::threads::Threads;

/// Adds broadcasting alone.
pub const fn broadcast_kernel<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const BROADCAST: u8 = Op::Broadcast { over: Over::Same, dims: [1; 4], rank: 0 }.opcode();
    table.define::<BROADCAST>(Kernel { run: broadcast, scratch_len: no_scratch })
}

/// Adds what gradients of broadcasts and of replaced tokens need: sums and constants.
pub const fn gradient_kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const REDUCE: u8 = Op::Reduce { kind: ReduceKind::Sum, over: Over::Same }.opcode();
    const CONSTANT: u8 = Op::Constant { value: 0.0, dims: [1; 4], rank: 0 }.opcode();
    table
        .define::<REDUCE>(Kernel { run: reduce, scratch_len: no_scratch })
        .define::<CONSTANT>(Kernel { run: constant, scratch_len: no_scratch })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const MAX_BACKWARD: u8 = Op::ReduceMaxBackward { over: Over::Same }.opcode();
    gradient_kernels(broadcast_kernel(table)).define::<MAX_BACKWARD>(Kernel { run: max_backward, scratch_len })
}

fn broadcast<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Broadcast { over, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let spread = Spread::new(over, node.output_shape(0));
    for (i, y) in y.iter_mut().enumerate() {
        *y = x.get(spread.index(i)).copied().unwrap_or(R::ZERO);
    }
}

fn reduce<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Reduce { kind, over }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let spread = Spread::new(over, node.input_shape(0));
    y.fill(match kind {
        ReduceKind::Sum => R::ZERO,
        ReduceKind::Max => R::NEG_INFINITY,
    });
    for (i, &x) in x.iter().enumerate() {
        if let Some(y) = y.get_mut(spread.index(i)) {
            *y = match kind {
                ReduceKind::Sum => *y + x,
                ReduceKind::Max => y.max(x),
            };
        }
    }
}

/// How often each maximum occurs.
fn scratch_len(node: &Node<'_>) -> usize {
    node.input_shape(0).len()
}

fn max_backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::ReduceMaxBackward { over }) = node.op() else { return };
    let [dy, x, y, ..] = views.inputs;
    let [dx, ..] = views.outputs;
    let counts = views.scratch;
    let spread = Spread::new(over, node.input_shape(1));
    counts.fill(R::ZERO);
    for (i, &x) in x.iter().enumerate() {
        let j = spread.index(i);
        if let (Some(count), Some(&y)) = (counts.get_mut(j), y.get(j))
            && x == y
        {
            *count += R::ONE;
        }
    }
    for (i, (dx, &x)) in dx.iter_mut().zip(x).enumerate() {
        let j = spread.index(i);
        *dx = match (dy.get(j), y.get(j), counts.get(j)) {
            (Some(&dy), Some(&y), Some(&count)) if x == y => dy / count,
            _ => R::ZERO,
        };
    }
}

fn constant<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Constant { value, .. }) = node.op() else { return };
    let [y, ..] = views.outputs;
    y.fill(R::from_f64(value));
}
