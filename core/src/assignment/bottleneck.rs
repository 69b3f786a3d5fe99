//! Bottleneck assignment: minimises the largest cost of a pair.

use super::Error;
use super::answer::Assignment;
use super::machine::Stores;
use super::number::{Cost, Index, get, set};
use super::options::{Dirty, Objective, Options, check, first_invalid};
use super::search::Search;
use super::view::{Costs, Refused, Rows};
use super::workspace::Workspace;

/// The pairs, and the largest of their costs.
pub type Bottleneck<'w, T, I> = (Assignment<'w, T, I>, Option<T>);

/// The assignment with the smallest maximum cost (when maximizing: the largest minimum gain), and that cost; `None` without rows or columns. Duals
/// are 0.
///
/// Paths are grown as in Derigs and Zimmermann (1978): the length of a path is the worst cost on it.
///
/// # Errors
/// As [`super::linear_sum_assignment`]. [`Options::cost_limit`] and [`Options::ties`] are ignored here.
pub fn bottleneck_assignment<'w, T: Cost, I: Index>(
    costs: Costs<'_, T>,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Bottleneck<'w, T, I>, Error<T>> {
    check(costs.rows(), costs.columns(), options, workspace)?;
    let of_columns = costs.rows() > costs.columns();
    let maximize = options.objective == Objective::Maximize;
    if options.dirty == Dirty::Reject
        && let Some(invalid) = first_invalid(costs, options)
    {
        return Err(invalid);
    }
    let wide = if of_columns { costs.transposed() } else { costs };
    // Valid costs of a minimum are their own ranks.
    let ranked = Ranked { costs: wide, maximize, direct: !maximize && options.dirty == Dirty::Reject };
    workspace.clear();
    let mut search = Search { ws: workspace, rows: &ranked, stay: None, stores: Stores::Chosen };
    for row in 0..search.small() {
        if !search.widen(row) {
            return Err(Error::Infeasible { index: row, of_columns });
        }
    }
    let answer = Assignment::of(workspace);
    let worse = |a: T, b: T| if (b > a) != maximize { b } else { a };
    let worst = answer.pairs().filter_map(|(row, column)| costs.at(row, column)).reduce(worse);
    Ok((answer, worst))
}

/// Rows of ranks instead of costs. Ranks are compared and never added, so they need no head-room, and the sentinel values that mark forbidden pairs
/// in other searches are ordinary costs here.
struct Ranked<'a, T> {
    costs: Costs<'a, T>,
    maximize: bool,
    /// Whether rows can be read in place.
    direct: bool,
}

impl<T: Cost> Rows<T> for Ranked<'_, T> {
    fn fill(&self, row: usize, buffer: &mut [T]) {
        for (to, cost) in buffer.iter_mut().zip(self.costs.row_iter(row)) {
            *to = cost.rank(self.maximize);
        }
    }

    fn row<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> &'s [T] {
        if let Some(row) = self.costs.row(row).filter(|_| self.direct) {
            return row;
        }
        self.fill(row, buffer);
        buffer
    }

    fn admit<'s>(&'s self, row: usize, buffer: &'s mut [T]) -> Result<&'s [T], Refused> {
        Ok(self.row(row, buffer))
    }
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Matches `source` by the augmenting path with the smallest maximum cost. Rows are of ranks.
    fn widen(&mut self, source: usize) -> bool {
        let (open, closed) = (I::new(0), I::new(1));
        self.ws.distances.fill(T::FORBIDDEN);
        self.ws.place.fill(open);
        let mut row = source;
        let mut worst: Option<T> = None;
        let end = loop {
            let ws = &mut *self.ws;
            let costs = self.rows.row(row, ws.buffer);
            let mut nearest: (T, Option<usize>, bool) = (T::FORBIDDEN, None, false);
            let columns = ws.distances.iter_mut().zip(ws.path.iter_mut()).zip(ws.place.iter().zip(&*ws.row_of)).zip(costs);
            for (column, (((to, path), (&place, &taken)), &cost)) in columns.enumerate() {
                if place != open {
                    continue;
                }
                let now = worst.map_or(cost, |worst| if cost > worst { cost } else { worst });
                if now < *to {
                    (*to, *path) = (now, I::new(row));
                }
                let free = taken == I::NONE;
                if *to < nearest.0 || *to == nearest.0 && free && !nearest.2 && *to < T::FORBIDDEN {
                    nearest = (*to, Some(column), free);
                }
            }
            let Some(column) = nearest.1 else { return false };
            worst = Some(nearest.0);
            set(ws.place, column, closed);
            match get(ws.row_of, column, I::NONE).get() {
                Some(next) => row = next,
                None => break column,
            }
        };
        self.flip(end, source);
        true
    }
}
