//! Warm starts: solves again after some costs have changed, from the duals of the last answer, with one path for each row that lost its column.

use super::Error;
use super::answer::Assignment;
use super::cardinality::largest;
use super::kernel;
use super::machine::Machine;
use super::number::{Cost, Index, get, set};
use super::options::{
    Dirty, Objective, Options, admission, admit_limit, check, check_room, first_invalid, may_leave_rows, meets_none, restore,
};
use super::search::Search;
use super::solve::linear_sum_assignment_on;
use super::view::{Costs, Dense, Rows, Widened};
use super::workspace::Workspace;

/// The costs that may differ from those of the last answer.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// Any cost: every row is reviewed.
    Any,
    /// Costs in these rows and in these columns.
    Only {
        /// Rows.
        rows: &'a [usize],
        /// Columns.
        columns: &'a [usize],
    },
}

/// [`super::linear_sum_assignment`] warm-started from the answer in the workspace, which must be of costs of the same shape with the same options.
/// The total equals that of a cold start; among equal optima the choice can differ, whatever [`Options::ties`] is.
///
/// To add or remove rows and columns, lend a workspace with spare ones, forbid all pairs of the unused ones, and list those that appear or disappear
/// as changed.
///
/// # Errors
/// As [`super::linear_sum_assignment`]. Invalid costs are found only in reviewed rows.
pub fn reassign<'w, T: Cost, I: Index>(
    machine: impl Machine,
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
    // Duals of answers with rows left free satisfy other conditions: no warm start is possible from them.
    if !(meets_none(options) || stay.is_none() && workspace.column_of.contains(&I::NONE)) {
        signed(workspace, options);
        let warm = machine.run(
            #[inline(always)]
            |stores| {
                let mut search = Search { ws: workspace, rows: &dense, stay, stores };
                search.price_changed(columns, &dense);
                search.resume(rows, columns)
            },
        );
        signed(workspace, options);
        if warm.is_some() {
            return Ok(Assignment::of(workspace));
        }
    }
    // A cold start reports the error, whatever it is.
    linear_sum_assignment_on(machine, costs, options, workspace)
}

/// Refines an `f32` answer to `f64` accuracy: starts from the pairs and duals in `from` (whose costs were solved with the same options), and
/// rematches every row whose column is not its cheapest when differences are computed in `f64`. Where rows had to stay free it starts from scratch.
///
/// ```
/// use samara_core::assignment::{Costs, Fixed, Options, Portable, linear_sum_assignment, refine, verify};
///
/// let costs = [16_777_216.0_f32, 1.0, 3.0, 16_777_216.0];
/// let costs = Costs::new(&costs, 2, 2)?;
/// let options = Options::default();
/// let (mut memory, mut wide) = (Fixed::<2, 2, f32, u16>::default(), Fixed::<2, 2, f64, u16>::default());
/// let (mut single, mut double) = (memory.workspace(2, 2)?, wide.workspace(2, 2).unwrap());
/// let answer = linear_sum_assignment(costs, &options, &mut single)?;
/// if verify(costs, &answer, &options, 1e-9).is_err() {
///     let exact = refine(Portable, costs, &single, &options, &mut double)?;
///     assert_eq!(exact.total(&Costs::new(&[16_777_216.0, 1.0, 3.0, 16_777_216.0], 2, 2).unwrap()), 4.0);
/// }
/// # Ok::<(), samara_core::assignment::Error<f32>>(())
/// ```
///
/// # Errors
/// As [`super::linear_sum_assignment`].
pub fn refine<'w, I: Index>(
    machine: impl Machine,
    costs: Costs<'_, f32>,
    from: &Workspace<'_, f32, I>,
    options: &Options<f32>,
    to: &'w mut Workspace<'_, f64, I>,
) -> Result<Assignment<'w, f64, I>, Error<f32>> {
    check(costs.rows(), costs.columns(), options, from)?;
    if (to.rows, to.columns) != (from.rows, from.columns) {
        return Err(Error::Shape { expected: (to.rows, to.columns), found: (from.rows, from.columns) });
    }
    let wide = Options {
        objective: options.objective,
        ties: options.ties,
        dirty: options.dirty,
        cost_limit: options.cost_limit.map(f64::from),
    };
    let narrow = admission(options, 1.0);
    let tall = costs.rows() > costs.columns();
    let rows = Widened { costs: if tall { costs.transposed() } else { costs }, admission: narrow };
    to.clear();
    if meets_none(options) {
        return Ok(Assignment::of(to));
    }
    for (to, from) in to.u.iter_mut().zip(&*from.u).chain(to.v.iter_mut().zip(&*from.v)) {
        *to = f64::from(*from);
    }
    for (to, from) in to.column_of.iter_mut().zip(&*from.column_of).chain(to.row_of.iter_mut().zip(&*from.row_of)) {
        *to = *from;
    }
    signed(to, &wide);
    let stay = admit_limit(&wide, 1.0);
    let warm = machine.run(
        #[inline(always)]
        |stores| Search { ws: to, rows: &rows, stay, stores }.resume(None, &[]),
    );
    signed(to, &wide);
    if warm.is_none() {
        leave_rows(&rows, costs, options, to)?;
        restore(to, &wide, 1.0);
    }
    Ok(Assignment::of(to))
}

