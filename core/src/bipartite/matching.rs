//! Maximum matching by Hopcroft and Karp (1973), and König's cover.

use super::{Graph, get, set};

/// No partner.
pub const NONE: u32 = u32::MAX;

/// Elements of scratch that [`maximum_matching`] and [`cover`] take.
pub const fn scratch_len(rows: usize) -> usize {
    rows.saturating_mul(3)
}

/// A matching of largest size between the rows of `graph` and the columns that are their neighbours; returns its size.
///
/// `column_of` has an element for every row and `row_of` one for every column: partners, or [`NONE`]. `scratch` has at least [`scratch_len`] elements; rows beyond it
/// stay free, as do edges to columns beyond `row_of`.
///
/// Each phase finds shortest augmenting paths with no vertex in common. A row from which no path leads on is marked dead and not entered again in
/// the phase, so that a phase takes time linear in the edges; and the way back is kept in memory, not in a recursion.
pub fn maximum_matching(graph: Graph<'_>, column_of: &mut [u32], row_of: &mut [u32], scratch: &mut [u32]) -> usize {
    let rows = graph.len().min(column_of.len()).min(scratch.len() / 3);
    column_of.fill(NONE);
    row_of.fill(NONE);
    let mut size = 0;
    // Most rows find a free column at once.
    for row in 0..rows as u32 {
        if let Some(&column) = graph.of(row as usize).iter().find(|&&column| get(row_of, column, 0) == NONE) {
            set(column_of, row, column);
            set(row_of, column, row);
            size += 1;
        }
    }
    let (levels, rest) = scratch.split_at_mut_checked(rows).unwrap_or_default();
    let (queue, next_edge) = rest.split_at_mut_checked(rows).unwrap_or_default();
    while layer(graph, column_of, row_of, levels, queue) {
        next_edge.fill(0);
        for row in 0..rows as u32 {
            // The queue of the layers is no longer needed: the path lies in its place.
            if get(column_of, row, 0) == NONE && grow(graph, row, column_of, row_of, levels, queue, next_edge) {
                size += 1;
            }
        }
    }
    size
}

/// Numbers rows by their distance from free ones; whether a free column can be reached.
fn layer(graph: Graph<'_>, column_of: &[u32], row_of: &[u32], levels: &mut [u32], queue: &mut [u32]) -> bool {
    let (mut head, mut tail) = (0, 0);
    for ((row, level), &column) in (0..).zip(levels.iter_mut()).zip(column_of) {
        *level = NONE;
        if column == NONE {
            *level = 0;
            set(queue, tail, row);
            tail += 1;
        }
    }
    let mut last = NONE;
    while head < tail {
        let row = get(queue, head, NONE);
        head += 1;
        let level = get(levels, row, NONE);
        if level >= last {
            break;
        }
        for &column in graph.of(row as usize) {
            match row_of.get(column as usize) {
                Some(&NONE) => last = level,
                Some(&next) if get(levels, next, 0) == NONE => {
                    set(levels, next, level + 1);
                    set(queue, tail, next);
                    tail += 1;
                }
                _ => {}
            }
        }
    }
    last != NONE
}

/// Augments along one path from a free row through the layers, if there is one left.
fn grow(
    graph: Graph<'_>,
    source: u32,
    column_of: &mut [u32],
    row_of: &mut [u32],
    levels: &mut [u32],
    path: &mut [u32],
    next_edge: &mut [u32],
) -> bool {
    set(path, 0, source);
    let mut depth = 0;
    loop {
        let row = get(path, depth, NONE);
        let edge = get(next_edge, row, 0);
        let Some(&column) = graph.of(row as usize).get(edge as usize) else {
            // Dead: no path leads on from here in this phase.
            set(levels, row, NONE);
            if depth == 0 {
                return false;
            }
            depth -= 1;
            continue;
        };
        set(next_edge, row, edge + 1);
        match row_of.get(column as usize) {
            Some(&NONE) => {
                let mut column = column;
                // From the end back: every row takes the column after it and leaves its own to the row before.
                for k in (0..=depth).rev() {
                    let row = get(path, k, NONE);
                    let own = get(column_of, row, NONE);
                    set(column_of, row, column);
                    set(row_of, column, row);
                    set(levels, row, NONE);
                    column = own;
                }
                return true;
            }
            Some(&next) if get(levels, next, NONE) == depth + 1 => {
                depth += 1;
                set(path, depth, next);
            }
            _ => {}
        }
    }
}

/// Sizes of a vertex cover by sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Rows in the cover.
    pub rows: usize,
    /// Columns in the cover.
    pub columns: usize,
}

/// König's vertex cover for a maximum matching: as many vertices as pairs, at least one at every edge, which proves that no matching is larger. The
/// others are an independent set of largest size.
///
/// Sets `rows[i]` and `columns[j]` to whether they are in the cover. `scratch` has at least [`scratch_len`] elements.
pub fn cover(
    graph: Graph<'_>,
    column_of: &[u32],
    row_of: &[u32],
    rows: &mut [bool],
    columns: &mut [bool],
    scratch: &mut [u32],
) -> Cover {
    let (levels, rest) = scratch.split_at_mut_checked(graph.len().min(scratch.len() / 3)).unwrap_or_default();
    // With a maximum matching no free column is reached, and all that can be reached is numbered.
    layer(graph, column_of, row_of, levels, rest);
    columns.fill(false);
    for ((row, covered), &level) in rows.iter_mut().enumerate().zip(&*levels) {
        *covered = level == NONE;
        if level != NONE {
            for &column in graph.of(row) {
                if let Some(covered) = columns.get_mut(column as usize) {
                    *covered = true;
                }
            }
        }
    }
    let count = |side: &[bool]| side.iter().filter(|&&covered| covered).count();
    Cover { rows: count(rows), columns: count(columns) }
}
