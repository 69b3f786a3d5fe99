//! Small products for attention with operands read in place: register tiles of C = A·B.
//!
//! An element of C is a sum over k in order, for any tiling, so that a row does not depend on the rows around it.

use std::ops::Range;

use super::vector::{LANES, Vector, vectorised};
use crate::tiles::Tile;

/// Strided rows of f32 values: row i begins at `data[i * ld]`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) ld: usize,
}

/// A (m, k), or its transpose.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// The rows of A.
    Rows(Rows<'a>),
    /// The columns of A.
    Columns(Rows<'a>),
}

impl<'a> Left<'a> {
    /// The data, the row stride, and the column stride.
    #[inline(always)]
    fn strides(self) -> (&'a [f32], usize, usize) {
        match self {
            Self::Rows(rows) => (rows.data, rows.ld, 1),
            Self::Columns(columns) => (columns.data, 1, columns.ld),
        }
    }
}

/// Unrolled steps along k: addresses are computed once for all of them.
const UNROLLED: usize = 4;

/// How row i of a product is stored.
#[derive(Clone, Copy)]
pub(super) enum Update<'a> {
    /// C = A·B.
    Store,
    /// C += x A·B.
    Add(f32),
    /// Cᵢ = yᵢ (A·B)ᵢ.
    Scale(&'a [f32; LANES]),
    /// Cᵢ = xᵢ Cᵢ + yᵢ (A·B)ᵢ.
    Mix(&'a [f32; LANES], &'a [f32; LANES]),
}

vectorised! {
    /// C (m, n) at row and column `at` of `c`, with `shape` = (m, n, k). Row i of A is taken as 0 outside of columns `spans[i]`, which are not
    /// multiplied; without spans all columns are.
    ///
    /// # Panics
    /// An operand is shorter than its shape or its spans require, or an update has fewer rows.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn multiply<V>(
        shape: [usize; 3],
        a: Left<'_>,
        b: Rows<'_>,
        spans: &[(usize, usize)],
        c: &mut Tile<'_, f32>,
        at: [usize; 2],
        update: Update<'_>,
    ) {
        let [m, n, k] = shape;
        if m == 0 || n == 0 {
            return;
        }
        let limited = matches!(update, Update::Scale(_) | Update::Mix(..));
        assert!(!limited || m <= LANES, "an update of {LANES} rows for {m}");
        assert!(spans.is_empty() || (spans.len() >= m && spans.iter().all(|span| span.1 <= k)), "spans that do not fit {m} rows of {k}");
        if k > 0 {
            let (a, row_stride, k_stride) = a.strides();
            assert!((m - 1) * row_stride + (k - 1) * k_stride < a.len(), "A is shorter than its shape");
            assert!((k - 1) * b.ld + n <= b.data.len(), "B is shorter than its shape");
        }
        let (c, c_ld) = c.part(at, [m, n]);
        let product = Product { k, a, b, spans, c, c_ld, update };
        let mut col = 0;
        while col < n {
            let wide = V::WIDE && n - col >= 2 * LANES;
            let mut row = 0;
            while wide && m - row >= 8 {
                // SAFETY: both operands and C were checked, and the tile is inside m, n and k.
                unsafe { product.block::<V, 8, 2>(row, col, LANES) };
                row += 8;
            }
            let end = if wide { col + 2 * LANES } else { n.min(col + LANES) };
            for col in (col..end).step_by(LANES) {
                // SAFETY: as above.
                unsafe { product.column::<V>(row..m, col, LANES.min(n - col)) };
            }
            col = end;
        }
    }
}

/// Operands that were checked.
struct Product<'a> {
    k: usize,
    a: Left<'a>,
    b: Rows<'a>,
    spans: &'a [(usize, usize)],
    c: *mut f32,
    c_ld: usize,
    update: Update<'a>,
}

