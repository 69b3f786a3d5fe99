//! The objective of a policy: completions of prompts, their scores, and several updates from them in every step.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use samara_core::graph::Recompute;
use samara_core::model::lm::LanguageModel;
use samara_core::params::GroupId;
use serde_json::{Value, json};

use super::advantages::{Batch, Targets};
use super::episodes::{Episode, RolloutOptions};
use super::method::Method;
use super::scorer::{RewardModel, Scorer};
use super::update::{Losses, NAMES};
use crate::align::base::Base;
use crate::align::source::numbered;
use crate::data::dataset::{HostBatch, RowNumbers};
use crate::lm::scored::Scored;
use crate::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use crate::lm::{Bound, Caches, RunError};
use crate::model::ModelConfig;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::stop::Stop;
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use crate::train::scalars::{Combine, Scalars};

/// A reward model among the sources of scores.
pub struct RewardFolder {
    /// The model.
    pub model: Scored,
    /// Where its weights are.
    pub folder: PathBuf,
}

/// A source of scores.
pub enum RewardSource {
    /// A reward model.
    Model(RewardFolder),
    /// Anything else.
    Scorer(Box<dyn Scorer>),
}

/// A value function.
pub struct Critic {
    /// The model.
    pub model: Scored,
    /// Where its weights come from: a reward folder, or a language model below a score of 0; none: random ones.
    pub init: Option<CriticInit>,
    /// A factor of the learning rate.
    pub lr_scale: f64,
}

/// Initial weights of a value function.
pub enum CriticInit {
    /// Those of a folder with a score.
    Scored(PathBuf),
    /// Those of a language model, with a score of 0.
    Below(PathBuf, ModelConfig),
}

/// What a policy is trained with.
pub struct PolicySpec {
    /// The policy; its first weights are the reference's.
    pub policy: Base,
    /// What is done with completions.
    pub method: Method,
    /// How they are sampled.
    pub rollout: RolloutOptions,
    /// Completions of a step.
    pub episodes: usize,
    /// Completions of a prompt.
    pub group_size: usize,
    /// The value function, for methods that have one.
    pub critic: Option<Critic>,
    /// Sources of scores with their weights.
    pub rewards: Vec<(RewardSource, f32)>,
    /// Prompts.
    pub prompts: Vec<Vec<i32>>,
    /// Prompts of the validation.
    pub held_out: Vec<Vec<i32>>,
    /// The optimizer, rows of a micro-batch (`batch_size`), micro-batches of a minibatch (`grad_accumulation`).
    pub train: TrainConfig,
}

/// What is there once the programs are built.
pub(super) struct Built {
    pub(super) policy: SetId,
    pub(super) reference: SetId,
    pub(super) value: Option<SetId>,
    pub(super) average: Option<SetId>,
    pub(super) caches: Caches,
    pub(super) policy_program: Tokenwise,
    pub(super) reference_program: Tokenwise,
    pub(super) value_program: Option<Tokenwise>,
    /// One for each source of scores; none for scorers.
    pub(super) reward_programs: Vec<Option<RewardModel>>,
    pub(super) reward_sets: Vec<Option<SetId>>,
}

/// The completions of a step and what is known of them.
#[derive(Default)]
pub(super) struct Rollouts {
    pub(super) episodes: Vec<Episode>,
    pub(super) batch: Batch,
    pub(super) targets: Targets,
}

