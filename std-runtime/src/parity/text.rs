//! A language model on a recorded batch: logits, hidden states, the loss and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::model::lm::{self, LanguageModel, LmInputs};

use super::computed::{Computed, Output};
use super::error::ParityError;
use super::loaded::Loaded;
use super::recording::{Integers, Recording};
use crate::lm::register;
use crate::model::ModelConfig;
use crate::model_folder::ExtraTensors;
use crate::session::{BuildError, Engine, On, OwnedProgram};

/// The label of a position without a target, as in `transformers`.
const IGNORED: i32 = -100;

/// Inputs that a language model takes, with the names of `transformers`.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "position_ids", "labels"];

/// Opens a recording of a language model.
///
/// # Errors
/// Files that cannot be read, other inputs.
pub(super) fn open(io: &Path) -> Result<Recording, ParityError> {
    Recording::open(io, "a language model", &INPUTS)
}

/// Opens a model folder in f32 and runs it on a recorded batch, forward and, if it has targets, backward.
///
/// # Errors
/// The folder; a model or program that cannot be built; inputs of other shapes; tokens or positions beyond the model's.
pub(super) fn run(
    engine: Arc<Engine>,
    folder: &Path,
    config: &ModelConfig,
    extra: ExtraTensors,
    recording: &Recording,
) -> Result<(Loaded, Computed), ParityError> {
    let architecture = config.architecture()?;
    let (registry, model) = register(&*architecture, 0, |_, _| ())?;
    let mut loaded = Loaded::open(engine, folder, &registry, &[architecture.name_map()], extra)?;
    let computed = Batch::of(recording)?.run(&mut loaded, &*model, recording)?;
    Ok((loaded, computed))
}

/// One batch of B sequences of T tokens.
struct Batch {
    /// B.
    batch: usize,
    /// T.
    len: usize,
    /// Token ids (B, T).
    tokens: Vec<i32>,
    /// Positions (B, T).
    positions: Vec<i32>,
    /// Whether a token is live (B, T): the others are padding.
    live: Vec<bool>,
    /// The target of every position (B, T): the label to its right, negative for none. `None` without labels.
    targets: Option<Vec<i32>>,
}

/// Where the program of a batch has its values.
struct Io {
    inputs: LmInputs,
    /// Targets (B, T), upstream gradient of their losses, and losses (B, T).
    loss: Option<[Tensor; 3]>,
    /// The inputs of every block and the last hidden states, each (B, T, C).
    hidden: Vec<Tensor>,
    /// (B, T, V)
    logits: Tensor,
}

impl Batch {
    fn of(recording: &Recording) -> Result<Self, ParityError> {
        let absent = || recording.found("in.input_ids", "token ids (batch, tokens)", "none");
        let Integers { shape, values: tokens } = recording.integers("in.input_ids", None)?.ok_or_else(absent)?;
        let &[batch, len] = shape.as_slice() else {
            return Err(recording.found("in.input_ids", "shape (batch, tokens)", format!("shape {shape:?}")));
        };
        let integers = |name: &str| -> Result<Option<Vec<i32>>, ParityError> {
            Ok(recording.integers(name, Some(&shape))?.map(|found| found.values))
        };
        let counted = || (0..batch).flat_map(|_| 0..len as i32).collect();
        let positions = integers("in.position_ids")?.unwrap_or_else(counted);
        let mask = integers("in.attention_mask")?;
        let live = mask.map_or_else(|| vec![true; tokens.len()], |mask| mask.iter().map(|&x| x != 0).collect());
        let targets = integers("in.labels")?.map(|labels| shifted(&labels, len));
        Ok(Self { batch, len, tokens, positions, live, targets })
    }

    /// Whether there is padding.
    fn is_padded(&self) -> bool {
        self.live.iter().any(|live| !live)
    }

    /// Whether a padding position has a target. Its loss depends on how an implementation treats fully masked positions.
    fn padding_has_targets(&self) -> bool {
        let targets = self.targets.iter().flatten();
        targets.zip(&self.live).any(|(&target, &live)| target >= 0 && !live)
    }

