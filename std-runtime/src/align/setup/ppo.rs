//! `samara ppo`: rewards, with a value function.

use super::policy::{PolicyParts, RewardsConfig, check, prepare};
use super::{align_config, ptx};
use crate::align::policy::config::{PpoConfig, RolloutConfig};
use crate::align::policy::pretraining::PtxConfig;
use crate::align::policy::rewards::refuse_other;
use crate::align::policy::state::{Critic, ValueOptimizer};
use crate::align::run::{AlignRequest, Context, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::lm::open::OpenError;
use crate::lm::score_kind::ScoreKind;
use crate::lm::scored::{ScoreInit, Scored};
use crate::model::folder::FolderConfig;
use crate::model::tune::config::TuneConfig;
use crate::model::tune::peft::Source;
use crate::model_folder::is_adapter_folder;
use crate::train::config::Optimizer;
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of PPO.
    PpoRun, "samara ppo", &[Kind::Prompt, Kind::Dialogue, Kind::Preference], |run| run.tune.clone(), PpoRun::resolved, {
        /// `[tune]`
        tune: TuneConfig;
        /// `[rollout]`
        rollout: RolloutConfig;
        /// `[rewards]`
        rewards: RewardsConfig;
        /// `[ptx]`
        ptx: PtxConfig;
        /// `[ppo]`
        ppo: PpoConfig;
    }
}

impl PpoRun {
    fn resolved(&mut self) {
        let conventions = self.ppo.conventions();
        self.rollout.resolve(1, conventions.temperature);
        self.ppo.resolve(&self.train);
        if self.ptx.data.is_some() && conventions.ptx_coefficient > 0.0 {
            self.ptx.coef.get_or_insert(conventions.ptx_coefficient);
        }
        self.ptx.rows.get_or_insert(conventions.ptx_rows as usize);
    }

    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)?;
        let betas = [("ppo.value_beta1", self.ppo.value_beta1), ("ppo.value_beta2", self.ppo.value_beta2)];
        if let (Optimizer::Sgd, Some((key, Some(beta)))) =
            (self.train.optimizer, betas.into_iter().find(|(_, beta)| beta.is_some()))
        {
            return Err(Invalid::new(key, "no value: train.optimizer = \"sgd\" has train.momentum for both", beta));
        }
        check(&self.rollout, (&self.train, &self.tune), (self.rollout.group_size.unwrap_or(1), false))
    }
}

/// Trains a policy with a value function.
///
/// # Errors
/// As [`train`].
pub fn run(request: AlignRequest<PpoRun>) -> Result<Option<TrainOutcome>, TrainingError> {
    train(request, |context| {
        let config = &context.config;
        let conventions = config.ppo.conventions();
        let parts = PolicyParts {
            rollout: &config.rollout,
            rewards: &config.rewards,
            ptx: ptx::read(context, &config.ptx, Some(&conventions))?,
            method: config.ppo.method(),
            group_size: config.rollout.group_size.unwrap_or(1),
            temperature: config.rollout.temperature.unwrap_or(conventions.temperature),
            critic: Some(critic(context)?),
        };
        let has_text = parts.ptx.is_some();
        let mut prepared = prepare(context, parts)?;
        if conventions.ptx_coefficient > 0.0 && !has_text {
            prepared.lines.push(format!(
                "pretraining text: left out, where {} has it with a coefficient of {}; ptx.data names it",
                conventions.name, conventions.ptx_coefficient
            ));
        }
        Ok(prepared)
    })
}

/// The value function begins with the reward model, or with the policy and a score of 0.
fn critic(context: &Context<PpoRun>) -> Result<Critic, TrainingError> {
    let PpoConfig { value_lr_scale: lr_scale, value_weight_decay: weight_decay, value_beta1: beta1, value_beta2: beta2, .. } =
        context.config.ppo;
    let optimizer = ValueOptimizer { weight_decay, beta1, beta2, grad_clip: context.config.ppo.value_grad_clip };
    let (tune, train) = (&context.config.tune, &context.config.train);
    let reward = &context.config.rewards.model;
    if let Some(folder) = reward {
        refuse_other("rewards.model", &Source::of(folder, None).map_err(OpenError::from)?)?;
    }
    let (config, init) = match reward {
        Some(folder) if is_adapter_folder(folder) => {
            let expected = "a whole model, which the value function begins with: samara merge makes one of an adapter";
            return Err(Invalid::new("rewards.model", expected, folder.display()).into());
        }
        Some(folder) => (FolderConfig::read(folder)?.model, Some(folder.clone())),
        None => (context.base.model.clone(), train.init.clone()),
    };
    let model = Scored { kind: ScoreKind::Value, ..Scored::tuned(&config, ScoreInit::Zero, tune)? };
    Ok(Critic { model, init, lr_scale, optimizer })
}
