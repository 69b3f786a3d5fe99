//! Convolution as products with blocks of the matrix of windows: see `samara_core::ops::convolution` for formulas and shapes.
//!
//! Tasks take ranges of rows (forward), of columns (dW) or lines of pixels (dx), and multiply on their own thread: a block of windows, at most
//! [`BLOCK_LEN`] elements in the L2 cache, is the only copy of the input. Windows of one element at stride 1 are linear layers and need no blocks.

use std::ops::Range;

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::graph::{Node, Op, Window};
use samara_core::ops::convolution::Geometry;
use samara_core::threads::Threads;

use super::elementwise::copy;
use super::epilogue::Epilogue;
use super::simd::{LANES, combine, simd};
use super::windows::{gather, scatter};
use super::{Product, per_task, store};
use crate::tiles::{Grid, Tile, for_each_chunk, for_each_item};

/// Elements of a block of windows.
const BLOCK_LEN: usize = 1 << 16;
/// The most columns of a block: its rows must outweigh the packing of the weight's columns.
const BLOCK_COLUMNS: usize = 256;
/// The most tasks of a node.
const MAX_TASKS: usize = 8;

pub(super) fn kernels<G: Product>(table: Kernels<f32>) -> Kernels<f32> {
    let window = Window::square(1, 1, 0);
    let forward = Kernel { run: forward::<G>, scratch_len: |node| Plan::forward(node).map_or(0, |plan| plan.scratch::<G>()) };
    let backward = Kernel { run: backward::<G>, scratch_len: backward_scratch::<G> };
    table.with(Op::Conv2d { window, relu: false }.opcode(), forward).with(Op::Conv2dBackward { window }.opcode(), backward)
}

/// How a node is cut; made from its shapes alone.
#[derive(Clone, Copy, Debug)]
struct Plan {
    geometry: Geometry,
    /// All windows.
    windows: usize,
    /// kh·kw·C.
    columns: usize,
    /// O.
    outputs: usize,
    /// Rows and columns of a block.
    block: [usize; 2],
}

impl Plan {
    fn forward(node: &Node<'_>) -> Option<Self> {
        let Some(Op::Conv2d { window, .. }) = node.op() else { return None };
        Some(Self::new(Geometry::new(window, node.input_shape(0), node.output_shape(0)), node.output_shape(0).rows(), node, 1))
    }

    fn backward(node: &Node<'_>) -> Option<Self> {
        let Some(Op::Conv2dBackward { window }) = node.op() else { return None };
        Some(Self::new(Geometry::new(window, node.input_shape(1), node.input_shape(0)), node.input_shape(0).rows(), node, 2))
    }

    /// The weight is input `w`.
    fn new(geometry: Geometry, windows: usize, node: &Node<'_>, w: usize) -> Self {
        let (outputs, columns) = (node.input_shape(w).rows(), node.input_shape(w).cols());
        // Columns in equal parts, so that no block is narrow.
        let parts = columns.div_ceil(BLOCK_COLUMNS).max(1);
        let width = columns.div_ceil(parts).next_multiple_of(16).min(columns.max(1));
        Self { geometry, windows, columns, outputs, block: [(BLOCK_LEN / width.max(1)).max(1), width] }
    }

    /// Whether windows are the pixels themselves.
    fn is_pointwise(&self) -> bool {
        let Window { kernel, stride, padding, .. } = self.geometry.window;
        kernel == [1; 2] && stride == [1; 2] && padding == [0; 2]
    }

    /// Rows of a task of the forward pass.
    fn task_rows(&self) -> usize {
        self.windows.div_ceil(MAX_TASKS).max(16)
    }

    /// The blocks of columns.
    fn column_blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (columns, width) = (self.columns, self.block[1]);
        (0..columns).step_by(width.max(1)).map(move |start| start..columns.min(start + width))
    }

    /// The blocks of rows in a range.
    fn row_blocks(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let height = self.block[0];
        let end = rows.end;
        rows.step_by(height).map(move |start| start..end.min(start + height))
    }

    /// Elements of scratch of a forward pass.
    fn scratch<G: Product>(&self) -> usize {
        let [rows, columns] = self.block;
        if self.is_pointwise() {
            return G::scratch_len(Major::Rows, self.windows, self.outputs, self.columns);
        }
        self.windows.div_ceil(self.task_rows()) * (rows * columns + G::own_scratch_len(Major::Rows, rows, self.outputs, columns))
    }
}

