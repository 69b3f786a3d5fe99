//! Assignments with a limited number of pairs: each shortest path starts from all free rows at once, so that it adds the cheapest pair.

use super::Error;
use super::answer::Assignment;
use super::machine::Stores;
use super::number::{Cost, Index, get, set};
use super::options::{Options, Trouble, admission, check, check_room, refusal, restore};
use super::search::Search;
use super::view::{Costs, Dense, Refused, Rows};
use super::workspace::Workspace;

/// The cheapest assignment of `pairs` pairs, or of as many as the allowed pairs permit ([`usize::MAX`]: a maximum-cardinality matching).
///
/// Duals prove optimality: `cost(i, j) ≥ u_i + v_j`, with equality for pairs; free rows have the dual 0 and matched rows at most 0; free columns have
/// the largest column dual, which is the cost that the last pair added.
///
/// # Errors
/// As [`super::linear_sum_assignment`], without [`super::Error::Infeasible`]. [`Options::cost_limit`] and [`Options::ties`] are ignored here.
pub fn assign_pairs<'w, T: Cost, I: Index>(
    costs: Costs<'_, T>,
    pairs: usize,
    options: &Options<T>,
    workspace: &'w mut Workspace<'_, T, I>,
) -> Result<Assignment<'w, T, I>, Error<T>> {
    check(costs.rows(), costs.columns(), options, workspace)?;
    let wide = if costs.rows() > costs.columns() { costs.transposed() } else { costs };
    check_room(wide, options)?;
    let mut scale = T::ONE;
    loop {
        let dense = Dense::new(wide, admission(options, scale));
        match largest(&dense, pairs, workspace) {
            Ok(()) => {
                restore(workspace, options, scale);
                return Ok(Assignment::of(workspace));
            }
            Err(Trouble::Refused(_, Refused::Large)) if scale == T::ONE => scale = T::rescue().unwrap_or(T::ONE),
            Err(_) => return Err(refusal(costs, options)),
        }
    }
}

/// Leaves at most `pairs` pairs and their duals in the workspace.
pub(super) fn largest<T: Cost, I: Index>(
    rows: &impl Rows<T>,
    pairs: usize,
    workspace: &mut Workspace<'_, T, I>,
) -> Result<(), Trouble> {
    workspace.clear();
    let mut search = Search { ws: workspace, rows, stay: None, stores: Stores::Chosen };
    search.admit_all().map_err(|(row, why)| Trouble::Refused(row, why))?;
    search.price_columns();
    let mut level = search.ws.v.iter().fold(T::FAR, |least, &dual| least.least(dual));
    for _ in 0..pairs.min(search.small()) {
        match search.cheapest_path(level) {
            Some(next) => level = next,
            None => break,
        }
    }
    search.price_rows();
    for dual in search.ws.v.iter_mut() {
        *dual = dual.least(level);
    }
    Ok(())
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Sets the dual of every column to its least cost.
    fn price_columns(&mut self) {
        self.ws.v.fill(T::FAR);
        for row in 0..self.small() {
            let ws = &mut *self.ws;
            for (dual, &cost) in ws.v.iter_mut().zip(self.rows.row(row, ws.buffer)) {
                *dual = dual.least(cost);
            }
        }
        for dual in self.ws.v.iter_mut() {
            *dual = if *dual >= T::UNREACHABLE { T::ZERO } else { *dual };
        }
    }

    /// Adds the pair that costs least; returns its cost, which is the new level of free columns.
    #[allow(clippy::too_many_lines, reason = "one search, whose steps share all of its state")]
    fn cheapest_path(&mut self, level: T) -> Option<T> {
        // A column's place says whether the search has closed it.
        let (open, closed) = (I::new(0), I::new(1));
        self.ws.distances.fill(T::FAR);
        self.ws.place.fill(open);
        for row in 0..self.small() {
            if get(self.ws.column_of, row, open) == I::NONE {
                self.spread(row, T::ZERO);
            }
        }
        let mut best: Option<(T, usize)> = None;
        loop {
            let ws = &mut *self.ws;
            let mut nearest = (T::UNREACHABLE, usize::MAX);
            for ((column, &distance), &place) in ws.distances.iter().enumerate().zip(&*ws.place) {
                if place == open && distance < nearest.0 {
                    nearest = (distance, column);
                }
            }
            let (distance, column) = nearest;
            if column == usize::MAX || best.is_some_and(|(cost, _)| cost.minus(level) <= distance) {
                break;
            }
            set(ws.place, column, closed);
            let dual = get(ws.v, column, T::ZERO);
            match get(ws.row_of, column, I::NONE).get() {
                Some(row) => {
                    let costs = self.rows.row(row, ws.buffer);
                    let from = distance.minus(get(costs, column, T::ZERO).minus(dual));
                    self.spread(row, from);
                }
                None => {
                    let cost = distance.plus(dual);
                    if best.is_none_or(|(least, _)| cost < least) {
                        best = Some((cost, column));
                    }
                }
            }
        }
        let (cost, end) = best?;
        let length = cost.minus(level);
        for (dual, &distance) in self.ws.v.iter_mut().zip(&*self.ws.distances) {
            *dual = dual.plus(distance.least(length));
        }
        let mut column = end;
        for _ in 0..=self.small() {
            let row = get(self.ws.path, column, I::NONE).at();
            let before = get(self.ws.column_of, row, I::NONE);
            self.pair(row, column);
            match before.get() {
                Some(before) => column = before,
                None => break,
            }
        }
        Some(cost)
    }

    /// Shortens distances of open columns by paths through a row.
    fn spread(&mut self, row: usize, from: T) {
        let ws = &mut *self.ws;
        let costs = self.rows.row(row, ws.buffer);
        let columns = ws.distances.iter_mut().zip(ws.path.iter_mut()).zip(&*ws.place);
        for (((to, path), &place), (&cost, &dual)) in columns.zip(costs.iter().zip(&*ws.v)) {
            let now = from.plus(cost.minus(dual));
            if now < *to && place == I::new(0) {
                (*to, *path) = (now, I::new(row));
            }
        }
    }
}
