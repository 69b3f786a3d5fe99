//! Operations along the tokens of (B, T, C): slice, pad with zeros, concatenate, replace; and reshape, which does nothing at run time.

use super::{copy, no_scratch};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table
        .define::<{ Op::TokenSlice { first: 0, count: 0 }.opcode() }>(Kernel { run: slice, scratch_len: no_scratch })
        .define::<{ Op::TokenPad { first: 0, tokens: 0 }.opcode() }>(Kernel { run: pad, scratch_len: no_scratch })
        .define::<{ Op::TokenConcat.opcode() }>(Kernel { run: concat, scratch_len: no_scratch })
        .define::<{ Op::TokenReplace { first: 0 }.opcode() }>(Kernel { run: replace, scratch_len: no_scratch })
        .define::<{ Op::Reshape { dims: [1; 4], rank: 0 }.opcode() }>(Kernel { run: reshape, scratch_len: no_scratch })
}

/// Elements of one sequence of input `i`.
fn sequence_len(node: &Node<'_>, i: usize) -> usize {
    node.input_shape(i).without_batch().len().max(1)
}

fn slice<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::TokenSlice { first, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let skip = (first as usize).saturating_mul(node.input_shape(0).cols());
    let count = node.output_shape(0).without_batch().len().max(1);
    for (y, x) in y.chunks_exact_mut(count).zip(x.chunks_exact(sequence_len(node, 0))) {
        copy(y, x.get(skip..).unwrap_or(&[]));
    }
}

fn pad<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::TokenPad { first, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let skip = (first as usize).saturating_mul(node.input_shape(0).cols());
    let count = node.output_shape(0).without_batch().len().max(1);
    y.fill(R::ZERO);
    for (y, x) in y.chunks_exact_mut(count).zip(x.chunks_exact(sequence_len(node, 0))) {
        copy(y.get_mut(skip..).unwrap_or(&mut []), x);
    }
}

fn concat<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [a, b, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let (la, lb) = (sequence_len(node, 0), sequence_len(node, 1));
    for ((y, a), b) in y.chunks_exact_mut(la.saturating_add(lb)).zip(a.chunks_exact(la)).zip(b.chunks_exact(lb)) {
        copy(y, a);
        copy(y.get_mut(la..).unwrap_or(&mut []), b);
    }
}

fn replace<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::TokenReplace { first }) = node.op() else { return };
    let [x, p, ..] = views.inputs;
    let [y, ..] = views.outputs;
    copy(y, x);
    let skip = (first as usize).saturating_mul(node.input_shape(0).cols());
    for (y, p) in y.chunks_exact_mut(sequence_len(node, 0)).zip(p.chunks_exact(sequence_len(node, 1))) {
        copy(y.get_mut(skip..).unwrap_or(&mut []), p);
    }
}

fn reshape<R: Real>(_: &Node<'_>, _: Views<'_, R>, _: &dyn Threads) {}
