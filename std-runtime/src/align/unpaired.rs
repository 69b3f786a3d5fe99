//! Training on completions that are good or bad, without pairs: KTO (Ethayarajh et al. 2024).

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::Recompute;
use samara_core::model::lm::LanguageModel;
use samara_core::rl::{Kto, Unpaired, kto, kto_reference_point};
use serde_json::Value;

use super::base::{Base, Frozen, check_state, state_of};
use super::completion::{Completion, rows_of, shape_of, spread, sums};
use super::guard::guard;
use super::output::Output;
use super::source::numbered;
use crate::data::dataset::HostBatch;
use crate::lm::RunError;
use crate::lm::tokenwise::{Number, TokenBatch, Tokenwise};
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use crate::train::scalars::{Combine, Scalars};

/// A completion with its label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The prompt and its completion.
    pub completion: Completion,
    /// Whether it is desirable.
    pub desirable: bool,
}

/// What completions are trained with.
pub struct UnpairedSpec {
    /// The policy; its first weights are the reference's.
    pub policy: Base,
    /// The loss.
    pub kto: Kto<f32>,
    /// Completions to train on.
    pub rows: Vec<Labelled>,
    /// Those of the validation.
    pub held_out: Vec<Labelled>,
    /// The optimizer; completions of a micro-batch, at least 2; micro-batches of a step.
    pub train: TrainConfig,
}

struct Built {
    policy: SetId,
    reference: SetId,
    average: Option<SetId>,
    program: Tokenwise,
    forward: Tokenwise,
}

/// Training of a policy on labelled completions.
pub struct UnpairedTraining {
    spec: UnpairedSpec,
    layers: Arc<dyn LanguageModel>,
    registry: Arc<OwnedParams>,
    built: Option<Built>,
    rows: TokenBatch,
    mismatched: TokenBatch,
    upstream: Vec<f32>, // (B, R)
    found: Vec<Found>,
    output: Option<Output>,
    frozen: Frozen,
}

/// What completions of a micro-batch come to: each (n).
struct Found {
    /// log π − log π_ref.
    log_ratios: Vec<f32>,
    desirable: Vec<bool>,
    losses: Vec<f32>,
    slopes: Vec<f32>,
    /// z₀.
    kl: f32,
}

impl UnpairedTraining {
    /// A training of labelled completions.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(spec: UnpairedSpec) -> Result<Self, BuildError> {
        let (registry, layers) = spec.policy.register()?;
        let all = || spec.rows.iter().chain(&spec.held_out).map(|row| &row.completion);
        let mut shape = shape_of(spec.train.batch_size, all());
        // A mismatched row is the prompt of one with the completion of another.
        let prompt = all().map(|c| c.picks.first().map_or(0, |pick| pick + 1)).max().unwrap_or(0);
        let completion = all().map(|c| c.tokens.len() - c.picks.first().map_or(0, |pick| pick + 1)).max().unwrap_or(0);
        shape.len = shape.len.max((prompt + completion).min(layers.dims().n_positions));
        let (rows, mismatched) = (TokenBatch::new(shape), TokenBatch::new(shape));
        let upstream = vec![0.0; rows.mask().len()];
        Ok(Self {
            spec,
            layers,
            registry,
            built: None,
            rows,
            mismatched,
            upstream,
            found: Vec::new(),
            output: None,
            frozen: None,
        })
    }

    /// The same with the folder that it leaves.
    #[must_use]
    pub fn with_output(self, output: Output) -> Self {
        Self { output: Some(output), ..self }
    }

    /// Fills the rows, and those of prompts with completions of others: prompt i has completion i − 1.
    fn fill(&mut self, held_out: bool, batch: &HostBatch) -> Vec<bool> {
        self.rows.clear();
        self.mismatched.clear();
        let rows = rows_of(if held_out { &self.spec.held_out } else { &self.spec.rows }, batch);
        for (i, row) in rows.iter().enumerate() {
            row.completion.push_to(&mut self.rows);
            let other = &rows[(i + rows.len() - 1) % rows.len()].completion;
            mismatch(&row.completion, other).push_to(&mut self.mismatched);
        }
        rows.iter().map(|row| row.desirable).collect()
    }

    /// Sums of log π_ref of the rows, and z₀ of the policy in `set`.
    fn reference<D: Device>(&mut self, session: &mut Session<D>, set: SetId) -> Result<(Vec<f32>, f32), RunError> {
        let Built { reference, forward, .. } = self.built.as_mut().expect("built before");
        let policy = sums(&self.mismatched, forward.forward(session, set, &self.mismatched)?);
        let of_reference = sums(&self.mismatched, forward.forward(session, *reference, &self.mismatched)?);
        let ratios: Vec<f32> = policy.iter().zip(&of_reference).map(|(p, q)| p - q).collect();
        let kl = kto_reference_point(&ratios).map_err(guard)?;
        Ok((sums(&self.rows, forward.forward(session, *reference, &self.rows)?), kl))
    }

    fn losses(&self, policy: &[f32], reference: &[f32], desirable: Vec<bool>, kl: f32) -> Result<Found, RunError> {
        let (mut losses, mut slopes) = (vec![0.0; policy.len()], vec![0.0; policy.len()]);
        let batch = Unpaired { policy, reference, desirable: &desirable };
        kto(&self.spec.kto, &batch, kl, &mut losses, &mut slopes).map_err(guard)?;
        let log_ratios = policy.iter().zip(reference).map(|(p, q)| p - q).collect();
        Ok(Found { log_ratios, desirable, losses, slopes, kl })
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
}

