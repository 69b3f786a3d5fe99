//! Layer norm and RMS norm on threads, with tasks of rows: see `samara_core::ops::layer_norm` for formulas and shapes. RMS norm is a layer norm with
//! mean 0.

use samara_core::exec::{Kernel, Kernels, Views};
use samara_core::graph::{Node, Op};
use samara_core::threads::Threads;

use super::elementwise::{add, copy};
use super::vector::{Isa, LANES, Vector, vectorised};
use super::{no_scratch, per_task};
use crate::tiles::{Grid, Tile, for_each_item};

pub(super) fn kernels(table: Kernels<f32>) -> Kernels<f32> {
    table
        .with(Op::LayerNorm { eps: 1.0, centre: true }.opcode(), Kernel { run: forward, scratch_len: no_scratch })
        .with(Op::LayerNormBackward { centre: true }.opcode(), Kernel { run: backward, scratch_len: backward_scratch })
}

/// Rows of a task.
fn task_rows(m: usize, c: usize) -> usize {
    per_task(m, 8 * c)
}

fn forward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::LayerNorm { eps, centre }) = node.op() else { return };
    let [x, w, b, ..] = views.inputs;
    let [y, statistics, _] = views.outputs;
    let (m, c) = (node.input_shape(0).rows(), node.input_shape(0).cols());
    if c == 0 {
        // Rows without columns.
        return statistics.fill(f32::NAN);
    }
    let (isa, rows) = (Isa::detect(), task_rows(m, c));
    let grids = [
        Grid { matrix: Tile::new(y, m, c, c), tile_rows: rows, tile_cols: c },
        Grid { matrix: Tile::new(statistics, m, 2, 2), tile_rows: rows, tile_cols: 2 },
    ];
    for_each_item(threads, (m.div_ceil(rows), 1), grids, (&mut [], 0), &|item, [mut y, mut statistics], _| {
        normalize(
            isa,
            &x[item * rows * c..m.min((item + 1) * rows) * c],
            c,
            [w, b],
            (eps as f32, centre),
            &mut y,
            &mut statistics,
        );
    });
}

vectorised! {
    /// y = (x − μ) r · w + b, with μ and r, for the rows of x (M, c); y may be empty. `how` is ε and whether μ is the mean or 0.
    fn normalize<V>(x: &[f32], c: usize, affine: [&[f32]; 2], how: (f32, bool), y: &mut Tile<'_, f32>, statistics: &mut Tile<'_, f32>) {
        for (i, x) in x.chunks_exact(c).enumerate() {
            let (mean, scale) = statistics_of::<V>(x, how);
            if let [m, r] = statistics.row(i) {
                (*m, *r) = (mean, scale);
            }
            normalize_row::<V>(x, mean, scale, affine, y.row(i));
        }
    }
}

/// μ and 1/√(σ² + ε), in two passes; one is enough where μ is 0.
#[inline(always)]
fn statistics_of<V: Vector>(x: &[f32], (eps, centre): (f32, bool)) -> (f32, f32) {
    let n = x.len() as f32;
    let (blocks, rest) = x.as_chunks();
    let mut mean = 0.0;
    if centre {
        let mut sum = V::from_array(&padded(rest, 0.0));
        for x in blocks {
            sum = sum.add(V::from_array(x));
        }
        mean = sum.sum() / n;
    }
    let mut squares = square::<V>(&padded(rest, mean), mean);
    for x in blocks {
        squares = squares.add(square(x, mean));
    }
    (mean, 1.0 / (squares.sum() / n + eps).sqrt())
}

/// (x − μ)².
#[inline(always)]
fn square<V: Vector>(x: &[f32; LANES], mean: f32) -> V {
    let difference = V::from_array(x).sub(V::splat(mean));
    difference.mul(difference)
}