impl Product<'_> {
    /// Some rows and up to sixteen columns of C.
    ///
    /// # Safety
    /// A has these rows and B `cols` columns from `col` on, for every p < k; as many can be written in C.
    #[inline(always)]
    unsafe fn column<V: Vector>(&self, rows: Range<usize>, col: usize, cols: usize) {
        let mut row = rows.start;
        while row < rows.end {
            let left = rows.end - row;
            // Two tiles of four rows are faster than six and two.
            let height = match left {
                _ if left >= V::ROWS && (V::ROWS != 6 || left != 8) && (V::ROWS != 16 || alike(self.spans, row)) => V::ROWS,
                8.. if V::ROWS > 8 => 8,
                _ => left.min(4),
            };
            // SAFETY: the caller's contract; the tile is inside of the rows.
            unsafe {
                match height {
                    16 => self.block::<V, 16, 1>(row, col, cols),
                    8 => self.block::<V, 8, 1>(row, col, cols),
                    6 => self.block::<V, 6, 1>(row, col, cols),
                    4 => self.block::<V, 4, 1>(row, col, cols),
                    3 => self.block::<V, 3, 1>(row, col, cols),
                    2 => self.block::<V, 2, 1>(row, col, cols),
                    _ => self.block::<V, 1, 1>(row, col, cols),
                }
            }
            row += height;
        }
    }

    /// H rows and N vectors of columns of C, the last vector with `cols` columns.
    ///
    /// # Safety
    /// A has H rows from `row` on and B as many columns from `col` on, for every p < k; as many can be written in C.
    #[inline(always)]
    unsafe fn block<V: Vector, const H: usize, const N: usize>(&self, row: usize, col: usize, cols: usize) {
        let (from, to) = if self.spans.is_empty() { (0, self.k) } else { union(&self.spans[row..row + H]) };
        let (a, row_stride, k_stride) = self.a.strides();
        let mut sums = [[V::splat(0.0); H]; N];
        // SAFETY: the caller's contract; spans end at k at most, so that `to - from` steps stay inside both operands.
        unsafe {
            let c = self.c.add(row * self.c_ld + col);
            if from < to {
                let steps = to - from;
                let left = a.as_ptr().add(row * row_stride + from * k_stride);
                let right = self.b.data.as_ptr().add(from * self.b.ld + col);
                // Strides and columns that are known here become constants in the code.
                sums = match (cols, self.a) {
                    (LANES, Left::Rows(_)) => add_products::<V, H, N>(steps, left, [row_stride, 1], right, self.b.ld, LANES),
                    (LANES, Left::Columns(_)) => add_products::<V, H, N>(steps, left, [1, k_stride], right, self.b.ld, LANES),
                    _ => add_products::<V, H, N>(steps, left, [row_stride, k_stride], right, self.b.ld, cols),
                };
            }
            for (i, sums) in sums.into_iter().enumerate() {
                if i + 1 < N || cols == LANES {
                    self.update.apply(row, sums, c.add(i * LANES), self.c_ld, LANES);
                } else {
                    self.update.apply(row, sums, c.add(i * LANES), self.c_ld, cols);
                }
            }
        }
    }
}

impl Update<'_> {
    /// # Safety
    /// H rows of `cols` elements with row stride `ld` can be read and written at `c`.
    #[inline(always)]
    unsafe fn apply<V: Vector, const H: usize>(self, row: usize, sums: [V; H], c: *mut f32, ld: usize, cols: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Self::Store => {
                    for (i, sum) in sums.iter().enumerate() {
                        sum.store(c.add(i * ld), cols);
                    }
                }
                Self::Add(x) => {
                    for (i, sum) in sums.iter().enumerate() {
                        sum.mul_add(V::splat(x), V::load(c.add(i * ld), cols)).store(c.add(i * ld), cols);
                    }
                }
                Self::Scale(factor) => {
                    for (i, (sum, &factor)) in sums.iter().zip(&factor[row..row + H]).enumerate() {
                        sum.mul(V::splat(factor)).store(c.add(i * ld), cols);
                    }
                }
                Self::Mix(keep, factor) => {
                    for (i, (sum, (&keep, &factor))) in
                        sums.iter().zip(keep[row..row + H].iter().zip(&factor[row..row + H])).enumerate()
                    {
                        let old = V::load(c.add(i * ld), cols);
                        old.mul_add(V::splat(keep), sum.mul(V::splat(factor))).store(c.add(i * ld), cols);
                    }
                }
            }
        }
    }
}

/// Whether sixteen rows from `row` on have one span.
#[inline(always)]
fn alike(spans: &[(usize, usize)], row: usize) -> bool {
    spans.is_empty() || spans[row..row + LANES].iter().all(|span| *span == spans[row])
}

/// The smallest span around all that are not empty.
#[inline(always)]
fn union(spans: &[(usize, usize)]) -> (usize, usize) {
    let (mut first, mut end) = (usize::MAX, 0);
    for &(from, to) in spans {
        if from < to {
            (first, end) = (first.min(from), end.max(to));
        }
    }
    (first, end)
}

