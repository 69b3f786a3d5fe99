//! Convolution of images: y = act(s ⊙ (x ∗ W) + b + r) with x (N, H, W, C), weight (O, kh·kw·C), s and b (O), r (N, Ho, Wo, O).
//!
//! With g the gradient before the activation: dx is the sum over all windows of (g ⊙ s) W, each value at the place that its tap reads. With U = gᵀ · windows
//! (O, kh·kw·C), dW = s ⊙ U, and ds = Σ over a row of W ⊙ U, since g · (x ∗ W) is linear in W: the sums without scale need not be kept.

use super::{axpy, begin, copy, dot, part, part_mut};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::{Node, Op, Shape, Window};
use crate::math::Real;
use crate::threads::Threads;

const WINDOW: Window = Window::square(1, 1, 0);

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    table
        .define::<{ Op::Conv2d { window: WINDOW, relu: false }.opcode() }>(Kernel { run: forward, scratch_len: |_| 0 })
        .define::<{ Op::Conv2dBackward { window: WINDOW }.opcode() }>(Kernel { run: backward, scratch_len: window_len })
}

/// The windows of images (n, h, w, c).
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// The windows.
    pub window: Window,
    /// h and w.
    pub image: [usize; 2],
    /// c.
    pub channels: usize,
    /// Windows of an image, vertically and horizontally.
    pub windows: [usize; 2],
}

impl Geometry {
    /// The windows of x (n, h, w, c), whose results are y (n, down, across, ·).
    pub fn new(window: Window, x: Shape, y: Shape) -> Self {
        Self { window, image: [x.dim(1), x.dim(2)], channels: x.dim(3), windows: [y.dim(1), y.dim(2)] }
    }

    /// The image of window `i` of all, and its place among the windows of that image.
    pub fn split(&self, i: usize) -> (usize, [usize; 2]) {
        let [down, across] = self.windows.map(|n| n.max(1));
        let (row, column) = (i.checked_div(across).unwrap_or(0), i.checked_rem(across).unwrap_or(0));
        (row.checked_div(down).unwrap_or(0), [row.checked_rem(down).unwrap_or(0), column])
    }

    /// Calls `f(tap, start)` for every tap of a window that is in its image: `start` is the first element of its channels in x.
    pub fn for_each_tap(&self, i: usize, mut f: impl FnMut(usize, usize)) {
        let (image, [y, x]) = self.split(i);
        let [height, width] = self.image;
        let [down, across] = self.window.kernel.map(|k| k as usize);
        for a in 0..down {
            let Some(row) = self.window.place(0, y, a, height) else { continue };
            for b in 0..across {
                let Some(column) = self.window.place(1, x, b, width) else { continue };
                let pixel = image.wrapping_mul(height).wrapping_add(row).wrapping_mul(width).wrapping_add(column);
                f(a.wrapping_mul(across).wrapping_add(b), pixel.wrapping_mul(self.channels));
            }
        }
    }
}

/// kh·kw·C.
fn window_len(node: &Node<'_>) -> usize {
    node.input_shape(2).cols()
}

fn forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Conv2d { window, relu }) = node.op() else { return };
    let [x, w, scale, bias, residual, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let geometry = Geometry::new(window, node.input_shape(0), node.output_shape(0));
    let (c, k) = (geometry.channels, node.input_shape(1).cols());
    let outputs = node.output_shape(0).cols();
    for i in 0..node.output_shape(0).rows() {
        let start = i.wrapping_mul(outputs);
        let residual = part(residual, start, outputs); // (O), or empty
        let y = part_mut(y, start, outputs); // (O)
        for (o, y) in y.iter_mut().enumerate() {
            let w = part(w, o.wrapping_mul(k), k);
            let mut sum = R::ZERO;
            geometry.for_each_tap(i, |tap, start| sum += dot(part(x, start, c), part(w, tap.wrapping_mul(c), c)));
            let at = |values: &[R], absent: R| values.get(o).copied().unwrap_or(absent);
            let before = sum * at(scale, R::ONE) + at(bias, R::ZERO) + at(residual, R::ZERO);
            *y = if relu { before.max(R::ZERO) } else { before };
        }
    }
}

fn backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Conv2dBackward { window }) = node.op() else { return };
    let [dy, x, w, scale, addend, ..] = views.inputs;
    let [dx, dw, dscale] = views.outputs;
    let [add_x, add_w, add_scale] = views.accumulate;
    let geometry = Geometry::new(window, node.input_shape(1), node.input_shape(0));
    let (c, k) = (geometry.channels, node.input_shape(2).cols());
    if !node.has_input(4) {
        begin(dx, add_x);
    } else if !addend.is_empty() {
        copy(dx, addend);
    }
    begin(dw, add_w);
    begin(dscale, add_scale);
    let (outputs, windows) = (node.input_shape(0).cols(), node.input_shape(0).rows());
    for o in 0..outputs {
        let s = scale.get(o).copied().unwrap_or(R::ONE);
        let w = part(w, o.wrapping_mul(k), k);
        views.scratch.fill(R::ZERO);
        for i in 0..windows {
            let g = dy.get(i.wrapping_mul(outputs).wrapping_add(o)).copied().unwrap_or(R::ZERO);
            geometry.for_each_tap(i, |tap, start| {
                let tap = tap.wrapping_mul(c);
                axpy(part_mut(views.scratch, tap, c), g, part(x, start, c));
                axpy(part_mut(dx, start, c), g * s, part(w, tap, c));
            });
        }
        axpy(part_mut(dw, o.wrapping_mul(k), k), s, views.scratch);
        if let Some(dscale) = dscale.get_mut(o) {
            *dscale += dot(w, views.scratch);
        }
    }
}
