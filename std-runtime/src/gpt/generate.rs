//! Text from a GPT: a row that goes on for as long as it is asked to.

use samara_core::decode::Sampling;
use samara_core::graph::DType;

use super::{Bound, RunError};
use crate::decoding::Lm;
use crate::decoding::slots::{Slots, SlotsShape};
use crate::decoding::stream::{Draws, Row};
use crate::session::Device;

/// Tokens after a prompt, one at a time: row 0 of its seed.
///
/// When the model's positions are used up, the last half of them becomes the new beginning, as if it were the prompt.
pub struct Generator {
    slots: Slots,
    row: Row,
    sampling: Sampling,
    order: Vec<u32>,
}

impl Generator {
    /// Starts after a prompt of at least one token. A prompt longer than the model's positions loses its beginning.
    pub fn new<D: Device>(gpt: &mut Bound<'_, D>, prompt: &[i32], sampling: Sampling, seed: u64) -> Result<Self, RunError> {
        Self::with_cache(gpt, prompt, sampling, seed, (DType::Real, usize::MAX))
    }

    /// The same with keys and values kept in another element type, and room for so many new tokens: with more of them the text begins anew, as when
    /// the model's positions are used up.
    pub fn with_cache<D: Device>(
        gpt: &mut Bound<'_, D>,
        prompt: &[i32],
        sampling: Sampling,
        seed: u64,
        (dtype, new_tokens): (DType, usize),
    ) -> Result<Self, RunError> {
        if prompt.is_empty() {
            return Err(RunError::TooShort { found: 0, expected: 1 });
        }
        let lm = &mut gpt.lm();
        let shape = SlotsShape { slots: 1, tokens: prompt.len().saturating_add(new_tokens), prompt: prompt.len(), dtype };
        let mut slots = Slots::new(lm, &shape)?;
        let row = Row::new(lm, &mut slots, 0, prompt, Draws::new(seed, 0))?;
        Ok(Self { slots, row, sampling, order: vec![0; gpt.config.vocab_size] })
    }

    /// The prompt and what came after it.
    pub fn tokens(&self) -> &[i32] {
        self.row.tokens()
    }

    /// The logits (V) that the next token is drawn from; after drawing, what the draw left of them.
    pub fn logits(&self) -> &[f32] {
        self.slots.logits(0)
    }

    /// Draws the next token.
    pub fn next<D: Device>(&mut self, gpt: &mut Bound<'_, D>) -> Result<i32, RunError> {
        if !self.row.new_tokens().is_empty() {
            let lm = &mut gpt.lm();
            if !self.row.append(lm, &mut self.slots, 0)? {
                self.slots.step(lm)?;
            }
        }
        Ok(self.row.draw(self.slots.logits_mut(0), &mut self.order, &self.sampling))
    }
}

impl<D: Device> Bound<'_, D> {
    /// The model as any language model, for [`crate::decoding`].
    pub fn lm(&mut self) -> Lm<'_, D> {
        Lm { model: &self.model, session: &mut *self.session, set: self.set, caches: self.caches }
    }
}
