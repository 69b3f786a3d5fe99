//! Log-probabilities of given tokens.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::lm::{self, LmInputs};

use super::{Bound, RunError, positions, write_ints};
use crate::memory::ensure;
use crate::session::{BuildError, Device, DeviceError, OwnedProgram};

/// Tokens per run: shorter windows of a long text are batched. A window's bits are the same in any batch.
const RUN_TOKENS: usize = 2048;

/// A program for windows (B, T) of a text.
struct Window {
    program: OwnedProgram,
    inputs: LmInputs,
    targets: Tensor,
    losses: Tensor,
    logits: Option<Tensor>,
    batch: usize,
    len: usize,
}

impl Window {
    fn new<D: Device>(model: &mut Bound<'_, D>, batch: usize, len: usize, with_logits: bool) -> Result<Self, BuildError> {
        let layers = Arc::clone(&model.layers);
        let (program, (inputs, targets, losses, logits)) = model.prepare(model.on(), |g: &Graph<'_>| {
            let inputs = LmInputs::new(g, &*layers, batch, len);
            let targets = lm::targets(g, &*layers, batch, len);
            let h = layers.hidden(g, &inputs, None); // (B, T, C)
            let logits = with_logits.then(|| g.output(lm::logits(g, &*layers, h))); // (B, T, V)
            (inputs, targets, g.output(lm::losses_of(g, &*layers, h, targets)), logits)
        })?;
        Ok(Self { program, inputs, targets, losses, logits, batch, len })
    }

    /// Losses (B, T) in nats of predicting `text[start + i + 1]` after `text[start..=start + i]` for the windows that begin at `starts`, at most B;
    /// the last token of the text has no target.
    fn run<D: Device>(
        &self,
        model: &mut Bound<'_, D>,
        text: &[i32],
        starts: &[usize],
        losses: &mut [f32],
    ) -> Result<(), RunError> {
        let (on, len) = (model.on(), self.len);
        let (mut tokens, mut targets) = (vec![0; self.batch * len], vec![-100; self.batch * len]); // (B, T)
        for ((tokens, targets), &start) in tokens.chunks_mut(len).zip(targets.chunks_mut(len)).zip(starts) {
            tokens.copy_from_slice(&text[start..start + len]);
            targets.iter_mut().zip(&text[start + 1..]).for_each(|(to, &target)| *to = target);
        }
        write_ints(model.session, &self.program, "token", self.inputs.tokens, &tokens)?;
        write_ints(model.session, &self.program, "target", self.targets, &targets)?;
        write_ints(model.session, &self.program, "position", self.inputs.positions, &positions(self.batch, len))?;
        model.session.run_all(&self.program, on, Gradients::Overwrite);
        Ok(model.session.read_into(&self.program, self.losses, losses)?)
    }
}

/// The starts of windows of `len` tokens with an overlap of half a window over a text of `tokens`; the last one ends with the text.
fn window_starts(tokens: usize, len: usize) -> Vec<usize> {
    let mut starts = vec![0];
    let mut end = len;
    while end < tokens {
        end = (end + len.div_ceil(2)).min(tokens);
        starts.push(end - len);
    }
    starts
}

/// ln p(token i | all before it) for i from 1 on, in nats: one value fewer than tokens.
///
/// A text longer than the model's context is read in windows that overlap by half, so that every token but the first ones has at least half the
/// context.
///
/// # Errors
/// Fewer than two tokens, a token that the model does not have, or a device that failed.
pub fn log_probabilities<D: Device>(model: &mut Bound<'_, D>, tokens: &[i32]) -> Result<Vec<f32>, RunError> {
    if tokens.len() < 2 {
        return Err(RunError::TooShort { found: tokens.len(), expected: 2 });
    }
    let len = tokens.len().min(model.dims.n_positions);
    let starts = window_starts(tokens.len(), len);
    let batch = (RUN_TOKENS / len).clamp(1, starts.len());
    let window = Window::new(model, batch, len, false)?;
    let mut losses = vec![0.0; batch * len]; // (B, T)
    let mut scores = Vec::with_capacity(tokens.len() - 1);
    for starts in starts.chunks(batch) {
        window.run(model, tokens, starts, &mut losses)?;
        for (&start, losses) in starts.iter().zip(losses.chunks(len)) {
            let done = scores.len().saturating_sub(start);
            // The last token of the text has no target.
            let end = len.min(tokens.len() - 1 - start);
            scores.extend(losses[done..end].iter().map(|&x| -x));
        }
    }
    Ok(scores)
}

/// The logits (T, V) of every position. The text must fit the model's context.
///
/// # Errors
/// No token, more tokens than the model has positions, a token that it does not have, or a device that failed.
pub fn logits<D: Device>(model: &mut Bound<'_, D>, tokens: &[i32]) -> Result<Vec<f32>, RunError> {
    if tokens.is_empty() {
        return Err(RunError::TooShort { found: 0, expected: 1 });
    }
    if tokens.len() > model.dims.n_positions {
        return Err(RunError::TooLong { found: tokens.len(), positions: model.dims.n_positions });
    }
    let window = Window::new(model, 1, tokens.len(), true)?;
    window.run(model, tokens, &[0], &mut vec![0.0; tokens.len()])?;
    let len = tokens.len() * model.dims.vocab_size;
    ensure((size_of::<f32>() * len) as u64).map_err(DeviceError::from)?;
    let mut logits = vec![0.0; len];
    if let Some(t) = window.logits {
        model.session.read_into(&window.program, t, &mut logits)?;
    }
    Ok(logits)
}

/// The mean of log-probabilities, negated: nats per token.
pub fn mean_loss(logprobs: &[f32]) -> f64 {
    -logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / logprobs.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_by_half_and_end_with_the_text() {
        assert_eq!(window_starts(8, 8), [0]);
        assert_eq!(window_starts(20, 8), [0, 4, 8, 12]);
        assert_eq!(window_starts(13, 8), [0, 4, 5]);
        assert_eq!(window_starts(5, 1), [0, 1, 2, 3, 4]);
    }
}
