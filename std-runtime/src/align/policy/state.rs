//! A policy that is trained: what it is made of, its programs, and what is known of the completions of a step.

use std::path::PathBuf;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;

use super::advantages::{Batch, Targets};
use super::builtin::Texts;
use super::episodes::{Episode, RolloutOptions};
use super::method::Method;
use super::pretraining::Pretraining;
use super::rewards::Rewards;
use crate::align::base::{Base, Frozen};
use crate::align::output::Output;
use crate::lm::scored::Scored;
use crate::lm::step::Step;
use crate::lm::tokenwise::{TokenBatch, TokensShape, Tokenwise};
use crate::lm::{Bound, Caches};
use crate::session::update::UpdateNumbers;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;

/// A value function.
pub struct Critic {
    /// The model.
    pub model: Scored,
    /// Where its weights come from: a reward folder, or a language model below a score of 0; none: random ones.
    pub init: Option<PathBuf>,
    /// A factor of the learning rate.
    pub lr_scale: f64,
    /// What its optimizer has in the place of the policy's.
    pub optimizer: ValueOptimizer,
}

/// Settings of the value function's optimizer; those that are absent are as the policy's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValueOptimizer {
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// β₁ of AdamW.
    pub beta1: Option<f64>,
    /// β₂ of AdamW.
    pub beta2: Option<f64>,
    /// The largest norm of the gradient; 0: any.
    pub grad_clip: Option<f64>,
}

impl ValueOptimizer {
    /// The hyper-parameters of an update, from those of the policy.
    pub fn numbers(&self, policy: UpdateNumbers) -> UpdateNumbers {
        UpdateNumbers {
            weight_decay: self.weight_decay.unwrap_or(policy.weight_decay),
            beta1: self.beta1.unwrap_or(policy.beta1),
            beta2: self.beta2.unwrap_or(policy.beta2),
            grad_clip: self.grad_clip.unwrap_or(policy.grad_clip),
            ..policy
        }
    }
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
    /// Where scores come from.
    pub rewards: Rewards,
    /// Prompts.
    pub prompts: Vec<Vec<i32>>,
    /// Prompts of the validation.
    pub held_out: Vec<Vec<i32>>,
    /// Pretraining text beside completions (PPO-ptx).
    pub pretraining: Option<Pretraining>,
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
    pub(super) pretraining: Option<Step>,
}

/// The completions of a step and what is known of them.
#[derive(Default)]
pub(super) struct Rollouts {
    pub(super) episodes: Vec<Episode>,
    pub(super) batch: Batch,
    pub(super) targets: Targets,
}

/// What dynamic sampling did in a step.
#[derive(Clone, Copy, Default)]
pub(super) struct DynamicSampling {
    /// Prompts whose completions all had one score.
    pub(super) dropped: usize,
    /// Rounds of completions.
    pub(super) rounds: u32,
}

/// What goes on from step to step, and so stands in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lasting {
    /// The coefficient of the KL.
    pub(super) beta: f64,
    /// Steps in a row in which nothing could be learnt, because all completions of a prompt had the same score.
    pub(super) equal_steps: u32,
}

/// Host buffers of the losses of a micro-batch, each (B, R).
pub(super) struct Losses {
    pub(super) losses: Vec<f32>,
    pub(super) upstream: Vec<f32>,
    pub(super) of_entropy: Vec<f32>,
    pub(super) penalty: Vec<f32>,
    pub(super) slopes: Vec<f32>,
}

impl Losses {
    fn new(shape: TokensShape) -> Self {
        let zeros = || vec![0.0; shape.rows * shape.picks];
        Self { losses: zeros(), upstream: zeros(), of_entropy: zeros(), penalty: zeros(), slopes: zeros() }
    }
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
    /// What the step begins with.
    pub(super) lasting: Lasting,
    /// What it leaves to the next.
    pub(super) next: Lasting,
    /// Entropies of the completions' tokens (N, R).
    pub(super) entropies: Vec<f32>,
    /// What the last step's dynamic sampling did.
    pub(super) sampling: DynamicSampling,
    /// Values that `collect` hands over.
    pub(super) reported: Vec<(&'static str, f64)>,
    pub(super) output: Option<(Output, Arc<Texts>)>,
    /// Whether nothing is said.
    pub(super) quiet: bool,
    /// Whether it was said that nothing is learnt from a step.
    pub(super) equal_said: bool,
    /// What the frozen weights of policy and value function were read from.
    pub(super) frozen: [Frozen; 2],
}

impl Policy {
    /// A policy to be trained.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(mut spec: PolicySpec) -> Result<Self, BuildError> {
        // Without a coefficient the text is not even read.
        spec.pretraining = spec.pretraining.filter(|text| text.coefficient > 0.0);
        let (registry, layers) = spec.policy.register()?;
        let longest = spec.prompts.iter().chain(&spec.held_out).map(Vec::len).max().unwrap_or(0);
        let shape = TokensShape {
            rows: spec.train.batch_size,
            len: longest + spec.rollout.max_new_tokens,
            picks: spec.rollout.max_new_tokens,
        };
        let lasting = Lasting { beta: f64::from(spec.method.rewards.beta), equal_steps: 0 };
        Ok(Self {
            layers,
            registry,
            built: None,
            rollouts: Rollouts::default(),
            rows: TokenBatch::new(shape),
            losses: Losses::new(shape),
            lasting,
            next: lasting,
            entropies: Vec::new(),
            sampling: DynamicSampling::default(),
            reported: Vec::new(),
            output: None,
            quiet: true,
            equal_said: false,
            frozen: [None, None],
            spec,
        })
    }

    /// The same with the folder that it leaves, and what its samples are written with.
    #[must_use]
    pub fn with_output(self, output: Output, texts: Arc<Texts>) -> Self {
        Self { output: Some((output, texts)), ..self }
    }

    /// The same, unless it is `quiet` with warnings of what a person should know.
    #[must_use]
    pub fn with_warnings(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Completions of a minibatch.
    pub(super) fn minibatch(&self) -> usize {
        self.spec.train.batch_size * self.spec.train.grad_accumulation
    }

    /// Updates of a step.
    pub(super) fn updates(&self) -> u32 {
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

    /// Fills policy, reference, value function and reward models; what a checkpoint has is left to it.
    pub(super) fn fill<D: Device>(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let Built { policy, reference, value, .. } = *self.built();
        let seed = self.spec.train.seed;
        let frozen = self.spec.policy.fill(session, (policy, Some(reference)), seed, resumed)?;
        let of_value = match (&self.spec.critic, value) {
            (Some(critic), Some(value)) => critic.model.fill(session, value, (critic.init.as_deref(), seed), resumed)?,
            _ => None,
        };
        self.frozen = [frozen, of_value];
        self.spec.rewards.fill(session)
    }
}
