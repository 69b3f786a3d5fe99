//! Full matchings of least total weight on sparse graphs: shortest augmenting paths with a heap.

use core::fmt;

use super::{Graph, NONE, get, set};
use crate::assignment::Cost;

/// A column whose distance is final.
const CLOSED: u32 = NONE - 1;

/// Why a full matching could not be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum FullMatchingError<T> {
    /// The first row that cannot be matched together with those before it.
    Infeasible {
        /// The row.
        row: usize,
    },
    /// A weight that is NaN or infinitely small; an infinitely large one (the largest integer) forbids its edge.
    Invalid {
        /// Its index among the weights.
        edge: usize,
        /// The weight.
        value: T,
    },
    /// Sums of integers could overflow.
    HeadRoom,
    /// A slice is too short.
    Memory {
        /// Elements needed.
        needed: usize,
        /// Elements found.
        found: usize,
    },
}

impl<T: fmt::Debug> fmt::Display for FullMatchingError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Infeasible { row } => {
                write!(f, "no full matching exists: row {row} cannot be matched together with those before it; add edges")
            }
            Self::Invalid { edge, value } => write!(f, "weight {edge} is {value:?}; correct it, or leave the edge out"),
            Self::HeadRoom => f.write_str("weights could overflow when they are added along a path; use a wider type"),
            Self::Memory { needed, found } => write!(f, "{needed} elements are needed, but {found} were lent"),
        }
    }
}

impl<T: fmt::Debug> core::error::Error for FullMatchingError<T> {}

/// Elements of the weights' type and of `u32` that [`minimum_weight_full_matching`] needs besides its results.
pub const fn full_scratch_len(columns: usize) -> (usize, usize) {
    (columns, columns.saturating_mul(4))
}

/// The results of [`minimum_weight_full_matching`].
#[derive(Debug)]
pub struct FullMatching<'a, T> {
    /// The column of every row.
    pub column_of: &'a mut [u32],
    /// The row of every column, or [`NONE`].
    pub row_of: &'a mut [u32],
    /// A dual variable for every row.
    pub row_duals: &'a mut [T],
    /// A dual variable for every column: `weight ≥ row dual + column dual` for every edge, with equality for pairs; 0 for free columns and at most 0
    /// for matched ones. They prove the total, which equals the sum of all duals.
    pub column_duals: &'a mut [T],
}

/// Matches every row of `graph` with its own column at the least total weight; `weights` are in the order of the neighbours. Edges may repeat.
///
/// With more rows than columns, pass the transposed graph. `distances` and `scratch` need [`full_scratch_len`] elements.
///
/// # Errors
/// No full matching, invalid weights, or too little memory.
pub fn minimum_weight_full_matching<T: Cost>(
    graph: Graph<'_>,
    weights: &[T],
    to: &mut FullMatching<'_, T>,
    distances: &mut [T],
    scratch: &mut [u32],
) -> Result<(), FullMatchingError<T>> {
    let (rows, columns) = (graph.len(), to.row_of.len());
    let needed = full_scratch_len(columns);
    let lens = [
        (weights.len(), graph.neighbours.len()),
        (to.column_of.len(), rows),
        (to.row_duals.len(), rows),
        (to.column_duals.len(), columns),
        (distances.len(), needed.0),
        (scratch.len(), needed.1),
    ];
    if let Some(&(found, needed)) = lens.iter().find(|(found, needed)| found < needed) {
        return Err(FullMatchingError::Memory { needed, found });
    }
    check(weights, rows)?;
    let (path, rest) = scratch.split_at_mut_checked(columns).unwrap_or_default();
    let (place, rest) = rest.split_at_mut_checked(columns).unwrap_or_default();
    let (queue, seen) = rest.split_at_mut_checked(columns).unwrap_or_default();
    to.column_of.fill(NONE);
    to.row_of.fill(NONE);
    to.column_duals.fill(T::ZERO);
    place.fill(NONE);
    let mut search = Search { graph, weights, to, path, seen, seen_len: 0, heap: Heap { distances, place, queue, len: 0 } };
    search.take_cheapest();
    for row in 0..rows as u32 {
        if get(search.to.column_of, row, 0) == NONE && !search.augment(row) {
            return Err(FullMatchingError::Infeasible { row: row as usize });
        }
    }
    Ok(())
}

