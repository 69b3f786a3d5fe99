//! Initial pairs, found without augmenting paths.
//!
//! Rows take their cheapest columns (row reduction). In square problems whose rows have unique cheapest columns, column reduction, reduction transfer
//! and augmenting row reduction of Jonker and Volgenant (1987) run before it, and leave few rows for augmenting paths. With many ties they cost more
//! time than they save.

use super::kernel::{self, LANES, TILE, VECTORS, nth_minima, nth_tile};
use super::number::{Cost, Index, get, set};
use super::search::Search;
use super::view::{Refused, Rows};

/// The probe looks at the first ⌈rows / `PROBED`⌉ rows, at least 2 and at most `PROBED`.
const PROBED: usize = 16;
/// Square problems of at least this many rows gain by a pass of augmenting row reduction; smaller ones lose.
const LARGE: usize = 128;

/// The two cheapest reduced costs (cost − column dual) of a row.
struct Cheapest<T> {
    least: T,
    column: usize,
    second: T,
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Checks all rows and matches most of them; returns the number of rows at the front of `free` that are still free.
    #[inline(always)]
    pub(super) fn start(&mut self) -> Result<usize, (usize, Refused)> {
        let square = self.ws.rows == self.ws.columns;
        let reduced = VECTORS && self.stay.is_none() && square && self.single_minima()?;
        let mut free = if reduced {
            self.reduce_columns()?;
            self.transfer();
            self.free_rows()
        } else if self.take_cheapest_across() {
            self.free_rows()
        } else {
            self.take_cheapest_rows()?
        };
        if reduced && self.small() >= LARGE {
            free = self.reduce_rows(free);
        }
        Ok(free)
    }

    /// Matches each row in turn with a free column among its cheapest; returns the number of rows left free.
    #[inline(always)]
    fn take_cheapest_rows(&mut self) -> Result<usize, (usize, Refused)> {
        let (mut free, mut hint) = (0, 0);
        for row in 0..self.small() {
            if !self.take_cheapest(row, &mut hint)? {
                set(self.ws.free, free, I::new(row));
                free += 1;
            }
        }
        Ok(free)
    }

    /// Whether the probed rows have few ties for the cheapest column.
    #[inline(always)]
    fn single_minima(&mut self) -> Result<bool, (usize, Refused)> {
        let probed = self.small().div_ceil(PROBED).clamp(2, PROBED).min(self.small());
        let mut equal = 0_u32;
        for row in 0..probed {
            let ws = &mut *self.ws;
            let costs = self.rows.admit(row, ws.buffer).map_err(|why| (row, why))?;
            let least = kernel::reduce(costs, ws.v, ws.minima);
            for (tile, costs) in costs.chunks(TILE).enumerate() {
                if kernel::any_at_most(nth_minima(ws.minima, tile), least) {
                    equal += kernel::at_most(costs, least).count_ones();
                }
            }
        }
        Ok((equal as usize) < 3 * probed)
    }

    /// Matches a row with its cheapest column if that is free, in one pass over plain costs. Enough for matrices with more columns than rows, where
    /// rows seldom compete. `None` if the fast path does not apply.
    #[inline(always)]
    fn take_at_a_glance(&mut self, row: usize) -> Option<bool> {
        // For 32-bit costs compilers do not vectorise this pass.
        if !VECTORS || size_of::<T>() < 8 || self.ws.rows == self.ws.columns {
            return None;
        }
        let rows = self.rows;
        let (least, column) = kernel::cheapest(rows.as_they_are()?.row(row)?)?;
        if self.stay.is_some_and(|cost| cost < least) {
            return Some(true);
        }
        let free = get(self.ws.row_of, column, I::new(0)) == I::NONE;
        if free {
            self.pair(row, column);
        }
        Some(free)
    }