/// y = (x − μ) r · w + b.
#[inline(always)]
fn normalize_row<V: Vector>(x: &[f32], mean: f32, scale: f32, [w, b]: [&[f32]; 2], y: &mut [f32]) {
    // Without w or b the loops read x in its place and use 1 or 0 instead.
    let norm = Norm { mean, scale, has_w: !w.is_empty(), has_b: !b.is_empty() };
    let (w, b) = (if norm.has_w { w } else { x }, if norm.has_b { b } else { x });
    let (xs, ws, bs) = (x.as_chunks(), w.as_chunks(), b.as_chunks());
    let (ys, y_rest) = y.as_chunks_mut();
    for (((y, x), w), b) in ys.iter_mut().zip(xs.0).zip(ws.0).zip(bs.0) {
        *y = norm.of::<V>(x, w, b).to_array();
    }
    if !y_rest.is_empty() {
        copy(y_rest, &norm.of::<V>(&padded(xs.1, 0.0), &padded(ws.1, 0.0), &padded(bs.1, 0.0)).to_array());
    }
}

/// The forward computation for sixteen values of a row.
#[derive(Clone, Copy)]
struct Norm {
    /// μ.
    mean: f32,
    /// r.
    scale: f32,
    has_w: bool,
    has_b: bool,
}

impl Norm {
    /// (x − μ) r · w + b.
    #[inline(always)]
    fn of<V: Vector>(self, x: &[f32; LANES], w: &[f32; LANES], b: &[f32; LANES]) -> V {
        let w = if self.has_w { V::from_array(w) } else { V::splat(1.0) };
        let b = if self.has_b { V::from_array(b) } else { V::splat(0.0) };
        V::from_array(x).sub(V::splat(self.mean)).mul(V::splat(self.scale)).mul_add(w, b)
    }
}

/// The values after the last whole vector of a row, padded with `fill`.
#[inline(always)]
fn padded(rest: &[f32], fill: f32) -> [f32; LANES] {
    let mut numbers = [fill; LANES];
    for (to, from) in numbers.iter_mut().zip(rest) {
        *to = *from;
    }
    numbers
}

/// Partial sums of dw and db for every task.
fn backward_scratch(node: &Node<'_>) -> usize {
    let (m, c) = (node.input_shape(1).rows(), node.input_shape(1).cols());
    m.div_ceil(task_rows(m, c)) * 2 * c
}

fn backward(node: &Node<'_>, views: Views<'_, f32>, threads: &dyn Threads) {
    let Some(Op::LayerNormBackward { centre }) = node.op() else { return };
    let [dy, x, w, statistics, addend, ..] = views.inputs;
    let [dx, dw, db] = views.outputs;
    let [add_x, add_w, add_b] = views.accumulate;
    let (m, c) = (node.input_shape(1).rows(), node.input_shape(1).cols());
    if c == 0 {
        return;
    }
    let (isa, rows) = (Isa::detect(), task_rows(m, c));
    let tasks = m.div_ceil(rows);
    let keep = if node.has_input(4) { addend.is_empty() } else { add_x };
    // A norm that is frozen, or has neither w nor b, takes no sums.
    let sums = if dw.is_empty() && db.is_empty() { 0 } else { tasks * c };
    let (sums_w, sums_b) = views.scratch[..2 * sums].split_at_mut(sums);
    let grids = [
        Grid { matrix: Tile::new(dx, m, c, c), tile_rows: rows, tile_cols: c },
        Grid { matrix: Tile::new(&mut *sums_w, tasks, c, c), tile_rows: 1, tile_cols: c },
        Grid { matrix: Tile::new(&mut *sums_b, tasks, c, c), tile_rows: 1, tile_cols: c },
    ];
    for_each_item(threads, (tasks, 1), grids, (&mut [], 0), &|item, [mut dx, mut sum_w, mut sum_b], _| {
        let inputs = Inputs { dy, x, w, statistics, addend, keep, centre }.part(c, item * rows, m.min((item + 1) * rows));
        gradients(isa, inputs, c, &mut dx, sum_w.row(0), sum_b.row(0));
    });
    add_in_order(sums_w, dw, add_w);
    add_in_order(sums_b, db, add_b);
}

