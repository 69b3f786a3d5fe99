//! Maximum matching by Hopcroft and Karp (1973), and König's cover.

use super::{Graph, get, set};

/// No partner.
pub const NONE: u32 = u32::MAX;

/// In `row_of` during a search: the bit marks a visited column, the other bits are its row. While initial pairs are made it marks free columns.
const MARK: u32 = 1 << 31;

/// Elements of scratch that [`maximum_matching`] and [`cover`] need.
pub const fn scratch_len(rows: usize) -> usize {
    rows.saturating_mul(3)
}

/// A maximum matching between the rows of `graph` and the columns that are their neighbours; returns its size.
///
/// `column_of` has an element per row and `row_of` one per column: the partner, or [`NONE`]. `scratch` needs [`scratch_len`] elements; rows beyond it
/// (and beyond 2³¹) stay free, and edges to columns beyond `row_of` are ignored.
///
/// Each phase finds a maximal set of vertex-disjoint shortest augmenting paths, so there are O(√rows) phases. A row without an onward path is marked
/// dead for the phase, so a phase is linear in the edges. The path is kept in an array instead of a recursion.
pub fn maximum_matching(graph: Graph<'_>, column_of: &mut [u32], row_of: &mut [u32], scratch: &mut [u32]) -> usize {
    column_of.fill(NONE);
    row_of.fill(NONE);
    let rows = graph.len().min(column_of.len()).min(scratch.len() / 3).min(MARK as usize);
    let column_of = column_of.get_mut(..rows).unwrap_or_default();
    let (queue, rest) = scratch.split_at_mut_checked(rows).unwrap_or_default();
    let (parents, rest) = rest.split_at_mut_checked(rows).unwrap_or_default();
    let roots = rest.get_mut(..rows).unwrap_or_default();
    let (mut size, columns) = first_pairs(graph, column_of, row_of);
    let mut search = Search { graph, column_of, row_of, queue, parents, roots };
    // The last search only proves that the matching is maximum and is the longest: it is skipped when one side is fully matched.
    while size < rows.min(columns) {
        let found = search.trees();
        if found.paths == 0 {
            break;
        }
        size += found.paths;
        if found.crowded {
            size += search.paths_between(found.end);
        }
    }
    size
}

/// Pairs every row with its free neighbour that has the fewest remaining edges, so that a column only one row can have is taken in time. This leaves
/// a fraction of the unmatched rows of a first-neighbour greedy. Returns the pairs, and the number of columns with edges.
pub(super) fn first_pairs(graph: Graph<'_>, column_of: &mut [u32], row_of: &mut [u32]) -> (usize, usize) {
    // The entry of a free column counts its remaining edges, downwards from NONE.
    for row in 0..column_of.len() {
        for &column in graph.of(row) {
            if let Some(left) = row_of.get_mut(column as usize) {
                *left -= u32::from(*left > MARK);
            }
        }
    }
    let columns = row_of.iter().filter(|&&left| left != NONE).count();
    let mut pairs = 0;
    for (row, own) in (0..).zip(column_of.iter_mut()) {
        let mut most = 0;
        for &column in graph.of(row as usize) {
            let Some(left) = row_of.get_mut(column as usize) else { continue };
            let free = *left >= MARK;
            *left = left.saturating_add(u32::from(free));
            if free && *left > most {
                (most, *own) = (*left, column);
            }
        }
        if most > 0 {
            set(row_of, *own, row);
            pairs += 1;
        }
    }
    row_of.iter_mut().filter(|left| **left >= MARK).for_each(|left| *left = NONE);
    (pairs, columns)
}

/// The current matching, and the trees that grow from free rows.
struct Search<'a> {
    graph: Graph<'a>,
    column_of: &'a mut [u32],
    row_of: &'a mut [u32],
    /// Rows in the order in which they are reached; with [`MARK`], those on a new path.
    queue: &'a mut [u32],
    /// For every queue position the position of the parent, or [`NONE`] for a free row. While paths are walked: the next edge of every row.
    parents: &'a mut [u32],
    /// For every queue position its tree's root. While paths are walked: the level of every row.
    roots: &'a mut [u32],
}

/// The outcome of growing the trees.
struct Found {
    paths: usize,
    /// Queue positions of the levels before the last.
    end: u32,
    /// Whether more shortest paths may exist between those found.
    crowded: bool,
}

