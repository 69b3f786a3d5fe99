//! The entry points: checks, the choice of the way, and what is done about trouble.

use super::Error;
use super::answer::Assignment;
use super::machine::{Machine, Portable};
use super::number::{Cost, Index, get};
use super::search::Search;
use super::view::{Admission, Computed, Costs, Dense, LazyRows, Refused, Rows};
use super::workspace::Workspace;

/// What is sought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// The least total.
    #[default]
    Minimize,
    /// The largest total.
    Maximize,
}

/// Which of several optima is returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Any: the fastest way.
    #[default]
    Any,
    /// The one that scipy 1.17 returns. For `f32`, scipy computes in 64 bits: where sums round, its choice can differ.
    Scipy,
}

/// What is done about costs that are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dirty {
    /// As scipy: NaN and infinitely good costs are errors, infinitely bad ones forbidden pairs, and an incomplete assignment is an error.
    #[default]
    Reject,
    /// All of them are forbidden pairs, and as many rows as can be are matched, at the least cost for that number.
    Forbid,
}

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<T> {
    /// What is sought.
    pub objective: Objective,
    /// Which of several optima is returned.
    pub ties: Ties,
    /// What is done about costs that are NaN or infinite.
    pub dirty: Dirty,
    /// What a row and a column cost together when they stay free: pairs that cost more are not made, and rows may stay free. Trackers call it a
    /// threshold. For a maximum: the least gain of a pair.
    ///
    /// Infinity (the largest integer) is a limit that every pair meets: as many rows as can be are matched, at the least cost for that number. No pair
    /// meets minus infinity: there are none, and duals are 0. For a maximum the signs are the reverse (the least integer). NaN is an error.
    pub cost_limit: Option<T>,
}

impl<T> Default for Options<T> {
    fn default() -> Self {
        Self { objective: Objective::Minimize, ties: Ties::Any, dirty: Dirty::Reject, cost_limit: None }
    }
}

/// Assigns rows to columns so that the total cost is least (or largest): every row one column, every column at most one row, or the reverse if there are more rows
/// than columns.
///
/// Infinity (the largest integer) forbids a pair; when maximizing, minus infinity (the least integer) does.
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
/// As scipy, in scipy's order: invalid costs, then an infeasible matrix; before them what does not fit, and integers whose sums could overflow.
// Inlined where options are known, so that what they rule out is not linked.
#[inline(always)]
pub fn linear_sum_assignment<'w, T: Cost, I: Index>(
    costs: Costs<'_, T>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    linear_sum_assignment_on(Portable, costs, options, workspace)
}

/// [`linear_sum_assignment`] on a machine.
///
/// # Errors
/// As there.
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
            || solve(&dense, options, scale, workspace),
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

