//! Shortest augmenting paths: Dijkstra's algorithm over columns with dual variables, one row after the other.
//!
//! As in Jonker and Volgenant (1987) and Crouse (2016), but a pass over a row takes every column, with closed ones out of reach by their duals, so that
//! it has no branches and no list; and equal distances are drained before the next pass.

use super::kernel::{self, BLOCK, Scan, nth_block, nth_minima};
use super::machine::Stores;
use super::number::{Cost, Index, get, set};
use super::view::Rows;
use super::workspace::Workspace;

/// A search in progress.
pub(super) struct Search<'s, 'w, T, I, R> {
    pub(super) ws: &'s mut Workspace<'w, T, I>,
    pub(super) rows: &'s R,
    /// What a row without a column costs, if rows may stay free.
    pub(super) stay: Option<T>,
    /// How passes store.
    pub(super) stores: Stores,
}

/// Where a path ends.
enum End {
    /// At a free column.
    Column(usize),
    /// At a row that gives its column up.
    Row(usize),
    /// Nowhere.
    Nowhere,
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// The number of rows of the search: the small side.
    #[inline(always)]
    pub(super) fn small(&self) -> usize {
        self.ws.column_of.len()
    }

    /// Gives `source` a column by a shortest augmenting path. False if no column can be reached.
    #[inline(always)]
    pub(super) fn augment(&mut self, source: usize) -> bool {
        let ws = &mut *self.ws;
        ws.path.fill(I::new(source));
        let row = self.rows.row(source, ws.buffer);
        let mut least = kernel::first(row, ws.v, ws.distances, ws.minima);
        // The least cost of leaving a row of the tree free, and that row.
        let mut stay = self.stay.map(|cost| (cost, source));
        let (mut head, mut closed) = (0, 0);
        let mut distance = least;
        let end = loop {
            if head == closed {
                // Rounding can make a path shorter than its beginning.
                distance = if least > distance { least } else { distance };
                if let Some((cost, row)) = stay
                    && cost < distance
                {
                    distance = cost;
                    break End::Row(row);
                }
                if distance >= T::UNREACHABLE {
                    distance = T::CLOSED;
                    break End::Nowhere;
                }
            }
            if least <= distance
                && let Some(column) = self.close(distance, &mut closed)
            {
                break End::Column(column);
            }
            // The rows of equally near columns come first; a column that they bring as near may be free.
            while let Some(&column) = self.ws.closed.get(head).filter(|_| head < closed) {
                least = self.pass(column.at(), head, distance, &mut stay);
                head += 1;
                if least <= distance {
                    break;
                }
            }
        };
        self.reprice(distance, closed);
        match end {
            End::Column(column) => self.flip(column, source),
            End::Row(row) => self.release(row, source),
            End::Nowhere => return false,
        }
        true
    }

    /// Scans the row of a closed column.
    #[inline(always)]
    fn pass(&mut self, column: usize, place: usize, distance: T, stay: &mut Option<(T, usize)>) -> T {
        let ws = &mut *self.ws;
        let row = get(ws.row_of, column, I::NONE);
        let costs = self.rows.row(row.at(), ws.buffer);
        let from = distance.minus(get(costs, column, T::ZERO).minus(get(ws.closed_duals, place, T::ZERO)));
        if let (Some((least, at)), Some(cost)) = (stay, self.stay) {
            let cost = from.plus(cost);
            if cost < *least {
                (*least, *at) = (cost, row.at());
            }
        }
        kernel::scan(Scan {
            costs,
            duals: ws.v,
            from,
            row,
            distances: ws.distances,
            path: ws.path,
            minima: ws.minima,
            stores: self.stores,
        })
    }

    /// Closes the columns that are as near as `distance`, until one of them is free: that one is returned.
    #[inline(always)]
    fn close(&mut self, distance: T, closed: &mut usize) -> Option<usize> {
        let ws = &mut *self.ws;
        for block in 0..ws.distances.len().div_ceil(BLOCK) {
            if !kernel::any_at_most(nth_minima(ws.minima, block), distance) {
                continue;
            }
            let mut near = kernel::at_most(nth_block(ws.distances, block), distance);
            while near != 0 {
                let column = block.saturating_mul(BLOCK).saturating_add(near.trailing_zeros() as usize);
                near &= near.wrapping_sub(1);
                if get(ws.row_of, column, I::NONE) == I::NONE {
                    return Some(column);
                }
                set(ws.closed, *closed, I::new(column));
                set(ws.closed_distances, *closed, distance);
                set(ws.closed_duals, *closed, get(ws.v, column, T::ZERO));
                set(ws.v, column, T::CLOSED);
                set(ws.distances, column, T::FAR);
                *closed += 1;
            }
        }
        None
    }

    /// Opens the closed columns again, with duals that make the edges of the path tight.
    #[inline(always)]
    fn reprice(&mut self, distance: T, closed: usize) {
        let ws = &mut *self.ws;
        let columns = ws.closed.iter().zip(&*ws.closed_distances).zip(&*ws.closed_duals).take(closed);
        for ((column, &at), &dual) in columns {
            set(ws.v, column.at(), if at < distance { dual.minus(distance.minus(at)) } else { dual });
        }
    }

    /// Exchanges the edges along the path that ends at `column`.
    #[inline(always)]
    pub(super) fn flip(&mut self, mut column: usize, source: usize) {
        let ws = &mut *self.ws;
        // A path has at most as many rows as there are.
        for _ in 0..=ws.column_of.len() {
            let row = get(ws.path, column, I::NONE);
            set(ws.row_of, column, row);
            let before = get(ws.column_of, row.at(), I::NONE);
            set(ws.column_of, row.at(), I::new(column));
            if row.at() == source {
                return;
            }
            column = before.at();
        }
    }

    /// Frees `row` and exchanges the edges along the path to it.
    #[inline(always)]
    fn release(&mut self, row: usize, source: usize) {
        if let Some(column) = get(self.ws.column_of, row, I::NONE).get() {
            set(self.ws.column_of, row, I::NONE);
            self.flip(column, source);
        }
    }

    /// Matches a row and a column.
    #[inline(always)]
    pub(super) fn pair(&mut self, row: usize, column: usize) {
        set(self.ws.column_of, row, I::new(column));
        set(self.ws.row_of, column, I::new(row));
    }

    /// Sets the duals of rows by the edges that are matched; a free row has the dual that staying free costs.
    #[inline(always)]
    pub(super) fn price_rows(&mut self) {
        for row in 0..self.small() {
            let ws = &mut *self.ws;
            let dual = match get(ws.column_of, row, I::NONE).get() {
                Some(column) => self.rows.cost(row, column, ws.buffer).minus(get(ws.v, column, T::ZERO)),
                None => self.stay.unwrap_or(T::ZERO),
            };
            set(ws.u, row, dual);
        }
    }
}
