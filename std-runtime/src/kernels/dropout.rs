//! Dropout over tasks: see `samara_core::ops::dropout`.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op};
use samara_core::ops::dropout::Mask;
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::{no_scratch, per_task};
use crate::tiles::for_each_chunk;

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table.with(Op::Dropout { site: 0 }.opcode(), Kernel { run: forward, scratch_len: no_scratch })
}

/// Elements that share one random number block.
const BLOCK: usize = 4;

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Dropout { site }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [_, control, ..] = views.ints;
    let [y, ..] = views.outputs;
    let mask = Mask::new(control, site);
    let len = per_task(y.len(), if mask.is_off() { 1 } else { 24 }).next_multiple_of(BLOCK);
    for_each_chunk(threads, y, len, &|i, y| {
        copy(y, x.get(i * len..).unwrap_or_default());
        mask.apply(y, i * len);
    });
}
