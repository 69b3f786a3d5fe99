//! Log-probabilities of given tokens.

use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::lm::{self, LmInputs};

use super::{Bound, RunError, positions, write_ints};
use crate::session::{BuildError, Device, OwnedProgram};

/// A program for one sequence of a fixed length.
struct Window {
    program: OwnedProgram,
    inputs: LmInputs,
    targets: Tensor,
    losses: Tensor,
    logits: Option<Tensor>,
}

impl Window {
    fn new<D: Device>(model: &mut Bound<'_, D>, len: usize, with_logits: bool) -> Result<Self, BuildError> {
        let layers = Arc::clone(&model.layers);
        let (program, (inputs, targets, losses, logits)) = model.prepare(model.on(), |g: &Graph<'_>| {
            let inputs = LmInputs::new(g, &*layers, 1, len);
            let targets = lm::targets(g, &*layers, 1, len);
            let h = layers.hidden(g, &inputs, None); // (1, T, C)
            let logits = with_logits.then(|| g.output(lm::logits(g, &*layers, h))); // (1, T, V)
            (inputs, targets, g.output(lm::losses_of(g, &*layers, h, targets)), logits)
        })?;
        Ok(Self { program, inputs, targets, losses, logits })
    }

    /// Row losses (T) of predicting `tokens[i + 1]` after `tokens[..=i]`; the last row has no target.
    fn run<D: Device>(&self, model: &mut Bound<'_, D>, tokens: &[i32], losses: &mut [f32]) -> Result<(), RunError> {
        let on = model.on();
        let mut targets = tokens.to_vec();
        targets.rotate_left(1);
        if let Some(last) = targets.last_mut() {
            *last = -100;
        }
        write_ints(model.session, &self.program, "token", self.inputs.tokens, tokens)?;
        write_ints(model.session, &self.program, "target", self.targets, &targets)?;
        write_ints(model.session, &self.program, "position", self.inputs.positions, &positions(1, tokens.len()))?;
        model.session.run_all(&self.program, on, Gradients::Overwrite);
        Ok(model.session.read_into(&self.program, self.losses, losses)?)
    }
}

/// ln p(token i | all before it) for i from 1 on: one value fewer than tokens.
///
/// A text longer than the model's positions is read in windows that overlap by half, so that every token but the first ones has at least half the
/// positions as its context.
pub fn log_probabilities<D: Device>(model: &mut Bound<'_, D>, tokens: &[i32]) -> Result<Vec<f32>, RunError> {
    if tokens.len() < 2 {
        return Err(RunError::TooShort { found: tokens.len(), expected: 2 });
    }
    let len = tokens.len().min(model.dims.n_positions);
    let window = Window::new(model, len, false)?;
    let mut losses = vec![0.0; len];
    let mut scores = Vec::with_capacity(tokens.len() - 1);
    while scores.len() + 1 < tokens.len() {
        // The window ends half of itself further on, or at the end of the text.
        let end = if scores.is_empty() { len } else { (scores.len() + 1 + len.div_ceil(2)).min(tokens.len()) };
        let start = end - len;
        let done = scores.len() - start;
        window.run(model, &tokens[start..end], &mut losses)?;
        scores.extend(losses[done..len - 1].iter().map(|&x| -x));
    }
    Ok(scores)
}

/// The logits (T, V) of every position. The text must fit into the model's positions.
pub fn logits<D: Device>(model: &mut Bound<'_, D>, tokens: &[i32]) -> Result<Vec<f32>, RunError> {
    if tokens.is_empty() {
        return Err(RunError::TooShort { found: 0, expected: 1 });
    }
    if tokens.len() > model.dims.n_positions {
        return Err(RunError::TooLong { found: tokens.len(), positions: model.dims.n_positions });
    }
    let window = Window::new(model, tokens.len(), true)?;
    window.run(model, tokens, &mut vec![0.0; tokens.len()])?;
    let mut logits = vec![0.0; tokens.len() * model.dims.vocab_size];
    if let Some(t) = window.logits {
        model.session.read_into(&window.program, t, &mut logits)?;
    }
    Ok(logits)
}

/// The mean of log-probabilities, negated: nats per token.
pub fn mean_loss(logprobs: &[f32]) -> f64 {
    -logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / logprobs.len().max(1) as f64
}
