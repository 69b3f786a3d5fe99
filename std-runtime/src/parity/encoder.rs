//! A BERT on a recorded batch: logits of tokens, hidden states, the loss of masked tokens and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::model::bert::{Bert, BertConfig, BertInputs, MaskedLmHead};
use samara_core::nn::Dropout;

use super::computed::{Computed, Output};
use super::error::ParityError;
use super::loaded::Loaded;
use super::recording::{Integers, Recording};
use crate::encoder::bert::BertModel;
use crate::model_folder::{ExtraTensors, maps};
use crate::session::{BuildError, Engine, On, OwnedParams, OwnedProgram};

/// Inputs that an encoder takes, with the names of `transformers`.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "labels"];

/// Opens a recording of an encoder.
///
/// # Errors
/// Files that cannot be read, other inputs.
pub(super) fn open(io: &Path) -> Result<Recording, ParityError> {
    Recording::open(io, "an encoder of text", &INPUTS)
}

/// Opens a model folder and runs it on a recorded batch, forward and, if it has labels, backward.
///
/// # Errors
/// The folder; a model or program that cannot be built; inputs of other shapes; tokens beyond the model's.
pub(super) fn run(
    engine: Arc<Engine>,
    folder: &Path,
    model: &BertModel,
    extra: ExtraTensors,
    recording: &Recording,
) -> Result<(Loaded, Computed), ParityError> {
    let config = model.to_core()?;
    let (registry, model) = OwnedParams::of(|s| {
        let bert = Bert::register(&config, &mut s.at("bert"));
        (bert, MaskedLmHead::register(&config, bert.words(), &mut s.at("cls.predictions")))
    })?;
    let mut loaded = Loaded::open(engine, folder, &registry, &[maps::bert::masked_lm(&config)], extra)?;
    let computed = Batch::of(recording)?.run(&mut loaded, &config, model, recording)?;
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
    /// First or second text (B, T).
    types: Vec<i32>,
    /// Segments (B, T), −1 for padding; `None`: no padding.
    segments: Option<Vec<i32>>,
    /// The restored token of every position (B, T), negative for none.
    targets: Option<Vec<i32>>,
}

/// Where the program of a batch has its values.
struct Io {
    inputs: BertInputs,
    /// Targets (B, T), upstream gradient of their losses, and losses (B, T).
    loss: Option<[Tensor; 3]>,
    /// The inputs of every layer and the last hidden states, each (B, T, C).
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
        let types = integers("in.token_type_ids")?.unwrap_or_else(|| vec![0; tokens.len()]);
        let mask = integers("in.attention_mask")?.filter(|mask| mask.contains(&0));
        let segments = mask.map(|mask| mask.iter().map(|&live| if live == 0 { -1 } else { 0 }).collect());
        Ok(Self { batch, len, tokens, types, segments, targets: integers("in.labels")? })
    }

    fn run(
        &self,
        loaded: &mut Loaded,
        config: &BertConfig,
        model: (Bert, MaskedLmHead),
        recording: &Recording,
    ) -> Result<Computed, ParityError> {
        let (program, io) = self.program(loaded, config, model)?;
        let count = self.targets.iter().flatten().filter(|&&target| target >= 0).count().max(1);
        self.write(loaded, &program, &io, count)
            .map_err(|(name, error)| recording.found(name, "values that the model has", error))?;
        let (on, session) = (On::set(loaded.set), &mut loaded.session);
        session.clear_untouched(&program, on);
        session.run_all(&program, on, Gradients::Overwrite);
        let live = self.segments.as_ref().map(|segments| segments.iter().map(|&segment| segment >= 0).collect());
        let rows = |columns: usize, t: Tensor| Output {
            shape: vec![self.batch, self.len, columns],
            values: session.read(&program, t).to_vec(),
            live: Option::clone(&live),
        };
        let hidden = io.hidden.iter().enumerate();
        let hidden = hidden.map(|(n, &t)| (format!("hidden_states.{n}"), rows(config.hidden_size, t)));
        let sum = |losses: Tensor| session.read(&program, losses).iter().map(|&x| f64::from(x)).sum::<f64>();
        Ok(Computed {
            outputs: hidden.chain([("logits".to_owned(), rows(config.vocab_size, io.logits))]).collect(),
            loss: io.loss.map(|[_, _, losses]| sum(losses) / count as f64),
            is_loss_comparable: true,
        })
    }

    fn program(
        &self,
        loaded: &mut Loaded,
        config: &BertConfig,
        (bert, head): (Bert, MaskedLmHead),
    ) -> Result<(OwnedProgram, Io), BuildError> {
        let (batch, len) = (self.batch, self.len);
        loaded.session.prepare(On::set(loaded.set), |g: &Graph<'_>| {
            let inputs = BertInputs::new(g, config, batch, len, self.segments.is_some());
            let last = bert.forward(g, &inputs, Dropout::NONE); // (B, T, C)
            let logits = g.output(head.logits(g, last)); // (B, T, V)
            let hidden = std::iter::successors(g.next_checkpoint(None), |&t| g.next_checkpoint(Some(t)));
            let hidden = hidden.collect::<Vec<_>>().into_iter().map(|t| g.output(t)).collect(); // (B, T, C)
            let loss = self.targets.as_ref().map(|_| {
                let targets = g.ints(&[batch, len], i32::MIN, config.vocab_size as i32 - 1); // (B, T)
                let upstream = g.input(&[1]);
                let losses = g.output(head.losses(g, last, targets)); // (B, T)
                g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
                [targets, upstream, losses]
            });
            Io { inputs, loss, hidden, logits }
        })
    }

    /// Writes the inputs of a batch with `count` targets; the error has the name of the input.
    fn write(
        &self,
        loaded: &mut Loaded,
        program: &OwnedProgram,
        io: &Io,
        count: usize,
    ) -> Result<(), (&'static str, WriteError)> {
        let session = &mut loaded.session;
        let of = |name: &'static str| move |error: WriteError| (name, error);
        let positions: Vec<i32> = (0..self.batch).flat_map(|_| 0..self.len as i32).collect();
        session.write_ints(program, io.inputs.tokens, &self.tokens).map_err(of("in.input_ids"))?;
        session.write_ints(program, io.inputs.positions, &positions).map_err(of("in.input_ids"))?;
        session.write_ints(program, io.inputs.types, &self.types).map_err(of("in.token_type_ids"))?;
        if let (Some(to), Some(segments)) = (io.inputs.segments, &self.segments) {
            session.write_ints(program, to, segments).map_err(of("in.attention_mask"))?;
        }
        if let (Some([targets, upstream, _]), Some(values)) = (io.loss, &self.targets) {
            session.write_ints(program, targets, values).map_err(of("in.labels"))?;
            session.write(program, upstream, &[1.0 / count as f32]).map_err(of("in.labels"))?;
        }
        Ok(())
    }
}
