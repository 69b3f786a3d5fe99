//! The words of `[ppo]` and `[grpo]`.

use samara_core::rl::{Aggregation, Estimator, MissingEos, Recipe, ScoreAt, Variance, WhitenScope};

use super::method::KlPlace;
use crate::config::Choice;

/// A preset by its number among `Conventions::PRESETS` of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PpoPreset {
    /// Ouyang et al. 2022.
    InstructGpt,
    /// Ziegler et al. 2019.
    LmHumanPreferences,
    /// Stiennon et al. 2020.
    Tldr,
    /// TRL.
    Trl,
    /// OpenRLHF.
    OpenRlhf,
    /// verl.
    Verl,
}

impl Choice for PpoPreset {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("instructgpt", Self::InstructGpt),
        ("lm-human-preferences", Self::LmHumanPreferences),
        ("tldr", Self::Tldr),
        ("trl", Self::Trl),
        ("openrlhf", Self::OpenRlhf),
        ("verl", Self::Verl),
    ];
}

/// An estimator of the KL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstimatorChoice(pub Estimator);

impl Choice for EstimatorChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("k1", Self(Estimator::K1)),
        ("abs", Self(Estimator::Abs)),
        ("k2", Self(Estimator::K2)),
        ("k3", Self(Estimator::K3)),
        ("k3+", Self(Estimator::K3Plus)),
    ];
}

impl Choice for KlPlace {
    const WORDS: &'static [(&'static str, Self)] =
        &[("loss", Self::TokenLoss), ("sequence_loss", Self::SequenceLoss), ("rewards", Self::Rewards)];
}

/// What is whitened together.
pub type ScopeChoice = WhitenScope;

impl Choice for WhitenScope {
    const WORDS: &'static [(&'static str, Self)] = &[("batch", Self::Batch), ("minibatch", Self::Minibatch)];
}

/// The divisor of a variance.
pub type VarianceChoice = Variance;

impl Choice for Variance {
    const WORDS: &'static [(&'static str, Self)] = &[("biased", Self::Biased), ("unbiased", Self::Unbiased)];
}

/// The token that gets the score.
pub type ScoreAtChoice = ScoreAt;

impl Choice for ScoreAt {
    const WORDS: &'static [(&'static str, Self)] =
        &[("last", Self::Last), ("eos", Self::Eos), ("eos_plus_one", Self::EosPlusOne)];
}

impl Choice for Aggregation {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("token_mean", Self::TokenMean),
        ("seq_mean_token_mean", Self::SeqMeanTokenMean),
        ("seq_mean_token_sum", Self::SeqMeanTokenSum),
        ("constant", Self::Constant),
    ];
}

/// What becomes of the score of a completion without a stop token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingEosChoice {
    /// It stays.
    Keep,
    /// It is replaced.
    Replace,
    /// It is lowered.
    Subtract,
}

impl Choice for MissingEosChoice {
    const WORDS: &'static [(&'static str, Self)] =
        &[("keep", Self::Keep), ("replace", Self::Replace), ("subtract", Self::Subtract)];
}

impl MissingEosChoice {
    /// The rule, with its value.
    pub(super) fn rule(self, value: f64) -> MissingEos<f32> {
        match self {
            Self::Keep => MissingEos::Keep,
            Self::Replace => MissingEos::Replace(value as f32),
            Self::Subtract => MissingEos::Subtract(value as f32),
        }
    }
}

/// A method without a value function, by its number among [`Recipe::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss(pub(super) usize);

impl Choice for Loss {
    const WORDS: &'static [(&'static str, Self)] = &{
        let mut words = [("", Self(0)); Recipe::ALL.len()];
        let mut i = 0;
        while i < words.len() {
            words[i] = (Recipe::ALL[i].name, Self(i));
            i += 1;
        }
        words
    };
}
