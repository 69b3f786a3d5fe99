//! The objective of a policy: completions of prompts, their scores, and several updates from them in every step.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use samara_core::params::GroupId;
use serde_json::{Value, json};

use super::state::{Built, Critic, Lasting, Policy};
use super::update::{NAMES, PTX};
use crate::align::base::{check_state, state_of};
use crate::align::source::numbered;
use crate::data::dataset::{HostBatch, RowNumbers};
use crate::lm::step::Step;
use crate::lm::tokenwise::{Number, Tokenwise, Trained};
use crate::lm::{Bound, Caches, RunError};
use crate::run::plot::{Pair, SCORES_AND_KL};
use crate::session::update::UpdateNumbers;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::stop::Stop;
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use crate::train::scalars::{Combine, Scalars};

/// What evaluations measure.
const SCORES: &str = "objective/scores";
/// Completions of a step that a sample shows.
const SAMPLES: usize = 4;

/// The place of the value function among the sets.
const VALUE: usize = 2;

impl Policy {
    /// The value function, if the set at this place is its.
    fn critic_of(&self, set: usize) -> Option<&Critic> {
        self.spec.critic.as_ref().filter(|_| set == VALUE)
    }
}

impl<D: Device> Objective<D> for Policy {
    fn sets(&self) -> Vec<SetSpec> {
        let own = |name, role| SetSpec { name, registry: Arc::clone(&self.registry), role };
        let mut sets = vec![own("policy", SetRole::Trained), own("reference", SetRole::Reference { of: 0 })];
        if let Some(critic) = &self.spec.critic {
            sets.push(SetSpec { name: "value", registry: Arc::clone(&critic.model.registry), role: SetRole::Trained });
        }
        if self.spec.train.ema_decay > 0.0 {
            sets.push(own("ema", SetRole::Average { of: 0 }));
        }
        let reward =
            |registry: &Arc<OwnedParams>| SetSpec { name: "reward", registry: Arc::clone(registry), role: SetRole::Fixed };
        sets.extend(self.spec.rewards.registries().map(reward));
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
        let temperature = self.spec.rollout.temperature;
        let logprob = Number::Logprob { temperature };
        let has_bonus = self.spec.method.entropy > 0.0;
        let trained = if has_bonus { Number::LogprobAndEntropy { temperature } } else { logprob };
        let policy_program = Tokenwise::new(session, policy, &self.layers, shape, (trained, Some(Trained::PLAIN)))?;
        let reference_program = Tokenwise::new(session, reference, &self.layers, shape, (logprob, None))?;
        let value_program = match (&self.spec.critic, value) {
            (Some(critic), Some(set)) => {
                let number = Number::Score(critic.model.score);
                Some(Tokenwise::new(session, set, &critic.model.layers, shape, (number, Some(Trained::PLAIN)))?)
            }
            _ => None,
        };
        self.spec.rewards.build(session, (shape.rows, shape.len), &mut next)?;
        let pretraining = self.text_shape().map(|shape| {
            let (dims, layers) = (self.layers.dims(), Arc::clone(&self.layers));
            Step::new(&mut Bound { dims, layers, session, set: policy, caches }, shape)
        });
        let pretraining = pretraining.transpose()?;
        self.built = Some(Built {
            policy,
            reference,
            value,
            average,
            caches,
            policy_program,
            reference_program,
            value_program,
            pretraining,
        });
        Ok(())
    }

    fn lr_scale(&self, set: usize, _: GroupId) -> f64 {
        self.critic_of(set).map_or(1.0, |critic| critic.lr_scale)
    }

    fn numbers(&self, set: usize, of_train: UpdateNumbers) -> UpdateNumbers {
        self.critic_of(set).map_or(of_train, |critic| critic.optimizer.numbers(of_train))
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
        let mut sources = numbered(self.spec.prompts.len(), self.spec.held_out.len(), tokens, &prompts);
        sources.extend(self.text_source());
        sources
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        self.fill(session, resumed)
    }

    fn begin(&mut self, session: &mut Session<D>, batch: &StepBatch) -> Result<u32, RunError> {
        self.roll_out(session, batch)?;
        Ok(self.updates())
    }

    fn after_update(&mut self, _: &mut Session<D>, update: u32) -> Result<ControlFlow<()>, RunError> {
        if update + 1 == self.updates() {
            self.lasting = self.next;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn gradients(&mut self, session: &mut Session<D>, update: u32, batch: &StepBatch) -> Result<(), RunError> {
        self.update(session, update, batch)
    }

    fn collect(&mut self, session: &Session<D>, _: u32, out: &mut Scalars) {
        self.reported.extend(self.pretraining_loss(session).map(|loss| (PTX, loss)));
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
        let id = out.register(SCORES, Combine::Mean);
        out.add_sum(id, scores.iter().map(|&x| f64::from(x)).sum(), scores.len() as f64);
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        (SCORES, Direction::Larger)
    }

    fn is_evaluated(&self, scalar: &str) -> bool {
        scalar == SCORES
    }

    fn drawn_against(&self) -> Option<&'static Pair> {
        Some(&SCORES_AND_KL)
    }

    fn unit(&self, scalar: &str) -> &'static str {
        match scalar {
            "objective/kl" => "nats per completion",
            "objective/entropy" | "policy/entropy" | "policy/approxkl" | PTX => "nats per token",
            "rollout/length" => "tokens",
            _ => "",
        }
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        let Some((output, _)) = &self.output else { return Ok(()) };
        let Built { policy, average, value, .. } = *self.built();
        let [frozen, of_value] = &self.frozen;
        let set = average.filter(|_| averaged).unwrap_or(policy);
        output.save(session, set, (&*self.spec.policy.architecture, frozen), folder)?;
        if let (Some(critic), Some(value)) = (&self.spec.critic, value) {
            output.save_scored(session, (value, &critic.model, of_value), (None, 0.0), &folder.join("value"))?;
        }
        Ok(())
    }

    fn sample(&mut self, _: &mut Session<D>, _: &Stop) -> Result<Option<String>, TrainingError> {
        let Some((_, texts)) = self.output.as_ref().filter(|_| !self.rollouts.episodes.is_empty()) else { return Ok(None) };
        let rows = self.rollouts.episodes.iter().zip(&self.rollouts.batch.scores).take(SAMPLES);
        let lines = rows.map(|(episode, score)| {
            let [prompt, completion] = [&episode.tokens[..episode.prompt], episode.completion()].map(|tokens| texts.text(tokens));
            format!("{score:>9.4} | {prompt} | {completion}")
        });
        Ok(Some(lines.collect::<Vec<_>>().join("\n")))
    }

    fn save(&self) -> Value {
        let [frozen, of_value] = self.frozen.each_ref().map(state_of);
        let Lasting { beta, equal_steps } = self.lasting;
        json!({ "kl_coef": beta, "equal_steps": equal_steps, "policy": frozen, "value": of_value })
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        if !state.is_null() {
            let missing = |key: &str| format!("expected {key:?}, found {state}");
            let beta = state["kl_coef"].as_f64().ok_or_else(|| missing("kl_coef"))?;
            let equal_steps = state["equal_steps"].as_u64().ok_or_else(|| missing("equal_steps"))? as u32;
            self.lasting = Lasting { beta, equal_steps };
        }
        let [frozen, of_value] = &self.frozen;
        check_state(frozen, &state["policy"])?;
        check_state(of_value, &state["value"])
    }
}