    /// Matches a row with a free column among its cheapest, if there is one; the search for it starts after `hint`.
    #[inline(always)]
    fn take_cheapest(&mut self, row: usize, hint: &mut usize) -> Result<bool, (usize, Refused)> {
        if let Some(taken) = self.take_at_a_glance(row) {
            return Ok(taken);
        }
        let ws = &mut *self.ws;
        let costs = self.rows.admit(row, ws.buffer).map_err(|why| (row, why))?;
        let least = kernel::reduce(costs, ws.v, ws.minima);
        if least >= T::UNREACHABLE {
            return Ok(false);
        }
        if self.stay.is_some_and(|cost| cost < least) {
            return Ok(true);
        }
        let first = *hint / TILE;
        let tiles = costs.len().div_ceil(TILE);
        for tile in (first..tiles).chain(0..first) {
            if !kernel::any_at_most(nth_minima(ws.minima, tile), least) {
                continue;
            }
            let start = tile.saturating_mul(TILE);
            let end = start.saturating_add(TILE).min(costs.len());
            let (Some(costs), Some(duals), Some(row_of)) =
                (costs.get(start..end), ws.v.get(start..end), ws.row_of.get(start..end))
            else {
                continue;
            };
            let mut near = kernel::reduced_at_most(costs, duals, least);
            while near != 0 {
                let k = near.trailing_zeros() as usize;
                near &= near.wrapping_sub(1);
                if get(row_of, k, I::new(0)) == I::NONE {
                    let column = start + k;
                    *hint = column + 1;
                    self.pair(row, column);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Sets the dual of every column to its least cost, and matches rows with the columns in which they are cheapest.
    #[inline(always)]
    fn reduce_columns(&mut self) -> Result<(), (usize, Refused)> {
        self.ws.distances.fill(T::ZERO);
        self.ws.v.fill(T::FAR);
        self.ws.path.fill(I::NONE);
        for row in 0..self.small() {
            let ws = &mut *self.ws;
            let costs = self.rows.admit(row, ws.buffer).map_err(|why| (row, why))?;
            kernel::scan(kernel::Scan {
                costs,
                duals: ws.distances,
                from: T::ZERO,
                row: I::new(row),
                distances: ws.v,
                path: ws.path,
                minima: ws.minima,
                stores: self.stores,
            });
        }
        self.ws.closed.fill(I::new(0));
        for column in (0..self.ws.v.len()).rev() {
            if get(self.ws.v, column, T::FAR) >= T::UNREACHABLE {
                set(self.ws.v, column, T::ZERO);
                continue;
            }
            let row = get(self.ws.path, column, I::NONE).at();
            if get(self.ws.column_of, row, I::NONE) == I::NONE {
                self.pair(row, column);
            } else {
                // A row that is the cheapest in two columns has no slack to transfer.
                set(self.ws.closed, row, I::new(1));
            }
        }
        Ok(())
    }

    /// Lowers the dual of the column of a row as far as the row's other columns allow (reduction transfer).
    #[inline(always)]
    fn transfer(&mut self) {
        for row in 0..self.small() {
            let column = get(self.ws.column_of, row, I::NONE);
            if column == I::NONE || get(self.ws.closed, row, I::new(0)) != I::new(0) {
                continue;
            }
            let ws = &mut *self.ws;
            let costs = self.rows.row(row, ws.buffer);
            let least = kernel::reduce(costs, ws.v, ws.minima);
            // The row's own column is its cheapest: the duals of the other columns are at most their costs.
            let tile = column.at() / TILE;
            let near = kernel::reduced_at_most(nth_tile(costs, tile), nth_tile(ws.v, tile), least);
            let second = second(costs, ws.v, ws.minima, least, tile, near);
            if second < T::UNREACHABLE && second > least {
                let dual = get(ws.v, column.at(), T::ZERO);
                set(ws.v, column.at(), dual.minus(second.minus(least)));
            }
        }
    }

    #[inline(always)]
    fn free_rows(&mut self) -> usize {
        let mut free = 0;
        for (row, column) in self.ws.column_of.iter().enumerate() {
            if *column == I::NONE {
                set(self.ws.free, free, I::new(row));
                free += 1;
            }
        }
        free
    }

    /// One pass of augmenting row reduction over the free rows; returns the number of rows still free.
    #[inline(always)]
    pub(super) fn reduce_rows(&mut self, free: usize) -> usize {
        let (mut next, mut left) = (0, 0);
        // Rounding can make two rows displace each other forever in tiny steps.
        let mut steps = 4 * self.small() + 16;
        while next < free {
            let row = get(self.ws.free, next, I::NONE);
            next += 1;
            let Some(cheapest) = self.cheapest(row.at()).filter(|_| steps > 0) else {
                set(self.ws.free, left, row);
                left += 1;
                continue;
            };
            steps -= 1;
            let mut column = cheapest.column;
            let mut other = get(self.ws.row_of, column, I::NONE);
            let strict = cheapest.least < cheapest.second;
            if strict {
                if cheapest.second < T::UNREACHABLE {
                    let dual = get(self.ws.v, column, T::ZERO);
                    set(self.ws.v, column, dual.minus(cheapest.second.minus(cheapest.least)));
                }
            } else if other != I::NONE {
                column = self.next_equal(row.at(), column, cheapest.least).unwrap_or(column);
                other = get(self.ws.row_of, column, I::NONE);
            }
            self.pair(row.at(), column);
            if other == I::NONE {
                continue;
            }
            set(self.ws.column_of, other.at(), I::NONE);
            if strict && cheapest.second < T::UNREACHABLE {
                next -= 1;
                set(self.ws.free, next, other);
            } else {
                set(self.ws.free, left, other);
                left += 1;
            }
        }
        left
    }

    #[inline(always)]
    fn cheapest(&mut self, row: usize) -> Option<Cheapest<T>> {
        let ws = &mut *self.ws;
        let costs = self.rows.row(row, ws.buffer);
        let least = kernel::reduce(costs, ws.v, ws.minima);
        if least >= T::UNREACHABLE {
            return None;
        }
        let tile = ws.minima.chunks(LANES).position(|minima| kernel::any_at_most(minima, least))?;
        let near = kernel::reduced_at_most(nth_tile(costs, tile), nth_tile(ws.v, tile), least);
        let column = tile * TILE + near.trailing_zeros() as usize;
        Some(Cheapest { least, column, second: second(costs, ws.v, ws.minima, least, tile, near) })
    }

    /// Another column of the row that is as cheap as `column`, preferring a free one in the same tile.
    #[inline(always)]
    fn next_equal(&mut self, row: usize, column: usize, least: T) -> Option<usize> {
        let ws = &mut *self.ws;
        let costs = self.rows.row(row, ws.buffer);
        let mut found = None;
        for tile in 0..costs.len().div_ceil(TILE) {
            let (costs, duals) = (nth_tile(costs, tile), nth_tile(ws.v, tile));
            if !kernel::any_at_most(nth_minima(ws.minima, tile), least) {
                continue;
            }
            let mut near = kernel::reduced_at_most(costs, duals, least);
            while near != 0 {
                let candidate = tile * TILE + near.trailing_zeros() as usize;
                near &= near.wrapping_sub(1);
                if candidate == column {
                    continue;
                }
                if get(ws.row_of, candidate, I::NONE) == I::NONE {
                    return Some(candidate);
                }
                found = found.or(Some(candidate));
            }
        }
        found
    }
}

/// The second-smallest reduced cost of a row, or `least` if two columns share it, from the minima of its tiles; `near` is the mask of columns of tile
/// `tile` at `least`.
#[inline(always)]
fn second<T: Cost>(costs: &[T], duals: &[T], minima: &[T], least: T, tile: usize, near: u32) -> T {
    if near & near.wrapping_sub(1) != 0 {
        return least;
    }
    let (costs, duals) = (nth_tile(costs, tile), nth_tile(duals, tile));
    let before = minima.get(..tile.saturating_mul(LANES)).unwrap_or(&[]);
    let after = minima.get(tile.saturating_add(1).saturating_mul(LANES)..).unwrap_or(&[]);
    kernel::least_above(costs, duals, least).least(kernel::least_of(before)).least(kernel::least_of(after))
}
