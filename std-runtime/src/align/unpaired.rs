//! Training on completions that are good or bad, without pairs: KTO (Ethayarajh et al. 2024).

use std::path::Path;

use samara_core::rl::{Kto, Unpaired, kto, kto_reference_point};

use super::base::{Base, Frozen};
use super::completion::{Completion, shape_of, spread, sums};
use super::guard::guard;
use super::output::Output;
use super::reference::Reference;
use super::rows_loss::{Forward, Learner, Numbers, Part, RowsLoss};
use super::rowwise::RowsTraining;
use crate::data::batches::permute;
use crate::lm::RunError;
use crate::lm::tokenwise::TokenBatch;
use crate::session::{BuildError, Device, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::scalars::{Combine, Scalars};

/// A completion with its label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The prompt and its completion.
    pub completion: Completion,
    /// Whether it is desirable.
    pub desirable: bool,
}

/// The completions whose mismatched pairs z₀ is the mean of. An evaluation takes those of each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Z0Scope {
    /// Those of the micro-batch (TRL: of the batch of each device, gathered).
    #[default]
    MicroBatch,
    /// Those of all micro-batches of the step, so that it does not depend on how a step is divided.
    Step,
}

/// What completions are trained with.
pub struct UnpairedSpec {
    /// The policy; its first weights are the reference's.
    pub policy: Base,
    /// The loss.
    pub kto: Kto<f32>,
    /// The completions that z₀ is estimated from.
    pub z0_scope: Z0Scope,
    /// Completions to train on.
    pub rows: Vec<Labelled>,
    /// Those of the validation.
    pub held_out: Vec<Labelled>,
    /// The optimizer; completions of a micro-batch, at least 2; micro-batches of a step.
    pub train: TrainConfig,
}

/// The loss of labelled completions.
pub struct LabelledRows {
    spec: UnpairedSpec,
    learner: Learner,
    /// The row whose completion stands behind the prompt of each row, of the training and of the validation.
    partners: [Vec<usize>; 2],
    rows: TokenBatch,
    mismatched: TokenBatch,
    /// Numbers of the rows among all.
    numbers: Vec<usize>,
    part: Part,
    /// log π − log π_ref of the mismatched pairs of the step, where z₀ is that of the step.
    of_step: Vec<f32>,
    desirable: Vec<bool>,
    output: Option<Output>,
    frozen: Frozen,
}

/// Training of a policy on labelled completions.
pub type UnpairedTraining = RowsTraining<LabelledRows>;

/// What completions of a micro-batch come to: each (n).
pub struct Found {
    /// log π − log π_ref.
    log_ratios: Vec<f32>,
    desirable: Vec<bool>,
    losses: Vec<f32>,
    /// z₀.
    kl: f32,
}

impl UnpairedTraining {
    /// A training of labelled completions.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(spec: UnpairedSpec) -> Result<Self, BuildError> {
        let learner = Learner::policy(&spec.policy)?;
        let all = || spec.rows.iter().chain(&spec.held_out).map(|row| &row.completion);
        let mut shape = shape_of(spec.train.batch_size, all());
        // A mismatched row is the prompt of one with the completion of another.
        let prompt = all().map(|c| c.picks.first().map_or(0, |pick| pick + 1)).max().unwrap_or(0);
        let completion = all().map(|c| c.tokens.len() - c.picks.first().map_or(0, |pick| pick + 1)).max().unwrap_or(0);
        shape.len = shape.len.max((prompt + completion).min(learner.layers.dims().n_positions));
        let partners = [spec.rows.len(), spec.held_out.len()].map(|count| partners(spec.train.seed, count));
        let [rows, mismatched] = [(); 2].map(|()| TokenBatch::new(shape));
        let (numbers, desirable, of_step) = (Vec::new(), Vec::new(), Vec::new());
        let (output, frozen, part) = (None, None, Part::Train);
        let loss = LabelledRows { spec, learner, partners, rows, mismatched, numbers, part, of_step, desirable, output, frozen };
        Ok(Self::of(loss, Reference::Computed))
    }

    /// The same with the folder that it leaves.
    #[must_use]
    pub fn with_output(mut self, output: Output) -> Self {
        self.loss.output = Some(output);
        self
    }
}

impl RowsLoss for LabelledRows {
    type Found = Found;

