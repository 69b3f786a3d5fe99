//! Small products for attention, read from where the operands lie: blocks of C = A·B with their sums in registers.
//!
//! An element of C is a sum over k in order, whatever the blocking, so that a row does not depend on the rows around it.

use samara_core::gemm::RowsMut;

use super::vector::{LANES, Vector, vectorised};
use crate::tiles::Tile;

/// Rows of numbers: row i begins at `data[i * ld]`.
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
    /// The numbers, elements from a row to the next, and from a column to the next.
    #[inline(always)]
    fn strides(self) -> (&'a [f32], usize, usize) {
        match self {
            Self::Rows(rows) => (rows.data, rows.ld, 1),
            Self::Columns(columns) => (columns.data, 1, columns.ld),
        }
    }
}

/// What becomes of row i of a product.
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
    /// C (m, n) from row and column `at` of `c` on, with `shape` = (m, n, k). Row i of A is 0 outside of columns `spans[i]`, or anywhere in 0..k
    /// without spans; zeros are not multiplied.
    ///
    /// # Panics
    /// An operand is shorter than its shape or its spans say, or an update has fewer rows. What lies outside of C is not written.
    pub(super) fn multiply<V>(
        shape: [usize; 3],
        a: Left<'_>,
        b: Rows<'_>,
        spans: &[(usize, usize)],
        c: &mut Tile<'_, f32>,
        at: [usize; 2],
        update: Update<'_>,
    ) {
        let ([m, n, k], [first_row, first_col]) = (shape, at);
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
        for col in (0..n).step_by(LANES) {
            let mut row = 0;
            while row < m {
                let place = Place { row, col, cols: LANES.min(n - col), at: [first_row + row, first_col + col] };
                // SAFETY: both operands were checked, and the block is inside m, n and k.
                row += unsafe {
                    match height::<V>(m - row) {
                        8 => place.block::<V, 8>(k, a, b, spans, c, update),
                        6 => place.block::<V, 6>(k, a, b, spans, c, update),
                        4 => place.block::<V, 4>(k, a, b, spans, c, update),
                        2 => place.block::<V, 2>(k, a, b, spans, c, update),
                        _ => place.block::<V, 1>(k, a, b, spans, c, update),
                    }
                };
            }
        }
    }
}

/// Rows of the next block when `rows` are left: two blocks of four are better than six and two.
#[inline(always)]
fn height<V: Vector>(rows: usize) -> usize {
    match rows {
        _ if rows >= V::ROWS && (V::ROWS != 6 || rows != 8) => V::ROWS,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Where a block of C begins in A and B, and in `c`.
struct Place {
    row: usize,
    col: usize,
    cols: usize,
    at: [usize; 2],
}

impl Place {
    /// One block of C; returns H.
    ///
    /// # Safety
    /// A has H rows from the block's first on and B the block's columns, for every p < k.
    #[inline(always)]
    unsafe fn block<V: Vector, const H: usize>(
        &self,
        k: usize,
        a: Left<'_>,
        b: Rows<'_>,
        spans: &[(usize, usize)],
        c: &mut Tile<'_, f32>,
        update: Update<'_>,
    ) -> usize {
        let (from, to) = if spans.is_empty() { (0, k) } else { union(&spans[self.row..self.row + H]) };
        let mut sums = [V::splat(0.0); H];
        if from < to {
            let (data, row_stride, k_stride) = a.strides();
            debug_assert!((self.row + H - 1) * row_stride + (to - 1) * k_stride < data.len());
            debug_assert!((to - 1) * b.ld + self.col + self.cols <= b.data.len());
            // SAFETY: the caller's contract; spans end at k at most, so that `to - from` steps stay inside both. What is known about strides
            // and columns here becomes part of the code.
            sums = unsafe {
                let left = data.as_ptr().add(self.row * row_stride + from * k_stride);
                let right = b.data.as_ptr().add(from * b.ld + self.col);
                match (self.cols, a) {
                    (LANES, Left::Rows(a)) => add_products::<V, H>(to - from, left, [a.ld, 1], right, b.ld, LANES),
                    (LANES, Left::Columns(a)) => add_products::<V, H>(to - from, left, [1, a.ld], right, b.ld, LANES),
                    (cols, _) => add_products::<V, H>(to - from, left, [row_stride, k_stride], right, b.ld, cols),
                }
            };
        }
        let mut rows: [&mut [f32]; H] = std::array::from_fn(|_| Default::default());
        c.block(self.at[0], self.at[1], self.cols, &mut rows);
        for (i, (row, sum)) in rows.into_iter().zip(sums).enumerate() {
            if row.len() == self.cols {
                // SAFETY: the row has so many elements.
                unsafe { update.apply(self.row + i, sum, row.as_mut_ptr(), self.cols) };
            }
        }
        H
    }
}

impl Update<'_> {
    /// # Safety
    /// `cols` elements can be read and written.
    #[inline(always)]
    unsafe fn apply<V: Vector>(self, i: usize, sum: V, row: *mut f32, cols: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            let new = match self {
                Self::Store => sum,
                Self::Add(x) => sum.mul_add(V::splat(x), V::load(row, cols)),
                Self::Scale(factor) => sum.mul(V::splat(factor[i])),
                Self::Mix(keep, factor) => V::load(row, cols).mul_add(V::splat(keep[i]), sum.mul(V::splat(factor[i]))),
            };
            new.store(row, cols);
        }
    }
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

/// Sums of `steps` products of H numbers of A with a vector of B.
///
/// # Safety
/// Elements i · `strides[0]` + p · `strides[1]` of `a` and p · `ld`.. + `cols` of `b` can be read, for i < H and p < `steps`.
#[inline(always)]
unsafe fn add_products<V: Vector, const H: usize>(
    steps: usize,
    a: *const f32,
    strides: [usize; 2],
    b: *const f32,
    ld: usize,
    cols: usize,
) -> [V; H] {
    let mut sums = [V::splat(0.0); H];
    for p in 0..steps {
        // SAFETY: the caller's contract.
        unsafe {
            let right = V::load(b.add(p * ld), cols);
            let left = a.add(p * strides[1]);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::splat(*left.add(i * strides[0])).mul_add(right, *sum);
            }
        }
    }
    sums
}

vectorised! {
    /// Up to sixteen rows (count, k) times `factor` as columns (k, 16); columns beyond the last row are 0.
    ///
    /// # Panics
    /// There are fewer rows, or there is less room.
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
                // SAFETY: column p + i is below k, for which there is room.
                unsafe { column.mul(V::splat(factor)).store(columns.as_mut_ptr().add((p + i) * LANES), LANES) };
            }
        }
    }
}