/// Training of a policy.
pub struct Policy {
    pub(super) spec: PolicySpec,
    pub(super) layers: Arc<dyn LanguageModel>,
    pub(super) registry: Arc<OwnedParams>,
    pub(super) built: Option<Built>,
    pub(super) rollouts: Rollouts,
    pub(super) rows: TokenBatch,
    pub(super) losses: Losses,
    /// The coefficient of the KL.
    pub(super) beta: f64,
    /// The coefficient after this step.
    pub(super) next_beta: f64,
    /// Entropies of the completions' tokens (N, R).
    pub(super) entropies: Vec<f32>,
    /// Steps in a row in which nothing could be learnt, because all completions of a prompt had the same score.
    pub(super) equal_steps: u32,
    /// Values that `collect` hands over.
    pub(super) reported: Vec<(&'static str, f64)>,
}

impl Policy {
    /// A policy to be trained.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(spec: PolicySpec) -> Result<Self, BuildError> {
        let (registry, layers) = spec.policy.register()?;
        let longest = spec.prompts.iter().chain(&spec.held_out).map(Vec::len).max().unwrap_or(0);
        let shape = TokensShape {
            rows: spec.train.batch_size,
            len: longest + spec.rollout.max_new_tokens,
            picks: spec.rollout.max_new_tokens,
        };
        let beta = f64::from(spec.method.rewards.beta);
        Ok(Self {
            layers,
            registry,
            built: None,
            rollouts: Rollouts::default(),
            rows: TokenBatch::new(shape),
            losses: Losses::new(shape),
            beta,
            next_beta: beta,
            entropies: Vec::new(),
            equal_steps: 0,
            reported: Vec::new(),
            spec,
        })
    }

    /// Completions of a minibatch.
    pub(super) fn minibatch(&self) -> usize {
        self.spec.train.batch_size * self.spec.train.grad_accumulation
    }

    /// Updates of a step.
    fn updates(&self) -> u32 {
        self.spec.method.epochs * (self.spec.episodes / self.minibatch()) as u32
    }

    /// The policy on its weights, or on their average.
    pub(super) fn bound<'s, D: Device>(&self, session: &'s mut Session<D>, averaged: bool) -> Bound<'s, D> {
        let built = self.built();
        let set = built.average.filter(|_| averaged).unwrap_or(built.policy);
        Bound { dims: self.layers.dims(), layers: Arc::clone(&self.layers), session, set, caches: built.caches }
    }

    pub(super) fn built(&self) -> &Built {
        self.built.as_ref().expect("the trainer builds an objective before it uses it")
    }

    /// Fills the reference, and the policy unless a checkpoint does.
    fn fill_policy<D: Device>(&self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let &Built { policy, reference, .. } = self.built();
        self.spec.policy.fill(session, reference, self.spec.train.seed)?;
        if !resumed {
            session.copy_weights(reference, policy).map_err(RunError::from)?;
        }
        Ok(())
    }

    /// Fills the value function and the reward models.
    fn fill_scored<D: Device>(&self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let built = self.built();
        if let (Some(critic), Some(value), false) = (&self.spec.critic, built.value, resumed) {
            let (set, device) = session.set_mut(value);
            set.initialise(device, self.spec.train.seed).map_err(RunError::from)?;
            let mut loaded = Ok(());
            let load = &mut |values: &mut [f32]| {
                loaded = match &critic.init {
                    None => Ok(()),
                    Some(CriticInit::Scored(folder)) => critic.model.load(folder, values).map_err(TrainingError::from),
                    Some(CriticInit::Below(folder, base)) => {
                        critic.model.load_below(folder, base, values).map_err(TrainingError::from)
                    }
                };
            };
            device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
            loaded?;
        }
        for ((source, _), set) in self.spec.rewards.iter().zip(&built.reward_sets) {
            let (RewardSource::Model(reward), Some(set)) = (source, set) else { continue };
            let (set, device) = session.set_mut(*set);
            let mut loaded = Ok(());
            let load = &mut |values: &mut [f32]| loaded = reward.model.load(&reward.folder, values);
            device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
            loaded?;
        }
        Ok(())
    }
}

