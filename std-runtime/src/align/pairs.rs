//! Training on pairs of completions, one preferred to the other: DPO and its relatives, with a loss by name.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::Recompute;
use samara_core::model::lm::LanguageModel;
use samara_core::rl::pairs::{PairLoss, PairOutputs, Pairs, pair_losses};
use serde_json::Value;

use super::base::{Base, Frozen, check_state, state_of};
use super::completion::{Completion, rows_of, shape_of, spread, sums};
use super::guard::guard;
use super::output::Output;
use crate::data::dataset::HostBatch;
use crate::lm::RunError;
use crate::lm::tokenwise::{Number, TokenBatch, Tokenwise};
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use crate::train::scalars::{Combine, Scalars};

/// A pair: the better completion and the worse.
pub type Pair = [Completion; 2];

/// What pairs are trained with.
pub struct PairsSpec {
    /// The policy; its first weights are the reference's.
    pub policy: Base,
    /// The loss.
    pub loss: Box<dyn PairLoss<f32> + Send>,
    /// β, by which log-ratios are multiplied where they are reported as rewards.
    pub beta: f64,
    /// Pairs to train on.
    pub pairs: Vec<Pair>,
    /// Pairs of the validation.
    pub held_out: Vec<Pair>,
    /// The optimizer; pairs of a micro-batch, micro-batches of a step.
    pub train: TrainConfig,
}

struct Built {
    policy: SetId,
    reference: Option<SetId>,
    average: Option<SetId>,
    program: Tokenwise,
    /// For the reference, which has no gradient, and for evaluations.
    forward: Tokenwise,
}

/// Training of a policy on pairs.
pub struct PairTraining {
    spec: PairsSpec,
    layers: Arc<dyn LanguageModel>,
    registry: Arc<OwnedParams>,
    built: Option<Built>,
    rows: TokenBatch,
    upstream: Vec<f32>, // (B, R)
    found: Vec<Found>,
    output: Option<Output>,
    frozen: Frozen,
}

/// What pairs of a micro-batch come to: each (n).
#[derive(Default)]
struct Found {
    policy: [Vec<f32>; 2],
    reference: [Vec<f32>; 2],
    losses: Vec<f32>,
    slopes: [Vec<f32>; 2],
}

const NAMES: [&str; 7] =
    ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"];

impl PairTraining {
    /// A training of pairs.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(spec: PairsSpec) -> Result<Self, BuildError> {
        let (registry, layers) = spec.policy.register()?;
        let all = spec.pairs.iter().chain(&spec.held_out).flatten();
        let rows = TokenBatch::new(shape_of(2 * spec.train.batch_size, all));
        let upstream = vec![0.0; rows.mask().len()];
        Ok(Self { spec, layers, registry, built: None, rows, upstream, found: Vec::new(), output: None, frozen: None })
    }

    /// The same with the folder that it leaves.
    #[must_use]
    pub fn with_output(self, output: Output) -> Self {
        Self { output: Some(output), ..self }
    }

    /// Puts the pairs of a micro-batch into rows: chosen, rejected, chosen, …
    fn fill(&mut self, held_out: bool, batch: &HostBatch) -> [Vec<usize>; 2] {
        self.rows.clear();
        let pairs = rows_of(if held_out { &self.spec.held_out } else { &self.spec.pairs }, batch);
        pairs.iter().copied().flatten().for_each(|completion| completion.push_to(&mut self.rows));
        [0, 1].map(|side| pairs.iter().map(|pair| pair[side].picks.len()).collect())
    }

    /// Sums of the reference's log-probs for the rows; 0 for a loss that reads none.
    fn reference<D: Device>(&mut self, session: &mut Session<D>) -> Result<Vec<f32>, RunError> {
        let Built { reference, forward, .. } = self.built.as_mut().expect("built before");
        match *reference {
            Some(set) => Ok(sums(&self.rows, forward.forward(session, set, &self.rows)?)),
            None => Ok(vec![0.0; self.rows.rows()]),
        }
    }

    /// Losses of the pairs in the rows, and their derivatives by sums of the policy's log-probs.
    fn losses(&self, policy: &[f32], reference: &[f32], lengths: &[Vec<usize>; 2]) -> Result<Found, RunError> {
        let (policy, reference) = (sides(policy), sides(reference));
        let n = policy[0].len();
        let (mut losses, mut slopes) = (vec![0.0; n], [vec![0.0; n], vec![0.0; n]]);
        let pairs = Pairs {
            policy_chosen: &policy[0],
            policy_rejected: &policy[1],
            reference_chosen: &reference[0],
            reference_rejected: &reference[1],
            chosen_lengths: &lengths[0],
            rejected_lengths: &lengths[1],
        };
        let [by_chosen, by_rejected] = &mut slopes;
        pair_losses(&*self.spec.loss, &pairs, PairOutputs { losses: &mut losses, by_chosen, by_rejected }).map_err(guard)?;
        Ok(Found { policy, reference, losses, slopes })
    }

    /// Adds what pairs come to.
    fn report(&self, found: &Found, out: &mut Scalars) {
        let n = found.losses.len() as f64;
        let reward = |side: usize| -> Vec<f64> {
            let rows = found.policy[side].iter().zip(&found.reference[side]);
            rows.map(|(policy, reference)| self.spec.beta * f64::from(policy - reference)).collect()
        };
        let (chosen, rejected) = (reward(0), reward(1));
        let right = chosen.iter().zip(&rejected).filter(|(chosen, rejected)| chosen > rejected).count() as f64;
        let sum = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>();
        let (chosen, rejected) = (chosen.iter().sum::<f64>(), rejected.iter().sum::<f64>());
        let values =
            [sum(&found.losses), chosen, rejected, chosen - rejected, right, sum(&found.policy[0]), sum(&found.policy[1])];
        for (name, value) in NAMES.into_iter().zip(values) {
            let id = out.register(name, Combine::Mean);
            out.add_sum(id, value, n);
        }
    }
}

