//! Rows of a table: `y = table[id] + addend` with ids (M), table (V, C), and the gradient `dtable[v] = Σ dy[i]` over all i with id v.

use super::weight::{self, Weight};
use super::{axpy, begin, copy, no_scratch, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{DType, Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the forward kernel to a table.
pub const fn inference<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const EMBEDDING: u8 = Op::Embedding.opcode();
    table.define::<EMBEDDING>(Kernel { run: forward, scratch_len })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const BACKWARD: u8 = Op::EmbeddingBackward { vocab: 0 }.opcode();
    inference(table).define::<BACKWARD>(Kernel { run: backward, scratch_len: no_scratch })
}

/// Scratch for a row of a table that is not of type `R`, to be added.
fn scratch_len(node: &Node<'_>) -> usize {
    if weight::dtype(node, 1) != DType::Real && node.has_input(2) { node.input_shape(1).cols() } else { 0 }
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let table = Weight::new(node, &views, 1);
    let [_, _, addend, ..] = views.inputs;
    let [ids, ..] = views.ints;
    let [y, ..] = views.outputs;
    let c = node.input_shape(1).cols();
    let has_addend = node.has_input(2);
    if has_addend && !addend.is_empty() {
        copy(y, addend);
    }
    for (y, &id) in y.chunks_exact_mut(c.max(1)).zip(ids) {
        let id = id.max(0) as usize;
        if !has_addend {
            table.read_row(id, y);
        } else if table.dtype == DType::Real {
            axpy(y, R::ONE, part(table.real, id.wrapping_mul(c), c));
        } else {
            table.read_row(id, views.scratch);
            axpy(y, R::ONE, views.scratch);
        }
    }
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [_, dy, ..] = views.inputs;
    let [ids, ..] = views.ints;
    let [dtable, ..] = views.outputs;
    let [accumulate, ..] = views.accumulate;
    let c = node.input_shape(1).cols();
    begin(dtable, accumulate);
    for (dy, &id) in dy.chunks_exact(c.max(1)).zip(ids) {
        axpy(part_mut(dtable, (id.max(0) as usize).wrapping_mul(c), c), R::ONE, dy);
    }
}
