//! The interface of objectives. The trainer owns the loop; an objective owns a step.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use samara_core::params::GroupId;
use serde_json::Value;

use super::config::TrainConfig;
use super::error::TrainingError;
use super::scalars::Scalars;
use crate::data::batches::Sampler;
use crate::data::dataset::{Dataset, HostBatch, TokenBlocks, TokenWindows};
use crate::data::shards::Tokens;
use crate::lm::RunError;
use crate::run::plot::Pair;
use crate::session::update::UpdateNumbers;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::stop::Stop;

/// The role of a parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetRole {
    /// Every update changes it; it is in checkpoints.
    Trained,
    /// Constant, such as a reward model or a teacher; [`Objective::initialise`] fills it, also on resume.
    Fixed,
    /// A fixed set that reads the frozen parameters of the set at this index in [`Objective::sets`], which must be trained and of the same
    /// registry, in place of a copy: what that set was before its training.
    Reference {
        /// The position of the set whose frozen parameters it reads.
        of: usize,
    },
    /// The moving average of the set at this index in [`Objective::sets`], which must be trained and of the same registry, and whose frozen
    /// parameters it reads.
    Average {
        /// The position of the set that it follows.
        of: usize,
    },
}

/// A parameter set that an objective needs.
pub struct SetSpec {
    /// Its name, and that of its file in a checkpoint.
    pub name: &'static str,
    /// Its parameters.
    pub registry: Arc<OwnedParams>,
    /// Its role.
    pub role: SetRole,
}

impl SetSpec {
    /// The set that is trained and, if asked for, the average that follows it.
    pub fn of_training(registry: &Arc<OwnedParams>, averaged: bool) -> Vec<Self> {
        let spec = |name, role| Self { name, registry: Arc::clone(registry), role };
        let average = averaged.then(|| spec("ema", SetRole::Average { of: 0 }));
        [spec("training", SetRole::Trained)].into_iter().chain(average).collect()
    }
}

/// Data of an objective.
pub struct Source {
    /// Rows for training.
    pub train: Box<dyn Dataset + Send>,
    /// The order of the rows.
    pub order: Sampler,
    /// Rows of a micro-batch, and of a batch of the validation.
    pub rows: usize,
    /// Micro-batches of a step.
    pub micro_batches: usize,
    /// Held-out rows; the first source that has some is evaluated.
    pub validation: Option<Box<dyn Dataset + Send>>,
}

impl Source {
    /// Rows of a dataset in the order of a sampler, `train.batch_size` × `train.grad_accumulation` per step.
    pub fn rows(
        train: impl Dataset + Send + 'static,
        order: Sampler,
        held_out: Option<impl Dataset + Send + 'static>,
        config: &TrainConfig,
    ) -> Self {
        let validation = held_out.map(|rows| -> Box<dyn Dataset + Send> { Box::new(rows) });
        let (rows, micro_batches) = (config.batch_size, config.grad_accumulation);
        Self { train: Box::new(train), order, rows, micro_batches, validation }
    }

    /// `input_ids` and `labels` of `train.block_size` tokens: for training, windows in the order of a sampler over tokens; for validation, windows
    /// that cover the held-out tokens.
    pub fn windows(
        train: impl Tokens + Send + 'static,
        order: Sampler,
        held_out: Option<impl Tokens + Send + 'static>,
        config: &TrainConfig,
    ) -> Self {
        let block = config.block_size;
        Self::rows(TokenWindows::new(train, block), order, held_out.map(|tokens| TokenBlocks::new(tokens, block)), config)
    }
}

/// The data of one step, all of it collated before the step begins, so that the divisor of its mean is known.
pub struct StepBatch {
    /// The step, from 0.
    pub step: u64,
    /// The stop request: before the weights change, a step may be cancelled between two micro-batches.
    pub stop: Stop,
    pub(super) sources: Vec<Vec<HostBatch>>,
}

impl StepBatch {
    /// The micro-batches of a source.
    pub fn micro_batches(&self, source: usize) -> &[HostBatch] {
        self.sources.get(source).map_or(&[], Vec::as_slice)
    }

    /// Tokens of a step, of all its sources.
    pub fn tokens(&self) -> u64 {
        self.sources.iter().flatten().map(|batch| batch.tokens).sum()
    }
}

/// Which values of a scalar are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smaller ones.
    Smaller,
    /// Larger ones.
    Larger,
}

impl Direction {
    /// Whether `value` is better than `than`.
    pub fn is_better(self, value: f64, than: f64) -> bool {
        match self {
            Self::Smaller => value < than,
            Self::Larger => value > than,
        }
    }
}

/// A training objective on a device.
///
/// The trainer calls once: `sets`, `build`, `scalars`, `sources`, `enter`, `initialise`, `load`; in every step: `begin`, then for every update `gradients`
/// (queues work), `collect` (after the only sync), and after the weights have changed `after_update`.
pub trait Objective<D: Device> {
    /// The parameter sets, in an order that does not change.
    fn sets(&self) -> Vec<SetSpec>;