impl<D: Device> Objective<D> for Policy {
    fn sets(&self) -> Vec<SetSpec> {
        let own = |name, role| SetSpec { name, registry: Arc::clone(&self.registry), role };
        let mut sets = vec![own("policy", SetRole::Trained), own("reference", SetRole::Fixed)];
        if let Some(critic) = &self.spec.critic {
            sets.push(SetSpec { name: "value", registry: Arc::clone(&critic.model.registry), role: SetRole::Trained });
        }
        if self.spec.train.ema_decay > 0.0 {
            sets.push(own("ema", SetRole::Average { of: 0 }));
        }
        for (source, _) in &self.spec.rewards {
            if let RewardSource::Model(reward) = source {
                sets.push(SetSpec { name: "reward", registry: Arc::clone(&reward.model.registry), role: SetRole::Fixed });
            }
        }
        sets
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let mut sets = sets.iter().copied();
        let mut next = || sets.next().ok_or_else(|| BuildError::Unsupported("a set that is not there".to_owned()));
        let caches = Caches::new(session);
        let (policy, reference) = (next()?, next()?);
        let value = if self.spec.critic.is_some() { Some(next()?) } else { None };
        let average = if self.spec.train.ema_decay > 0.0 { Some(next()?) } else { None };
        let shape = self.rows.shape();
        let logprob = Number::Logprob { temperature: self.spec.rollout.temperature };
        let recompute = Recompute::None;
        let policy_program = Tokenwise::new(session, policy, &self.layers, shape, (logprob, Some(recompute)))?;
        let reference_program = Tokenwise::new(session, reference, &self.layers, shape, (logprob, None))?;
        let value_program = match (&self.spec.critic, value) {
            (Some(critic), Some(set)) => {
                let number = Number::Score(critic.model.score);
                Some(Tokenwise::new(session, set, &critic.model.layers, shape, (number, Some(recompute)))?)
            }
            _ => None,
        };
        let (mut reward_programs, mut reward_sets) = (Vec::new(), Vec::new());
        for (source, _) in &self.spec.rewards {
            let RewardSource::Model(RewardFolder { model, .. }) = source else {
                reward_programs.push(None);
                reward_sets.push(None);
                continue;
            };
            let set = next()?;
            reward_programs.push(Some(RewardModel::new(session, set, (&model.layers, model.score), (shape.rows, shape.len))?));
            reward_sets.push(Some(set));
        }
        self.built = Some(Built {
            policy,
            reference,
            value,
            average,
            caches,
            policy_program,
            reference_program,
            value_program,
            reward_programs,
            reward_sets,
        });
        Ok(())
    }

    fn lr_scale(&self, set: usize, _: GroupId) -> f64 {
        let is_value = set == 2 && self.spec.critic.is_some();
        self.spec.critic.as_ref().filter(|_| is_value).map_or(1.0, |critic| critic.lr_scale)
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        for (name, combine) in NAMES {
            scalars.register(name, combine);
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        let prompts = TrainConfig {
            batch_size: self.spec.episodes / self.spec.group_size,
            grad_accumulation: 1,
            ..self.spec.train.clone()
        };
        let tokens = (self.spec.group_size * self.spec.rollout.max_new_tokens) as u64;
        numbered(self.spec.prompts.len(), self.spec.held_out.len(), tokens, &prompts)
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        self.fill_policy(session, resumed)?;
        self.fill_scored(session, resumed)
    }

    fn begin(&mut self, session: &mut Session<D>, batch: &StepBatch) -> Result<u32, RunError> {
        self.roll_out(session, batch)?;
        Ok(self.updates())
    }

    fn after_update(&mut self, _: &mut Session<D>, update: u32) -> Result<ControlFlow<()>, RunError> {
        if update + 1 == self.updates() {
            self.beta = self.next_beta;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn gradients(&mut self, session: &mut Session<D>, update: u32, batch: &StepBatch) -> Result<(), RunError> {
        self.update(session, update, batch)
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        for (name, value) in self.reported.drain(..) {
            let id = out.register(name, Combine::Mean);
            out.add(id, value);
        }
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let numbers: Vec<usize> = RowNumbers::of(batch).collect();
        let scores = self.score_held_out(session, averaged, &numbers, &Stop::new())?;
        let id = out.register("objective/scores", Combine::Mean);
        out.add_sum(id, scores.iter().map(|&x| f64::from(x)).sum(), scores.len() as f64);
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("objective/scores", Direction::Larger)
    }

    fn save(&self) -> Value {
        json!({ "kl_coef": self.beta })
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        if !state.is_null() {
            self.beta = state["kl_coef"].as_f64().ok_or_else(|| format!("expected \"kl_coef\", found {state}"))?;
        }
        Ok(())
    }
}
