//! Problems whose rows fit into registers: the same search, whose only memory is a copy of the costs.
//!
//! State is updated as whole vectors, and sets of columns are bit masks, so that a pass does not wait for the stores of the one before.

use super::kernel::{self, VECTORS};
use super::number::{Cost, Index, get, set};
use super::search::Search;
use super::view::{Costs, Rows};

/// The largest number of columns.
const WIDEST: usize = 32;

/// The costs of a problem and the search's state of the columns, at most `W` of them.
struct Small<T, const W: usize> {
    /// Padding columns cost [`Cost::FAR`].
    costs: [[T; W]; W],
    duals: [T; W],
    /// Bits of the columns that have no row.
    free: u32,
}

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Solves a small problem in the common case. Returns false in any other, with pairs and duals overwritten.
    #[inline(always)]
    pub(super) fn solve_small(&mut self) -> bool {
        let rows = self.rows;
        match rows.as_they_are() {
            Some(costs) if VECTORS && self.stay.is_none() && costs.rows() == costs.columns() => match costs.columns() {
                0..=16 => self.solve_in_registers::<16>(&costs),
                17..=WIDEST => self.solve_in_registers::<WIDEST>(&costs),
                _ => false,
            },
            _ => false,
        }
    }

    /// Column reduction is valid for square problems only; callers rule out others.
    #[inline(always)]
    fn solve_in_registers<const W: usize>(&mut self, costs: &Costs<'_, T>) -> bool {
        let Some(mut small) = Small::<T, W>::new(costs) else { return false };
        self.reduce_small(&mut small);
        for row in 0..self.small() {
            if get(self.ws.column_of, row, I::new(0)) == I::NONE && !self.augment_small(&mut small, row) {
                return false;
            }
        }
        for (to, dual) in self.ws.v.iter_mut().zip(small.duals) {
            *to = dual;
        }
        true
    }

    /// Sets the dual of every column to its least cost, and matches rows with the columns in which they are cheapest.
    #[inline(always)]
    fn reduce_small<const W: usize>(&mut self, small: &mut Small<T, W>) {
        let count = self.small();
        let (mut least, mut cheapest) = ([T::FAR; W], [T::ZERO; W]);
        for (row, costs) in small.costs.iter().enumerate().take(count) {
            let row = T::count(row);
            for ((&cost, least), cheapest) in costs.iter().zip(&mut least).zip(&mut cheapest) {
                let less = cost < *least;
                *cheapest = if less { row } else { *cheapest };
                *least = if less { cost } else { *least };
            }
        }
        for (dual, least) in small.duals.iter_mut().zip(least) {
            *dual = if least < T::UNREACHABLE { least } else { T::ZERO };
        }
        for (column, row) in cheapest.iter().enumerate().take(count).rev() {
            let row = row.to_count();
            if get(self.ws.column_of, row, I::new(0)) == I::NONE {
                self.pair(row, column);
                small.free &= !(1 << (column % 32));
            }
        }
    }

    /// Matches `source` by a shortest augmenting path. False if no column can be reached.
    #[inline(always)]
    fn augment_small<const W: usize>(&mut self, small: &mut Small<T, W>, source: usize) -> bool {
        let Some(costs) = small.costs.get(source) else { return false };
        let numbers: [T; W] = core::array::from_fn(T::count);
        let mut distances = minus(costs, &small.duals);
        let mut before = [T::count(source); W];
        // Closed columns are unreachable here.
        let mut open = small.duals;
        let mut closed = [(0_usize, T::ZERO); W];
        let mut count = 0;
        let mut distance = T::CLOSED;
        let end = loop {
            let least = kernel::least_of(&distances);
            // Rounding can make a path shorter than its prefix.
            distance = if least > distance { least } else { distance };
            if distance >= T::UNREACHABLE {
                return false;
            }
            let near = kernel::bits(&distances, distance);
            if near & small.free != 0 {
                break (near & small.free).trailing_zeros() as usize;
            }
            let column = near.trailing_zeros() as usize;
            set(&mut closed, count, (column, distance));
            count += 1;
            let row = get(self.ws.row_of, column, I::NONE).at();
            let Some(costs) = small.costs.get(row) else { return false };
            let from = distance.minus(get(costs, column, T::ZERO).minus(get(&small.duals, column, T::ZERO)));
            let (number, row) = (T::count(column), T::count(row));
            let parts = distances.iter_mut().zip(&mut before).zip(&mut open).zip(numbers.iter().zip(costs));
            for (((to, before), dual), (&this, &cost)) in parts {
                let closes = this == number;
                *dual = if closes { T::CLOSED } else { *dual };
                let kept = if closes { T::FAR } else { *to };
                let now = from.plus(cost.minus(*dual));
                *before = if now < kept { row } else { *before };
                *to = now.least(kept);
            }
        };
        small.free &= !(1 << (end % 32));
        if count == 0 {
            self.pair(source, end);
            return true;
        }
        for &(column, at) in closed.iter().take(count) {
            if let Some(dual) = small.duals.get_mut(column) {
                *dual = dual.minus(distance.minus(at));
            }
        }
        self.flip_back(&before, end, source);
        true
    }

    /// Augments along a path.
    #[inline(always)]
    fn flip_back<const W: usize>(&mut self, before: &[T; W], mut column: usize, source: usize) {
        for _ in 0..W {
            let row = get(before, column, T::ZERO).to_count();
            let next = get(self.ws.column_of, row, I::NONE);
            self.pair(row, column);
            if row == source {
                return;
            }
            column = next.at();
        }
    }
}

impl<T: Cost, const W: usize> Small<T, W> {
    /// A copy of the costs, if all of them are plain.
    #[inline(always)]
    fn new(costs: &Costs<'_, T>) -> Option<Self> {
        let mut small = Self { costs: [[T::FAR; W]; W], duals: [T::ZERO; W], free: 0 };
        let mut plain = true;
        for (row, to) in small.costs.iter_mut().enumerate().take(costs.rows()) {
            let from = costs.row(row)?;
            copy(from, to);
            plain &= kernel::plain(from);
        }
        small.free = 1_u32.checked_shl(costs.columns() as u32).map_or(u32::MAX, |past| past.wrapping_sub(1));
        plain.then_some(small)
    }
}

/// Copies in whole vectors; the last one may overlap the one before.
#[inline(always)]
fn copy<T: Cost>(from: &[T], to: &mut [T]) {
    let Some(to) = to.get_mut(..from.len()) else { return };
    let (parts, rest) = from.as_chunks::<{ kernel::LANES }>();
    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(parts) {
        *to = *from;
    }
    if let (Some(last), Some(to)) = (from.last_chunk::<{ kernel::LANES }>(), to.last_chunk_mut()) {
        *to = *last;
    } else {
        for (to, &from) in to.iter_mut().zip(rest) {
            *to = from;
        }
    }
}

#[inline(always)]
fn minus<T: Cost, const W: usize>(values: &[T; W], others: &[T; W]) -> [T; W] {
    let mut values = *values;
    for (value, &other) in values.iter_mut().zip(others) {
        *value = value.minus(other);
    }
    values
}
