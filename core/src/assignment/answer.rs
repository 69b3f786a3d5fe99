//! The answer of a search.

use super::number::{Cost, Index, get};
use super::view::Costs;
use super::workspace::Workspace;

/// The matched pairs and the dual variables that prove them optimal, usually borrowed from the workspace of a search.
#[derive(Clone, Copy, Debug)]
pub struct Assignment<'w, T, I = u32> {
    columns: &'w [I],
    rows: &'w [I],
    row_duals: &'w [T],
    column_duals: &'w [T],
}

impl<'w, T: Cost, I: Index> Assignment<'w, T, I> {
    /// An answer from given slices: the column of every row, the row of every column, and a dual for each.
    pub fn new(columns: &'w [I], rows: &'w [I], row_duals: &'w [T], column_duals: &'w [T]) -> Self {
        Self { columns, rows, row_duals, column_duals }
    }

    /// The answer in a workspace.
    pub(super) fn of(ws: &'w Workspace<'_, T, I>) -> Self {
        if ws.rows <= ws.columns {
            Self { columns: ws.column_of, rows: ws.row_of, row_duals: ws.u, column_duals: ws.v }
        } else {
            Self { columns: ws.row_of, rows: ws.column_of, row_duals: ws.v, column_duals: ws.u }
        }
    }

    /// The column of every row, [`Index::NONE`] for a row without one.
    pub fn columns(&self) -> &'w [I] {
        self.columns
    }

    /// The row of every column, [`Index::NONE`] for a column without one.
    pub fn rows(&self) -> &'w [I] {
        self.rows
    }

    /// The column of a row.
    pub fn column_of(&self, row: usize) -> Option<usize> {
        get(self.columns, row, I::NONE).get()
    }

    /// The row of a column.
    pub fn row_of(&self, column: usize) -> Option<usize> {
        get(self.rows, column, I::NONE).get()
    }

    /// All pairs of a row and its column, by rows.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<'w, T, I> {
        self.columns.iter().enumerate().filter_map(|(row, column)| column.get().map(|column| (row, column)))
    }

    /// The dual variable of every row.
    pub fn row_duals(&self) -> &'w [T] {
        self.row_duals
    }

    /// The dual variable of every column.
    pub fn column_duals(&self) -> &'w [T] {
        self.column_duals
    }

    /// The total cost of the pairs.
    pub fn total(&self, costs: &Costs<'_, T>) -> T::Total {
        self.pairs().filter_map(|(row, column)| costs.at(row, column)).fold(T::Total::default(), |sum, cost| cost.add_to(sum))
    }
}
