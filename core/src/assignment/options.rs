//! How to solve, and what options and costs must satisfy before a search.

use super::Error;
use super::number::{Cost, Index};
use super::view::{Admission, Costs, Refused};
use super::workspace::Workspace;

/// Whether the total is minimised or maximised.
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
    /// Any optimum: the fastest choice.
    #[default]
    Any,
    /// The optimum that scipy 1.17 returns. scipy computes `f32` costs in `f64`: where sums round, its choice can differ.
    Scipy,
}

/// The treatment of costs that are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dirty {
    /// As scipy: NaN and infinitely good costs are errors, infinitely bad ones forbidden pairs, and an incomplete assignment is an error.
    #[default]
    Reject,
    /// Treats NaN and infinities as forbidden pairs, and matches as many rows as possible at the least cost for that number.
    Forbid,
}

/// Options of a solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<T> {
    /// Whether the total is minimised or maximised.
    pub objective: Objective,
    /// Which of several optima is returned.
    pub ties: Ties,
    /// The treatment of costs that are NaN or infinite.
    pub dirty: Dirty,
    /// The cost of leaving one row and one column unmatched: a pair that costs more is never made, so rows may stay unmatched. Trackers call it the
    /// gating threshold. When maximizing: the least gain of a pair.
    ///
    /// With infinity (the largest integer) every allowed pair can be made: as many rows as possible are matched, at the least cost for that number.
    /// With minus infinity no pair can be made: the assignment is empty, and all duals are 0. When maximizing, the signs are reversed (the least
    /// integer). NaN is an error.
    pub cost_limit: Option<T>,
}

impl<T> Default for Options<T> {
    fn default() -> Self {
        Self { objective: Objective::Minimize, ties: Ties::Any, dirty: Dirty::Reject, cost_limit: None }
    }
}

/// Why a search ended without an assignment.
pub(super) enum Trouble {
    /// A cost in this row or column, counted from 0, is invalid.
    Refused(usize, Refused),
    /// This row or column, counted from 0, has no augmenting path.
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

/// Whether the limit admits every allowed pair. Adding such a limit to costs would round them away, so the search runs without it until it finds that
/// rows have to stay free.
pub(super) fn is_unlimited<T: Cost>(options: &Options<T>) -> bool {
    options.cost_limit.is_some_and(|limit| limit.forbids(options.objective == Objective::Maximize))
}

/// Whether the limit admits no pair.
pub(super) fn meets_none<T: Cost>(options: &Options<T>) -> bool {
    options.cost_limit.is_some_and(|limit| !is_nan(limit) && !is_valid(limit, options))
}

/// Whether rows that cannot be matched stay free, at no cost.
pub(super) fn may_leave_rows<T: Cost>(options: &Options<T>) -> bool {
    options.dirty == Dirty::Forbid || is_unlimited(options)
}

/// The cost limit in the search's units.
pub(super) fn admit_limit<T: Cost>(options: &Options<T>, scale: T) -> Option<T> {
    let limit = options.cost_limit.filter(|_| !is_unlimited(options))?;
    limit.admit(options.objective == Objective::Maximize, scale)
}

/// Converts duals to the caller's units.
pub(super) fn restore<T: Cost, I: Index>(workspace: &mut Workspace<'_, T, I>, options: &Options<T>, scale: T) {
    let maximize = options.objective == Objective::Maximize;
    if maximize || scale != T::ONE {
        for dual in workspace.u.iter_mut().chain(workspace.v.iter_mut()) {
            *dual = dual.restore(maximize, scale);
        }
    }
}

pub(super) fn is_valid<T: Cost>(cost: T, options: &Options<T>) -> bool {
    cost.admit(options.objective == Objective::Maximize, T::ONE).is_some()
}

/// The first invalid cost in row-major order.
pub(super) fn first_invalid<T: Cost>(costs: Costs<'_, T>, options: &Options<T>) -> Option<Error<T>> {
    (0..costs.rows()).find_map(|row| {
        let (column, value) = costs.row_iter(row).enumerate().find(|(_, cost)| !is_valid(*cost, options))?;
        Some(Error::Invalid { row, column, value })
    })
}

/// The error for refused costs: the first invalid one, or else costs too large to add.
pub(super) fn refusal<T: Cost>(costs: Costs<'_, T>, options: &Options<T>) -> Error<T> {
    first_invalid(costs, options).unwrap_or_else(|| {
        let mut range = None;
        (0..costs.rows()).flat_map(|row| costs.row_iter(row)).for_each(|cost| extend_range(&mut range, cost));
        let (least, largest) = range.unwrap_or_default();
        Error::HeadRoom { least, largest }
    })
}

/// Extends the range (least, largest) by a cost.
fn extend_range<T: Cost>(range: &mut Option<(T, T)>, cost: T) {
    *range = Some(match *range {
        None => (cost, cost),
        Some((least, largest)) => (least.least(cost), if cost > largest { cost } else { largest }),
    });
}

/// Extends a range by an integer cost, unless it forbids the pair.
pub(super) fn extend_room<T: Cost>(range: &mut Option<(T, T)>, cost: T, maximize: bool) {
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

pub(super) fn has_room<T: Cost>(range: Option<(T, T)>, rows: usize) -> Result<(), Error<T>> {
    match range {
        Some((least, largest)) if !T::has_room(least, largest, rows) => Err(Error::HeadRoom { least, largest }),
        _ => Ok(()),
    }
}
