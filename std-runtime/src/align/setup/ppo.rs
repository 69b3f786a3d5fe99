//! `samara ppo`: rewards, with a value function.

use std::path::Path;

use super::policy::{PolicyParts, RewardsConfig, check, prepare};
use super::{align_config, ptx};
use crate::align::policy::config::{PpoConfig, RolloutConfig};
use crate::align::policy::pretraining::PtxConfig;
use crate::align::policy::state::{Critic, CriticInit};
use crate::align::run::{AlignRequest, Context, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::lm::scored::{ScoreInit, Scored};
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of PPO.
    PpoRun, "samara ppo", &[Kind::Prompt, Kind::Dialogue, Kind::Preference], {
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
    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)?;
        check(&self.rollout, &self.train, self.rollout.group_size.unwrap_or(1), false)
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
    let lr_scale = context.config.ppo.value_lr_scale;
    if let Some(folder) = &context.config.rewards.model {
        return Ok(Critic { model: Scored::of_folder(folder)?, init: Some(CriticInit::Scored(folder.clone())), lr_scale });
    }
    let model = Scored::new(&context.base.model, ScoreInit::Zero)?;
    let init = context.config.train.init.as_deref().map(Path::to_path_buf);
    Ok(Critic { model, init: init.map(|folder| CriticInit::Below(folder, context.base.model.clone())), lr_scale })
}
