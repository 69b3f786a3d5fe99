//! The permutation that scipy's `linear_sum_assignment` chooses among equal optima.
//!
//! scipy follows Crouse ("On implementing 2D rectangular assignment algorithms", 2016): rows in order, no initialisation, and a list of open columns
//! that starts reversed and fills the place of a scanned column with its last entry. Among the nearest columns of that list it takes the last free
//! one, or the first one if none is free. Sums are formed in the same order here, so that comparisons see the same bits.

use super::kernel::{self, Scan, TILE, nth_minima};
use super::number::{Cost, Index, get, set};
use super::search::Search;
use super::view::Rows;

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Solves row by row; the first row that cannot have a column is the error.
    #[inline(always)]
    pub(super) fn solve_in_order(&mut self) -> Result<(), usize> {
        for row in 0..self.small() {
            if !self.augment_in_order(row) {
                return Err(row);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn augment_in_order(&mut self, source: usize) -> bool {
        let columns = self.ws.v.len();
        for (k, (open, place)) in self.ws.open.iter_mut().rev().zip(self.ws.place.iter_mut()).enumerate() {
            (*open, *place) = (I::new(k), I::new(columns.saturating_sub(k + 1)));
        }
        let ws = &mut *self.ws;
        ws.distances.fill(T::FAR);
        let (mut row, mut distance, mut closed) = (source, T::ZERO, 0_usize);
        let end = loop {
            let ws = &mut *self.ws;
            let costs = self.rows.row(row, ws.buffer);
            let dual = get(ws.u, row, T::ZERO);
            let operands = Scan {
                costs,
                duals: ws.v,
                from: distance,
                row: I::new(row),
                distances: ws.distances,
                path: ws.path,
                minima: ws.minima,
                stores: self.stores,
            };
            let least = kernel::scan_in_order(operands, dual);
            if least >= T::UNREACHABLE {
                self.reopen(closed);
                return false;
            }
            distance = least;
            let Some(column) = self.nearest_in_order(least) else { return false };
            self.close_in_order(column, closed, columns.saturating_sub(closed + 1), least);
            closed += 1;
            match get(self.ws.row_of, column, I::NONE).get() {
                Some(next) => row = next,
                None => break column,
            }
        };
        self.reprice_in_order(source, distance, closed);
        self.flip(end, source);
        true
    }

    /// Among the columns at the least distance: the last free one of the list, or else the first of the list.
    #[inline(always)]
    fn nearest_in_order(&self, least: T) -> Option<usize> {
        let ws = &*self.ws;
        // (free, place in the list, column)
        let mut best: Option<(bool, usize, usize)> = None;
        for (tile, distances) in ws.distances.chunks(TILE).enumerate() {
            if !kernel::any_at_most(nth_minima(ws.minima, tile), least) {
                continue;
            }
            let mut near = kernel::at_most(distances, least);
            while near != 0 {
                let column = tile * TILE + near.trailing_zeros() as usize;
                near &= near.wrapping_sub(1);
                let free = get(ws.row_of, column, I::new(0)) == I::NONE;
                let place = get(ws.place, column, I::NONE).at();
                let better = best.is_none_or(|(was_free, was_place, _)| {
                    if free == was_free { if free { place > was_place } else { place < was_place } } else { free }
                });
                if better {
                    best = Some((free, place, column));
                }
            }
        }
        best.map(|(_, _, column)| column)
    }

    #[inline(always)]
    fn close_in_order(&mut self, column: usize, closed: usize, last: usize, distance: T) {
        let ws = &mut *self.ws;
        let place = get(ws.place, column, I::NONE);
        let moved = get(ws.open, last, I::NONE);
        set(ws.open, place.at(), moved);
        set(ws.place, moved.at(), place);
        // The path ends at a free column. When all rows have columns, the list of closed columns has no room for it.
        if get(ws.row_of, column, I::NONE) != I::NONE {
            set(ws.closed, closed, I::new(column));
            set(ws.closed_distances, closed, distance);
            set(ws.closed_duals, closed, get(ws.v, column, T::ZERO));
            set(ws.v, column, T::CLOSED);
            set(ws.distances, column, T::FAR);
        }
    }

    #[inline(always)]
    fn reopen(&mut self, closed: usize) {
        let ws = &mut *self.ws;
        for (column, &dual) in ws.closed.iter().zip(&*ws.closed_duals).take(closed) {
            set(ws.v, column.at(), dual);
        }
    }

    /// The last closed column is the free column at the end of the path: its distance is the least, so its dual does not change.
    #[inline(always)]
    fn reprice_in_order(&mut self, source: usize, distance: T, closed: usize) {
        let ws = &mut *self.ws;
        set(ws.u, source, get(ws.u, source, T::ZERO).plus(distance));
        let columns = ws.closed.iter().zip(&*ws.closed_distances).zip(&*ws.closed_duals).take(closed.saturating_sub(1));
        for ((column, &at), &dual) in columns {
            let row = get(ws.row_of, column.at(), I::NONE).at();
            set(ws.u, row, get(ws.u, row, T::ZERO).plus(distance.minus(at)));
            set(ws.v, column.at(), dual.minus(distance.minus(at)));
        }
    }
}
