//! Operations along the tokens of (B, T, C): slice, pad with zeros, concatenate, replace; and reshape, which does no work at run time.

use super::{copy, no_scratch, part};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    gradient_kernels(inference(table))
}

/// Adds the kernels of gradients alone.
pub const fn gradient_kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table.define::<{ Op::TokenPad { first: 0, tokens: 0 }.opcode() }>(Kernel { run: pad, scratch_len: no_scratch })
}

/// Adds the kernels of a forward pass.
pub const fn inference<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table
        .define::<{ Op::TokenSlice { first: 0, count: 0 }.opcode() }>(Kernel { run: slice, scratch_len: no_scratch })
        .define::<{ Op::TokenConcat.opcode() }>(Kernel { run: concat, scratch_len: no_scratch })
        .define::<{ Op::TokenReplace { first: 0 }.opcode() }>(Kernel { run: replace, scratch_len: no_scratch })
        .define::<{ Op::Reshape { dims: [1; 4], rank: 0 }.opcode() }>(Kernel { run: reshape, scratch_len: no_scratch })
}

/// Elements of one sequence of input `i`. Sequences are found by [`part`], not by zipped chunks: those divide, and at `opt-level = "s"` compilers do
/// not see that the divisor is never 0 and keep a panic.
fn sequence_len(node: &Node<'_>, i: usize) -> usize {
    node.input_shape(i).without_batch().len().max(1)
}

fn slice<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::TokenSlice { first, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let skip = (first as usize).saturating_mul(node.input_shape(0).cols());
    let count = node.output_shape(0).without_batch().len().max(1);
    let len = sequence_len(node, 0);
    for (i, y) in y.chunks_exact_mut(count).enumerate() {
        copy(y, part(x, i.wrapping_mul(len), len).get(skip..).unwrap_or(&[]));
    }
}

fn pad<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::TokenPad { first, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let skip = (first as usize).saturating_mul(node.input_shape(0).cols());
    let count = node.output_shape(0).without_batch().len().max(1);
    y.fill(R::ZERO);
    let len = sequence_len(node, 0);
    for (i, y) in y.chunks_exact_mut(count).enumerate() {
        copy(y.get_mut(skip..).unwrap_or(&mut []), part(x, i.wrapping_mul(len), len));
    }
}

fn concat<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [a, b, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let (la, lb) = (sequence_len(node, 0), sequence_len(node, 1));
    for (i, y) in y.chunks_exact_mut(la.saturating_add(lb)).enumerate() {
        copy(y, part(a, i.wrapping_mul(la), la));
        copy(y.get_mut(la..).unwrap_or(&mut []), part(b, i.wrapping_mul(lb), lb));
    }
}

fn replace<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::TokenReplace { first }) = node.op() else { return };
    let [x, p, ..] = views.inputs;
    let [y, ..] = views.outputs;
    copy(y, x);
    let skip = (first as usize).saturating_mul(node.input_shape(0).cols());
    let len = sequence_len(node, 1);
    for (i, y) in y.chunks_exact_mut(sequence_len(node, 0)).enumerate() {
        copy(y.get_mut(skip..).unwrap_or(&mut []), part(p, i.wrapping_mul(len), len));
    }
}

fn reshape<R: Real>(_: &Node<'_>, _: Views<'_, R>, _: &dyn Threads) {}
