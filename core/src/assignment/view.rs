//! Sources of costs: strided matrices in a slice, or rows computed on demand.

use core::cell::Cell;

use super::Error;
use super::kernel::{self, VECTORS};
use super::number::{Cost, get};

/// A strided cost matrix in a slice: the cost of (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Costs<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Cost> Costs<'a, T> {
    /// A row-major matrix.
    ///
    /// # Errors
    /// The slice is shorter.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Result<Self, Error<T>> {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// A matrix with a row stride and a column stride, in elements.
    ///
    /// # Errors
    /// An element is outside of the slice.
    pub fn strided(
        data: &'a [T],
        rows: usize,
        columns: usize,
        row_stride: usize,
        column_stride: usize,
    ) -> Result<Self, Error<T>> {
        let needed = match (rows.checked_sub(1), columns.checked_sub(1)) {
            (Some(row), Some(column)) => {
                row.saturating_mul(row_stride).saturating_add(column.saturating_mul(column_stride)).saturating_add(1)
            }
            _ => 0,
        };
        if data.len() < needed {
            return Err(Error::Short { needed, found: data.len() });
        }
        Ok(Self { data, rows, columns, row_stride, column_stride })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The transposed view of the same data.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// The cost of (`row`, `column`); `None` out of bounds.
    #[inline(always)]
    pub fn at(&self, row: usize, column: usize) -> Option<T> {
        if row >= self.rows || column >= self.columns {
            return None;
        }
        let at = row.saturating_mul(self.row_stride).saturating_add(column.saturating_mul(self.column_stride));
        self.data.get(at).copied()
    }

    /// A row, if it is contiguous.
    #[inline(always)]
    pub fn row(&self, row: usize) -> Option<&'a [T]> {
        if self.column_stride != 1 {
            return None;
        }
        let start = row.saturating_mul(self.row_stride);
        self.data.get(start..start.saturating_add(self.columns))
    }

    /// Whether columns are contiguous and rows are not (column-major).
    pub(super) fn is_across(&self) -> bool {
        self.row_stride == 1 && self.column_stride != 1
    }

    /// Whether the rows are contiguous and follow each other without padding.
    pub(super) fn is_gapless(&self) -> bool {
        self.column_stride == 1 && self.row_stride == self.columns
    }

    /// The elements of up to `count` contiguous rows from row `first` on; of one row if rows have padding.
    #[inline(always)]
    pub(super) fn lines(&self, first: usize, count: usize) -> &'a [T] {
        let start = first.saturating_mul(self.row_stride);
        let len = count.min(self.rows.saturating_sub(first)).saturating_mul(self.columns);
        self.data.get(start..start.saturating_add(len)).unwrap_or(&[])
    }

    /// The costs of a row, in order.
    #[inline(always)]
    pub(super) fn row_iter(&self, row: usize) -> impl Iterator<Item = T> + use<'a, T> {
        // A stride may be 0: one element is then the whole row.
        let (data, stride) = (self.data, self.column_stride);
        let mut at = row.saturating_mul(self.row_stride);
        (0..self.columns).map_while(move |_| {
            let cost = data.get(at).copied();
            at = at.saturating_add(stride);
            cost
        })
    }
}

/// Costs computed on demand. A search may request a row several times and must get the same values each time.
pub trait LazyRows<T> {
    /// Writes the costs of a row.
    fn fill(&self, row: usize, costs: &mut [T]);
}

impl<T, F: Fn(usize, &mut [T])> LazyRows<T> for F {
    fn fill(&self, row: usize, costs: &mut [T]) {
        self(row, costs);
    }
}

/// Rows of admitted costs, as a search reads them.
pub(super) trait Rows<T: Cost> {
    /// Writes the admitted costs of a row.
    fn fill(&self, row: usize, buffer: &mut [T]);

    /// The admitted costs of a row; written to `buffer` unless they can be borrowed.
    #[inline(always)]
    fn row<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> &'s [T] {
        self.fill(row, buffer);
        buffer
    }

    /// As [`Rows::row`] at the first visit of the row, with validation.
    fn admit<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> Result<&'s [T], Refused>;

    /// One admitted cost; `buffer` is scratch.
    #[inline(always)]
    fn cost(&self, row: usize, column: usize, buffer: &mut [T]) -> T {
        get(self.row(row, buffer), column, T::FAR)
    }

    /// The matrix, if its costs can be read unchanged.
    #[inline(always)]
    fn as_they_are(&self) -> Option<Costs<'_, T>> {
        None
    }
}

/// Why a row was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A cost is NaN or infinitely good.
    Invalid,
    /// Costs so large that sums could overflow: they must be scaled.
    Large,
}

/// How costs are converted when they enter a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission<T> {
    pub(super) maximize: bool,
    /// Whether invalid costs are forbidden pairs.
    pub(super) forgive: bool,
    pub(super) scale: T,
}

impl<T: Cost> Admission<T> {
    /// Converts a cost that was validated before.
    #[inline(always)]
    fn value(&self, cost: T) -> T {
        cost.admit(self.maximize, self.scale).unwrap_or(T::FAR)
    }

