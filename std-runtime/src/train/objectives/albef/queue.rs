//! The queues of ALBEF: vectors of earlier batches, as a ring.

use samara_core::graph::Tensor;
use samara_core::math::rng::{Purpose, Rng};
use serde::{Deserialize, Serialize};

use crate::lm::RunError;
use crate::session::{Device, OwnedProgram, Session, StateId};

/// The stream of the random vectors that a queue begins with; the parameters' are their indices.
const STREAM: u64 = 1 << 40;

/// Queues of image and text vectors; the vectors themselves are states of the session.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    state: StateId,
    /// Rows of a queue, and columns.
    extents: [usize; 2],
    /// Where each begins in the state.
    starts: [usize; 2],
    ring: Ring,
}

/// Which pairs are where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    /// The row that is written next.
    pointer: usize,
    /// Image and first equal caption of every row, −1 for none.
    same: Vec<[i32; 2]>,
}

impl Queues {
    /// The queues (Q, E) that are states of a program.
    pub(super) fn new(program: &OwnedProgram, queues: [Tensor; 2], state: StateId) -> Self {
        let view = program.view();
        let [rows, width] = [0, 1].map(|axis| view.shape(queues[0]).dim(axis));
        let starts = queues.map(|t| view.tensor(t).map_or(0, |record| record.start()));
        Self { state, extents: [rows, width], starts, ring: Ring { pointer: 0, same: vec![[-1; 2]; rows] } }
    }

    /// Fills the queues with random vectors of length 1.
    ///
    /// # Errors
    /// The device failed.
    pub(super) fn fill<D: Device>(&self, session: &mut Session<D>, seed: u64) -> Result<(), RunError> {
        let ([rows, width], starts) = (self.extents, self.starts);
        let (state, device) = session.state_mut(self.state);
        let fill = &mut |values: &mut [f32]| {
            for (start, stream) in starts.into_iter().zip(STREAM..) {
                let Some(queue) = values.get_mut(start..start + rows * width) else { continue };
                Rng::new(seed, Purpose::Init, stream).fill_normal(queue, 0.0, 1.0);
                for row in queue.chunks_exact_mut(width.max(1)) {
                    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
                    row.iter_mut().for_each(|x| *x /= norm);
                }
            }
        };
        Ok(device.lend_mut(&mut state.mem, fill)?)
    }

    /// Replaces the oldest rows by those of a batch: vectors (B, E), and what makes pairs the same (B, 2). Of more rows than the queue has, the last stay.
    ///
    /// # Errors
    /// The device failed.
    pub(super) fn push<D: Device>(
        &mut self,
        session: &mut Session<D>,
        vectors: &[Vec<f32>; 2],
        same: &[i32],
    ) -> Result<(), RunError> {
        let ([rows, width], starts, first) = (self.extents, self.starts, self.ring.pointer);
        let (state, device) = session.state_mut(self.state);
        let push = &mut |values: &mut [f32]| {
            for (start, vectors) in starts.into_iter().zip(vectors) {
                for (row, vector) in vectors.chunks_exact(width.max(1)).enumerate() {
                    let at = start + (first + row) % rows.max(1) * width;
                    values.get_mut(at..at + width).into_iter().for_each(|to| to.copy_from_slice(vector));
                }
            }
        };
        device.lend_mut(&mut state.mem, push)?;
        self.ring.push(same);
        Ok(())
    }

    /// What makes the pairs of the rows the same.
    pub(super) fn same(&self) -> &[[i32; 2]] {
        &self.ring.same
    }

    /// What a checkpoint has of it beside the state.
    pub(super) const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    pub(super) fn resume(&mut self, ring: Ring) -> Result<(), String> {
        let rows = self.extents[0];
        if ring.same.len() != rows || ring.pointer >= rows.max(1) {
            return Err(format!("a queue of {} rows at row {}: expected {rows} rows", ring.same.len(), ring.pointer));
        }
        self.ring = ring;
        Ok(())
    }
}

impl Ring {
    fn push(&mut self, same: &[i32]) {
        let rows = self.same.len().max(1);
        for pair in same.chunks_exact(2) {
            if let (Some(to), [image, caption]) = (self.same.get_mut(self.pointer), pair) {
                *to = [*image, *caption];
            }
            self.pointer = (self.pointer + 1) % rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_takes_batches_of_any_size() {
        let mut ring = Ring { pointer: 0, same: vec![[-1; 2]; 3] };
        let pairs = |range: std::ops::Range<i32>| range.flat_map(|n| [n, 10 + n]).collect::<Vec<_>>();
        ring.push(&pairs(0..2));
        assert_eq!(ring, Ring { pointer: 2, same: vec![[0, 10], [1, 11], [-1, -1]] });
        ring.push(&pairs(2..4));
        assert_eq!(ring, Ring { pointer: 1, same: vec![[3, 13], [1, 11], [2, 12]] });
        // More than it has: the last stay.
        ring.push(&pairs(4..9));
        assert_eq!(ring, Ring { pointer: 0, same: vec![[6, 16], [7, 17], [8, 18]] });
    }
}