fn forward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let (Some(plan), Some(Op::Conv2d { relu, .. })) = (Plan::forward(node), node.op()) else { return };
    let [x, w, scale, bias, residual, ..] = views.inputs;
    let [y, ..] = views.outputs;
    let Plan { geometry, windows, columns, outputs, block: [rows, _] } = plan;
    let w = MatRef::new(w, outputs, columns).t(); // (kh·kw·C, O)
    let finish = |row: usize, col: usize, y: &mut [f32]| {
        let at = |values: &'_ [f32], from: usize| -> Range<usize> { from.min(values.len())..(from + y.len()).min(values.len()) };
        let residual = &residual[at(residual, row * outputs + col)];
        finish(y, &scale[at(scale, col)], &bias[at(bias, col)], residual, relu);
    };
    if plan.is_pointwise() {
        let whole = |row: usize, col: usize, y: &mut [f32], _: &mut [f32]| finish(row, col, y);
        let x = MatRef::new(x, windows, columns);
        return G::multiply(threads, x, w, y, Store::Overwrite, Some(Epilogue::new(&whole)), views.scratch);
    }
    let task_rows = plan.task_rows();
    let tasks = windows.div_ceil(task_rows);
    let grid = Grid { matrix: Tile::new(y, windows, outputs, outputs), tile_rows: task_rows, tile_cols: outputs };
    let own = plan.scratch::<G>() / tasks.max(1);
    for_each_item(threads, (tasks, 1), [grid], (views.scratch, own), &|_, [mut y], scratch| {
        let (block, scratch) = scratch.split_at_mut(rows * plan.block[1]);
        let first = y.first_row;
        for rows in plan.row_blocks(first..first + y.rows()) {
            for columns in plan.column_blocks() {
                let block = &mut block[..rows.len() * columns.len()];
                gather(&geometry, x, rows.clone(), columns.clone(), block);
                let is_last = columns.end == plan.columns;
                let mut placed = |row: usize, col: usize, y: &mut [f32]| finish(rows.start + row, col, y);
                let mut part = y.rows_part(rows.start - first, rows.len());
                G::multiply_alone(
                    MatRef::new(block, rows.len(), columns.len()),
                    w.part(columns.start, 0, columns.len(), outputs),
                    &mut part,
                    store(columns.start > 0),
                    if is_last { Some(&mut placed) } else { None },
                    scratch,
                );
            }
        }
    });
}

/// y = act(s y + b + r) for a segment of a row; an empty slice counts as 1, 0, 0.
fn finish(y: &mut [f32], scale: &[f32], bias: &[f32], residual: &[f32], relu: bool) {
    match (scale.is_empty(), bias.is_empty()) {
        (true, true) => {}
        (false, true) => y.iter_mut().zip(scale).for_each(|(y, s)| *y *= s),
        (true, false) => y.iter_mut().zip(bias).for_each(|(y, b)| *y += b),
        (false, false) => y.iter_mut().zip(scale).zip(bias).for_each(|((y, s), b)| *y = *y * s + b),
    }
    y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
    if relu {
        y.iter_mut().for_each(|y| *y = y.max(0.0));
    }
}

fn backward_scratch<G: Product>(node: &Node<'_>) -> usize {
    let Some(plan) = Plan::backward(node) else { return 0 };
    let scaled = if node.has_input(3) { plan.outputs * plan.columns } else { 0 };
    scaled + plan.weight_scratch::<G>().max(plan.input_scratch::<G>())
}

