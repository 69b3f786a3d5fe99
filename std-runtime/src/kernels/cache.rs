//! Reading key-value caches on threads: see `samara_core::ops::cache`.
//!
//! A quantised or half-precision cache is dequantised into the arena before attention, one layer at a time, which adds one layer's keys and values to
//! the arena. Core's own attention dequantises such a cache row by row instead: a device has no memory for a layer.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{DType, Node, Op};
use samara_core::ops::weight::dtype;
use samara_core::quant::dequantise_row;
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::simd::simd;
use super::{no_scratch, per_task};
use crate::tiles::for_each_chunk;

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table.with(Op::CacheRead.opcode(), Kernel { run: read, scratch_len: no_scratch })
}

fn read(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let [state, ..] = views.inputs; // (B, Tmax, C)
    let [_, live, ..] = views.ints; // (B)
    let [y, ..] = views.outputs; // (B, Tmax, C)
    let (capacity, c, dtype) = (node.input_shape(0).dim(1).max(1), node.input_shape(0).dim(2).max(1), dtype(node, 0));
    let bytes: &[u8] = bytemuck::cast_slice(state);
    let row_bytes = dtype.bytes(c, size_of::<f32>()).unwrap_or(0);
    for ((b, y), &live) in y.chunks_exact_mut(capacity * c).enumerate().zip(live) {
        let live = usize::try_from(live).unwrap_or(0).min(capacity);
        let rows = per_task(live, c);
        for_each_chunk(threads, &mut y[..live * c], rows * c, &|i, y| {
            let first = b * capacity + i * rows;
            if dtype == DType::Real {
                copy(y, &state[first * c..]);
            } else {
                read_rows(dtype, &bytes[first * row_bytes..][..y.len() / c * row_bytes], y);
            }
        });
    }
}

simd! {
    /// Dequantises consecutive rows.
    fn read_rows<M>(dtype: DType, bytes: &[u8], out: &mut [f32]) {
        dequantise_row(dtype, bytes, out);
    }
}