    /// Builds all programs and allocates their memory. `sets` are the ids of [`Objective::sets`].
    ///
    /// # Errors
    /// A program cannot be built.
    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError>;

    /// A factor of the learning rate of an optimizer group (for a backbone or a head, say) in the trained set at this index; called once.
    fn lr_scale(&self, _set: usize, _group: GroupId) -> f64 {
        1.0
    }

    /// Registers the scalars that a step and an evaluation report.
    fn scalars(&mut self, scalars: &mut Scalars);

    /// Hands the data over to the trainer.
    fn sources(&mut self) -> Vec<Source>;

    /// Receives the run folder, before the sets are filled: for files that an objective keeps there beside checkpoints.
    fn enter(&mut self, _folder: &Path) {}

    /// Fills the sets. With `resumed`, a checkpoint will overwrite the trained ones.
    ///
    /// # Errors
    /// Initial weights cannot be read.
    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError>;

    /// Begins a step, with rollouts for example; returns its number of updates.
    ///
    /// # Errors
    /// A run fails.
    fn begin(&mut self, _session: &mut Session<D>, _batch: &StepBatch) -> Result<u32, RunError> {
        Ok(1)
    }

    /// Computes the gradient of every trained set for one update, over all micro-batches.
    ///
    /// # Errors
    /// A run fails, data is invalid, or a signal arrived in the first update of the step, which is then cancelled.
    fn gradients(&mut self, session: &mut Session<D>, update: u32, batch: &StepBatch) -> Result<(), RunError>;

    /// Accumulates the scalars that `gradients` has fetched: values are readable now. A scalar that is not finite ends the training before the
    /// update.
    fn collect(&mut self, session: &Session<D>, update: u32, out: &mut Scalars);

    /// Called after the weights have changed. `Break` ends the step before all its updates are made, for example when a policy has moved far enough.
    ///
    /// # Errors
    /// A run fails.
    fn after_update(&mut self, _session: &mut Session<D>, _update: u32) -> Result<ControlFlow<()>, RunError> {
        Ok(ControlFlow::Continue(()))
    }

    /// Evaluates one batch of the validation. With `averaged`, averages replace the sets that they follow.
    ///
    /// # Errors
    /// A run fails.
    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError>;

    /// The scalar by which evaluations are compared, and the direction of improvement.
    fn best(&self) -> (&'static str, Direction);

    /// The hyper-parameters of the trained set at an index of [`Objective::sets`], from those of `[train]`.
    fn numbers(&self, _set: usize, of_train: UpdateNumbers) -> UpdateNumbers {
        of_train
    }

    /// The scalar that progress shows between evaluations.
    fn followed(&self) -> &'static str {
        self.best().0
    }

    /// Whether an evaluation measures a scalar.
    fn is_evaluated(&self, scalar: &str) -> bool {
        let _ = scalar;
        true
    }

    /// The unit of a scalar, for the axis of its plot.
    fn unit(&self, scalar: &str) -> &'static str {
        let _ = scalar;
        ""
    }

    /// What [`HostBatch::tokens`] counts, for the display of the speed.
    fn counted(&self) -> &'static str {
        "tok"
    }

    /// What else is said of an evaluation, with the scalars of the last step and of the validation; after a separator, or empty.
    fn remarks(&self, _training: &Scalars, _validation: &Scalars) -> String {
        String::new()
    }

    /// Two scalars of which one is drawn against the other when a run ends.
    fn drawn_against(&self) -> Option<&'static Pair> {
        None
    }

    /// The first tensor that is not finite in the failed update, for the error message.
    ///
    /// # Errors
    /// The device failed.
    fn first_non_finite(
        &mut self,
        _session: &mut Session<D>,
        _update: u32,
        _batch: &StepBatch,
    ) -> Result<Option<String>, RunError> {
        Ok(None)
    }

    /// Writes the model into a folder for other programs.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn export(&mut self, _session: &mut Session<D>, _averaged: bool, _folder: &Path) -> Result<(), TrainingError> {
        Ok(())
    }

    /// A sample of the model's current output, for display.
    ///
    /// # Errors
    /// A run fails, or a signal arrived.
    fn sample(&mut self, _session: &mut Session<D>, _stop: &Stop) -> Result<Option<String>, TrainingError> {
        Ok(None)
    }

    /// A description of the model and its data, for display.
    fn describe(&self, _session: &Session<D>) -> String {
        String::new()
    }

    /// The objective's own state beside its sets and states; small.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Restores what [`Objective::save`] returned.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    fn load(&mut self, _state: &Value) -> Result<(), String> {
        Ok(())
    }
}

/// The note about ignored tensors of the initial folder, before the description.
pub(crate) fn ignored_tensors(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("ignored tensors, which are not saved: {}; ", names.join(", ")) }
}