/// Sums over `steps` outer products of H values of A with N vectors of B, the last vector with `cols` values.
///
/// # Safety
/// Elements i · `strides[0]` + p · `strides[1]` of `a` and the vectors from p · `ld` on of `b` can be read, for i < H and p < `steps`.
#[inline(always)]
unsafe fn add_products<V: Vector, const H: usize, const N: usize>(
    steps: usize,
    a: *const f32,
    strides: [usize; 2],
    b: *const f32,
    ld: usize,
    cols: usize,
) -> [[V; H]; N] {
    let mut sums = [[V::splat(0.0); H]; N];
    let step = |p: usize| (a.wrapping_add(p * strides[1]), b.wrapping_add(p * ld));
    let whole = steps / UNROLLED * UNROLLED;
    for p in (0..whole).step_by(UNROLLED) {
        for p in p..p + UNROLLED {
            // SAFETY: the caller's contract.
            unsafe { add_product(&mut sums, step(p), strides[0], cols) };
        }
    }
    for p in whole..steps {
        // SAFETY: as above.
        unsafe { add_product(&mut sums, step(p), strides[0], cols) };
    }
    sums
}

/// # Safety
/// H values of `a`, `stride` elements apart, and N vectors of `b`, the last with `cols` values, can be read.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn add_product<V: Vector, const H: usize, const N: usize>(
    sums: &mut [[V; H]; N],
    (a, b): (*const f32, *const f32),
    stride: usize,
    cols: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut right = [V::load(b.add((N - 1) * LANES), cols); N];
        for (n, right) in right.iter_mut().enumerate().take(N - 1) {
            *right = V::load(b.add(n * LANES), LANES);
        }
        for i in 0..H {
            let left = V::splat(*a.add(i * stride));
            for n in 0..N {
                sums[n][i] = left.mul_add(right[n], sums[n][i]);
            }
        }
    }
}

vectorised! {
    /// Σ aᵢⱼ bᵢⱼ over the k columns of each of up to sixteen rows; 0 beyond.
    ///
    /// # Panics
    /// There are fewer rows.
    pub(super) fn row_products<V>(a: Rows<'_>, b: Rows<'_>, count: usize, k: usize) -> [f32; LANES] {
        let fits = |rows: Rows<'_>| (count - 1) * rows.ld + k <= rows.data.len();
        assert!(count > 0 && count <= LANES && fits(a) && fits(b), "fewer than {count} rows");
        let mut square = [V::splat(0.0); LANES];
        for (i, sum) in square.iter_mut().enumerate().take(count) {
            for p in (0..k).step_by(LANES) {
                let cols = LANES.min(k - p);
                // SAFETY: row i has k columns in both, as just checked.
                let (a, b) = unsafe { (V::load(a.data.as_ptr().add(i * a.ld + p), cols), V::load(b.data.as_ptr().add(i * b.ld + p), cols)) };
                *sum = a.mul_add(b, *sum);
            }
        }
        V::transpose(&mut square);
        let mut total = V::splat(0.0);
        for column in square {
            total = total.add(column);
        }
        total.to_array()
    }
}

vectorised! {
    /// Zeros everywhere.
    pub(super) fn clear<V>(c: &mut Tile<'_, f32>) {
        let (rows, cols) = (c.rows(), c.cols());
        let (start, ld) = c.part([0, 0], [rows, cols]);
        for i in 0..rows {
            for j in (0..cols).step_by(LANES) {
                // SAFETY: row and column are inside.
                unsafe { V::splat(0.0).store(start.add(i * ld + j), LANES.min(cols - j)) };
            }
        }
    }
}

