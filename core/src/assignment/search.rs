//! Shortest augmenting paths: Dijkstra's algorithm over columns with dual variables, one row after the other.
//!
//! As in Jonker and Volgenant (1987) and Crouse (2016), with two changes: a pass over a row visits every column, closed ones being unreachable by
//! their duals, so that it needs no branches and no list; and columns at equal distance are closed before the next pass.

use super::kernel::{self, Scan, TILE, nth_minima, nth_tile};
use super::machine::Stores;
use super::number::{Cost, Index, get, set};
use super::view::Rows;
use super::workspace::Workspace;

/// A search in progress.
pub(super) struct Search<'s, 'w, T, I, R> {
    pub(super) ws: &'s mut Workspace<'w, T, I>,
    pub(super) rows: &'s R,
    /// The cost of a row without a column, if rows may stay free.
    pub(super) stay: Option<T>,
    /// How passes store.
    pub(super) stores: Stores,
}

/// Where a path ends.
enum End {
    /// At a free column.
    Column(usize),
    /// At a row that gives up its column and stays free.
    Row(usize),
    /// No column can be reached.
    Nowhere,
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// The number of rows of the search: the small side.
    #[inline(always)]
    pub(super) fn small(&self) -> usize {
        self.ws.column_of.len()
    }

    /// Matches `source` by a shortest augmenting path. False if no column can be reached.
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
                // Rounding can make a path shorter than its prefix.
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
            // The rows of equally near columns come first: they may bring a free column to the same distance.
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

    /// Closes the columns at `distance` until one of them is free; returns that one.
    #[inline(always)]
    fn close(&mut self, distance: T, closed: &mut usize) -> Option<usize> {
        let ws = &mut *self.ws;
        for tile in 0..ws.distances.len().div_ceil(TILE) {
            if !kernel::any_at_most(nth_minima(ws.minima, tile), distance) {
                continue;
            }
            let mut near = kernel::at_most(nth_tile(ws.distances, tile), distance);
            while near != 0 {
                let column = tile.saturating_mul(TILE).saturating_add(near.trailing_zeros() as usize);
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

    /// Reopens the closed columns, with duals that make the edges of the path tight.
    #[inline(always)]
    fn reprice(&mut self, distance: T, closed: usize) {
        let ws = &mut *self.ws;
        let columns = ws.closed.iter().zip(&*ws.closed_distances).zip(&*ws.closed_duals).take(closed);
        for ((column, &at), &dual) in columns {
            set(ws.v, column.at(), if at < distance { dual.minus(distance.minus(at)) } else { dual });
        }
    }

    /// Augments along the path that ends at `column`.
    #[inline(always)]
    pub(super) fn flip(&mut self, mut column: usize, source: usize) {
        let ws = &mut *self.ws;
        // A path is at most as long as the number of rows.
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

    /// Frees `row` and augments along the path to it.
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

    /// Sets the duals of rows from their matched edges; the dual of a free row is the cost of staying free.
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
