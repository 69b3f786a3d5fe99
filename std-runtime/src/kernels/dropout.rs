//! Dropout over tasks: see `samara_core::ops::dropout`.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op};
use samara_core::ops::dropout::Mask;
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::vector::{Isa, LANES, vectorised};
use super::{no_scratch, per_task};
use crate::tiles::for_each_chunk;

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table.with(Op::Dropout { site: 0 }.opcode(), Kernel { run: forward, scratch_len: no_scratch })
}

/// Elements whose random bits are generated together: Philox blocks of four, one block per lane.
const DRAWN: usize = 4 * LANES;

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::Dropout { site }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [_, control, ..] = views.ints;
    let [y, ..] = views.outputs;
    let mask = Mask::new(control, site);
    let isa = Isa::detect();
    let len = per_task(y.len(), if mask.is_off() { 1 } else { 8 }).next_multiple_of(DRAWN);
    for_each_chunk(threads, y, len, &|i, y| {
        copy(y, x.get(i * len..).unwrap_or_default());
        if !mask.is_off() {
            apply(isa, &mask, y, (i * len / 4) as u32);
        }
    });
}

vectorised! {
    /// Multiplies elements from 4 · `block` on by their factors.
    fn apply<V>(mask: &Mask, y: &mut [f32], block: u32) {
        for (n, y) in y.chunks_mut(DRAWN).enumerate() {
            let mut blocks = [block; LANES];
            for (i, block) in blocks.iter_mut().enumerate() {
                *block = block.wrapping_add((n * LANES + i) as u32);
            }
            let drawn = mask.factors(blocks);
            let mut factors = [[0.0; 4]; LANES];
            for (i, factors) in factors.iter_mut().enumerate() {
                *factors = [drawn[0][i], drawn[1][i], drawn[2][i], drawn[3][i]];
            }
            for (y, factor) in y.iter_mut().zip(factors.as_flattened()) {
                *y = if *factor == 0.0 { 0.0 } else { *y * factor };
            }
        }
    }
}
