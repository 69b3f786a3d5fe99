//! Row ranges: which rows of a tensor on disk are which rows of a parameter.

use samara_core::graph::Pairing;

use super::MapError;

/// Rows at even distances: start, start + step, … (count of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) start: usize,
    pub(super) step: usize,
    pub(super) count: usize,
}

impl Rows {
    /// Neighbours.
    pub(super) fn contiguous(start: usize, count: usize) -> Self {
        Self { start, step: 1, count }
    }

    /// Row `k` of them.
    pub(super) fn at(&self, k: usize) -> usize {
        self.start + self.step * k
    }

    /// The pieces in `first..end`: indices `k` as a range.
    pub(super) fn within(&self, first: usize, end: usize) -> std::ops::Range<usize> {
        let below = |limit: usize| limit.saturating_sub(self.start).div_ceil(self.step.max(1)).min(self.count);
        below(first)..below(end)
    }

    /// Those with the positions `k` of a range.
    pub(super) fn part(&self, k: std::ops::Range<usize>) -> Self {
        Self { start: self.at(k.start), step: self.step, count: k.len() }
    }
}

/// Rows of a parameter that are rows of a tensor. A transposed tensor counts as the matrix before transposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Position in the layout's tensors.
    pub(super) tensor: usize,
    /// Position in the layout's parameters.
    pub(super) parameter: usize,
    /// Rows of the tensor.
    pub(super) disk: Rows,
    /// The rows of the parameter, equally many.
    pub(super) memory: Rows,
}

impl Piece {
    /// The same rows when every head's rows have the order `on_disk` in the tensor and the other convention in the parameter: one piece per half of a
    /// head.
    pub(super) fn permuted(self, name: &str, head_dim: usize, on_disk: Pairing) -> Result<Vec<Self>, MapError> {
        let heads = |rows: usize| MapError::Heads { tensor: name.to_owned(), rows, head_dim };
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(heads(self.disk.count));
        }
        if let Some(&rows) = [self.disk.start, self.disk.count].iter().find(|rows| !rows.is_multiple_of(head_dim)) {
            return Err(heads(rows));
        }
        let half = head_dim / 2;
        let of_half = |i: usize| {
            let (head, second) = (i / 2 * head_dim, i % 2);
            let halves = |start: usize| Rows { start: start + head + second * half, step: 1, count: half };
            let adjacent = |start: usize| Rows { start: start + head + second, step: 2, count: half };
            match on_disk {
                Pairing::Adjacent => Self { disk: adjacent(self.disk.start), memory: halves(self.memory.start), ..self },
                Pairing::Halves => Self { disk: halves(self.disk.start), memory: adjacent(self.memory.start), ..self },
            }
        };
        Ok((0..self.disk.count / half).map(of_half).collect())
    }
}

/// The first row among `rows` that is not covered exactly once, and how often it is.
pub(super) fn uneven_row(rows: usize, pieces: impl Iterator<Item = Rows>) -> Option<(usize, usize)> {
    let mut places = vec![0_usize; rows];
    for piece in pieces {
        for k in 0..piece.count {
            match places.get_mut(piece.at(k)) {
                Some(place) => *place += 1,
                // A place beyond the end.
                None => return Some((piece.at(k), 0)),
            }
        }
    }
    places.iter().position(|&n| n != 1).map(|row| (row, places.get(row).copied().unwrap_or(0)))
}
