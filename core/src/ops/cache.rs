//! Key-value caches: `state[b, starts[b] + t] = x[b, t]`, and back: `y[b, t] = state[b, t]` for live t. Tokens beyond the end of the state are
//! dropped. A state may have any element type: rows are quantised when written and dequantised when read.

use super::weight::dtype;
use super::{copy, no_scratch, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{DType, Node, Op};
use crate::math::Real;
use crate::quant::{BLOCK, f16_row, q8_row, read_row};
use crate::threads::Threads;

/// Adds the kernel that writes to a table.
pub const fn inference<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const WRITE: u8 = Op::CacheWrite.opcode();
    table.define::<WRITE>(Kernel { run: write, scratch_len: no_scratch })
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const READ: u8 = Op::CacheRead.opcode();
    inference(table).define::<READ>(Kernel { run: read, scratch_len: no_scratch })
}

fn write<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [x, ..] = views.inputs; // (B, T, ·)
    let [_, starts, ..] = views.ints; // (B)
    let [state, ..] = views.outputs; // (B, Tmax, C)
    let (from, to) = (node.input_shape(0), node.output_shape(0));
    let (tokens, capacity, c) = (from.dim(1), to.dim(1), to.dim(2));
    let (dtype, row_bytes) = (dtype(node, 2), row_bytes(node, 2));
    for (b, &start) in starts.iter().enumerate() {
        for t in 0..tokens {
            let at = (start.max(0) as usize).saturating_add(t);
            if at >= capacity {
                continue;
            }
            let source = part(x, (b * tokens + t) * from.cols() + node.column(0), c);
            let row = b * capacity + at;
            if dtype == DType::Real {
                copy(part_mut(state, row * c, c), source);
            } else {
                let bytes: &mut [u8] = bytemuck::try_cast_slice_mut(state).unwrap_or(&mut []);
                round_row(dtype, source, part_mut(bytes, row * row_bytes, row_bytes));
            }
        }
    }
}

/// Bytes of a row of input `i`.
fn row_bytes(node: &Node<'_>, i: usize) -> usize {
    dtype(node, i).bytes(node.input_shape(i).cols(), size_of::<f32>()).unwrap_or(0)
}

/// Quantises a row into half precision or quantisation blocks, one block at a time.
fn round_row<R: Real>(dtype: DType, row: &[R], bytes: &mut [u8]) {
    let mut block = [0.0f32; BLOCK];
    let block_bytes = dtype.bytes(BLOCK, size_of::<f32>()).unwrap_or(1).max(1);
    for (x, bytes) in row.chunks(BLOCK).zip(bytes.chunks_mut(block_bytes)) {
        for (to, x) in block.iter_mut().zip(x) {
            *to = x.to_f64() as f32;
        }
        match dtype {
            DType::F16 => f16_row(&block, bytes),
            DType::Q8 => q8_row(&block, bytes),
            DType::Real | DType::I32 | DType::Q4 => {}
        }
    }
}

fn read<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let [state, ..] = views.inputs; // (B, Tmax, C)
    let [_, live, ..] = views.ints; // (B)
    let [y, ..] = views.outputs; // (B, Tmax, C)
    let (capacity, c, row_bytes) = (node.input_shape(0).dim(1), node.input_shape(0).dim(2), row_bytes(node, 0));
    for (b, &live) in live.iter().enumerate() {
        for row in (b * capacity..).take((live.max(0) as usize).min(capacity)) {
            let y = part_mut(y, row * c, c);
            if dtype(node, 0) == DType::Real {
                copy(y, part(state, row * c, c));
            } else {
                let bytes: &[u8] = bytemuck::try_cast_slice(state).unwrap_or(&[]);
                read_row(dtype(node, 0), part(bytes, row * row_bytes, row_bytes), y);
            }
        }
    }
}
