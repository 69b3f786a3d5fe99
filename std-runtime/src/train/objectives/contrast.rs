//! Contrastive training of an image and a text encoder: the pairs of the whole step are compared with each other, whatever its chunks are. A step of one chunk is
//! one program. Otherwise gradients of the vectors are computed once for all chunks, then every chunk runs again with its own (Gao et al. 2021), so that memory is
//! that of a chunk.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Tensor};
use samara_core::model::clip::{Clip, ClipKind, ClipTexts};

use crate::data::dataset::HostBatch;
use crate::image_text::config::ContrastConfig;
use crate::image_text::data::rows::{ENDS, SAME, TOKENS};
use crate::image_text::pairing::are_same;
use crate::lm::RunError;
use crate::session::{BuildError, Device, On, OwnedParams, OwnedProgram, Session, SetId, Ticket};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetSpec, Source, StepBatch};
use crate::train::objectives::contrast_graphs::{Graphs, Loss, Vectors};
use crate::train::objectives::held_out::{HeldOut, RECALLS};
use crate::train::objectives::supervised::TaskFolder;
use crate::train::scalars::{Combine, ScalarId, Scalars};
use crate::vision::data::rows::PIXELS;

/// The scalars of a step; those of an evaluation are [`RECALLS`].
const SCALARS: [(&str, Combine); 2] = [("loss", Combine::Mean), ("logit_scale", Combine::Last)];

/// What a contrastive training knows of its model.
pub struct Model {
    /// The layers.
    pub clip: Clip,
    /// Their parameters.
    pub registry: Arc<OwnedParams>,
    /// Tokens of a row of texts for training, and for validation.
    pub text_len: [usize; 2],
    /// Reads and writes its folder.
    pub folder: Box<dyn TaskFolder + Send>,
}

/// The training of a CLIP or SigLIP.
pub struct Contrast {
    model: Model,
    config: ContrastConfig,
    train: TrainConfig,
    source: Option<Source>,
    built: Option<Built>,
    /// Loss and factor of the last step.
    step: Option<[f64; 2]>,
    evaluated: HeldOut,
}

struct Built {
    set: SetId,
    average: Option<SetId>,
    training: Training,
    evaluation: Option<Pass>,
    /// Batches of an evaluation.
    eval_batches: u64,
    ids: Vec<ScalarId>,
}

/// The programs of a step.
enum Training {
    /// Of one chunk: vectors, loss and gradients.
    Whole(Pass, Loss),
    /// Of several: vectors of a chunk, with upstream gradients; the loss of all vectors.
    Chunks {
        chunk: Pass,
        /// Upstream gradients of the vectors (rows, E).
        upstream: [Tensor; 2],
        loss: LossPass,
    },
}

/// A program over one chunk of pairs.
struct Pass {
    program: OwnedProgram,
    pixels: Tensor,
    texts: ClipTexts,
    /// Of length 1 (rows, E): images, texts.
    vectors: [Tensor; 2],
    rows: usize,
    len: usize,
}

/// The program of the loss over the vectors of a whole step.
struct LossPass {
    program: OwnedProgram,
    /// Inputs (B, E): images, texts.
    vectors: [Tensor; 2],
    loss: Loss,
    /// Gradients by the vectors (B, E).
    gradients: [Tensor; 2],
}

impl Contrast {
    /// Trains a model on the pairs of a source.
    pub fn new(model: Model, config: &ContrastConfig, source: Source, train: &TrainConfig) -> Self {
        Self {
            model,
            config: config.clone(),
            train: train.clone(),
            source: Some(source),
            built: None,
            step: None,
            evaluated: HeldOut::default(),
        }
    }

    /// How many parameters there are.
    pub fn parameters(&self) -> usize {
        self.model.registry.view().trainable_count()
    }

    fn built(&self) -> &Built {
        self.built.as_ref().expect("the trainer builds an objective before it uses it")
    }

    fn set(&self, averaged: bool) -> SetId {
        let Built { set, average, .. } = self.built();
        average.filter(|_| averaged).unwrap_or(*set)
    }

