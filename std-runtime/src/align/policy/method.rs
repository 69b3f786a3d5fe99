//! What is done with completions and their rewards, every convention by name.

use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, OverlongPenalty};
use samara_core::rl::{
    Aggregation, Clip, Estimator, Gae, KlController, Limits, SequenceRatio, TokenRewards, WeightLimits, WhitenScope, Whitening,
};

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
    /// Nothing but the reward itself (REINFORCE).
    Reward,
}

/// The loss of a token or sequence, from its ratio π/π_old and its advantage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// PPO's clipped ratio of every token.
    Token(Clip<f32>),
    /// One clipped ratio of a sequence (GSPO with the mean, RLOO with the sum of log-ratios).
    Sequence(Clip<f32>, SequenceRatio),
    /// Clipped weights of log π (CISPO).
    Weights(WeightLimits<f32>),
    /// −A log π.
    Reinforce,
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
    /// The policy's loss.
    pub surrogate: Surrogate,
    /// From losses of tokens to that of a minibatch.
    pub aggregation: Aggregation<f32>,
    /// The rewards of tokens; β is the first coefficient of the KL.
    pub rewards: TokenRewards<f32>,
    /// How the coefficient of the KL changes.
    pub controller: KlController<f64>,
    /// The estimator of the KL.
    pub kl: (Estimator, Limits<f32>),
    /// Where it counts.
    pub kl_place: KlPlace,
    /// A penalty for completions near the limit of length.
    pub overlong: Option<OverlongPenalty<f32>>,
    /// Whether completions that were cut do not count in the loss.
    pub mask_truncated: bool,
    /// Prompts whose completions all have the same reward are sampled again, with other prompts, at most this many times (DAPO); 0: they stay.
    pub resample: u32,
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