fn backward<G: Product>(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(plan) = Plan::backward(node) else { return };
    let [dy, x, w, scale, addend, ..] = views.inputs;
    let [dx, dw, dscale] = views.outputs;
    let [add_x, add_w, add_scale] = views.accumulate;
    let Plan { columns, outputs, .. } = plan;
    // With a scale: first U, then s ⊙ W.
    let (own, scratch) = views.scratch.split_at_mut(if scale.is_empty() { 0 } else { outputs * columns });
    if scale.is_empty() {
        if !dw.is_empty() {
            plan.weight_gradient::<G>(threads, dy, x, dw, add_w, scratch);
        }
    } else if !dw.is_empty() || !dscale.is_empty() {
        plan.weight_gradient::<G>(threads, dy, x, own, false, scratch);
        for (o, (u, w)) in own.chunks_exact(columns).zip(w.chunks_exact(columns)).enumerate() {
            if let Some(dw) = dw.get_mut(o * columns..(o + 1) * columns) {
                scaled_row(dw, scale[o], u, add_w);
            }
            if let Some(dscale) = dscale.get_mut(o) {
                let sum: f32 = dot(w, u);
                *dscale = if add_scale { *dscale + sum } else { sum };
            }
        }
    }
    if dx.is_empty() {
        return;
    }
    let w = if scale.is_empty() {
        w
    } else {
        for (o, (to, w)) in own.chunks_exact_mut(columns).zip(w.chunks_exact(columns)).enumerate() {
            scaled_row(to, scale[o], w, false);
        }
        own
    };
    let adds = node.has_input(4) || add_x;
    if !addend.is_empty() {
        let len = per_task(dx.len(), 1);
        for_each_chunk(threads, dx, len, &|i, dx| copy(dx, &addend[i * len..]));
    }
    plan.input_gradient::<G>(threads, dy, w, dx, adds, scratch);
}

simd! {
    /// Σ aᵢ bᵢ.
    fn dot<M>(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [0.0; LANES];
        for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = M::mul_add(*a, *b, *sum);
            }
        }
        combine(sums)
    }
}

simd! {
    /// y = s x, or y += s x.
    fn scaled_row<M>(y: &mut [f32], s: f32, x: &[f32], accumulate: bool) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = if accumulate { *y + s * x } else { s * x };
        }
    }
}

impl Plan {
    /// Columns of a task of the gradient of the weight.
    fn task_columns(&self) -> usize {
        self.columns.div_ceil(MAX_TASKS).next_multiple_of(16).min(self.block[1])
    }

    fn weight_scratch<G: Product>(&self) -> usize {
        if self.is_pointwise() {
            return G::scratch_len(Major::Columns, self.outputs, self.columns, self.windows);
        }
        let columns = self.task_columns();
        let rows = BLOCK_LEN / columns.max(1);
        let own = rows * columns + G::own_scratch_len(Major::Columns, self.outputs, columns, rows);
        self.columns.div_ceil(columns.max(1)) * own
    }

    /// dW = dyᵀ · windows (O, kh·kw·C), or dW += it. Tasks take columns, so that no sums of different threads are added.
    fn weight_gradient<G: Product>(
        &self,
        threads: &dyn Threads,
        dy: &[f32],
        x: &[f32],
        dw: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let Self { geometry, windows, columns, outputs, .. } = *self;
        let dy = MatRef::new(dy, windows, outputs);
        if self.is_pointwise() {
            return G::multiply(threads, dy.t(), MatRef::new(x, windows, columns), dw, store(accumulate), None, scratch);
        }
        let width = self.task_columns();
        let rows = BLOCK_LEN / width.max(1);
        let tasks = columns.div_ceil(width.max(1));
        let own = self.weight_scratch::<G>() / tasks.max(1);
        let grid = Grid { matrix: Tile::new(dw, outputs, columns, columns), tile_rows: outputs, tile_cols: width };
        for_each_item(threads, (tasks, 1), [grid], (scratch, own), &|_, [mut dw], scratch| {
            let (block, scratch) = scratch.split_at_mut(rows * width);
            let columns = dw.first_col..dw.first_col + dw.cols();
            if windows == 0 && !accumulate {
                (0..outputs).for_each(|o| dw.row(o).fill(0.0));
            }
            for first in (0..windows).step_by(rows) {
                let rows = first..windows.min(first + rows);
                let block = &mut block[..rows.len() * columns.len()];
                gather(&geometry, x, rows.clone(), columns.clone(), block);
                G::multiply_alone(
                    dy.part(first, 0, rows.len(), outputs).t(),
                    MatRef::new(block, rows.len(), columns.len()),
                    &mut dw,
                    store(accumulate || first > 0),
                    None,
                    scratch,
                );
            }
        });
    }