    fn admit(&self, cost: T) -> Result<T, Refused> {
        match cost.admit(self.maximize, self.scale) {
            Some(cost) if cost.is_plain() || cost >= T::FAR => Ok(cost),
            Some(_) if T::EXACT => Ok(cost),
            Some(_) => Err(Refused::Large),
            None if self.forgive => Ok(T::FAR),
            None => Err(Refused::Invalid),
        }
    }
}

/// Rows of a matrix.
#[derive(Debug)]
pub(super) struct Dense<'a, T> {
    costs: Costs<'a, T>,
    admission: Admission<T>,
    /// Whether every row so far can be borrowed unchanged.
    direct: Cell<bool>,
}

impl<'a, T: Cost> Dense<'a, T> {
    pub(super) fn new(costs: Costs<'a, T>, admission: Admission<T>) -> Self {
        let direct = costs.column_stride == 1 && !admission.maximize && admission.scale == T::ONE;
        Self { costs, admission, direct: Cell::new(direct) }
    }

    /// Not inlined: copies of it would be a tenth of the code on a small device.
    #[inline(never)]
    fn fill_called(&self, row: usize, buffer: &mut [T]) {
        self.fill_inlined(row, buffer);
    }

    #[inline(always)]
    fn fill_inlined(&self, row: usize, buffer: &mut [T]) {
        if let Some(costs) = self.costs.row(row) {
            for (to, &cost) in buffer.iter_mut().zip(costs) {
                *to = self.admission.value(cost);
            }
            return;
        }
        let mut at = row.saturating_mul(self.costs.row_stride);
        for to in buffer {
            if let Some(&cost) = self.costs.data.get(at) {
                *to = self.admission.value(cost);
            }
            at = at.saturating_add(self.costs.column_stride);
        }
    }

    /// Validates a row that cannot be borrowed, or whose costs are not plain.
    #[cold]
    #[inline(never)]
    fn admit_copy<'s>(&self, row: usize, buffer: &'s mut [T]) -> Result<&'s [T], Refused> {
        let mut same = true;
        for (to, cost) in buffer.iter_mut().zip(self.costs.row_iter(row)) {
            *to = self.admission.admit(cost)?;
            same &= *to == cost;
        }
        if !same {
            self.direct.set(false);
        }
        Ok(buffer)
    }

    /// An admitted cost.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, column: usize) -> T {
        self.costs.at(row, column).map_or(T::FAR, |cost| self.admission.value(cost))
    }
}

impl<T: Cost> Rows<T> for Dense<'_, T> {
    #[inline(always)]
    fn fill(&self, row: usize, buffer: &mut [T]) {
        if VECTORS { self.fill_inlined(row, buffer) } else { self.fill_called(row, buffer) }
    }

    #[inline(always)]
    fn row<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> &'s [T] {
        if self.direct.get()
            && let Some(row) = self.costs.row(row)
        {
            return row;
        }
        self.fill(row, buffer);
        buffer
    }

    #[inline(always)]
    fn admit<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> Result<&'s [T], Refused> {
        if self.direct.get()
            && let Some(row) = self.costs.row(row)
            && kernel::plain(row)
        {
            return Ok(row);
        }
        self.admit_copy(row, buffer)
    }

    #[inline(always)]
    fn cost(&self, row: usize, column: usize, _: &mut [T]) -> T {
        self.at(row, column)
    }

    #[inline(always)]
    fn as_they_are(&self) -> Option<Costs<'_, T>> {
        (!self.admission.maximize && self.admission.scale == T::ONE).then_some(self.costs)
    }
}

/// Rows that the caller computes.
pub(super) struct Computed<'a, T> {
    pub(super) rows: &'a dyn LazyRows<T>,
    pub(super) admission: Admission<T>,
}

impl<T: Cost> Rows<T> for Computed<'_, T> {
    fn fill(&self, row: usize, buffer: &mut [T]) {
        self.rows.fill(row, buffer);
        for cost in buffer.iter_mut() {
            *cost = self.admission.value(*cost);
        }
    }

    fn admit<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> Result<&'s [T], Refused> {
        self.rows.fill(row, buffer);
        for cost in buffer.iter_mut() {
            *cost = self.admission.admit(*cost)?;
        }
        Ok(buffer)
    }
}

/// Rows of an `f32` matrix as `f64`. Its costs were validated by an earlier search: invalid ones count as forbidden now.
pub(super) struct Widened<'a> {
    pub(super) costs: Costs<'a, f32>,
    pub(super) admission: Admission<f32>,
}

impl Rows<f64> for Widened<'_> {
    fn fill(&self, row: usize, buffer: &mut [f64]) {
        for (to, cost) in buffer.iter_mut().zip(self.costs.row_iter(row)) {
            *to = f64::from(self.admission.value(cost));
        }
    }

    fn admit<'s>(&'s self, row: usize, buffer: &'s mut [f64]) -> Result<&'s [f64], Refused> {
        self.fill(row, buffer);
        Ok(buffer)
    }
}