fn check<T: Cost>(weights: &[T], rows: usize) -> Result<(), FullMatchingError<T>> {
    let mut range: Option<(T, T)> = None;
    for (edge, &value) in weights.iter().enumerate() {
        match value.admit(false, T::ONE) {
            None => return Err(FullMatchingError::Invalid { edge, value }),
            Some(cost) if cost > T::FAR => return Err(FullMatchingError::HeadRoom),
            Some(cost) if cost == T::FAR => {}
            Some(cost) => {
                let (least, largest) = range.unwrap_or((cost, cost));
                range = Some((least.least(cost), if cost > largest { cost } else { largest }));
            }
        }
    }
    match range {
        Some((least, largest)) if !T::has_room(least, largest, rows) => Err(FullMatchingError::HeadRoom),
        _ => Ok(()),
    }
}

/// Columns keyed by distance: a binary heap with an index of each column's position.
struct Heap<'s, T> {
    /// By column.
    distances: &'s mut [T],
    /// The heap position of a column; [`NONE`] before it is seen, [`CLOSED`] when its distance is final.
    place: &'s mut [u32],
    queue: &'s mut [u32],
    len: u32,
}

impl<T: Cost> Heap<'_, T> {
    fn distance(&self, column: u32) -> T {
        self.distances.get(column as usize).copied().unwrap_or(T::FAR)
    }

    /// Sets a column's distance, which must not increase.
    fn lower(&mut self, column: u32, distance: T) {
        if let Some(to) = self.distances.get_mut(column as usize) {
            *to = distance;
        }
        let mut at = get(self.place, column, NONE);
        if at == NONE {
            at = self.len;
            self.len += 1;
        }
        while at > 0 {
            let above = get(self.queue, (at - 1) / 2, NONE);
            if self.distance(above) <= distance {
                break;
            }
            self.put(above, at);
            at = (at - 1) / 2;
        }
        self.put(column, at);
    }

    /// Removes the nearest column and closes it.
    fn pop(&mut self) -> Option<u32> {
        let first = (self.len > 0).then(|| get(self.queue, 0, NONE))?;
        self.len -= 1;
        let last = get(self.queue, self.len, NONE);
        let distance = self.distance(last);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= self.len {
                break;
            }
            let column = |at| get(self.queue, at, NONE);
            let nearer = right < self.len && self.distance(column(right)) < self.distance(column(left));
            let below = if nearer { right } else { left };
            let column = column(below);
            if distance <= self.distance(column) {
                break;
            }
            self.put(column, at);
            at = below;
        }
        if self.len > 0 {
            self.put(last, at);
        }
        set(self.place, first, CLOSED);
        Some(first)
    }

    fn put(&mut self, column: u32, at: u32) {
        set(self.queue, at, column);
        set(self.place, column, at);
    }
}

struct Search<'s, 'a, 'g, T> {
    graph: Graph<'g>,
    weights: &'s [T],
    to: &'s mut FullMatching<'a, T>,
    /// The row before each column on its path.
    path: &'s mut [u32],
    /// Columns that this search has seen.
    seen: &'s mut [u32],
    seen_len: u32,
    heap: Heap<'s, T>,
}

impl<'g, T: Cost> Search<'_, '_, 'g, T> {
    /// The allowed edges of a row.
    fn edges(&self, row: u32) -> impl Iterator<Item = (u32, T)> + use<'g, '_, T> {
        let start = get(self.graph.starts, row, NONE) as usize;
        let weights = self.weights.get(start..).unwrap_or(&[]);
        let columns = self.to.row_of.len();
        let edges = self.graph.of(row as usize).iter().copied().zip(weights.iter().copied());
        edges.filter(move |&(column, weight)| (column as usize) < columns && weight != T::FORBIDDEN)
    }