    fn run(&self, loaded: &mut Loaded, model: &dyn LanguageModel, recording: &Recording) -> Result<Computed, ParityError> {
        let (program, io) = self.program(loaded, model)?;
        let count = self.targets.iter().flatten().filter(|&&target| target >= 0).count();
        self.write(loaded, &program, &io, recording, count)?;
        let on = On::set(loaded.set);
        let session = &mut loaded.session;
        session.clear_untouched(&program, on);
        session.run_all(&program, on, Gradients::Overwrite);
        let rows = |columns: usize, t: Tensor| Output {
            shape: vec![self.batch, self.len, columns],
            values: session.read(&program, t).to_vec(),
            live: Some(self.live.clone()),
        };
        let sum = |losses: Tensor| session.read(&program, losses).iter().map(|&x| f64::from(x)).sum::<f64>();
        let dims = model.dims();
        let hidden = io.hidden.iter().enumerate();
        let hidden = hidden.map(|(n, &t)| (format!("hidden_states.{n}"), rows(dims.n_embd, t)));
        Ok(Computed {
            outputs: hidden.chain([("logits".to_owned(), rows(dims.vocab_size, io.logits))]).collect(),
            loss: io.loss.map(|[_, _, losses]| sum(losses) / count.max(1) as f64),
            is_loss_comparable: !self.padding_has_targets(),
        })
    }

    fn program(&self, loaded: &mut Loaded, model: &dyn LanguageModel) -> Result<(OwnedProgram, Io), BuildError> {
        let (batch, len) = (self.batch, self.len);
        loaded.session.prepare(On::set(loaded.set), |g: &Graph<'_>| {
            let mut inputs = LmInputs::new(g, model, batch, len);
            inputs.segments = self.is_padded().then(|| g.ints(&[batch, len], -1, 0)); // (B, T)
            let last = model.hidden(g, &inputs, None); // (B, T, C)
            let logits = g.output(lm::logits(g, model, last)); // (B, T, V)
            let blocks = std::iter::successors(g.next_checkpoint(None), |&t| g.next_checkpoint(Some(t)));
            // The final norm's input is marked as well; the last hidden state is its output.
            let blocks: Vec<Tensor> = blocks.take(model.dims().n_layer).collect();
            let hidden = blocks.into_iter().chain([last]).map(|t| g.output(t)).collect(); // (B, T, C)
            let loss = self.targets.as_ref().map(|_| {
                let targets = lm::targets(g, model, batch, len); // (B, T)
                let upstream = g.input(&[1]);
                let losses = g.output(lm::losses_of(g, model, last, targets)); // (B, T)
                g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
                [targets, upstream, losses]
            });
            Io { inputs, loss, hidden, logits }
        })
    }

    /// Writes the inputs of a batch with `count` targets.
    fn write(
        &self,
        loaded: &mut Loaded,
        program: &OwnedProgram,
        io: &Io,
        recording: &Recording,
        count: usize,
    ) -> Result<(), ParityError> {
        let session = &mut loaded.session;
        let of = |name: &'static str| move |error: WriteError| recording.found(name, "values that the model has", error);
        session.write_ints(program, io.inputs.tokens, &self.tokens).map_err(of("in.input_ids"))?;
        session.write_ints(program, io.inputs.positions, &self.positions).map_err(of("in.position_ids"))?;
        if let Some(segments) = io.inputs.segments {
            let values: Vec<i32> = self.live.iter().map(|&live| if live { 0 } else { -1 }).collect();
            session.write_ints(program, segments, &values).map_err(of("in.attention_mask"))?;
        }
        if let (Some([targets, upstream, _]), Some(values)) = (io.loss, &self.targets) {
            session.write_ints(program, targets, values).map_err(of("in.labels"))?;
            session.write(program, upstream, &[1.0 / count.max(1) as f32]).map_err(of("in.labels"))?;
        }
        Ok(())
    }
}

/// The target of every position: the label to its right.
fn shifted(labels: &[i32], len: usize) -> Vec<i32> {
    let row = |row: &[i32]| row.iter().skip(1).copied().chain([IGNORED]).collect::<Vec<_>>();
    labels.chunks(len.max(1)).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_predicts_the_label_to_its_right() {
        assert_eq!(shifted(&[1, 2, 3, -100, 5, 6], 3), [2, 3, -100, 5, 6, -100]);
        assert_eq!(shifted(&[], 0), [0; 0]);
    }
}