    const SCALARS: &'static [(&'static str, Combine)] =
        &[("loss", Combine::Mean), ("kl", Combine::Mean), ("rewards/chosen", Combine::Mean), ("rewards/rejected", Combine::Mean)];

    fn learner(&self) -> &Learner {
        &self.learner
    }

    fn train(&self) -> &TrainConfig {
        &self.spec.train
    }

    fn counts(&self) -> [usize; 2] {
        [self.spec.rows.len(), self.spec.held_out.len()]
    }

    fn tokens_of_row(&self) -> u64 {
        self.rows.shape().picks as u64
    }

    fn fill(&mut self, part: Part, numbers: &[usize]) {
        let all = part.of([&self.spec.rows, &self.spec.held_out]);
        let (first, partners) = (part.of([0, self.spec.rows.len()]), part.of(self.partners.each_ref()));
        self.rows.clear();
        self.mismatched.clear();
        for &number in numbers {
            let row = &all[number].completion;
            row.push_to(&mut self.rows);
            mismatch(row, &all[partners[number]].completion).push_to(&mut self.mismatched);
        }
        self.part = part;
        self.numbers = numbers.iter().map(|number| first + number).collect();
        self.desirable = numbers.iter().map(|&number| all[number].desirable).collect();
    }

    fn rows(&self) -> &TokenBatch {
        &self.rows
    }

    fn beside(&self) -> Option<&TokenBatch> {
        Some(&self.mismatched)
    }

    fn compared(&self) -> Vec<(&TokenBatch, Vec<usize>)> {
        let places = |side: usize| self.numbers.iter().map(|number| 2 * number + side).collect();
        vec![(&self.rows, places(0)), (&self.mismatched, places(1))]
    }

    fn reads_step(&self) -> bool {
        self.spec.z0_scope == Z0Scope::Step
    }

    fn gather(&mut self, micro: usize, numbers: &Numbers<'_>) {
        if micro == 0 {
            self.of_step.clear();
        }
        let (_, of_mismatched) = numbers.reference.split_at(self.rows.rows());
        self.of_step.extend(ratios(numbers.beside, of_mismatched));
    }

    fn losses(&self, numbers: &Numbers<'_>, upstream: &mut [f32]) -> Result<Found, RunError> {
        let policy = sums(&self.rows, numbers.own);
        let (reference, of_mismatched) = numbers.reference.split_at(policy.len());
        let kl = if self.reads_step() && self.part == Part::Train {
            kto_reference_point(&self.of_step)
        } else {
            kto_reference_point(&ratios(numbers.beside, of_mismatched))
        };
        let kl = kl.map_err(guard)?;
        let (mut losses, mut slopes) = (vec![0.0; policy.len()], vec![0.0; policy.len()]);
        let batch = Unpaired { policy: &policy, reference, desirable: &self.desirable };
        kto(&self.spec.kto, &batch, kl, &mut losses, &mut slopes).map_err(guard)?;
        spread(&self.rows, &slopes, upstream);
        Ok(Found { log_ratios: ratios(&policy, reference), desirable: self.desirable.clone(), losses, kl })
    }

    fn report(&self, found: &Found, out: &mut Scalars) {
        let mut add = |name, sum: f64, weight: f64| {
            let id = out.register(name, Combine::Mean);
            if weight > 0.0 {
                out.add_sum(id, sum, weight);
            }
        };
        let n = found.losses.len() as f64;
        add("loss", found.losses.iter().map(|&x| f64::from(x)).sum(), n);
        add("kl", f64::from(found.kl) * n, n);
        for (name, label) in [("rewards/chosen", true), ("rewards/rejected", false)] {
            let rows = found.log_ratios.iter().zip(&found.desirable).filter(|(_, desirable)| **desirable == label);
            let rewards: Vec<f64> = rows.map(|(&x, _)| f64::from(self.spec.kto.beta * x)).collect();
            add(name, rewards.iter().sum(), rewards.len() as f64);
        }
    }

    fn begin<D: Device>(
        &mut self,
        session: &mut Session<D>,
        (policy, reference): (SetId, Option<SetId>),
        resumed: bool,
    ) -> Result<(), TrainingError> {
        self.frozen = self.spec.policy.fill(session, (policy, reference), self.spec.train.seed, resumed)?;
        Ok(())
    }

    fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    fn save<D: Device>(&mut self, model: Forward<'_, D>, folder: &Path) -> Result<(), TrainingError> {
        let Some(output) = &self.output else { return Ok(()) };
        output.save(model.session, model.set, (&*self.spec.policy.architecture, &self.frozen), folder)
    }
}

/// log π − log π_ref (n).
fn ratios(policy: &[f32], reference: &[f32]) -> Vec<f32> {
    policy.iter().zip(reference).map(|(p, q)| p - q).collect()
}

/// For each of `count` rows the one before it in a shuffled order, and the last one for the first: rows of one prompt often stand side by side in a file.
fn partners(seed: u64, count: usize) -> Vec<usize> {
    let order: Vec<usize> = (0..count as u64).map(|i| permute(seed, 0, i, count as u64) as usize).collect();
    let mut partners = vec![0; count];
    let before = order.iter().cycle().skip(count.saturating_sub(1));
    order.iter().zip(before).for_each(|(&row, &before)| partners[row] = before);
    partners
}

/// The prompt of one completion with what another has behind its prompt.
fn mismatch(prompt: &Completion, other: &Completion) -> Completion {
    let start = |completion: &Completion| completion.picks.first().map_or(0, |pick| pick + 1);
    let (at, from) = (start(prompt), start(other));
    Completion {
        tokens: [&prompt.tokens[..at], &other.tokens[from..]].concat(),
        picks: other.picks.iter().map(|pick| pick + at - from).collect(),
    }
}