impl Search<'_> {
    /// Grows trees from all free rows at once, level by level, to the first level that reaches free columns; every tree that reaches one yields a
    /// path.
    fn trees(&mut self) -> Found {
        let (mut head, mut tail, mut paths, mut crowded) = (0, self.plant(), 0, false);
        let mut end = tail;
        while head < tail {
            if head == end {
                if paths > 0 {
                    break;
                }
                end = tail;
            }
            let row = get(self.queue, head, NONE);
            let root = get(self.roots, get(self.parents, head, NONE), row);
            set(self.roots, head, root);
            if get(self.column_of, root, NONE) == NONE {
                paths += usize::from(self.branch(row, head, &mut tail));
            } else {
                // This tree has its path; a path to a free column seen from here could start in another tree.
                crowded = crowded || self.graph.of(row as usize).iter().any(|&column| get(self.row_of, column, 0) == NONE);
            }
            head += 1;
        }
        for &row in self.queue.iter().take(tail as usize) {
            let row = row & !MARK;
            set(self.row_of, get(self.column_of, row, NONE), row);
        }
        Found { paths, end, crowded }
    }

    /// Queues the free rows; returns their number.
    fn plant(&mut self) -> u32 {
        let mut tail = 0;
        for (row, _) in (0..).zip(&*self.column_of).filter(|(_, column)| **column == NONE) {
            set(self.queue, tail, row);
            set(self.parents, tail, NONE);
            tail += 1;
        }
        tail
    }

    /// Adds the rows behind a row's unvisited columns to its tree, or augments along the tree if a column is free; returns whether it augmented.
    fn branch(&mut self, row: u32, at: u32, tail: &mut u32) -> bool {
        for &column in self.graph.of(row as usize) {
            let Some(next) = self.row_of.get_mut(column as usize) else { continue };
            if *next == NONE {
                self.augment(column, at);
                return true;
            }
            // Branchless, because the branch is unpredictable: a row that is not new is overwritten by the next.
            set(self.queue, *tail, *next);
            set(self.parents, *tail, at);
            *tail += u32::from(*next < MARK);
            *next |= MARK;
        }
        false
    }

    /// Augments from the path's end: every row takes the column after it and leaves its old column to the row before.
    fn augment(&mut self, mut column: u32, mut at: u32) {
        while at != NONE {
            let row = get(self.queue, at, NONE);
            set(self.queue, at, row | MARK);
            let own = get(self.column_of, row, NONE);
            set(self.column_of, row, column);
            set(self.row_of, column, row | MARK);
            column = own;
            at = get(self.parents, at, NONE);
        }
    }

    /// Finds further shortest paths that share no row with those found, walking through the levels; returns their number.
    fn paths_between(&mut self, end: u32) -> usize {
        self.number(end);
        self.parents.fill(0);
        // From here the queue holds the path.
        (0..self.column_of.len() as u32).map(|row| usize::from(get(self.column_of, row, 0) == NONE && self.walk(row))).sum()
    }

    /// Assigns levels to the rows before `end`, except to rows on new paths.
    fn number(&mut self, end: u32) {
        self.roots.fill(NONE);
        let (mut level, mut start) = (0, 0);
        for ((at, &row), &parent) in (0..end).zip(&*self.queue).zip(&*self.parents) {
            // The first row whose parent is in this level.
            if parent != NONE && parent >= start {
                (level, start) = (level + 1, at);
            }
            set(self.roots, row, level);
        }
    }

    /// Augments along one path from a free row through the levels; false if there is none.
    fn walk(&mut self, source: u32) -> bool {
        set(self.queue, 0, source);
        let mut depth = 0;
        loop {
            let row = get(self.queue, depth, NONE);
            let edge = get(self.parents, row, 0);
            let Some(&column) = self.graph.of(row as usize).get(edge as usize) else {
                // Dead: no path leads on from here in this phase.
                set(self.roots, row, NONE);
                if depth == 0 {
                    return false;
                }
                depth -= 1;
                continue;
            };
            set(self.parents, row, edge + 1);
            match self.row_of.get(column as usize) {
                Some(&NONE) => {
                    self.take(column, depth);
                    return true;
                }
                Some(&next) if get(self.roots, next, NONE) == depth + 1 => {
                    depth += 1;
                    set(self.queue, depth, next);
                }
                _ => {}
            }
        }
    }

    /// Augments along the path in the queue.
    fn take(&mut self, mut column: u32, depth: u32) {
        for k in (0..=depth).rev() {
            let row = get(self.queue, k, NONE);
            let own = get(self.column_of, row, NONE);
            set(self.column_of, row, column);
            set(self.row_of, column, row);
            set(self.roots, row, NONE);
            column = own;
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

/// König's vertex cover of a maximum matching: it has as many vertices as there are pairs and touches every edge, which proves that no matching is
/// larger. The complement is a maximum independent set.
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
    columns.fill(false);
    let (mut head, mut tail) = (0, 0);
    for ((row, covered), &column) in (0..).zip(rows.iter_mut()).zip(column_of) {
        *covered = column != NONE;
        if !*covered {
            set(scratch, tail, row);
            tail += 1;
        }
    }
    // Alternating search from the free rows: visited columns are in the cover, visited rows are not.
    while head < tail {
        let row = get(scratch, head, NONE);
        head += 1;
        for &column in graph.of(row as usize) {
            let Some(seen @ false) = columns.get_mut(column as usize) else { continue };
            *seen = true;
            let next = get(row_of, column, NONE);
            if let Some(covered @ true) = rows.get_mut(next as usize) {
                *covered = false;
                set(scratch, tail, next);
                tail += 1;
            }
        }
    }
    let count = |side: &[bool]| side.iter().filter(|&&covered| covered).count();
    Cover { rows: count(rows), columns: count(columns) }
}
