//! The entry points: they choose the search and handle its special outcomes.

use super::Error;
use super::answer::Assignment;
use super::machine::{Machine, Portable, Stores};
use super::number::{Cost, Index, get};
use super::options::{
    Objective, Options, Ties, Trouble, admission, admit_limit, check, check_room, extend_room, has_room, is_valid,
    may_leave_rows, meets_none, refusal, restore,
};
use super::search::Search;
use super::view::{Computed, Costs, Dense, LazyRows, Refused, Rows};
use super::workspace::Workspace;

/// Assigns rows to columns with the least (or largest) total cost: every row gets one column, every column at most one row; with more rows than
/// columns the reverse.
///
/// Infinity (the largest integer) forbids a pair; when maximizing, minus infinity (the least integer) does. A large floating-point value in its place
/// is an ordinary cost: with duals near 1e18, cost differences below 128 are rounded away. The solver of the crate `samara` detects such sentinels.
///
/// ```
/// use samara_core::assignment::{Costs, Fixed, Options, linear_sum_assignment};
///
/// let costs = [4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0];
/// let costs = Costs::new(&costs, 3, 3)?;
/// let mut memory = Fixed::<3, 3, f64, u16>::default();
/// let mut workspace = memory.workspace(3, 3)?;
/// let answer = linear_sum_assignment(costs, &Options::default(), &mut workspace)?;
/// assert!(answer.pairs().eq([(0, 1), (1, 0), (2, 2)]));
/// assert_eq!(answer.total(&costs), 5.0);
/// # Ok::<(), samara_core::assignment::Error<f64>>(())
/// ```
///
/// # Errors
/// As scipy, in scipy's order: invalid costs, then an infeasible matrix. Before them: a matrix that does not fit the workspace, and integers whose
/// sums could overflow.
// Inlined where options are known, so that what they rule out is not linked.
#[inline(always)]
pub fn linear_sum_assignment<'w, T: Cost, I: Index>(
    costs: Costs<'_, T>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    linear_sum_assignment_on(Portable, costs, options, workspace)
}

/// [`linear_sum_assignment`] compiled for a machine.
///
/// # Errors
/// As [`linear_sum_assignment`].
#[inline(always)]
pub fn linear_sum_assignment_on<'w, T: Cost, I: Index>(
    machine: impl Machine,
    costs: Costs<'_, T>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    check(costs.rows(), costs.columns(), options, workspace)?;
    let of_columns = costs.rows() > costs.columns();
    let wide = if of_columns { costs.transposed() } else { costs };
    check_room(wide, options)?;
    let mut scale = T::ONE;
    loop {
        let dense = Dense::new(wide, admission(options, scale));
        let solved = machine.run(
            #[inline(always)]
            |stores| solve(&dense, options, (scale, stores), workspace),
        );
        match solved {
            Ok(()) => return Ok(Assignment::of(workspace)),
            Err(Trouble::Infeasible(_)) if may_leave_rows(options) => {
                return super::assign_pairs(costs, usize::MAX, options, workspace);
            }
            Err(Trouble::Refused(_, Refused::Large)) if scale == T::ONE => scale = T::rescue().unwrap_or(T::ONE),
            Err(Trouble::Refused(..)) => return Err(refusal(costs, options)),
            Err(Trouble::Infeasible(index)) => return Err(Error::Infeasible { index, of_columns }),
        }
    }
}

