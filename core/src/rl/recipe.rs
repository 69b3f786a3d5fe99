//! Critic-free methods by name: which advantage, which surrogate, which mean each is made of.

use super::aggregate::Aggregation;
use super::cispo::{WeightLimits, cispo};
use super::error::Error;
use super::groups::Scale;
use super::gspo::{SequenceRatio, gspo};
use super::ppo::{Clip, ppo};
use super::ratio::{PolicyBatch, RatioStatistics};
use crate::math::Real;

/// What a completion's reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The mean of its group ([`group_advantages`](super::groups::group_advantages)).
    Group(Scale),
    /// The others of its group ([`rloo`](super::groups::rloo)).
    LeaveOneOut,
    /// All tokens of the batch ([`reinforce_plus_plus`](super::groups::reinforce_plus_plus)).
    Batch {
        /// Whether the mean of the group is subtracted from scores before.
        less_group_mean: bool,
    },
    /// The greedy completion of its prompt ([`remax`](super::groups::remax)).
    Greedy,
}

/// What is descended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrogate {
    /// The clipped surrogate of each token ([`ppo`]).
    Token,
    /// That of each sequence ([`gspo`]).
    Sequence(SequenceRatio),
    /// Log-probs with clipped weights ([`cispo`]).
    Weight,
}

/// A method without a critic. Every value is a default that a key of the same name changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// What a reward is compared with.
    pub baseline: Baseline,
    /// What is descended.
    pub surrogate: Surrogate,
    /// Where ratios are clipped; of [`Surrogate::Weight`] 1 − low and 1 + high are the limits, and a low of 1 is none.
    pub clip: Clip<f64>,
    /// How losses of tokens become one number.
    pub aggregation: Aggregation,
    /// Whether the mean is over a whole optimizer step; else over each micro-batch (BNPO).
    pub whole_step: bool,
}

const fn clip(low: f64, high: f64) -> Clip<f64> {
    Clip { low, high, dual: None, log_ratio: None }
}

/// Shao et al. 2024, eq. 3.
const GRPO: Recipe = Recipe {
    name: "grpo",
    baseline: Baseline::Group(Scale::Group),
    surrogate: Surrogate::Token,
    clip: clip(0.2, 0.2),
    aggregation: Aggregation::SeqMeanTokenMean,
    whole_step: true,
};

/// Liu et al. 2025, "Understanding R1-Zero-like training", section 3.2.
const DR_GRPO: Recipe =
    Recipe { name: "dr_grpo", baseline: Baseline::Group(Scale::None), aggregation: Aggregation::Constant, ..GRPO };

/// TRL's `bnpo`: as DAPO, with the mean over a micro-batch.
const BNPO: Recipe = Recipe { name: "bnpo", aggregation: Aggregation::TokenMean, whole_step: false, ..GRPO };

/// Yu et al. 2025, eq. 8.
const DAPO: Recipe = Recipe { name: "dapo", clip: clip(0.2, 0.28), aggregation: Aggregation::TokenMean, ..GRPO };

/// Zheng et al. 2025, eq. 5 and section 5.1.
const GSPO: Recipe = Recipe { name: "gspo", surrogate: Surrogate::Sequence(SequenceRatio::Mean), clip: clip(3e-4, 4e-4), ..GRPO };

/// MiniMax 2025, eq. 4: no limit below.
const CISPO: Recipe =
    Recipe { name: "cispo", surrogate: Surrogate::Weight, clip: clip(1.0, 0.2), aggregation: Aggregation::TokenMean, ..GRPO };

/// Ahmadian et al. 2024, stepped as in TRL: the ratio of sequences.
const RLOO: Recipe =
    Recipe { name: "rloo", baseline: Baseline::LeaveOneOut, surrogate: Surrogate::Sequence(SequenceRatio::Sum), ..GRPO };

/// Hu 2025.
const REINFORCE_PLUS_PLUS: Recipe = Recipe {
    name: "reinforce++",
    baseline: Baseline::Batch { less_group_mean: false },
    aggregation: Aggregation::TokenMean,
    ..GRPO
};

/// Hu 2025, section 3.3.
const REINFORCE_PLUS_PLUS_BASELINE: Recipe =
    Recipe { name: "reinforce++-baseline", baseline: Baseline::Batch { less_group_mean: true }, ..REINFORCE_PLUS_PLUS };

/// Li et al. 2024.
const REMAX: Recipe = Recipe { name: "remax", baseline: Baseline::Greedy, aggregation: Aggregation::TokenMean, ..GRPO };

impl Recipe {
    /// All methods.
    pub const ALL: [Self; 10] =
        [GRPO, DR_GRPO, BNPO, DAPO, GSPO, CISPO, RLOO, REINFORCE_PLUS_PLUS, REINFORCE_PLUS_PLUS_BASELINE, REMAX];

    /// The method of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recipe| recipe.name == name)
    }
}

impl Surrogate {
    /// Losses of tokens and their derivatives (B, T), and statistics of ratios, within `clip`.
    ///
    /// # Errors
    /// Those of the surrogate; a dual clip or a limit of the log-ratio for weights, which have none.
    pub fn losses<R: Real>(
        self,
        clip: &Clip<R>,
        batch: &PolicyBatch<'_, R>,
        losses: &mut [R],
        gradients: &mut [R],
    ) -> Result<RatioStatistics<R>, Error> {
        match self {
            Self::Token => ppo(clip, batch, losses, gradients),
            Self::Sequence(ratio) => gspo(clip, ratio, batch, losses, gradients),
            Self::Weight => {
                let none = "none, for clipped weights have no such limit";
                for (name, given) in [("dual_clip", clip.dual), ("log_ratio_limit", clip.log_ratio)] {
                    given.map_or(Ok(()), |x| Err(Error::Parameter { name, expected: none, found: x.to_f64() }))?;
                }
                let limits = WeightLimits { low: R::ONE - clip.low, high: R::ONE + clip.high };
                cispo(&limits, batch, losses, gradients)
            }
        }
    }
}
