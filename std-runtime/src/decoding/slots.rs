//! One program with B slots that appends a token to every row, and the prefill programs for its slots.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::DType;
use samara_core::model::lm::{DecodeShape, DecodeStep, decode_step};

use super::prefill::{Prefills, bucket};
use crate::lm::{Bound, RunError, write_ints};
use crate::session::{Device, On, OwnedProgram};

/// The number of rows generated at once, and the cache of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsShape {
    /// Slots, B.
    pub slots: usize,
    /// Tokens of a row: prompt and continuation. The cache holds as many, rounded up to a multiple of 16, and at most the model's context.
    pub tokens: usize,
    /// Tokens of the longest prompt expected: memory for its program is allocated at the start. Longer prompts are possible.
    pub prompt: usize,
    /// How keys and values are stored.
    pub dtype: DType,
}

/// A place for a row.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Tokens in the cache.
    cached: usize,
    /// The token that the next step appends; a slot without one is idle.
    next: Option<i32>,
}

/// Rows that are generated side by side.
pub struct Slots {
    program: OwnedProgram,
    io: DecodeStep,
    on: On,
    prefills: Prefills,
    capacity: usize,
    vocab_size: usize,
    slots: Vec<Slot>,
    tokens: Vec<i32>,    // (B, 1)
    positions: Vec<i32>, // (B, 1)
    starts: Vec<i32>,    // (B)
    live: Vec<i32>,      // (B)
    logits: Vec<f32>,    // (B, V)
}

impl Slots {
    /// Builds the programs and allocates their memory. The model's caches are cleared.
    ///
    /// # Errors
    /// A program cannot be built.
    pub fn new<D: Device>(model: &mut Bound<'_, D>, shape: &SlotsShape) -> Result<Self, RunError> {
        let (layers, batch, dtype) = (Arc::clone(&model.layers), shape.slots.max(1), shape.dtype);
        let dims = model.dims;
        let capacity = bucket(shape.tokens.max(1), dims.n_positions);
        for cache in [model.caches.rows, model.caches.prompt] {
            // Caches of another length or element type may exist.
            model.session.state_mut(cache).0.forget();
        }
        let on = On::set(model.set).with_state(model.caches.rows);
        let form = DecodeShape { batch, len: 1, capacity, dtype, read_in_place: false };
        let (program, io) = model.session.prepare(on, |g| decode_step(g, &*layers, &form))?;
        // A single row's prompt is written where the row's cache is.
        let mut prefills = Prefills::new(if batch == 1 { model.caches.rows } else { model.caches.prompt }, capacity, dtype);
        prefills.of(model, shape.prompt.max(1))?;
        Ok(Self {
            program,
            io,
            on,
            prefills,
            capacity,
            vocab_size: dims.vocab_size,
            slots: vec![Slot::default(); batch],
            tokens: vec![0; batch],
            positions: vec![0; batch],
            starts: vec![0; batch],
            live: vec![0; batch],
            logits: vec![0.0; batch * dims.vocab_size],
        })
    }

    /// The number of slots, B.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// The capacity of a row in tokens.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The program that appends a token to every row, for profiling.
    pub fn program(&self) -> &OwnedProgram {
        &self.program
    }

    /// The memory that this program runs on.
    pub fn on(&self) -> On {
        self.on
    }

    /// The logits (V) after the last token of a row.
    pub fn logits(&self, slot: usize) -> &[f32] {
        &self.logits[slot * self.vocab_size..][..self.vocab_size]
    }

    /// The same, to draw from.
    pub fn logits_mut(&mut self, slot: usize) -> &mut [f32] {
        &mut self.logits[slot * self.vocab_size..][..self.vocab_size]
    }

    /// Puts a row into a slot: a prompt of at least one token, cut to the last tokens that fit. Its logits are then available; other slots keep their
    /// state.
    ///
    /// # Errors
    /// A program cannot be built, a token is not in the vocabulary, or the device failed.
    pub fn fill<D: Device>(&mut self, model: &mut Bound<'_, D>, slot: usize, prompt: &[i32]) -> Result<(), RunError> {
        let prompt = &prompt[prompt.len().saturating_sub(self.capacity)..];
        if prompt.is_empty() {
            return Err(RunError::NoPrompt { row: slot });
        }
        let logits = slot * self.vocab_size..(slot + 1) * self.vocab_size;
        self.prefills.of(model, prompt.len())?.run(model, prompt, &mut self.logits[logits])?;
        if self.slots.len() > 1 {
            model.session.copy_state_row((model.caches.prompt, 0), (model.caches.rows, slot))?;
        }
        self.slots[slot] = Slot { cached: prompt.len(), next: None };
        Ok(())
    }

    /// Gives a slot the token that the next step appends. If the slot is full, nothing happens and the result is `false`.
    #[must_use]
    pub fn feed(&mut self, slot: usize, token: i32) -> bool {
        let capacity = self.capacity;
        let slot = &mut self.slots[slot];
        slot.next = (slot.cached < capacity).then_some(token);
        slot.next.is_some()
    }

    /// Appends the tokens that slots were given. Their logits are then available; those of other slots are lost.
    ///
    /// # Errors
    /// A token is not in the vocabulary, or the device failed.
    pub fn step<D: Device>(&mut self, model: &mut Bound<'_, D>) -> Result<(), RunError> {
        let capacity = self.capacity as i32;
        for (b, slot) in self.slots.iter_mut().enumerate() {
            let at = slot.cached as i32;
            // The start of an idle slot is beyond the end of the cache: it writes nothing, and attends to no key.
            let (token, position, start, live) = slot.next.map_or((0, 0, capacity, 0), |token| (token, at, at, at + 1));
            (self.tokens[b], self.positions[b], self.starts[b], self.live[b]) = (token, position, start, live);
            slot.cached += usize::from(slot.next.take().is_some());
        }
        let (session, program, io) = (&mut *model.session, &self.program, &self.io);
        write_ints(session, program, "token", io.inputs.tokens, &self.tokens)?;
        write_ints(session, program, "position", io.inputs.positions, &self.positions)?;
        write_ints(session, program, "cache start", io.cache.starts, &self.starts)?;
        write_ints(session, program, "live keys", io.cache.live, &self.live)?;
        session.run_all(program, self.on, Gradients::Overwrite);
        Ok(session.read_into(program, io.logits, &mut self.logits)?)
    }
}