    /// Lines of pixels of a task of the gradient of the input: whole images, or parts of one if there are few.
    fn task_lines(&self, images: usize) -> usize {
        let height = self.geometry.image[0];
        height.div_ceil(MAX_TASKS.div_ceil(images.max(1))).max(self.geometry.window.kernel[0] as usize).min(height)
    }

    fn images(&self) -> usize {
        let [down, across] = self.geometry.windows;
        self.windows / (down * across).max(1)
    }

    fn input_scratch<G: Product>(&self) -> usize {
        if self.is_pointwise() {
            return G::scratch_len(Major::Rows, self.windows, self.columns, self.outputs);
        }
        let [rows, columns] = self.block;
        let items = self.images() * self.geometry.image[0].div_ceil(self.task_lines(self.images()).max(1));
        let tasks = items.div_ceil(items.div_ceil(MAX_TASKS).max(1));
        tasks * (rows * columns + G::own_scratch_len(Major::Rows, rows, columns, self.outputs))
    }

    /// dx: every value of dy W (windows, kh·kw·C) is added where its tap reads. Tasks take lines of pixels, and multiply what windows at the boundary of
    /// two tasks add to each.
    fn input_gradient<G: Product>(
        &self,
        threads: &dyn Threads,
        dy: &[f32],
        w: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let Self { geometry, windows, columns, outputs, block } = *self;
        let dy = MatRef::new(dy, windows, outputs);
        let w = MatRef::new(w, outputs, columns);
        if self.is_pointwise() {
            return G::multiply(threads, dy, w, dx, store(accumulate), None, scratch);
        }
        let lines = self.task_lines(self.images());
        let [height, width] = geometry.image;
        let line_len = width * geometry.channels;
        let bands = height.div_ceil(lines.max(1));
        let items = self.images() * bands;
        let grid = Grid {
            matrix: Tile::new(dx, self.images(), height * line_len, height * line_len),
            tile_rows: 1,
            tile_cols: lines * line_len,
        };
        let per_task = items.div_ceil(MAX_TASKS).max(1);
        let own = self.input_scratch::<G>() / items.div_ceil(per_task).max(1);
        for_each_item(threads, (items, per_task), [grid], (scratch, own), &|i, [mut band], scratch| {
            let (image, line) = (i / bands, i % bands * lines);
            let first = (image * height + line) * line_len;
            let dx = band.row(0);
            if !accumulate {
                dx.fill(0.0);
            }
            let (product, scratch) = scratch.split_at_mut(block[0] * block[1]);
            for rows in self.row_blocks(self.windows_of_lines(image, line..line + dx.len() / line_len.max(1))) {
                for columns in self.column_blocks() {
                    let product = &mut product[..rows.len() * columns.len()];
                    G::multiply_alone(
                        dy.part(rows.start, 0, rows.len(), outputs),
                        w.part(0, columns.start, outputs, columns.len()),
                        &mut Tile::new(product, rows.len(), columns.len(), columns.len()),
                        Store::Overwrite,
                        None,
                        scratch,
                    );
                    scatter(&geometry, product, rows.clone(), columns, dx, first);
                }
            }
        });
    }

    /// The windows that read any of these lines of an image.
    fn windows_of_lines(&self, image: usize, lines: Range<usize>) -> Range<usize> {
        let Geometry { window, windows: [down, across], .. } = self.geometry;
        let (stride, padding) = (window.stride[0] as usize, window.padding[0] as usize);
        let span = (window.kernel[0] as usize - 1) * window.dilation as usize;
        let start = (lines.start + padding).saturating_sub(span).div_ceil(stride).min(down);
        let end = ((lines.end + padding).saturating_sub(1) / stride + 1).clamp(start, down);
        (image * down + start) * across..(image * down + end) * across
    }
}
