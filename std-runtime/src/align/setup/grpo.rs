//! `samara grpo`: rewards, without a value function.

use super::align_config;
use super::policy::{PolicyParts, RewardsConfig, check, prepare};
use crate::align::policy::config::{GrpoConfig, RolloutConfig};
use crate::align::run::{AlignRequest, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::model::tune::config::TuneConfig;
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of a policy without a value function.
    GrpoRun, "samara grpo", &[Kind::Prompt, Kind::Dialogue, Kind::Preference], |run| run.tune.clone(), {
        /// `[tune]`
        tune: TuneConfig;
        /// `[rollout]`
        rollout: RolloutConfig;
        /// `[rewards]`
        rewards: RewardsConfig;
        /// `[grpo]`
        grpo: GrpoConfig;
    }
}

impl GrpoRun {
    fn group_size(&self) -> usize {
        self.rollout.group_size.unwrap_or(8)
    }

    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)?;
        let method = self.grpo.method(self.rollout.max_new_tokens);
        check(&self.rollout, &self.train, self.group_size(), method.compares())
    }
}

/// Trains a policy without a value function.
///
/// # Errors
/// As [`train`].
pub fn run(request: AlignRequest<GrpoRun>) -> Result<Option<TrainOutcome>, TrainingError> {
    train(request, |context| {
        let config = &context.config;
        let parts = PolicyParts {
            rollout: &config.rollout,
            rewards: &config.rewards,
            method: config.grpo.method(config.rollout.max_new_tokens),
            group_size: config.group_size(),
            temperature: config.rollout.temperature.unwrap_or(1.0),
            critic: None,
        };
        prepare(context, parts)
    })
}