/// Solves for the largest number of pairs when a row has no column and the options allow that.
fn leave_rows<I: Index>(
    rows: &Widened<'_>,
    costs: Costs<'_, f32>,
    options: &Options<f32>,
    to: &mut Workspace<'_, f64, I>,
) -> Result<(), Error<f32>> {
    let index = to.column_of.iter().position(|column| *column == I::NONE).unwrap_or(0);
    let infeasible = Error::Infeasible { index, of_columns: costs.rows() > costs.columns() };
    let forgiven = options.dirty == Dirty::Forbid;
    if let Some(invalid) = first_invalid(costs, options).filter(|_| !forgiven) {
        return Err(invalid);
    }
    if may_leave_rows(options) { largest(rows, usize::MAX, to).map_err(|_| infeasible) } else { Err(infeasible) }
}

/// Converts the signs of duals between the caller's convention and the search's.
fn signed<T: Cost, I: Index>(workspace: &mut Workspace<'_, T, I>, options: &Options<T>) {
    if options.objective == Objective::Maximize {
        for dual in workspace.u.iter_mut().chain(workspace.v.iter_mut()) {
            *dual = dual.restore(true, T::ONE);
        }
    }
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Whether the dual of every free column (and of every column, if rows may stay free) is at most 0, free ones being exactly 0.
    fn bounded(&self) -> bool {
        self.stay.is_some() || self.ws.rows != self.ws.columns
    }

    /// `None` if costs are refused or a row cannot be matched.
    #[inline(always)]
    fn resume(&mut self, rows: Option<&[usize]>, columns: &[usize]) -> Option<()> {
        // Loops, not closures: they are compiled for the machine of the search.
        for k in 0..rows.map_or(self.small(), <[usize]>::len) {
            self.review(rows.map_or(k, |rows| get(rows, k, usize::MAX)), true)?;
        }
        for &column in columns {
            if let Some(row) = get(self.ws.row_of, column, I::NONE).get() {
                self.review(row, false)?;
            }
        }
        while self.bounded() && self.level() {
            for row in 0..self.small() {
                self.review(row, false)?;
            }
        }
        for row in 0..self.small() {
            if get(self.ws.column_of, row, I::new(0)) == I::NONE && !self.augment(row) {
                return None;
            }
        }
        self.price_rows();
        Some(())
    }

    /// Frees a row whose column is no longer its cheapest, up to rounding.
    #[inline(always)]
    fn review(&mut self, row: usize, first: bool) -> Option<()> {
        let ws = &mut *self.ws;
        let costs = if first { self.rows.admit(row, ws.buffer).ok()? } else { self.rows.row(row, ws.buffer) };
        let Some(column) = get(ws.column_of, row, I::NONE).get() else { return Some(()) };
        let (cost, dual) = (get(costs, column, T::FAR), get(ws.v, column, T::ZERO));
        let mut least = kernel::reduce(costs, ws.v, ws.minima);
        if let Some(stay) = self.stay {
            least = least.least(stay);
        }
        if cost >= T::UNREACHABLE || !cost.minus(dual).is_near(least, cost, dual) {
            set(ws.column_of, row, I::NONE);
            set(ws.row_of, column, I::NONE);
        }
        Some(())
    }

    /// Sets the duals of changed columns to the largest values that the row duals allow.
    #[inline(always)]
    fn price_changed(&mut self, columns: &[usize], dense: &Dense<'_, T>) {
        let largest = if self.bounded() { T::ZERO } else { T::FAR };
        for &column in columns {
            let mut dual = largest;
            for (row, &row_dual) in self.ws.u.iter().enumerate() {
                dual = dual.least(dense.at(row, column).minus(row_dual));
            }
            set(self.ws.v, column, if dual >= T::UNREACHABLE { T::ZERO } else { dual });
        }
    }

    /// Sets the dual of free columns to 0; returns whether any was different.
    #[inline(always)]
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
