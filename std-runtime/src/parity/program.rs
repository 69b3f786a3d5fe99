//! One run of a model on a recorded batch: logits, hidden states, the loss and its gradient.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::params::ParamInfo;

use super::error::ParityError;
use super::recording::Recording;
use crate::lm::register;
use crate::model::ModelConfig;
use crate::model_folder::map::Layout;
use crate::model_folder::{self, ExtraTensors, load_weights_with};
use crate::session::{BuildError, CpuDevice, Engine, On, OwnedProgram, Session, SetId};

/// A model in memory that is run on recorded batches.
pub(super) struct Model {
    model: Arc<dyn LanguageModel>,
    session: Session,
    /// The set with its weights.
    set: SetId,
    layout: Layout,
    /// Tensors that were left out.
    ignored: Vec<String>,
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

/// The results of a model on a batch.
pub(super) struct Computed {
    /// Columns of hidden states, C.
    pub(super) columns: usize,
    /// Token ids, V.
    pub(super) vocab_size: usize,
    /// (B, T, V)
    pub(super) logits: Vec<f32>,
    /// Embeddings, outputs of blocks, the last after the final norm: (B, T, C) each.
    pub(super) hidden: Vec<Vec<f32>>,
    /// Mean over targets, in nats.
    pub(super) loss: Option<f64>,
}

impl Model {
    /// Opens a model folder of any family, in f32.
    ///
    /// # Errors
    /// The folder; a model that cannot be built.
    pub(super) fn open(
        engine: Arc<Engine>,
        folder: &Path,
        config: &ModelConfig,
        extra: ExtraTensors,
    ) -> Result<Self, ParityError> {
        let architecture = config.architecture()?;
        let (registry, model) = register(&*architecture, 0, |_, _| ())?;
        let map = architecture.name_map();
        let layout = model_folder::layout(&map, &registry.view())?;
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let (weights, _) = session.set_mut(set);
        let (values, frozen) = (weights.weights.get_mut(), weights.frozen.get_mut());
        let ignored = load_weights_with(folder, &registry.view(), &map, extra, values, frozen)?;
        Ok(Self { model, session, set, layout, ignored })
    }

    /// The tensors of the folder that were left out.
    pub(super) fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// How the parameters are called on disk.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A parameter's shape.
    pub(super) fn shape(&self, parameter: usize) -> Vec<usize> {
        let info = self.session.set(self.set).params().infos().get(parameter).copied().unwrap_or_default();
        info.shape.dims().iter().map(|&dim| dim as usize).collect()
    }

    /// The gradient of the last loss by a parameter, in its shape.
    pub(super) fn gradient(&self, parameter: usize) -> &[f32] {
        let set = self.session.set(self.set);
        let range = set.params().infos().get(parameter).map(ParamInfo::range);
        range.and_then(|range| set.grads.first()?.get().get(range)).unwrap_or(&[])
    }

    /// Runs the model on a batch, forward and, if it has targets, backward.
    ///
    /// # Errors
    /// A program that cannot be built; tokens or positions beyond the model's.
    pub(super) fn run(&mut self, recording: &Recording) -> Result<Computed, ParityError> {
        let (program, io) = self.program(recording)?;
        let count = recording.targets.iter().flatten().filter(|&&target| target >= 0).count();
        self.write(&program, &io, recording, count)?;
        let on = On::set(self.set);
        self.session.clear_untouched(&program, on);
        self.session.run_all(&program, on, Gradients::Overwrite);
        let read = |t: Tensor| self.session.read(&program, t).to_vec();
        let sum = |losses: Tensor| self.session.read(&program, losses).iter().map(|&x| f64::from(x)).sum::<f64>();
        let dims = self.model.dims();
        Ok(Computed {
            columns: dims.n_embd,
            vocab_size: dims.vocab_size,
            logits: read(io.logits),
            hidden: io.hidden.iter().map(|&t| read(t)).collect(),
            loss: io.loss.map(|[_, _, losses]| sum(losses) / count.max(1) as f64),
        })
    }

    fn program(&mut self, recording: &Recording) -> Result<(OwnedProgram, Io), BuildError> {
        let (batch, len) = (recording.batch, recording.len);
        let model = self.model.as_ref();
        self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
            let mut inputs = LmInputs::new(g, model, batch, len);
            inputs.segments = recording.is_padded().then(|| g.ints(&[batch, len], -1, 0)); // (B, T)
            let last = model.hidden(g, &inputs, None); // (B, T, C)
            let logits = g.output(lm::logits(g, model, last)); // (B, T, V)
            let blocks = std::iter::successors(g.next_checkpoint(None), |&t| g.next_checkpoint(Some(t)));
            // The final norm's input is marked as well; the last hidden state is its output.
            let blocks: Vec<Tensor> = blocks.take(model.dims().n_layer).collect();
            let hidden = blocks.into_iter().chain([last]).map(|t| g.output(t)).collect(); // (B, T, C)
            let loss = recording.targets.as_ref().map(|_| {
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
    fn write(&mut self, program: &OwnedProgram, io: &Io, recording: &Recording, count: usize) -> Result<(), ParityError> {
        let session = &mut self.session;
        let of = |name: &'static str| {
            move |error: WriteError| ParityError::Found {
                path: recording.path().to_path_buf(),
                name: name.to_owned(),
                expected: "values that the model has".to_owned(),
                found: error.to_string(),
            }
        };
        session.write_ints(program, io.inputs.tokens, &recording.tokens).map_err(of("in.input_ids"))?;
        session.write_ints(program, io.inputs.positions, &recording.positions).map_err(of("in.position_ids"))?;
        if let Some(segments) = io.inputs.segments {
            let values: Vec<i32> = recording.live.iter().map(|&live| if live { 0 } else { -1 }).collect();
            session.write_ints(program, segments, &values).map_err(of("in.attention_mask"))?;
        }
        if let (Some([targets, upstream, _]), Some(values)) = (io.loss, &recording.targets) {
            session.write_ints(program, targets, values).map_err(of("in.labels"))?;
            session.write(program, upstream, &[1.0 / count.max(1) as f32]).map_err(of("in.labels"))?;
        }
        Ok(())
    }
}
