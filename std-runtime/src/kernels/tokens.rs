//! Operations along tokens on threads: see `samara_core::ops::tokens`. A task copies whole sequences.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op};
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::{no_scratch, per_task};
use crate::tiles::for_each_chunk;

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(Op::TokenSlice { first: 0, count: 0 }.opcode(), Kernel { run: slice, scratch_len: no_scratch })
        .with(Op::TokenPad { first: 0, tokens: 0 }.opcode(), Kernel { run: pad, scratch_len: no_scratch })
        .with(Op::TokenConcat.opcode(), Kernel { run: concat, scratch_len: no_scratch })
        .with(Op::TokenReplace { first: 0 }.opcode(), Kernel { run: replace, scratch_len: no_scratch })
}

/// Elements of one sequence of input `i`.
fn input_len(node: &Node<'_>, i: usize) -> usize {
    node.input_shape(i).without_batch().len()
}

/// Calls `f(b, y)` for every sequence b of the result.
fn for_each_sequence(node: &Node<'_>, y: &mut [f32], threads: &dyn Threads, f: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let len = node.output_shape(0).without_batch().len().max(1);
    let sequences = per_task(y.len() / len, len);
    for_each_chunk(threads, y, sequences * len, &|i, y| {
        y.chunks_exact_mut(len).enumerate().for_each(|(j, y)| f(i * sequences + j, y));
    });
}

/// Sequence `b` of x, of `len` elements.
fn sequence(x: &[f32], b: usize, len: usize) -> &[f32] {
    &x[b * len..(b + 1) * len]
}

fn slice(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::TokenSlice { first, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let (len, skip) = (input_len(node, 0), first as usize * node.input_shape(0).cols());
    for_each_sequence(node, y, threads, &|b, y| copy(y, &sequence(x, b, len)[skip..]));
}

fn pad(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::TokenPad { first, .. }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let (len, skip) = (input_len(node, 0), first as usize * node.input_shape(0).cols());
    for_each_sequence(node, y, threads, &|b, y| {
        y[..skip].fill(0.0);
        copy(&mut y[skip..], sequence(x, b, len));
        y[skip + len..].fill(0.0);
    });
}

fn concat(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [a, b, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let lens = [input_len(node, 0), input_len(node, 1)];
    for_each_sequence(node, y, threads, &|i, y| {
        copy(y, sequence(a, i, lens[0]));
        copy(&mut y[lens[0]..], sequence(b, i, lens[1]));
    });
}

fn replace(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::TokenReplace { first }) = node.op() else { return };
    let [x, p, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let (len, skip) = (input_len(node, 1), first as usize * node.input_shape(0).cols());
    for_each_sequence(node, y, threads, &|b, y| {
        // If the memory of x is reused, y holds x.
        if !x.is_empty() {
            let row = y.len();
            copy(y, sequence(x, b, row));
        }
        copy(&mut y[skip..], sequence(p, b, len));
    });
}