vectorised! {
    /// Transposes up to sixteen rows (count, k), times `factor`, into columns (k, 16); columns beyond the last row are 0.
    ///
    /// # Panics
    /// There are fewer rows, or the output is too short.
    pub(super) fn transpose<V>(rows: Rows<'_>, count: usize, k: usize, factor: f32, columns: &mut [f32]) {
        if k == 0 {
            return;
        }
        assert!(count > 0 && count <= LANES && (count - 1) * rows.ld + k <= rows.data.len(), "fewer than {count} rows");
        assert!(k * LANES <= columns.len(), "no room for {k} columns");
        for p in (0..k).step_by(LANES) {
            let cols = LANES.min(k - p);
            let mut square = [V::splat(0.0); LANES];
            for (i, row) in square.iter_mut().enumerate().take(count) {
                // SAFETY: row i has k columns, as just checked.
                *row = unsafe { V::load(rows.data.as_ptr().add(i * rows.ld + p), cols) };
            }
            V::transpose(&mut square);
            for (i, column) in square.iter().enumerate().take(cols) {
                // SAFETY: column p + i is below k, and `columns` holds k columns.
                unsafe { column.mul(V::splat(factor)).store(columns.as_mut_ptr().add((p + i) * LANES), LANES) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::tests::numbers;
    use crate::kernels::vector::Isa;

    proptest! {
        /// Every instruction set, both layouts of A, every update, zeros outside of spans; nothing else is written.
        #[test]
        fn products([m, n, k] in [1usize..40, 1usize..100, 1usize..40], update in 0usize..4, (by_columns, limited) in any::<(bool, bool)>()) {
            let m = if update > 1 { m.min(LANES) } else { m };
            let (a, b, old) = (numbers(m * k + 3, 1), numbers(k * (n + 2), 2), numbers((m + 2) * (n + 5), 3));
            let keep: [f32; LANES] = std::array::from_fn(|i| 0.5 + i as f32 * 0.1);
            let factor: [f32; LANES] = std::array::from_fn(|i| 2.0 - i as f32 * 0.1);
            let spans: Vec<_> = (0..m).map(|i| ((i * 3).min(k) / 2, (i * 2 + 1).min(k))).collect();
            let element = |i: usize, p: usize| {
                let inside = !limited || (spans[i].0..spans[i].1).contains(&p);
                if inside { a[if by_columns { p * m + i } else { i * k + p }] } else { 0.0 }
            };
            for isa in Isa::all() {
                // Outside of the spans A contains zeros, as the spans promise.
                let mut a = a.clone();
                for i in 0..m {
                    for p in 0..k {
                        a[if by_columns { p * m + i } else { i * k + p }] = element(i, p);
                    }
                }
                let left = if by_columns { Left::Columns(Rows { data: &a, ld: m }) } else { Left::Rows(Rows { data: &a, ld: k }) };
                let update = [Update::Store, Update::Add(0.5), Update::Scale(&factor), Update::Mix(&keep, &factor)][update];
                let mut c = old.clone();
                let mut tile = Tile::new(&mut c, m + 2, n + 5, n + 5);
                let spans = if limited { &spans[..] } else { &[] };
                multiply(isa, [m, n, k], left, Rows { data: &b, ld: n + 2 }, spans, &mut tile, [1, 2], update);
                for (at, (&got, &old)) in c.iter().zip(&old).enumerate() {
                    let (i, j) = ((at / (n + 5)).wrapping_sub(1), (at % (n + 5)).wrapping_sub(2));
                    if i >= m || j >= n {
                        prop_assert_eq!(got, old);
                        continue;
                    }
                    let sum: f64 = (0..k).map(|p| f64::from(element(i, p)) * f64::from(b[p * (n + 2) + j])).sum();
                    let want = match update {
                        Update::Store => sum,
                        Update::Add(x) => f64::from(old) + f64::from(x) * sum,
                        Update::Scale(y) => f64::from(y[i]) * sum,
                        Update::Mix(x, y) => f64::from(x[i]) * f64::from(old) + f64::from(y[i]) * sum,
                    };
                    prop_assert!((f64::from(got) - want).abs() < 1e-4, "{isa:?} ({i}, {j}): {got} against {want}");
                }
            }
        }

        #[test]
        fn transposes_and_sums_of_rows(count in 1usize..17, k in 1usize..50) {
            let (a, b) = (numbers(count * (k + 1), 4), numbers(count * k, 5));
            for isa in Isa::all() {
                let mut columns = vec![7.0; k * LANES + 1];
                transpose(isa, Rows { data: &a, ld: k + 1 }, count, k, 2.0, &mut columns);
                let want = |at: usize| if at % LANES < count { 2.0 * a[at % LANES * (k + 1) + at / LANES] } else { 0.0 };
                prop_assert!((0..k * LANES).all(|at| columns[at] == want(at)) && columns[k * LANES] == 7.0, "{isa:?}");
                let sums = row_products(isa, Rows { data: &a, ld: k + 1 }, Rows { data: &b, ld: k }, count, k);
                for (i, sum) in sums.iter().enumerate() {
                    let want: f32 = if i < count { (0..k).map(|p| a[i * (k + 1) + p] * b[i * k + p]).sum() } else { 0.0 };
                    prop_assert!((sum - want).abs() < 1e-4, "{isa:?} row {i}");
                }
            }
        }
    }
}
