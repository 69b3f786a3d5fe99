//! Prefill: a program of one row that processes a whole prompt, its length rounded up.
//!
//! The prompt is padded on the right. Attention is causal, so no token attends to the padding, and the keys and values of the padding are overwritten
//! before a later token reads them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{DType, Graph, Tensor};
use samara_core::model::lm::{LanguageModel, LmInputs, logits};
use samara_core::nn::KvCache;

use crate::lm::{Bound, RunError, write_ints};
use crate::session::{Device, On, OwnedProgram, StateId};

/// Program lengths for prompts, and cache capacities, are multiples of this.
const STEP: usize = 16;

/// `tokens` rounded up to a multiple of 16, at most `most`.
pub fn bucket(tokens: usize, most: usize) -> usize {
    tokens.min(most).next_multiple_of(STEP).min(most)
}

/// The tensors of a program for prompts.
#[derive(Clone, Copy, Debug)]
struct Io {
    inputs: LmInputs,
    starts: Tensor, // (1)
    live: Tensor,   // (1)
    last: Tensor,   // (1, 1)
    logits: Tensor, // (1, 1, V)
}

impl Io {
    /// Writes keys and values of T tokens to the start of the cache, and computes the logits after token `last`: the head runs on one row.
    fn new(g: &Graph<'_>, model: &dyn LanguageModel, len: usize, capacity: usize, dtype: DType) -> Self {
        let inputs = LmInputs::new(g, model, 1, len);
        let starts = g.ints(&[1], 0, capacity as i32); // (1)
        let live = g.ints(&[1], 0, capacity as i32); // (1)
        let last = g.ints(&[1, 1], 0, len as i32 - 1); // (1, 1)
        let cache = KvCache { starts, live, capacity, dtype, read_in_place: false, segments: None };
        let hidden = model.hidden(g, &inputs, Some(&cache)); // (1, T, C)
        let row = g.embedding(last, hidden, None); // (1, 1, C)
        Self { inputs, starts, live, last, logits: g.output(logits(g, model, row)) }
    }
}

/// A program for prompts of up to T tokens.
pub(super) struct Prefill {
    program: OwnedProgram,
    io: Io,
    on: On,
    positions: Vec<i32>, // (1, T)
    tokens: Vec<i32>,    // (1, T)
}

impl Prefill {
    /// Builds the program for `len` tokens and allocates its memory.
    pub(super) fn new<D: Device>(
        model: &mut Bound<'_, D>,
        state: StateId,
        len: usize,
        (capacity, dtype): (usize, DType),
    ) -> Result<Self, RunError> {
        let (layers, on) = (Arc::clone(&model.layers), On::set(model.set).with_state(state));
        let (program, io) = model.session.prepare(on, |g| Io::new(g, &*layers, len, capacity, dtype))?;
        Ok(Self { program, io, on, positions: (0..len as i32).collect(), tokens: vec![0; len] })
    }

    /// Fills the state set of one row with the keys and values of a prompt of 1 to T tokens, and returns the logits (V) after it.
    pub(super) fn run<D: Device>(
        &mut self,
        model: &mut Bound<'_, D>,
        prompt: &[i32],
        logits: &mut [f32],
    ) -> Result<(), RunError> {
        let (session, program, io) = (&mut *model.session, &self.program, &self.io);
        self.tokens.fill(0);
        self.tokens.iter_mut().zip(prompt).for_each(|(to, &token)| *to = token);
        write_ints(session, program, "prompt token", io.inputs.tokens, &self.tokens)?;
        write_ints(session, program, "position", io.inputs.positions, &self.positions)?;
        write_ints(session, program, "cache start", io.starts, &[0])?;
        write_ints(session, program, "live keys", io.live, &[self.tokens.len() as i32])?;
        write_ints(session, program, "last token of the prompt", io.last, &[prompt.len() as i32 - 1])?;
        session.run_all(program, self.on, Gradients::Overwrite);
        Ok(session.read_into(program, io.logits, logits)?)
    }
}

/// Prefill programs of one cache, by their length: each is built on first use, and kept.
pub(super) struct Prefills {
    programs: BTreeMap<usize, Prefill>,
    state: StateId,
    capacity: usize,
    dtype: DType,
}

impl Prefills {
    /// No program yet. `state` is a cache of one row.
    pub(super) fn new(state: StateId, capacity: usize, dtype: DType) -> Self {
        Self { programs: BTreeMap::new(), state, capacity, dtype }
    }

    /// The program for a prompt of this length.
    pub(super) fn of<D: Device>(&mut self, model: &mut Bound<'_, D>, tokens: usize) -> Result<&mut Prefill, RunError> {
        let len = bucket(tokens, self.capacity);
        Ok(match self.programs.entry(len) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => place.insert(Prefill::new(model, self.state, len, (self.capacity, self.dtype))?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_from_lengths() {
        assert_eq!([1, 15, 16, 17, 40].map(|n| bucket(n, 64)), [16, 16, 16, 32, 48]);
        assert_eq!([1, 17, 30, usize::MAX].map(|n| bucket(n, 30)), [16, 30, 30, 30]);
    }
}
