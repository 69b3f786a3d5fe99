//! Generation of one text, token by token, without a length limit.

use samara_core::graph::DType;

use super::row::{Draws, Row};
use super::slots::{Slots, SlotsShape};
use crate::lm::sampling::SamplingParams;
use crate::lm::{Bound, RunError};
use crate::session::Device;

/// Generates tokens after a prompt, one at a time, with the random stream of row 0.
///
/// When the model's context is full, its last half becomes the new prompt.
pub struct Generator {
    slots: Slots,
    row: Row,
    sampling: SamplingParams,
    order: Vec<u32>,
}

impl Generator {
    /// Starts after a prompt of at least one token. A prompt longer than the model's context loses its beginning.
    ///
    /// # Errors
    /// An empty prompt, a token that is not in the vocabulary, a program that cannot be built, or a device failure.
    pub fn new<D: Device>(
        model: &mut Bound<'_, D>,
        prompt: &[i32],
        sampling: impl Into<SamplingParams>,
        seed: u64,
    ) -> Result<Self, RunError> {
        Self::with_cache(model, prompt, sampling, seed, (DType::Real, usize::MAX))
    }

    /// [`Self::new`] with a cache of another element type, and with capacity for this many new tokens: beyond them the last half becomes the new
    /// prompt, as when the model's context is full.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_cache<D: Device>(
        model: &mut Bound<'_, D>,
        prompt: &[i32],
        sampling: impl Into<SamplingParams>,
        seed: u64,
        (dtype, new_tokens): (DType, usize),
    ) -> Result<Self, RunError> {
        if prompt.is_empty() {
            return Err(RunError::NoPrompt { row: 0 });
        }
        let shape = SlotsShape { slots: 1, tokens: prompt.len().saturating_add(new_tokens), prompt: prompt.len(), dtype };
        let mut slots = Slots::new(model, &shape)?;
        let row = Row::new(model, &mut slots, 0, prompt, Draws::new(seed, 0))?;
        Ok(Self { slots, row, sampling: sampling.into(), order: vec![0; model.dims.vocab_size] })
    }

    /// The prompt and its continuation.
    pub fn tokens(&self) -> &[i32] {
        self.row.tokens()
    }

    /// The logits (V) for the next token; after sampling, what sampling left of them.
    pub fn logits(&self) -> &[f32] {
        self.slots.logits(0)
    }

    /// Draws the next token.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn next<D: Device>(&mut self, model: &mut Bound<'_, D>) -> Result<i32, RunError> {
        if !self.row.new_tokens().is_empty() && !self.row.append(model, &mut self.slots, 0)? {
            self.slots.step(model)?;
        }
        Ok(self.row.draw(self.slots.logits_mut(0), &mut self.order, &self.sampling))
    }
}
