//! Memory of a search, lent by its caller.

use super::Error;
use super::kernel::minima_len;
use super::len::WorkspaceLen;
use super::number::{Cost, Index};

/// The workspace that `rows` × `columns` costs need.
pub const fn workspace_len(rows: usize, columns: usize) -> WorkspaceLen {
    let (small, large) = if rows < columns { (rows, columns) } else { (columns, rows) };
    WorkspaceLen {
        costs: small.saturating_mul(3).saturating_add(large.saturating_mul(3)).saturating_add(minima_len(large)),
        indices: small.saturating_mul(3).saturating_add(large.saturating_mul(4)),
    }
}

/// The same in bytes.
pub const fn workspace_bytes<T, I>(rows: usize, columns: usize) -> usize {
    let len = workspace_len(rows, columns);
    len.costs.saturating_mul(size_of::<T>()).saturating_add(len.indices.saturating_mul(size_of::<I>()))
}

/// The memory of a search, which also holds its answer. "Small" is the side with fewer elements, "large" the other; inside a search the rows are the
/// small side.
#[derive(Debug)]
pub struct Workspace<'a, T, I = u32> {
    /// Duals of rows (small).
    pub(super) u: &'a mut [T],
    /// Duals of columns (large).
    pub(super) v: &'a mut [T],
    /// Distances of columns (large).
    pub(super) distances: &'a mut [T],
    /// A row of costs (large).
    pub(super) buffer: &'a mut [T],
    /// The minima of every tile of columns.
    pub(super) minima: &'a mut [T],
    /// Distances and duals of the columns that a search has closed, in the order of `closed` (small).
    pub(super) closed_distances: &'a mut [T],
    pub(super) closed_duals: &'a mut [T],
    /// The row before a column on its path (large).
    pub(super) path: &'a mut [I],
    /// The row of a column (large).
    pub(super) row_of: &'a mut [I],
    /// The column of a row (small).
    pub(super) column_of: &'a mut [I],
    /// Columns that a search has closed (small).
    pub(super) closed: &'a mut [I],
    /// Rows that are still free (small).
    pub(super) free: &'a mut [I],
    /// For scipy's order: the list of open columns, and the place of every column in it (large).
    pub(super) open: &'a mut [I],
    pub(super) place: &'a mut [I],
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a, T: Cost, I: Index> Workspace<'a, T, I> {
    /// A workspace for `rows` × `columns` costs in memory of at least [`workspace_len`] elements.
    ///
    /// # Errors
    /// Too little memory, or more rows or columns than the index type counts.
    pub fn new(costs: &'a mut [T], indices: &'a mut [I], rows: usize, columns: usize) -> Result<Self, Error<T>> {
        let needed = workspace_len(rows, columns);
        let (small, large) = (rows.min(columns), rows.max(columns));
        if large >= I::LIMIT {
            return Err(Error::TooMany { limit: I::LIMIT.saturating_sub(1), found: large });
        }
        if costs.len() < needed.costs || indices.len() < needed.indices {
            return Err(Error::Workspace { needed, found: WorkspaceLen { costs: costs.len(), indices: indices.len() } });
        }
        let (small_costs, large_costs) = costs.split_at_mut_checked(small.saturating_mul(3)).unwrap_or_default();
        let (small_indices, large_indices) = indices.split_at_mut_checked(small.saturating_mul(3)).unwrap_or_default();
        Ok(Self::from_pieces(small_costs, large_costs, small_indices, large_indices, rows, columns))
    }

    /// Three elements of either type for every row of the small side, four for every one of the large side.
    fn from_pieces(
        small_costs: &'a mut [T],
        large_costs: &'a mut [T],
        small_indices: &'a mut [I],
        large_indices: &'a mut [I],
        rows: usize,
        columns: usize,
    ) -> Self {
        let (small, large) = (rows.min(columns), rows.max(columns));
        let (mut sc, mut lc) = (Taken(small_costs), Taken(large_costs));
        let (mut si, mut li) = (Taken(small_indices), Taken(large_indices));
        Self {
            u: sc.take(small),
            closed_distances: sc.take(small),
            closed_duals: sc.take(small),
            v: lc.take(large),
            distances: lc.take(large),
            buffer: lc.take(large),
            minima: lc.take(minima_len(large)),
            column_of: si.take(small),
            closed: si.take(small),
            free: si.take(small),
            path: li.take(large),
            row_of: li.take(large),
            open: li.take(large),
            place: li.take(large),
            rows,
            columns,
        }
    }

    /// Clears the answer of the last search.
    pub(super) fn clear(&mut self) {
        self.u.fill(T::ZERO);
        self.v.fill(T::ZERO);
        self.row_of.fill(I::NONE);
        self.column_of.fill(I::NONE);
    }
}

/// A slice whose front is handed out piece by piece.
pub(super) struct Taken<'a, E>(pub(super) &'a mut [E]);

impl<'a, E> Taken<'a, E> {
    pub(super) fn take(&mut self, len: usize) -> &'a mut [E] {
        let (piece, rest) = core::mem::take(&mut self.0).split_at_mut_checked(len).unwrap_or_default();
        self.0 = rest;
        piece
    }
}

/// The memory of a workspace for up to `ROWS` × `COLUMNS` costs, on the stack or in a static.
#[derive(Clone, Debug)]
pub struct Fixed<const ROWS: usize, const COLUMNS: usize, T, I = u32> {
    row_costs: [[T; 4]; ROWS],
    column_costs: [[T; 4]; COLUMNS],
    row_indices: [[I; 4]; ROWS],
    column_indices: [[I; 4]; COLUMNS],
}

impl<const ROWS: usize, const COLUMNS: usize, T: Cost, I: Index> Fixed<ROWS, COLUMNS, T, I> {
    /// Unused memory.
    pub const fn new(cost: T, index: I) -> Self {
        Self {
            row_costs: [[cost; 4]; ROWS],
            column_costs: [[cost; 4]; COLUMNS],
            row_indices: [[index; 4]; ROWS],
            column_indices: [[index; 4]; COLUMNS],
        }
    }

    /// A workspace for `rows` × `columns` costs.
    ///
    /// # Errors
    /// More rows or columns than there is memory for, or than the index type counts.
    pub fn workspace(&mut self, rows: usize, columns: usize) -> Result<Workspace<'_, T, I>, Error<T>> {
        for (limit, found) in [(ROWS, rows), (COLUMNS, columns), (I::LIMIT.saturating_sub(1), rows.max(columns))] {
            if found > limit {
                return Err(Error::TooMany { limit, found });
            }
        }
        let (a, b) = (self.row_costs.as_flattened_mut(), self.column_costs.as_flattened_mut());
        let (c, d) = (self.row_indices.as_flattened_mut(), self.column_indices.as_flattened_mut());
        Ok(if rows <= columns {
            Workspace::from_pieces(a, b, c, d, rows, columns)
        } else {
            Workspace::from_pieces(b, a, d, c, rows, columns)
        })
    }
}

impl<const ROWS: usize, const COLUMNS: usize, T: Cost, I: Index> Default for Fixed<ROWS, COLUMNS, T, I> {
    fn default() -> Self {
        Self::new(T::ZERO, I::NONE)
    }
}