/// [`linear_sum_assignment`] of costs that are computed row by row on demand, some rows several times; only one row is kept in memory. There must be
/// at least as many columns as rows.
///
/// # Errors
/// As [`linear_sum_assignment`], and [`Error::Shape`] for more rows than columns. An invalid cost is reported for the first row that has one.
pub fn linear_sum_assignment_lazy<'w, T: Cost, I: Index>(
    machine: impl Machine,
    rows: &dyn LazyRows<T>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    let shape = (workspace.rows, workspace.columns);
    check(shape.0, shape.1, options, workspace)?;
    if shape.0 > shape.1 {
        return Err(Error::Shape { expected: (shape.1, shape.0), found: shape });
    }
    check_lazy_room(rows, options, workspace)?;
    let mut scale = T::ONE;
    loop {
        let computed = Computed { rows, admission: admission(options, scale) };
        let solved = machine.run(
            #[inline(always)]
            |stores| solve(&computed, options, (scale, stores), workspace),
        );
        match solved {
            Ok(()) => return Ok(Assignment::of(workspace)),
            Err(Trouble::Infeasible(_)) if may_leave_rows(options) => {
                // Every row was admitted before.
                let _ = super::cardinality::largest(&computed, usize::MAX, workspace);
                restore(workspace, options, scale);
                return Ok(Assignment::of(workspace));
            }
            Err(Trouble::Refused(_, Refused::Large)) if scale == T::ONE => scale = T::rescue().unwrap_or(T::ONE),
            Err(Trouble::Refused(row, _)) => return Err(invalid_in(rows, row, options, workspace)),
            Err(Trouble::Infeasible(index)) => return Err(Error::Infeasible { index, of_columns: false }),
        }
    }
}

/// The first invalid cost of a row, which is computed once more.
fn invalid_in<T: Cost, I: Index>(
    rows: &dyn LazyRows<T>,
    row: usize,
    options: &Options<T>,
    workspace: &mut Workspace<'_, T, I>,
) -> Error<T> {
    rows.fill(row, workspace.buffer);
    let invalid = workspace.buffer.iter().enumerate().find(|(_, cost)| !is_valid(**cost, options));
    invalid.map_or(Error::Unsteady { row }, |(column, &value)| Error::Invalid { row, column, value })
}

/// Solves, and leaves pairs and duals in the workspace.
#[inline(always)]
fn solve<T: Cost, I: Index>(
    rows: &impl Rows<T>,
    options: &Options<T>,
    (scale, stores): (T, Stores),
    workspace: &mut Workspace<'_, T, I>,
) -> Result<(), Trouble> {
    workspace.clear();
    let stay = admit_limit(options, scale);
    let mut search = Search { ws: workspace, rows, stay, stores };
    let none = meets_none(options);
    if none || options.ties == Ties::Scipy {
        search.admit_all().map_err(|(row, why)| Trouble::Refused(row, why))?;
        if none {
            return Ok(());
        }
        search.solve_in_order().map_err(Trouble::Infeasible)?;
    } else {
        if search.solve_small() {
            search.price_rows();
            restore(search.ws, options, scale);
            return Ok(());
        }
        search.ws.clear();
        let free = search.start().map_err(|(row, why)| Trouble::Refused(row, why))?;
        for k in 0..free {
            let row = get(search.ws.free, k, I::NONE).at();
            if !search.augment(row) {
                return Err(Trouble::Infeasible(row));
            }
        }
        search.price_rows();
    }
    restore(workspace, options, scale);
    Ok(())
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Checks all rows.
    #[inline(always)]
    pub(super) fn admit_all(&mut self) -> Result<(), (usize, Refused)> {
        for row in 0..self.small() {
            self.rows.admit(row, self.ws.buffer).map_err(|why| (row, why))?;
        }
        Ok(())
    }
}

fn check_lazy_room<T: Cost, I: Index>(
    rows: &dyn LazyRows<T>,
    options: &Options<T>,
    ws: &mut Workspace<'_, T, I>,
) -> Result<(), Error<T>> {
    if !T::EXACT {
        return Ok(());
    }
    let mut range = admit_limit(options, T::ONE).map(|limit| (limit, limit));
    let maximize = options.objective == Objective::Maximize;
    for row in 0..ws.rows {
        rows.fill(row, ws.buffer);
        ws.buffer.iter().for_each(|&cost| extend_room(&mut range, cost, maximize));
    }
    has_room(range, ws.rows)
}
