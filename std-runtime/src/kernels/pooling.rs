//! The maximum of windows on threads: see `samara_core::ops::pooling`. Channels are contiguous, so that every tap is a pass over a vector of them.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op, Window};
use samara_core::ops::convolution::Geometry;
use samara_core::threads::Threads;

use super::simd::simd;
use super::{MAX_TASKS, no_scratch, per_task};
use crate::tiles::{Grid, Tile, for_each_chunk, for_each_item};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    let window = Window::square(1, 1, 0);
    table
        .with(Op::MaxPool { window }.opcode(), Kernel { run: forward, scratch_len: no_scratch })
        .with(Op::MaxPoolBackward { window }.opcode(), Kernel { run: backward, scratch_len: backward_scratch })
}

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::MaxPool { window }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let geometry = Geometry::new(window, node.input_shape(0), node.output_shape(0));
    let c = geometry.channels.max(1);
    let rows = per_task(y.len() / c, c * window.taps());
    for_each_chunk(threads, y, rows * c, &|task, y| {
        for (i, y) in y.chunks_exact_mut(c).enumerate() {
            largest(&geometry, x, task * rows + i, y);
        }
    });
}

/// y = the maximum of window `i` in every channel.
fn largest(geometry: &Geometry, x: &[f32], i: usize, y: &mut [f32]) {
    y.fill(f32::NEG_INFINITY);
    geometry.for_each_tap(i, |_, start| raise(y, &x[start..]));
}

simd! {
    /// y = max(x, y); NaN is the largest value.
    fn raise<M>(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x > *y || x.is_nan() { x } else { *y };
        }
    }
}

/// For each task the maxima of a window, and the gradients that have found no place yet.
fn backward_scratch(node: &Node<'_>) -> usize {
    2 * node.input_shape(1).cols() * node.input_shape(1).dim(0).min(MAX_TASKS)
}

/// Tasks take whole images, since windows overlap.
fn backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::MaxPoolBackward { window }) = node.op() else { return };
    let [dy, x, ..] = views.inputs;
    let [dx, ..] = views.outputs;
    let (images, image_len) = (node.input_shape(1).dim(0), node.input_shape(1).without_batch().len());
    let geometry = Geometry::new(window, node.input_shape(1), node.input_shape(0));
    let (c, count) = (geometry.channels, geometry.windows.iter().product::<usize>());
    let grid = Grid { matrix: Tile::new(dx, images, image_len, image_len), tile_rows: 1, tile_cols: image_len };
    for_each_item(threads, (images, images.div_ceil(MAX_TASKS)), [grid], (views.scratch, 2 * c), &|image, [mut dx], scratch| {
        let dx = dx.row(0);
        dx.fill(0.0);
        let (best, rest) = scratch.split_at_mut(c);
        for i in image * count..(image + 1) * count {
            largest(&geometry, x, i, best);
            rest.copy_from_slice(&dy[i * c..(i + 1) * c]);
            geometry.for_each_tap(i, |_, start| {
                let at = start - image * image_len;
                place(&mut dx[at..at + c], &x[start..start + c], best, rest);
            });
        }
    });
}

simd! {
    /// Where x is the maximum, moves the gradient that has no place yet to dx.
    fn place<M>(dx: &mut [f32], x: &[f32], best: &[f32], rest: &mut [f32]) {
        for (((dx, x), best), rest) in dx.iter_mut().zip(x).zip(best).zip(rest) {
            let is_first = x == best || (x.is_nan() && best.is_nan());
            *dx += if is_first { *rest } else { 0.0 };
            *rest = if is_first { 0.0 } else { *rest };
        }
    }
}
