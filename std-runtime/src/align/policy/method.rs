//! What is done with completions and their rewards, every convention by name.

use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, OverlongPenalty};
use samara_core::rl::{Aggregation, Clip, Estimator, Gae, KlController, Limits, Surrogate, TokenRewards, WhitenScope, Whitening};

/// Where advantages come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advantage {
    /// A value function and generalised advantage estimation (PPO).
    Critic {
        /// Discount, λ, gaps.
        gae: Gae<f32>,
        /// Where values are clipped in the value loss.
        value_clip: Option<f32>,
        /// Whether rewards of tokens are whitened before, with their mean kept.
        whiten_rewards: bool,
        /// How advantages are whitened; none: they are left as they are.
        whitening: Option<Whitening<f32>>,
        /// What is whitened together.
        scope: WhitenScope,
    },
    /// The other completions of the prompt (GRPO, Dr. GRPO, DAPO, GSPO, CISPO).
    Group(GroupAdvantages<f32>),
    /// The mean of the others (RLOO).
    LeaveOneOut(GroupOfOne),
    /// Returns of tokens, whitened over the batch (REINFORCE++); with a baseline, scores are less the mean of their prompt before.
    Returns {
        /// Whether the mean of the prompt's scores is subtracted.
        baseline: bool,
        /// How returns are whitened.
        whitening: Whitening<f32>,
    },
    /// Returns less the reward of the greedy completion (ReMax).
    Greedy,
}

/// Where the distance from the reference counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlPlace {
    /// In the rewards of tokens, by value.
    Rewards,
    /// In the loss, token by token. Its gradient is not that of the KL (Tang and Munos 2025).
    TokenLoss,
    /// In the loss, as ½ (Σ log-ratios)² of a sequence, whose gradient is that of the KL.
    SequenceLoss,
}

/// A method of policy optimisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// Advantages.
    pub advantage: Advantage,
    /// The policy's loss, from ratios π/π_old and advantages.
    pub surrogate: Surrogate,
    /// Where ratios are clipped.
    pub clip: Clip<f32>,
    /// From losses of tokens to that of a minibatch.
    pub aggregation: Aggregation,
    /// Whether that is over a whole minibatch; else over each of its micro-batches, whose mean counts (BNPO).
    pub whole_step: bool,
    /// The rewards of tokens; β is the first coefficient of the KL.
    pub rewards: TokenRewards<f32>,
    /// How the coefficient of the KL changes.
    pub controller: KlController<f64>,
    /// The estimator of the KL.
    pub kl: (Estimator, Limits<f32>),
    /// Where it counts.
    pub kl_place: KlPlace,
    /// The estimator of the KL that is reported.
    pub reported_kl: Estimator,
    /// A penalty for completions near the limit of length.
    pub overlong: Option<OverlongPenalty<f32>>,
    /// Whether completions that were cut do not count in the loss.
    pub mask_truncated: bool,
    /// What the mean entropy is multiplied by and subtracted from the loss; 0: no entropy bonus.
    pub entropy: f32,
    /// Rounds of completions of a step at most, until enough prompts have completions with different scores; 1: every prompt counts.
    pub rounds: u32,
    /// Passes over the completions of a step.
    pub epochs: u32,
}

impl Method {
    /// Whether there is a value function.
    pub fn has_critic(&self) -> bool {
        matches!(self.advantage, Advantage::Critic { .. })
    }

    /// Whether advantages compare completions of one prompt.
    pub fn compares(&self) -> bool {
        matches!(self.advantage, Advantage::Group(_) | Advantage::LeaveOneOut(_) | Advantage::Returns { baseline: true, .. })
    }
}
