//! A row during generation: its tokens, and its random stream.

use samara_core::math::rng::{Purpose, Rng};

use super::slots::Slots;
use crate::lm::sampling::SamplingParams;
use crate::lm::{Bound, RunError};
use crate::session::Device;

/// Random bits by seed, row and draw: the draws of a row do not depend on other rows. Philox takes row and draw as two words of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
    row: u32,
    drawn: u32,
}

impl Draws {
    /// The draws of a row.
    pub fn new(seed: u64, row: u32) -> Self {
        Self { seed, row, drawn: 0 }
    }

    /// The next 64 bits.
    pub fn next_bits(&mut self) -> u64 {
        let stream = u64::from(self.row) << 32 | u64::from(self.drawn);
        self.drawn = self.drawn.wrapping_add(1);
        Rng::new(self.seed, Purpose::Sampling, stream).next_u64()
    }
}

/// A prompt and its continuation.
#[derive(Clone, Debug)]
pub struct Row {
    tokens: Vec<i32>,
    prompt: usize,
    draws: Draws,
}

impl Row {
    /// Puts a prompt into a slot. A prompt longer than the slot's capacity loses its beginning.
    ///
    /// # Errors
    /// As [`Slots::fill`].
    pub fn new<D: Device>(
        model: &mut Bound<'_, D>,
        slots: &mut Slots,
        slot: usize,
        prompt: &[i32],
        draws: Draws,
    ) -> Result<Self, RunError> {
        slots.fill(model, slot, prompt)?;
        Ok(Self { tokens: prompt.to_vec(), prompt: prompt.len(), draws })
    }

    /// The prompt and its continuation.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// The continuation of the prompt.
    pub fn new_tokens(&self) -> &[i32] {
        &self.tokens[self.prompt..]
    }

    /// The prompt with its continuation, and the number of tokens of the prompt.
    pub fn into_parts(self) -> (Vec<i32>, usize) {
        (self.tokens, self.prompt)
    }

    /// Samples the next token from logits (V), which are overwritten; `order` (V) is scratch.
    pub fn draw(&mut self, logits: &mut [f32], order: &mut [u32], sampling: &SamplingParams) -> i32 {
        let token = sampling.draw(logits, order, &self.tokens, self.draws.next_bits());
        self.tokens.push(token);
        token
    }

    /// Gives the last token to the slot; the next step appends it. When the slot is full, the last half of its tokens becomes the new prompt; its
    /// logits are then available without a step, and the result is `true`.
    ///
    /// # Errors
    /// As [`Slots::fill`].
    pub fn append<D: Device>(&self, model: &mut Bound<'_, D>, slots: &mut Slots, slot: usize) -> Result<bool, RunError> {
        let fits = self.tokens.last().is_none_or(|&token| slots.feed(slot, token));
        if !fits {
            let keep = slots.capacity().div_ceil(2).min(self.tokens.len());
            slots.fill(model, slot, &self.tokens[self.tokens.len() - keep..])?;
        }
        Ok(!fits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_draw_by_themselves() {
        let draw = |seed, row| {
            let mut draws = Draws::new(seed, row);
            (0..50).map(|_| draws.next_bits()).collect::<Vec<u64>>()
        };
        let first: Vec<u64> = (0..50).map(|i| Rng::new(7, Purpose::Sampling, i).next_u64()).collect();
        assert_eq!(draw(7, 0), first);
        let all: BTreeSet<u64> =
            [(7, 0), (7, 1), (7, 2), (8, 0), (8, 1)].into_iter().flat_map(|(seed, row)| draw(seed, row)).collect();
        assert_eq!(all.len(), 250);
    }
}
