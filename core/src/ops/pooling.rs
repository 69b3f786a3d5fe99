//! The maximum of windows of images (N, H, W, C), and its gradient. NaN counts as the largest value, as in PyTorch.

use super::convolution::Geometry;
use super::no_scratch;
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op, Window};
use crate::math::Real;
use crate::threads::Threads;

const WINDOW: Window = Window::square(1, 1, 0);

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table.define::<{ Op::MaxPool { window: WINDOW }.opcode() }>(Kernel { run: forward, scratch_len: no_scratch }).define::<{
        Op::MaxPoolBackward { window: WINDOW }.opcode()
    }>(Kernel {
        run: backward,
        scratch_len: no_scratch,
    })
}

/// The first maximum of window `i` in one channel, and its place in x; −∞ without any element in the image.
pub fn first_maximum<R: Real>(geometry: &Geometry, x: &[R], i: usize, channel: usize) -> (R, Option<usize>) {
    let mut best = (R::NEG_INFINITY, None);
    geometry.for_each_tap(i, |_, start| {
        let at = start.wrapping_add(channel);
        let Some(&x) = x.get(at) else { return };
        // The first element counts whatever it is, and a NaN more than any number.
        if best.1.is_none() || x > best.0 || (is_nan(x) && !is_nan(best.0)) {
            best = (x, Some(at));
        }
    });
    best
}

fn is_nan<R: Real>(x: R) -> bool {
    x.partial_cmp(&x).is_none()
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::MaxPool { window }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let geometry = Geometry::new(window, node.input_shape(0), node.output_shape(0));
    for (i, y) in y.chunks_exact_mut(geometry.channels.max(1)).enumerate() {
        for (channel, y) in y.iter_mut().enumerate() {
            *y = first_maximum(&geometry, x, i, channel).0;
        }
    }
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::MaxPoolBackward { window }) = node.op() else { return };
    let [dy, x, ..] = views.inputs;
    let [dx, ..] = views.outputs;
    let geometry = Geometry::new(window, node.input_shape(1), node.input_shape(0));
    dx.fill(R::ZERO);
    for (i, dy) in dy.chunks_exact(geometry.channels.max(1)).enumerate() {
        for (channel, &dy) in dy.iter().enumerate() {
            let (_, place) = first_maximum(&geometry, x, i, channel);
            if let Some(dx) = place.and_then(|at| dx.get_mut(at)) {
                *dx += dy;
            }
        }
    }
}