impl<D: Device> Objective<D> for PairTraining {
    fn sets(&self) -> Vec<SetSpec> {
        let own = |name, role| SetSpec { name, registry: Arc::clone(&self.registry), role };
        let reference = self.spec.loss.reads_reference().then(|| own("reference", SetRole::Reference { of: 0 }));
        let average = (self.spec.train.ema_decay > 0.0).then(|| own("ema", SetRole::Average { of: 0 }));
        [own("policy", SetRole::Trained)].into_iter().chain(reference).chain(average).collect()
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let mut sets = sets.iter().copied();
        let policy = sets.next().ok_or_else(|| BuildError::Unsupported("a policy without a set".to_owned()))?;
        let reference = if self.spec.loss.reads_reference() { sets.next() } else { None };
        let number = Number::Logprob { temperature: 1.0 };
        let shape = self.rows.shape();
        let program = Tokenwise::new(session, policy, &self.layers, shape, (number, Some(Recompute::None)))?;
        let forward = Tokenwise::new(session, reference.unwrap_or(policy), &self.layers, shape, (number, None))?;
        self.built = Some(Built { policy, reference, average: sets.next(), program, forward });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        NAMES.into_iter().for_each(|name| {
            scalars.register(name, Combine::Mean);
        });
    }

    fn sources(&mut self) -> Vec<Source> {
        let longest = self.rows.shape().picks as u64 * 2;
        super::source::numbered(self.spec.pairs.len(), self.spec.held_out.len(), longest, &self.spec.train)
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let Some(&Built { policy, reference, .. }) = self.built.as_ref() else { return Ok(()) };
        self.frozen = self.spec.policy.fill(session, (policy, reference), self.spec.train.seed, resumed)?;
        Ok(())
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, step: &StepBatch) -> Result<(), RunError> {
        self.found.clear();
        let pairs: usize = step.micro_batches(0).iter().map(|batch| rows_of(&self.spec.pairs, batch).len()).sum();
        for (micro, batch) in step.micro_batches(0).iter().enumerate() {
            step.stop.check()?;
            let lengths = self.fill(false, batch);
            // The reference comes first: policy and gradient share a workspace with it.
            let reference = self.reference(session)?;
            let Built { policy, program, .. } = self.built.as_mut().expect("built before");
            let logprobs = sums(&self.rows, program.forward(session, *policy, &self.rows)?);
            let found = self.losses(&logprobs, &reference, &lengths)?;
            let of_rows: Vec<f32> =
                found.slopes[0].iter().zip(&found.slopes[1]).flat_map(|(a, b)| [a / pairs as f32, b / pairs as f32]).collect();
            spread(&self.rows, &of_rows, &mut self.upstream);
            let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
            let Built { policy, program, .. } = self.built.as_mut().expect("built before");
            program.backward(session, *policy, &self.upstream, gradients)?;
            self.found.push(found);
        }
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        self.found.iter().for_each(|found| self.report(found, out));
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let lengths = self.fill(true, batch);
        let reference = self.reference(session)?;
        let Built { policy, average, forward, .. } = self.built.as_mut().expect("built before");
        let set = average.filter(|_| averaged).unwrap_or(*policy);
        let logprobs = sums(&self.rows, forward.forward(session, set, &self.rows)?);
        let found = self.losses(&logprobs, &reference, &lengths)?;
        self.report(&found, out);
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("loss", Direction::Smaller)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        let (Some(output), Some(built)) = (&self.output, &self.built) else { return Ok(()) };
        let set = built.average.filter(|_| averaged).unwrap_or(built.policy);
        output.save(session, set, (&*self.spec.policy.architecture, &self.frozen), folder)
    }

    fn save(&self) -> Value {
        state_of(&self.frozen)
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        check_state(&self.frozen, state)
    }
}

/// The sums of chosen and rejected completions, which stand in turns.
fn sides(of_rows: &[f32]) -> [Vec<f32>; 2] {
    [0, 1].map(|side| of_rows.iter().skip(side).step_by(2).copied().collect())
}