/// The inputs of the gradients of some rows.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    /// (M, C).
    dy: &'a [f32],
    /// (M, C).
    x: &'a [f32],
    /// (C), or empty.
    w: &'a [f32],
    /// μ and r (M, 2).
    statistics: &'a [f32],
    /// An addend of dx (M, C), or empty.
    addend: &'a [f32],
    /// Whether dx is accumulated.
    keep: bool,
    /// Whether μ is the mean, through which a gradient flows, or 0.
    centre: bool,
}

impl Inputs<'_> {
    /// Rows of c values from `first` to `end`.
    fn part(mut self, c: usize, first: usize, end: usize) -> Self {
        let rows = |x: &mut &[f32], len: usize| *x = x.get(first * len..end * len).unwrap_or_default();
        rows(&mut self.dy, c);
        rows(&mut self.x, c);
        rows(&mut self.statistics, 2);
        rows(&mut self.addend, c);
        self
    }
}

vectorised! {
    /// dx, and the sums over rows of dy x̂ and of dy, if their outputs are not empty.
    fn gradients<V>(inputs: Inputs<'_>, c: usize, dx: &mut Tile<'_, f32>, sum_w: &mut [f32], sum_b: &mut [f32]) {
        let Inputs { dy, x, w, statistics, addend, keep, centre } = inputs;
        sum_w.fill(0.0);
        sum_b.fill(0.0);
        for (i, (dy, x)) in dy.chunks_exact(c).zip(x.chunks_exact(c)).enumerate() {
            let norm = Statistics { mean: statistics[2 * i], scale: statistics[2 * i + 1], centre };
            let dx = dx.row(i);
            if !dx.is_empty() {
                match addend.get(i * c..(i + 1) * c) {
                    Some(addend) => copy(dx, addend),
                    None if keep => {}
                    None => dx.fill(0.0),
                }
                add_row_gradient::<V>(dy, x, w, norm, dx);
            }
            add_to_sums::<V>(dy, x, norm, sum_w, sum_b);
        }
    }
}

/// The saved statistics of a row.
#[derive(Clone, Copy)]
struct Statistics {
    /// μ.
    mean: f32,
    /// r.
    scale: f32,
    /// Whether μ is the mean, or 0.
    centre: bool,
}

/// out = Σ over rows of sums (tasks, C), or out += it.
fn add_in_order(sums: &[f32], out: &mut [f32], accumulate: bool) {
    if !accumulate {
        out.fill(0.0);
    }
    if !out.is_empty() {
        sums.chunks_exact(out.len()).for_each(|sums| add(out, sums));
    }
}

