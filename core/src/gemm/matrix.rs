//! The operands and the result of a product.

use crate::math::Real;

/// A strided read-only matrix in a slice: element (i, j) is `data[i * row_stride + j * col_stride]`. Elements outside of the slice count as 0.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    /// The slice.
    pub data: &'a [R],
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next.
    pub col_stride: usize,
}

impl<'a, R: Real> MatRef<'a, R> {
    /// A matrix stored row after row, (rows, cols).
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// A row-major matrix with leading dimension `ld` in elements, (rows, cols).
    pub fn with_ld(data: &'a [R], rows: usize, cols: usize, ld: usize) -> Self {
        Self { data, rows, cols, row_stride: ld, col_stride: 1 }
    }

    /// The transposed view of the same data, (cols, rows).
    #[must_use]
    pub fn t(self) -> Self {
        Self { data: self.data, rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// The submatrix of at most `rows` × `cols` at (`row`, `col`), cut at the matrix's end.
    #[must_use]
    pub fn part(self, row: usize, col: usize, rows: usize, cols: usize) -> Self {
        let rows = rows.min(self.rows.saturating_sub(row));
        let cols = cols.min(self.cols.saturating_sub(col));
        let start = self.offset(row, col);
        Self { data: self.data.get(start..).unwrap_or(&[]), rows, cols, ..self }
    }

    /// Whether rows are contiguous.
    pub fn major(&self) -> Major {
        if self.col_stride == 1 { Major::Rows } else { Major::Columns }
    }

    /// Whether rows are contiguous and do not overlap.
    pub(super) fn has_rows(&self) -> bool {
        self.col_stride == 1 && self.row_stride >= self.cols
    }

    /// Row `i` of a matrix whose rows are contiguous; shorter where the slice ends.
    pub fn row(&self, i: usize) -> &'a [R] {
        let rest = self.data.get(self.offset(i, 0)..).unwrap_or(&[]);
        rest.get(..self.cols).unwrap_or(rest)
    }

    /// Element (i, j); 0 outside the slice.
    pub fn at(&self, i: usize, j: usize) -> R {
        self.data.get(self.offset(i, j)).copied().unwrap_or(R::ZERO)
    }

    /// Whether every element is inside the slice.
    pub fn is_inside(&self) -> bool {
        match (self.rows.checked_sub(1), self.cols.checked_sub(1)) {
            (Some(row), Some(col)) => self.offset(row, col) < self.data.len(),
            _ => true,
        }
    }

    fn offset(&self, i: usize, j: usize) -> usize {
        i.saturating_mul(self.row_stride).saturating_add(j.saturating_mul(self.col_stride))
    }
}

/// Storage order of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Major {
    /// Rows are contiguous.
    Rows,
    /// Column-major, or no dimension is contiguous.
    Columns,
}

/// Whether a product overwrites the result or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `C = A·B`.
    Overwrite,
    /// `C += A·B`.
    Add,
}

/// Elements of a result that are written next: `count` of them, `stride` elements apart, from `at` on. A prefetch hint: nothing is read or written
/// there.
#[derive(Clone, Copy, Debug)]
pub struct Soon<R> {
    /// The first one.
    pub at: *const R,
    /// From one to the next.
    pub stride: usize,
    /// How many.
    pub count: usize,
}

impl<R> Default for Soon<R> {
    fn default() -> Self {
        Self { at: core::ptr::null(), stride: 0, count: 0 }
    }
}

/// A writable matrix: a whole slice here, a tile of a matrix shared by tasks elsewhere.
pub trait RowsMut<R> {
    /// Sets `into[i]` to elements `col..col + cols` of row `row + i`, or to an empty slice if they do not exist.
    fn block<'a>(&'a mut self, row: usize, col: usize, cols: usize, into: &mut [&'a mut [R]]);

    /// The prefetch hint for column `col` of `rows` rows from `row` on; none where the address is unknown.
    fn soon(&self, row: usize, rows: usize, col: usize) -> Soon<R> {
        let _ = (row, rows, col);
        Soon::default()
    }
}

/// Rows in a slice, `ld` elements from a row to the next.
#[derive(Debug)]
pub struct RowSlices<'a, R> {
    /// The slice.
    pub data: &'a mut [R],
    /// Elements from a row to the next.
    pub ld: usize,
}

impl<R> RowsMut<R> for RowSlices<'_, R> {
    #[inline(always)]
    fn block<'a>(&'a mut self, row: usize, col: usize, cols: usize, into: &mut [&'a mut [R]]) {
        let start = row.saturating_mul(self.ld).saturating_add(col);
        let rest = self.data.get_mut(start..).unwrap_or_default();
        for (to, row) in into.iter_mut().zip(rest.chunks_mut(self.ld.max(1))) {
            *to = row.get_mut(..cols).unwrap_or_default();
        }
    }
}
