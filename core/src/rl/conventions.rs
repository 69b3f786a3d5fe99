//! What published code does differently, by name, and the choices of six sources.

use super::controller::KlController;
use super::gae::{Gae, Gaps};
use super::kl::{Estimator, Limits};
use super::ppo::Clip;
use super::token_rewards::{MissingEos, Penalised, ScoreAt, TokenRewards};
use super::whiten::{Floor, Variance, Whitening};

/// What is whitened together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhitenScope {
    /// A minibatch, inside of the loss; GAE is computed there too (lm-human-preferences).
    Minibatch,
    /// The whole batch, before the first step.
    Batch,
}

/// Where ε stands in Adam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdamEpsilon {
    /// Beside the second moment before its bias is corrected (TensorFlow).
    BeforeCorrection,
    /// Behind the correction (PyTorch).
    AfterCorrection,
}

/// The conventions of one source. Every value is a default that a key of the same name changes. Policy and value function have an optimizer each, so
/// that no source's coefficient of the value loss stands here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// The preset.
    pub name: &'static str,
    /// Rewards of tokens: the score's place, missing EOS, what is penalised, β at the start.
    pub rewards: TokenRewards<f64>,
    /// How β changes.
    pub controller: KlController<f64>,
    /// The estimator in rewards, and its limits.
    pub kl: (Estimator, Limits<f64>),
    /// Whether rewards are whitened, with their mean kept.
    pub whiten_rewards: bool,
    /// How advantages are whitened.
    pub whitening: Whitening<f64>,
    /// What is whitened together.
    pub whiten_scope: WhitenScope,
    /// Discount, λ, gaps.
    pub gae: Gae<f64>,
    /// Where ratios are clipped.
    pub clip: Clip<f64>,
    /// Where values are clipped.
    pub value_clip: f64,
    /// γ of pretraining text ([`ptx`](super::ptx)).
    pub ptx_coefficient: f64,
    /// Rows of pretraining text for each completion of an update.
    pub ptx_rows: u32,
    /// Passes over a batch.
    pub epochs: u32,
    /// The temperature of sampling and of log-probs.
    pub temperature: f64,
    /// Adam's ε and where it stands.
    pub adam: (f64, AdamEpsilon),
}

const ADDED: Whitening<f64> = Whitening { variance: Variance::Unbiased, shift_mean: true, epsilon: 1e-8, floor: Floor::Added };
const BIASED: Whitening<f64> = Whitening { variance: Variance::Biased, ..ADDED };
const NO_LIMITS: Limits<f64> = Limits { difference: None, value: None };
const CLIP: Clip<f64> = Clip { low: 0.2, high: 0.2, dual: None, log_ratio: None };
const GAE: Gae<f64> = Gae { gamma: 1.0, lambda: 0.95, gaps: Gaps::Zero };

/// summarize-from-feedback (Stiennon et al. 2020), as reproduced by Huang et al. 2024, "The N+ implementation details of RLHF with PPO".
const TLDR: Conventions = Conventions {
    name: "tldr",
    rewards: TokenRewards {
        beta: 0.05,
        score_at: ScoreAt::EosPlusOne,
        missing_eos: MissingEos::Replace(-1.0),
        penalised: Penalised::Completion,
        score_limit: None,
    },
    controller: KlController::Fixed,
    kl: (Estimator::K1, NO_LIMITS),
    whiten_rewards: false,
    whitening: BIASED,
    whiten_scope: WhitenScope::Batch,
    gae: GAE,
    clip: CLIP,
    value_clip: 0.2,
    ptx_coefficient: 0.0,
    ptx_rows: 1,
    epochs: 4,
    temperature: 0.7,
    adam: (1e-5, AdamEpsilon::AfterCorrection),
};

/// Ouyang et al. 2022, appendix C.4; what the paper leaves open is as in [`TLDR`].
const INSTRUCTGPT: Conventions = Conventions {
    name: "instructgpt",
    rewards: TokenRewards { beta: 0.02, ..TLDR.rewards },
    ptx_coefficient: 27.8,
    ptx_rows: 8,
    epochs: 1,
    temperature: 1.0,
    ..TLDR
};

/// Ziegler et al. 2019 and its code: completions of a fixed length without masks, everything whitened within a minibatch.
const LM_HUMAN_PREFERENCES: Conventions = Conventions {
    name: "lm-human-preferences",
    rewards: TokenRewards {
        beta: 0.15,
        score_at: ScoreAt::Last,
        missing_eos: MissingEos::Replace(-1.0),
        penalised: Penalised::Row,
        score_limit: None,
    },
    controller: KlController::Adaptive { target: 6.0, horizon: 10_000.0 },
    whiten_rewards: true,
    whiten_scope: WhitenScope::Minibatch,
    adam: (1e-5, AdamEpsilon::BeforeCorrection),
    ..TLDR
};

/// TRL's `experimental/ppo`, and its trainers of pairs and groups.
const TRL: Conventions = Conventions {
    name: "trl",
    rewards: TokenRewards { missing_eos: MissingEos::Keep, ..TLDR.rewards },
    whitening: ADDED,
    adam: (1e-8, AdamEpsilon::AfterCorrection),
    ..TLDR
};

/// OpenRLHF 0.11.
const OPENRLHF: Conventions = Conventions {
    name: "openrlhf",
    rewards: TokenRewards {
        beta: 0.01,
        score_at: ScoreAt::Eos,
        missing_eos: MissingEos::Keep,
        penalised: Penalised::Completion,
        score_limit: Some(10.0),
    },
    kl: (Estimator::K1, Limits { difference: None, value: Some(10.0) }),
    whitening: Whitening { floor: Floor::Least, ..BIASED },
    gae: Gae { lambda: 1.0, ..GAE },
    clip: Clip { log_ratio: Some(20.0), ..CLIP },
    value_clip: 0.5,
    epochs: 1,
    temperature: 1.0,
    adam: (1e-8, AdamEpsilon::AfterCorrection),
    ..TLDR
};

/// verl's `core_algos.py` and its default configuration.
const VERL: Conventions = Conventions {
    name: "verl",
    rewards: TokenRewards { beta: 0.001, score_limit: None, ..OPENRLHF.rewards },
    kl: (Estimator::K1, NO_LIMITS),
    whitening: ADDED,
    gae: Gae { lambda: 1.0, gaps: Gaps::Skip, ..GAE },
    clip: Clip { dual: Some(3.0), log_ratio: Some(20.0), ..CLIP },
    ..OPENRLHF
};

impl Conventions {
    /// All presets.
    pub const PRESETS: [Self; 6] = [INSTRUCTGPT, LM_HUMAN_PREFERENCES, TLDR, TRL, OPENRLHF, VERL];

    /// The preset of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::PRESETS.into_iter().find(|preset| preset.name == name)
    }
}
