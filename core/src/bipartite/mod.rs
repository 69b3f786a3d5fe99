//! Bipartite graphs on borrowed slices: two-colouring with a witness, maximum matching with the cover that proves it, full matchings of least weight.

mod colour;
mod full;
mod matching;

#[cfg(test)]
mod tests;

pub use colour::{Coloured, two_colour};
pub use full::{FullMatching, FullMatchingError, full_scratch_len, minimum_weight_full_matching};
pub use matching::{Cover, NONE, cover, maximum_matching, scratch_len};

/// A graph in compressed sparse rows: the neighbours of vertex i are `neighbours[starts[i]..starts[i + 1]]`. Ranges outside of the slices count as
/// empty, and edges may repeat.
#[derive(Clone, Copy, Debug)]
pub struct Graph<'a> {
    starts: &'a [u32],
    neighbours: &'a [u32],
}

impl<'a> Graph<'a> {
    /// A graph of `starts.len() - 1` vertices (or rows).
    pub fn new(starts: &'a [u32], neighbours: &'a [u32]) -> Self {
        Self { starts, neighbours }
    }

    /// The number of vertices (or rows).
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The neighbours of a vertex.
    pub fn of(&self, vertex: usize) -> &'a [u32] {
        match (self.starts.get(vertex), self.starts.get(vertex.saturating_add(1))) {
            (Some(&start), Some(&end)) => self.neighbours.get(start as usize..end as usize).unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// Element `i`, or `none` if it is out of bounds.
#[inline(always)]
fn get(items: &[u32], i: u32, none: u32) -> u32 {
    items.get(i as usize).copied().unwrap_or(none)
}

/// Sets element `i` if it is in bounds.
#[inline(always)]
fn set(items: &mut [u32], i: u32, value: u32) {
    if let Some(to) = items.get_mut(i as usize) {
        *to = value;
    }
}
