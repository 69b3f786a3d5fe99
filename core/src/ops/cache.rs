//! Key and value caches: `state[b, starts[b] + t] = x[b, t]`. Tokens that would fall behind the end of the state are dropped.

use super::{copy, no_scratch, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the kernel of this file to a table.
pub fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table.with(Op::CacheWrite.opcode(), Kernel { run: forward, scratch_len: no_scratch })
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [x, ..] = views.inputs; // (B, T, ·)
    let [_, starts, ..] = views.ints; // (B)
    let [state, ..] = views.outputs; // (B, Tmax, C)
    let (from, to) = (node.input_shape(0), node.output_shape(0));
    let (tokens, capacity, c) = (from.dim(1), to.dim(1), to.dim(2));
    for (b, &start) in starts.iter().enumerate() {
        for t in 0..tokens {
            let at = (start.max(0) as usize).saturating_add(t);
            if at < capacity {
                let source = part(x, (b * tokens + t) * from.cols() + node.column(0), c);
                copy(part_mut(state, (b * capacity + at) * c, c), source);
            }
        }
    }
}