    fn column_dual(&self, column: u32) -> T {
        self.to.column_duals.get(column as usize).copied().unwrap_or(T::ZERO)
    }

    fn row_dual(&self, row: u32) -> T {
        self.to.row_duals.get(row as usize).copied().unwrap_or(T::ZERO)
    }

    /// Sets the dual of every row to its least weight, and matches rows with free columns at that weight.
    fn take_cheapest(&mut self) {
        for row in 0..self.graph.len() as u32 {
            let least =
                self.edges(row).fold(None, |least: Option<T>, (_, weight)| Some(least.map_or(weight, |l| l.least(weight))));
            let least = least.unwrap_or(T::ZERO);
            if let Some(dual) = self.to.row_duals.get_mut(row as usize) {
                *dual = least;
            }
            let free = self.edges(row).find(|&(column, weight)| weight <= least && get(self.to.row_of, column, 0) == NONE);
            if let Some((column, _)) = free {
                set(self.to.column_of, row, column);
                set(self.to.row_of, column, row);
            }
        }
    }

    /// Matches a row by a shortest augmenting path. False if no free column can be reached.
    fn augment(&mut self, source: u32) -> bool {
        let (mut row, mut distance) = (source, T::ZERO);
        let end = loop {
            self.relax(row, distance);
            let Some(column) = self.heap.pop() else { break None };
            distance = self.heap.distance(column);
            match get(self.to.row_of, column, NONE) {
                NONE => break Some(column),
                next => row = next,
            }
        };
        if end.is_some() {
            self.reprice(source, distance);
        }
        for k in 0..self.seen_len {
            set(self.heap.place, get(self.seen, k, NONE), NONE);
        }
        (self.seen_len, self.heap.len) = (0, 0);
        let Some(mut column) = end else { return false };
        // A path is at most as long as the number of rows.
        for _ in 0..=self.graph.len() {
            let row = get(self.path, column, NONE);
            let own = get(self.to.column_of, row, NONE);
            set(self.to.column_of, row, column);
            set(self.to.row_of, column, row);
            if row == source {
                break;
            }
            column = own;
        }
        true
    }

    /// Shortens distances by paths through a row.
    fn relax(&mut self, row: u32, distance: T) {
        let dual = self.row_dual(row);
        let start = get(self.graph.starts, row, NONE) as usize;
        let weights = self.weights.get(start..).unwrap_or(&[]);
        for (&column, &weight) in self.graph.of(row as usize).iter().zip(weights) {
            let place = get(self.heap.place, column, CLOSED);
            if place == CLOSED || weight == T::FORBIDDEN {
                continue;
            }
            let reduced = weight.minus(dual).minus(self.column_dual(column));
            // Rounding can make a reduced weight negative.
            let now = distance.plus(if reduced > T::ZERO { reduced } else { T::ZERO });
            if place == NONE {
                set(self.seen, self.seen_len, column);
                self.seen_len += 1;
            } else if now >= self.heap.distance(column) {
                continue;
            }
            set(self.path, column, row);
            self.heap.lower(column, now);
        }
    }

    /// Updates duals so that the edges of the path are tight.
    fn reprice(&mut self, source: u32, distance: T) {
        let mut raise = |row: u32, by: T| {
            if let Some(dual) = self.to.row_duals.get_mut(row as usize) {
                *dual = dual.plus(by);
            }
        };
        raise(source, distance);
        for k in 0..self.seen_len {
            let column = get(self.seen, k, NONE);
            let row = get(self.to.row_of, column, NONE);
            if get(self.heap.place, column, NONE) != CLOSED || row == NONE {
                continue;
            }
            let by = distance.minus(self.heap.distance(column));
            raise(row, by);
            if let Some(dual) = self.to.column_duals.get_mut(column as usize) {
                *dual = dual.minus(by);
            }
        }
    }
}