/// dw += dy x̂, db += dy. Columns after the last whole vector also round after the product: which ones do depends on c alone.
#[inline(always)]
fn add_to_sums<V: Vector>(dy: &[f32], x: &[f32], Statistics { mean, scale, .. }: Statistics, dw: &mut [f32], db: &mut [f32]) {
    let (dys, xs) = (dy.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    let ((dws, dw_rest), (dbs, db_rest)) = (dw.as_chunks_mut::<LANES>(), db.as_chunks_mut::<LANES>());
    for (((dw, db), dy), x) in dws.iter_mut().zip(dbs).zip(dys.0).zip(xs.0) {
        let dy = V::from_array(dy);
        let normed = V::from_array(x).sub(V::splat(mean)).mul(V::splat(scale));
        *dw = dy.mul_add(normed, V::from_array(dw)).to_array();
        *db = dy.add(V::from_array(db)).to_array();
    }
    for (((dw, db), &dy), &x) in dw_rest.iter_mut().zip(db_rest).zip(dys.1).zip(xs.1) {
        *dw += dy * ((x - mean) * scale);
        *db += dy;
    }
}

/// dx += r (g − mean(g) − x̂ mean(g x̂)) with g = dy w.
#[inline(always)]
fn add_row_gradient<V: Vector>(dy: &[f32], x: &[f32], w: &[f32], norm: Statistics, dx: &mut [f32]) {
    let Statistics { mean, scale, centre } = norm;
    // Without w the loops read dy in its place and use dy alone.
    let row = Row { mean, has_w: !w.is_empty() };
    let w = if row.has_w { w } else { dy };
    let (dys, xs, ws) = (dy.as_chunks(), x.as_chunks(), w.as_chunks());
    let rest = [padded(dys.1, 0.0), padded(xs.1, 0.0), padded(ws.1, 0.0)];
    let mut sum = row.g::<V>(&rest[0], &rest[2]);
    let mut product = sum.mul(row.difference(&rest[1]));
    for ((dy, x), w) in dys.0.iter().zip(xs.0).zip(ws.0) {
        let g = row.g::<V>(dy, w);
        sum = sum.add(g);
        product = g.mul_add(row.difference(x), product);
    }
    // mean(g), and r² mean(g (x − μ)), which x − μ is multiplied by.
    let n = dy.len() as f32;
    let means = [if centre { sum.sum() / n } else { 0.0 }, scale * (scale * (product.sum() / n))];
    let (dxs, dx_rest) = dx.as_chunks_mut();
    for (((dx, dy), x), w) in dxs.iter_mut().zip(dys.0).zip(xs.0).zip(ws.0) {
        *dx = row.without_means::<V>(dy, x, w, means).mul_add(V::splat(scale), V::from_array(dx)).to_array();
    }
    if !dx_rest.is_empty() {
        let last = row.without_means::<V>(&rest[0], &rest[1], &rest[2], means).mul(V::splat(scale));
        add(dx_rest, &last.to_array());
    }
}

/// The backward computation for sixteen values of a row.
#[derive(Clone, Copy)]
struct Row {
    /// μ.
    mean: f32,
    has_w: bool,
}

impl Row {
    /// dy w.
    #[inline(always)]
    fn g<V: Vector>(self, dy: &[f32; LANES], w: &[f32; LANES]) -> V {
        if self.has_w { V::from_array(dy).mul(V::from_array(w)) } else { V::from_array(dy) }
    }

    /// x − μ.
    #[inline(always)]
    fn difference<V: Vector>(self, x: &[f32; LANES]) -> V {
        V::from_array(x).sub(V::splat(self.mean))
    }

    /// g − a − b (x − μ). For a row with little variance r is large and this nearly cancels: multiplied by r before, each term would have its own
    /// rounding error.
    #[inline(always)]
    fn without_means<V: Vector>(self, dy: &[f32; LANES], x: &[f32; LANES], w: &[f32; LANES], [a, b]: [f32; 2]) -> V {
        self.difference::<V>(x).mul_add(V::splat(-b), self.g::<V>(dy, w).sub(V::splat(a)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::tests::numbers;

    proptest! {
        #[test]
        fn every_machine_gives_the_same_bits(
            (m, c) in (1usize..5, 1usize..100),
            (affine, sums, centre) in any::<(bool, bool, bool)>(),
        ) {
            let [x, dy] = [1, 2].map(|seed| numbers(m * c, seed));
            let (w, b) = (numbers(if affine { c } else { 0 }, 3), numbers(if affine { c } else { 0 }, 4));
            let run = |isa: Isa| {
                let (mut y, mut statistics, mut dx) = (vec![0.0; m * c], vec![0.0; 2 * m], vec![0.0; m * c]);
                let (mut y_tile, mut both) = (Tile::new(&mut y, m, c, c), Tile::new(&mut statistics, m, 2, 2));
                normalize(isa, &x, c, [&w, &b], (1e-5, centre), &mut y_tile, &mut both);
                let mut sums_of = [0, 1].map(|_| vec![0.0; if sums { c } else { 0 }]);
                let [sum_w, sum_b] = &mut sums_of;
                let inputs = Inputs { dy: &dy, x: &x, w: &w, statistics: &statistics, addend: &[], keep: false, centre };
                gradients(isa, inputs, c, &mut Tile::new(&mut dx, m, c, c), sum_w, sum_b);
                [y, statistics, dx, sums_of.concat()].map(|all| all.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            // The first variant is for machines without fused multiply-adds, which round differently.
            let results: Vec<_> = Isa::all().into_iter().skip(1).map(run).collect();
            prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
