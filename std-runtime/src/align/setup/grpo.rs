//! `samara grpo`: rewards, without a value function.

use super::policy::{PolicyParts, RewardsConfig, check, prepare};
use super::{align_config, ptx};
use crate::align::policy::config::{GrpoConfig, RolloutConfig};
use crate::align::policy::pretraining::PtxConfig;
use crate::align::run::{AlignRequest, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::model::tune::config::TuneConfig;
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of a policy without a value function.
    GrpoRun, "samara grpo", &[Kind::Prompt, Kind::Dialogue, Kind::Preference], |run| run.tune.clone(), GrpoRun::resolved, {
        /// `[tune]`
        tune: TuneConfig;
        /// `[rollout]`
        rollout: RolloutConfig;
        /// `[rewards]`
        rewards: RewardsConfig;
        /// `[ptx]`
        ptx: PtxConfig;
        /// `[grpo]`
        grpo: GrpoConfig;
    }
}

impl GrpoRun {
    fn group_size(&self) -> usize {
        self.rollout.group_size.unwrap_or(8)
    }

    fn resolved(&mut self) {
        self.rollout.resolve(8, 1.0);
        self.grpo.resolve();
    }

    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)?;
        let method = self.grpo.method(self.rollout.max_new_tokens);
        if method.rounds > 1 && !method.compares() {
            let expected = format!("1 for {}, which does not compare the completions of a prompt", self.grpo.recipe().name);
            return Err(Invalid::new("grpo.dynamic_sampling", expected, method.rounds));
        }
        if self.grpo.overlong_buffer > self.rollout.max_new_tokens {
            let expected = format!("at most rollout.max_new_tokens = {}", self.rollout.max_new_tokens);
            return Err(Invalid::new("grpo.overlong_buffer", expected, self.grpo.overlong_buffer));
        }
        check(&self.rollout, (&self.train, &self.tune), (self.group_size(), method.compares()))
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
            ptx: ptx::read(context, &config.ptx, None)?,
            method: config.grpo.method(config.rollout.max_new_tokens),
            group_size: config.group_size(),
            temperature: config.rollout.temperature.unwrap_or(1.0),
            critic: None,
        };
        prepare(context, parts)
    })
}