    fn graphs(&self) -> Graphs<'_> {
        Graphs { clip: &self.model.clip, soft: self.config.multi_positive, recompute: self.train.recompute.without_budget() }
    }

    /// The programs of a step of `chunks` chunks.
    fn training<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        [rows, len]: [usize; 2],
        chunks: usize,
    ) -> Result<Training, BuildError> {
        let graphs = self.graphs();
        let pass = |program, Vectors { pixels, texts, vectors }| Pass { program, pixels, texts, vectors, rows, len };
        if chunks == 1 {
            let (program, (io, loss)) = session.prepare(On::set(set), |g: &Graph<'_>| graphs.whole(g, rows, len))?;
            return Ok(Training::Whole(pass(program, io), loss));
        }
        let (program, (io, upstream)) = session.prepare(On::set(set), |g: &Graph<'_>| graphs.chunk(g, rows, len))?;
        let chunk = pass(program, io);
        let (program, (vectors, loss, gradients)) =
            session.prepare(On::set(set), |g: &Graph<'_>| graphs.between(g, rows * chunks))?;
        Ok(Training::Chunks { chunk, upstream, loss: LossPass { program, vectors, loss, gradients } })
    }

    /// The gradients of a step in chunks; returns loss and factor.
    fn in_chunks<D: Device>(&self, session: &mut Session<D>, batch: &StepBatch) -> Result<[f64; 2], RunError> {
        let (batches, &Built { set, .. }) = (batch.micro_batches(0), self.built());
        let Training::Chunks { chunk, upstream, loss } = &self.built().training else { return Ok([0.0; 2]) };
        session.clear_untouched(&chunk.program, On::set(set));
        let mut vectors = [Vec::new(), Vec::new()]; // (B, E)
        for pairs in batches {
            batch.stop.check()?;
            let tickets = chunk.forward(session, set, pairs)?;
            session.sync()?;
            vectors.iter_mut().zip(&tickets).for_each(|(all, ticket)| all.extend_from_slice(session.fetched(ticket)));
        }
        for (&to, values) in loss.vectors.iter().zip(&vectors) {
            session.write(&loss.program, to, values).map_err(named("vectors"))?;
        }
        self.write_loss(session, &loss.program, &loss.loss, batches)?;
        session.run_all(&loss.program, On::set(set), Gradients::Add);
        let found = loss.loss.found.map(|t| session.fetch(&loss.program, t));
        let gradients = loss.gradients.map(|t| session.fetch(&loss.program, t));
        session.sync()?;
        let found = found.map(|ticket| value(session.fetched(&ticket)));
        let gradients = gradients.map(|ticket| session.fetched(&ticket).to_vec());
        let of_chunk = chunk.rows * self.model.clip.config().projection_dim;
        for (i, pairs) in batches.iter().enumerate() {
            batch.stop.check()?;
            // The programs share their memory: the activations of the first time are gone.
            chunk.forward(session, set, pairs)?;
            for (&to, values) in upstream.iter().zip(&gradients) {
                let values = &values[i * of_chunk..(i + 1) * of_chunk];
                session.write(&chunk.program, to, values).map_err(named("upstream gradient"))?;
            }
            let kind = if i == 0 { Gradients::Overwrite } else { Gradients::Add };
            session.run(&chunk.program, On::set(set), chunk.program.view().backward(), kind);
        }
        Ok(found)
    }

    /// Writes what a loss reads beside vectors.
    fn write_loss<D: Device>(
        &self,
        session: &mut Session<D>,
        program: &OwnedProgram,
        loss: &Loss,
        batches: &[HostBatch],
    ) -> Result<(), RunError> {
        let is_given = self.config.multi_positive || self.model.clip.config().kind == ClipKind::SigLip;
        let written = match is_given {
            true => session.write(program, loss.targets, &self.targets(batches)),
            false => session.write_ints(program, loss.targets, &(0..loss.pairs as i32).collect::<Vec<_>>()),
        };
        written.map_err(named("targets"))?;
        session.write(program, loss.upstream, &[1.0 / loss.pairs.max(1) as f32]).map_err(named("upstream gradient"))
    }

    /// The targets of SigLIP, and those of pairs that may belong to several.
    fn targets(&self, batches: &[HostBatch]) -> Vec<f32> {
        let same: Vec<&[i32]> = batches.iter().flat_map(|batch| batch.ints(SAME).chunks_exact(2)).collect();
        let belong = |i: usize, j: usize| i == j || self.config.multi_positive && are_same(same[i], same[j]);
        let is_sigmoid = self.model.clip.config().kind == ClipKind::SigLip;
        let row = |i: usize| {
            let count = (0..same.len()).filter(|&j| belong(i, j)).count().max(1) as f32;
            let (other, own) = if is_sigmoid { (-1.0, 1.0) } else { (0.0, 1.0 / count) };
            (0..same.len()).map(|j| if belong(i, j) { own } else { other }).collect::<Vec<f32>>()
        };
        (0..same.len()).flat_map(row).collect()
    }
}

fn named(what: &'static str) -> impl Fn(WriteError) -> RunError {
    move |error| RunError::Input { what, error }
}

fn value(values: &[f32]) -> f64 {
    values.first().copied().map_or(f64::NAN, f64::from)
}

impl Pass {
    /// Writes a chunk.
    fn write<D: Device>(&self, session: &mut Session<D>, batch: &HostBatch) -> Result<(), RunError> {
        let (rows, len) = (self.rows, self.len);
        let positions: Vec<i32> = (0..rows).flat_map(|_| 0..len as i32).collect();
        let ends: Vec<i32> = batch.ints(ENDS).iter().zip(0..).map(|(end, row)| row * len as i32 + end).collect();
        session.write(&self.program, self.pixels, batch.reals(PIXELS)).map_err(named(PIXELS))?;
        session.write_ints(&self.program, self.texts.tokens, batch.ints(TOKENS)).map_err(named(TOKENS))?;
        session.write_ints(&self.program, self.texts.positions, &positions).map_err(named("positions"))?;
        session.write_ints(&self.program, self.texts.ends, &ends).map_err(named(ENDS))
    }

    /// Writes a chunk and runs the forward pass; returns the vectors of images and texts.
    fn forward<D: Device>(&self, session: &mut Session<D>, set: SetId, batch: &HostBatch) -> Result<[Ticket; 2], RunError> {
        self.write(session, batch)?;
        session.run(&self.program, On::set(set), self.program.view().forward(), Gradients::Overwrite);
        Ok(self.vectors.map(|t| session.fetch(&self.program, t)))
    }
}

impl<D: Device> Objective<D> for Contrast {
    fn sets(&self) -> Vec<SetSpec> {
        SetSpec::of_training(&self.model.registry, self.train.averages() > 0)
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let (Some(&set), average, Some(source)) = (sets.first(), sets.get(1).copied(), &self.source) else { return Ok(()) };
        let (rows, [len, val_len]) = (source.rows, self.model.text_len);
        let training = self.training(session, set, [rows, len], source.micro_batches)?;
        let graphs = self.graphs();
        let mut pass = |_: &_| {
            let (program, io) = session.prepare(On::set(set), |g: &Graph<'_>| graphs.vectors(g, rows, val_len))?;
            let Vectors { pixels, texts, vectors } = io;
            Ok::<_, BuildError>(Pass { program, pixels, texts, vectors, rows, len: val_len })
        };
        let evaluation = source.validation.as_ref().map(&mut pass).transpose()?;
        let all = source.validation.as_ref().map_or(0, |rows_of| rows_of.len().div_ceil(rows.max(1) as u64));
        let eval_batches = if self.train.eval_batches == 0 { all } else { self.train.eval_batches.min(all) };
        self.built = Some(Built { set, average, training, evaluation, eval_batches, ids: Vec::new() });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        if let Some(built) = &mut self.built {
            let of_evaluations = RECALLS.map(|name| (name, Combine::Last));
            built.ids =
                SCALARS.into_iter().chain(of_evaluations).map(|(name, combine)| scalars.register(name, combine)).collect();
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        self.source.take().into_iter().collect()
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let (set, device) = session.set_mut(self.set(false));
        set.initialise(device, self.train.seed).map_err(RunError::from)?;
        if resumed {
            return Ok(());
        }
        let (params, mut read) = (self.model.registry.view(), Ok(()));
        let load = &mut |values: &mut [f32]| read = self.model.folder.read(&params, values, &mut []);
        device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
        read
    }

    fn begin(&mut self, _: &mut Session<D>, _: &StepBatch) -> Result<u32, RunError> {
        self.evaluated = HeldOut::default();
        Ok(1)
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        let Built { set, training, .. } = self.built();
        self.step = Some(match (training, batch.micro_batches(0)) {
            (Training::Whole(pass, loss), batches @ [pairs]) => {
                session.clear_untouched(&pass.program, On::set(*set));
                pass.write(session, pairs)?;
                self.write_loss(session, &pass.program, loss, batches)?;
                session.run_all(&pass.program, On::set(*set), Gradients::Overwrite);
                let found = loss.found.map(|t| session.fetch(&pass.program, t));
                session.sync()?;
                found.map(|ticket| value(session.fetched(&ticket)))
            }
            _ => self.in_chunks(session, batch)?,
        });
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        self.built().ids.iter().zip(self.step.into_iter().flatten()).for_each(|(&id, value)| out.add(id, value));
    }

    fn after_update(&mut self, session: &mut Session<D>, _: u32) -> Result<ControlFlow<()>, RunError> {
        let clip = &self.model.clip;
        if clip.config().kind == ClipKind::Clip {
            let most = self.config.max_logit_scale.ln() as f32;
            let place = self.model.registry.view().infos().get(clip.logit_scale().index()).map(|info| info.range());
            let (set, device) = session.set_mut(self.set(false));
            let clamp = &mut |values: &mut [f32]| {
                place.clone().and_then(|place| values.get_mut(place)).into_iter().flatten().for_each(|x| *x = x.clamp(0.0, most));
            };
            device.lend_mut(&mut set.weights, clamp)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let set = self.set(averaged);
        let Some(Built { evaluation: Some(pass), eval_batches, ids, .. }) = &self.built else { return Ok(()) };
        let tickets = pass.forward(session, set, batch)?;
        session.sync()?;
        let vectors = [0, 1].map(|n| session.fetched(&tickets[n]));
        if let Some(found) = self.evaluated.add(vectors, self.model.clip.config().projection_dim, batch, *eval_batches) {
            ids.iter().skip(SCALARS.len()).zip(found).for_each(|(&id, recall)| out.add(id, recall));
        }
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        (RECALLS[0], Direction::Larger)
    }

    fn followed(&self) -> &'static str {
        "loss"
    }

    fn is_evaluated(&self, scalar: &str) -> bool {
        RECALLS.contains(&scalar)
    }

    fn unit(&self, scalar: &str) -> &'static str {
        if scalar == "loss" { "nats" } else { "" }
    }

    fn counted(&self) -> &'static str {
        "pairs"
    }

    fn first_non_finite(&mut self, session: &mut Session<D>, _: u32, _: &StepBatch) -> Result<Option<String>, RunError> {
        let Built { set, training, .. } = self.built();
        let (Training::Whole(Pass { program, .. }, _) | Training::Chunks { chunk: Pass { program, .. }, .. }) = training;
        Ok(session.first_non_finite(program, On::set(*set), 0..program.view().nodes().len())?)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        std::fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        let (set, device) = session.set_mut(self.set(averaged));
        let (params, mut saved) = (self.model.registry.view(), Ok(()));
        let save = &mut |trainable: &[f32]| {
            let values = crate::model_folder::ParamValues { trainable, frozen: &[] };
            saved = self.model.folder.write(folder, &params, values);
        };
        device.lend(&set.weights, save).map_err(RunError::from)?;
        saved
    }

    fn describe(&self, _: &Session<D>) -> String {
        self.model.folder.describe()
    }
}