/// [`linear_sum_assignment`] of costs that are computed row by row when they are needed, some of them several times: nothing but one row is kept. There
/// are at least as many columns as rows.
///
/// # Errors
/// As there, and [`Error::Shape`] for more rows than columns; an invalid cost is found in the first row that has one.
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
            || solve(&computed, options, scale, workspace),
        );
        match solved {
            Ok(()) => return Ok(Assignment::of(workspace)),
            Err(Trouble::Infeasible(_)) if may_leave_rows(options) => {
                // All rows were admitted before.
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

/// The first invalid cost of a row that is computed once more.
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

/// What can come up inside a search.
pub(super) enum Trouble {
    Refused(usize, Refused),
    Infeasible(usize),
}

pub(super) fn admission<T: Cost>(options: &Options<T>, scale: T) -> Admission<T> {
    Admission { maximize: options.objective == Objective::Maximize, forgive: options.dirty == Dirty::Forbid, scale }
}

pub(super) fn check<T: Cost, I: Index>(
    rows: usize,
    columns: usize,
    options: &Options<T>,
    workspace: &Workspace<'_, T, I>,
) -> Result<(), Error<T>> {
    let expected = (workspace.rows, workspace.columns);
    if expected != (rows, columns) {
        return Err(Error::Shape { expected, found: (rows, columns) });
    }
    if options.ties == Ties::Scipy && options.cost_limit.is_some() {
        return Err(Error::Options);
    }
    if options.cost_limit.is_some_and(is_nan) {
        return Err(Error::Limit);
    }
    Ok(())
}

fn is_nan<T: Cost>(cost: T) -> bool {
    cost.partial_cmp(&cost).is_none()
}

/// Whether there is a limit that every allowed pair meets. A search would lose all costs beside it: it goes on as if there were none, until it finds that
/// rows have to stay free.
pub(super) fn is_unlimited<T: Cost>(options: &Options<T>) -> bool {
    options.cost_limit.is_some_and(|limit| limit.forbids(options.objective == Objective::Maximize))
}

/// Whether there is a limit that no pair meets.
pub(super) fn meets_none<T: Cost>(options: &Options<T>) -> bool {
    options.cost_limit.is_some_and(|limit| !is_nan(limit) && !is_valid(limit, options))
}

/// Whether rows that cannot be matched stay free, at no cost.
pub(super) fn may_leave_rows<T: Cost>(options: &Options<T>) -> bool {
    options.dirty == Dirty::Forbid || is_unlimited(options)
}

/// A cost limit as a search takes it.
pub(super) fn admit_limit<T: Cost>(options: &Options<T>, scale: T) -> Option<T> {
    let limit = options.cost_limit.filter(|_| !is_unlimited(options))?;
    limit.admit(options.objective == Objective::Maximize, scale)
}

/// Solves, and leaves pairs and duals in the workspace.
#[inline(always)]
fn solve<T: Cost, I: Index>(
    rows: &impl Rows<T>,
    options: &Options<T>,
    scale: T,
    workspace: &mut Workspace<'_, T, I>,
) -> Result<(), Trouble> {
    workspace.clear();
    let stay = admit_limit(options, scale);
    let mut search = Search { ws: workspace, rows, stay };
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

/// Duals in the units of the costs.
pub(super) fn restore<T: Cost, I: Index>(workspace: &mut Workspace<'_, T, I>, options: &Options<T>, scale: T) {
    let maximize = options.objective == Objective::Maximize;
    if maximize || scale != T::ONE {
        for dual in workspace.u.iter_mut().chain(workspace.v.iter_mut()) {
            *dual = dual.restore(maximize, scale);
        }
    }
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

pub(super) fn is_valid<T: Cost>(cost: T, options: &Options<T>) -> bool {
    cost.admit(options.objective == Objective::Maximize, T::ONE).is_some()
}

/// The first invalid cost in the order of rows.
pub(super) fn first_invalid<T: Cost>(costs: Costs<'_, T>, options: &Options<T>) -> Option<Error<T>> {
    (0..costs.rows()).find_map(|row| {
        let (column, value) = costs.row_iter(row).enumerate().find(|(_, cost)| !is_valid(*cost, options))?;
        Some(Error::Invalid { row, column, value })
    })
}

/// Why costs were refused: one of them is invalid, or else they are too large.
pub(super) fn refusal<T: Cost>(costs: Costs<'_, T>, options: &Options<T>) -> Error<T> {
    first_invalid(costs, options).unwrap_or_else(|| {
        let mut range = None;
        (0..costs.rows()).flat_map(|row| costs.row_iter(row)).for_each(|cost| extend_range(&mut range, cost));
        let (least, largest) = range.unwrap_or_default();
        Error::HeadRoom { least, largest }
    })
}

/// The least and the largest cost so far.
fn extend_range<T: Cost>(range: &mut Option<(T, T)>, cost: T) {
    *range = Some(match *range {
        None => (cost, cost),
        Some((least, largest)) => (least.least(cost), if cost > largest { cost } else { largest }),
    });
}

/// Extends a range by an integer, unless that forbids a pair.
fn extend_room<T: Cost>(range: &mut Option<(T, T)>, cost: T, maximize: bool) {
    if let Some(admitted) = cost.admit(maximize, T::ONE).filter(|_| !cost.forbids(maximize)) {
        extend_range(range, admitted);
    }
}

pub(super) fn check_room<T: Cost>(wide: Costs<'_, T>, options: &Options<T>) -> Result<(), Error<T>> {
    if !T::EXACT {
        return Ok(());
    }
    let mut range = admit_limit(options, T::ONE).map(|limit| (limit, limit));
    let maximize = options.objective == Objective::Maximize;
    for row in 0..wide.rows() {
        wide.row_iter(row).for_each(|cost| extend_room(&mut range, cost, maximize));
    }
    has_room(range, wide.rows())
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

fn has_room<T: Cost>(range: Option<(T, T)>, rows: usize) -> Result<(), Error<T>> {
    match range {
        Some((least, largest)) if !T::has_room(least, largest, rows) => Err(Error::HeadRoom { least, largest }),
        _ => Ok(()),
    }
}
