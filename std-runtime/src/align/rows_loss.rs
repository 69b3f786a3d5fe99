//! What is learnt from a model's numbers of rows that stand in memory: the rows, a loss on the host, what is reported.

use std::path::Path;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;

use super::base::{Base, Frozen};
use super::completion::sums;
use crate::lm::RunError;
use crate::lm::tokenwise::{Number, TokenBatch, Tokenwise};
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::scalars::{Combine, Scalars};

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those that are trained on.
    Train,
    /// Those of the validation.
    HeldOut,
}

impl Part {
    /// What belongs to it, of something for the training and something for the validation.
    pub fn of<T>(self, [train, held_out]: [T; 2]) -> T {
        match self {
            Self::Train => train,
            Self::HeldOut => held_out,
        }
    }
}

/// The model that is trained.
pub struct Learner {
    /// The name of its set.
    pub name: &'static str,
    /// Its parameters.
    pub registry: Arc<OwnedParams>,
    /// Its layers.
    pub layers: Arc<dyn LanguageModel>,
    /// What is computed of a picked token.
    pub number: Number,
    /// The probability with which an update drops the inputs of adapters: nothing else does, neither the reference nor an evaluation.
    pub adapter_dropout: f64,
}

impl Learner {
    /// A policy, whose numbers are log-probs at temperature 1.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn policy(policy: &Base) -> Result<Self, BuildError> {
        let (registry, layers) = policy.register()?;
        let (number, adapter_dropout) = (Number::Logprob { temperature: 1.0 }, policy.architecture.adapter_dropout());
        Ok(Self { name: "policy", registry, layers, number, adapter_dropout })
    }
}

/// What is known of the rows of a micro-batch.
pub struct Numbers<'n> {
    /// The model's numbers of [`RowsLoss::rows`] (B, R).
    pub own: &'n [f32],
    /// Sums over the picks of [`RowsLoss::beside`] (B), by the model; empty without.
    pub beside: &'n [f32],
    /// Sums of the reference's log-probs for the batches of [`RowsLoss::compared`], one after the other; empty where no reference is read.
    pub reference: &'n [f32],
}

/// A model, and a program for it that has no gradient.
pub struct Forward<'f, D: Device> {
    /// The memory.
    pub session: &'f mut Session<D>,
    /// The weights.
    pub set: SetId,
    /// The program.
    pub program: &'f mut Tokenwise,
}

impl<D: Device> Forward<'_, D> {
    /// Sums of the numbers of every row (B).
    ///
    /// # Errors
    /// A token that the model does not have, or a device that failed.
    pub fn sums(&mut self, rows: &TokenBatch) -> Result<Vec<f32>, RunError> {
        Ok(sums(rows, self.program.forward(self.session, self.set, rows)?))
    }
}

/// A loss of a model's numbers of rows. Its mean over the rows is the scalar "loss", by which evaluations are compared.
pub trait RowsLoss: Send {
    /// What the rows of a micro-batch come to.
    type Found: Send;

    /// What is reported.
    const SCALARS: &'static [(&'static str, Combine)];

    /// The model.
    fn learner(&self) -> &Learner;

    /// The optimizer; rows of a micro-batch, micro-batches of a step.
    fn train(&self) -> &TrainConfig;

    /// Rows of the training and of the validation.
    fn counts(&self) -> [usize; 2];

    /// The tokens that a row counts as.
    fn tokens_of_row(&self) -> u64;

    /// Takes the rows of these numbers as the micro-batch.
    fn fill(&mut self, part: Part, numbers: &[usize]);

    /// The micro-batch, of one shape in the whole run.
    fn rows(&self) -> &TokenBatch;

    /// Other rows, whose sums by the model are read without a gradient.
    fn beside(&self) -> Option<&TokenBatch> {
        None
    }

    /// Batches whose sums by the reference are read, the first of them [`RowsLoss::rows`], with the place of each row among all that a run compares.
    fn compared(&self) -> Vec<(&TokenBatch, Vec<usize>)> {
        Vec::new()
    }

    /// Whether the losses of a micro-batch read numbers of all micro-batches of its step: then [`RowsLoss::gather`] gets them before.
    fn reads_step(&self) -> bool {
        false
    }

    /// Takes what is known of micro-batch `micro` of a step, but for the model's own numbers.
    fn gather(&mut self, micro: usize, numbers: &Numbers<'_>) {
        let _ = (micro, numbers);
    }

    /// The losses of the micro-batch. `upstream` (B, R) gets the derivatives of their sum by the model's numbers.
    ///
    /// # Errors
    /// Numbers that the loss does not take.
    fn losses(&self, numbers: &Numbers<'_>, upstream: &mut [f32]) -> Result<Self::Found, RunError>;

    /// Adds what a micro-batch comes to.
    fn report(&self, found: &Self::Found, out: &mut Scalars);

    /// Fills the trained set with the weights that the run begins with, unless a checkpoint has them, and that of the reference.
    ///
    /// # Errors
    /// They cannot be read.
    fn begin<D: Device>(
        &mut self,
        session: &mut Session<D>,
        sets: (SetId, Option<SetId>),
        resumed: bool,
    ) -> Result<(), TrainingError>;

    /// What the frozen weights of the trained set were read from.
    fn frozen(&self) -> &Frozen;

    /// Writes the model into a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn save<D: Device>(&mut self, model: Forward<'_, D>, folder: &Path) -> Result<(), TrainingError>;
}