impl<D: Device> Objective<D> for UnpairedTraining {
    fn sets(&self) -> Vec<SetSpec> {
        let own = |name, role| SetSpec { name, registry: Arc::clone(&self.registry), role };
        let average = (self.spec.train.ema_decay > 0.0).then(|| own("ema", SetRole::Average { of: 0 }));
        [own("policy", SetRole::Trained), own("reference", SetRole::Reference { of: 0 })].into_iter().chain(average).collect()
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let &[policy, reference, ..] = sets else {
            return Err(BuildError::Unsupported("a policy without a reference".to_owned()));
        };
        let (number, shape) = (Number::Logprob { temperature: 1.0 }, self.rows.shape());
        let program = Tokenwise::new(session, policy, &self.layers, shape, (number, Some(Recompute::None)))?;
        let forward = Tokenwise::new(session, reference, &self.layers, shape, (number, None))?;
        self.built = Some(Built { policy, reference, average: sets.get(2).copied(), program, forward });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        for name in ["loss", "kl", "rewards/chosen", "rewards/rejected"] {
            scalars.register(name, Combine::Mean);
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        let tokens = self.rows.shape().picks as u64;
        numbered(self.spec.rows.len(), self.spec.held_out.len(), tokens, &self.spec.train)
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let Some(&Built { policy, reference, .. }) = self.built.as_ref() else { return Ok(()) };
        self.frozen = self.spec.policy.fill(session, (policy, Some(reference)), self.spec.train.seed, resumed)?;
        Ok(())
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, step: &StepBatch) -> Result<(), RunError> {
        self.found.clear();
        let rows: usize = step.micro_batches(0).iter().map(|batch| rows_of(&self.spec.rows, batch).len()).sum();
        for (micro, batch) in step.micro_batches(0).iter().enumerate() {
            step.stop.check()?;
            let desirable = self.fill(false, batch);
            let Some(&Built { policy, .. }) = self.built.as_ref() else { return Ok(()) };
            // The reference comes first: policy and gradient share a workspace with it.
            let (reference, kl) = self.reference(session, policy)?;
            let Built { program, .. } = self.built.as_mut().expect("built before");
            let logprobs = sums(&self.rows, program.forward(session, policy, &self.rows)?);
            let found = self.losses(&logprobs, &reference, desirable, kl)?;
            let of_rows: Vec<f32> = found.slopes.iter().map(|x| x / rows as f32).collect();
            spread(&self.rows, &of_rows, &mut self.upstream);
            let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
            let Built { program, .. } = self.built.as_mut().expect("built before");
            program.backward(session, policy, &self.upstream, gradients)?;
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
        let desirable = self.fill(true, batch);
        let Some(&Built { policy, average, .. }) = self.built.as_ref() else { return Ok(()) };
        let set = average.filter(|_| averaged).unwrap_or(policy);
        let (reference, kl) = self.reference(session, set)?;
        let Built { forward, .. } = self.built.as_mut().expect("built before");
        let logprobs = sums(&self.rows, forward.forward(session, set, &self.rows)?);
        let found = self.losses(&logprobs, &reference, desirable, kl)?;
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

/// The prompt of one completion with what another has behind its prompt.
fn mismatch(prompt: &Completion, other: &Completion) -> Completion {
    let start = |completion: &Completion| completion.picks.first().map_or(0, |pick| pick + 1);
    let (at, from) = (start(prompt), start(other));
    Completion {
        tokens: [&prompt.tokens[..at], &other.tokens[from..]].concat(),
        picks: other.picks.iter().map(|pick| pick + at - from).collect(),
    }
}
