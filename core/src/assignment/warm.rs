//! Solving again after some costs have changed, from the duals of the last answer: one path for each row that lost its column.

use super::Error;
use super::answer::Assignment;
use super::kernel::Kernels;
use super::number::{Cost, Index, get, set};
use super::search::Search;
use super::solve::{Objective, Options, admission, admit_limit, check, check_room, linear_sum_assignment_by};
use super::view::{Costs, Dense};
use super::workspace::Workspace;

/// Which costs differ from those of the last answer.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// Any: every row is looked at.
    Any,
    /// Those of these rows and of these columns.
    Only {
        /// Rows.
        rows: &'a [usize],
        /// Columns.
        columns: &'a [usize],
    },
}

/// [`super::linear_sum_assignment`] that begins with the answer which lies in the workspace, of costs of the same shape solved with the same options. The total is
/// that of a cold start; among equal optima the choice can differ, whatever [`Options::ties`] says.
///
/// A new row or column is one that changes: lend a workspace with room for it, and forbid what is not there yet or no more.
///
/// # Errors
/// As there. Invalid costs are found only in rows that are looked at.
pub fn reassign<'w, T: Cost, I: Index>(
    kernels: &Kernels<T, I>,
    costs: Costs<'_, T>,
    changed: Changed<'_>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    check(costs.rows(), costs.columns(), options, workspace)?;
    let tall = costs.rows() > costs.columns();
    let wide = if tall { costs.transposed() } else { costs };
    if T::EXACT {
        check_room(wide, options)?;
    }
    let dense = Dense::new(wide, admission(options, T::ONE));
    let (rows, columns) = match changed {
        Changed::Any => (None, &[][..]),
        Changed::Only { rows, columns } if tall => (Some(columns), rows),
        Changed::Only { rows, columns } => (Some(rows), columns),
    };
    let stay = admit_limit(options, T::ONE);
    signed(workspace, options);
    let mut search = Search { ws: workspace, kernels, rows: &dense, stay };
    let warm = search.resume(rows, columns, &dense);
    signed(workspace, options);
    match warm {
        Some(()) => Ok(Assignment::of(workspace)),
        // Whatever is wrong, a cold start says it.
        None => linear_sum_assignment_by(kernels, costs, options, workspace),
    }
}

/// Duals between the units of the caller and those of the search.
fn signed<T: Cost, I: Index>(workspace: &mut Workspace<'_, T, I>, options: &Options<T>) {
    if options.objective == Objective::Maximize {
        for dual in workspace.u.iter_mut().chain(workspace.v.iter_mut()) {
            *dual = dual.restore(true, T::ONE);
        }
    }
}

impl<T: Cost, I: Index> Search<'_, '_, T, I> {
    /// None if costs are refused or a row cannot be matched.
    fn resume(&mut self, rows: Option<&[usize]>, columns: &[usize], dense: &Dense<'_, T>) -> Option<()> {
        // Free columns on the larger side, and all of them where rows may stay free, have the dual 0, and others have no more.
        let bounded = self.stay.is_some() || self.ws.rows != self.ws.columns;
        for &column in columns {
            self.price_column(column, bounded, dense);
        }
        match rows {
            None => (0..self.small()).try_for_each(|row| self.review(row, true))?,
            Some(rows) => rows.iter().try_for_each(|&row| self.review(row, true))?,
        }
        for &column in columns {
            if let Some(row) = get(self.ws.row_of, column, I::NONE).get() {
                self.review(row, false)?;
            }
        }
        while bounded && self.level() {
            (0..self.small()).try_for_each(|row| self.review(row, false))?;
        }
        for row in 0..self.small() {
            if get(self.ws.column_of, row, I::new(0)) == I::NONE && !self.augment(row) {
                return None;
            }
        }
        self.price_rows();
        Some(())
    }

    /// Frees a row whose column is no longer its cheapest, but for rounding.
    fn review(&mut self, row: usize, first: bool) -> Option<()> {
        let ws = &mut *self.ws;
        let costs = if first { self.rows.admit(row, ws.buffer, self.kernels.plain).ok()? } else { self.rows.row(row, ws.buffer) };
        let Some(column) = get(ws.column_of, row, I::NONE).get() else { return Some(()) };
        let (cost, dual) = (get(costs, column, T::FAR), get(ws.v, column, T::ZERO));
        let mut least = (self.kernels.reduce)(costs, ws.v, ws.minima);
        if let Some(stay) = self.stay {
            least = least.least(stay);
        }
        if cost >= T::UNREACHABLE || !cost.minus(dual).is_near(least, cost, dual) {
            set(ws.column_of, row, I::NONE);
            set(ws.row_of, column, I::NONE);
        }
        Some(())
    }

    /// The dual of a column whose costs have changed: the largest that the duals of rows allow.
    fn price_column(&mut self, column: usize, bounded: bool, dense: &Dense<'_, T>) {
        let mut dual = if bounded { T::ZERO } else { T::FAR };
        for (row, &row_dual) in self.ws.u.iter().enumerate() {
            dual = dual.least(dense.at(row, column).minus(row_dual));
        }
        set(self.ws.v, column, if dual >= T::UNREACHABLE { T::ZERO } else { dual });
    }

    /// Gives free columns the dual 0; whether any had another.
    fn level(&mut self) -> bool {
        let mut any = false;
        for (dual, row) in self.ws.v.iter_mut().zip(&*self.ws.row_of) {
            if *row == I::NONE && *dual != T::ZERO {
                *dual = T::ZERO;
                any = true;
            }
        }
        any
    }
}
