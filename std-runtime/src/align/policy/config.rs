//! `[rollout]`, `[ppo]`, `[grpo]`: how completions are sampled, and what is learnt from them.

use samara_core::graph::Epsilon;
use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, OverlongPenalty, Scale};
use samara_core::rl::{
    AdamEpsilon, Aggregation, Baseline, Clip, Conventions, Estimator, Gae, KlController, Limits, MissingEos, Recipe, ScoreAt,
    Surrogate, TokenRewards, Variance, Whitening,
};

use super::choices::{EstimatorChoice, Loss, MissingEosChoice, PpoPreset, ScopeChoice, ScoreAtChoice, VarianceChoice};
use super::method::{Advantage, KlPlace, Method};
use crate::config::{Choice, Unread, table};

table! {
    /// How completions are sampled.
    pub RolloutConfig {
        /// Completions of a step, a multiple of rollout.group_size and of the completions of an update (train.batch_size times
        /// train.grad_accumulation).
        episodes: usize = 64, 1..=1048576;
        /// Completions of a prompt; methods that compare completions need at least 2; absent: 1 for ppo, 8 for grpo.
        group_size: Option<usize> = None, 1..=65536;
        /// Tokens of a completion at most.
        max_new_tokens: usize = 48, 1..=1048576;
        /// Logits are divided by it, while sampling and while learning; absent: 1, or that of ppo.preset.
        temperature: Option<f64> = None, 0.01..=100;
        /// Completions that are sampled side by side. The result does not depend on it.
        rows: usize = 64, 1..=65536;
    }
    may change: rows;
}

table! {
    /// Proximal policy optimisation with a value function. What is absent is as in the preset.
    pub PpoConfig {
        /// The conventions of a source: "instructgpt", "lm-human-preferences", "tldr", "trl", "openrlhf" or "verl". Its ε of Adam is the
        /// default of train.eps and train.eps_mode, its coefficient of pretraining text that of ptx.coef.
        preset: PpoPreset = PpoPreset::Trl;
        /// Passes over the completions of a step.
        epochs: Option<u64> = None, 1..=1000;
        /// The coefficient of the KL from the reference, at first.
        kl_coef: Option<f64> = None, 0..=1000;
        /// The KL of a completion in nats that the coefficient is led to; 0: the coefficient stays.
        kl_target: Option<f64> = None, 0..=100000;
        /// Completions over which an error of 1 would double the coefficient; absent: as the preset has it, or 10000.
        kl_horizon: Option<f64> = None, 1..=1e15;
        /// The estimator of the KL in rewards: "k1", "abs", "k2" or "k3".
        kl_estimator: Option<EstimatorChoice> = None;
        /// The estimator of the KL that is reported (objective/kl): the mean over completions of its sum over tokens, at rollout.temperature. The coefficient
        /// of the KL follows "k1".
        reported_kl: EstimatorChoice = EstimatorChoice(Estimator::K1);
        /// Discount of a token.
        gamma: Option<f64> = None, 0..=1;
        /// λ of generalised advantage estimation.
        lambda: Option<f64> = None, 0..=1;
        /// Ratios below 1 less this are clipped.
        clip: Option<f64> = None, 0..=1;
        /// Ratios above 1 and this are clipped; absent: as clip.
        clip_high: Option<f64> = None, 0..=1000;
        /// The loss of a bad token is at most this times its advantage (dual clip); 0: no limit.
        dual_clip: Option<f64> = None, 0..=1000;
        /// Values are clipped to ±this around old ones; 0: not.
        value_clip: Option<f64> = None, 0..=1000;
        /// Whiten rewards, with their mean kept.
        whiten_rewards: Option<bool> = None;
        /// Whiten advantages.
        whiten_advantages: bool = true;
        /// What is whitened together: "batch" or "minibatch".
        whiten_scope: Option<ScopeChoice> = None;
        /// The variance of whitening: "biased" or "unbiased".
        variance: Option<VarianceChoice> = None;
        /// The token that gets the score: "last" (of the row), "eos" or "eos_plus_one".
        score_at: Option<ScoreAtChoice> = None;
        /// The score of a completion without a stop token: "keep", "replace" (by missing_eos_value) or "subtract" (it).
        missing_eos: Option<MissingEosChoice> = None;
        /// See missing_eos; absent: as the preset has it, or 1.
        missing_eos_value: Option<f64> = None, -1000..=1000;
        /// A factor of the value function's learning rate.
        value_lr_scale: f64 = 1.0, 0..=1000;
        /// Weight decay of the value function; absent: train.weight_decay.
        value_weight_decay: Option<f64> = None, 0..=10;
        /// Decay of AdamW's first moment for the value function; absent: train.beta1.
        value_beta1: Option<f64> = None, 0..=0.9999999;
        /// Decay of AdamW's second moment for the value function; absent: train.beta2.
        value_beta2: Option<f64> = None, 0..=0.9999999;
        /// The largest norm of the value function's gradient; 0: any; absent: train.grad_clip.
        value_grad_clip: Option<f64> = None, 0..=1e30;
        /// The weight of the policy's entropy, which is subtracted from the loss; 0: none.
        entropy_coef: f64 = 0.0, 0..=1000;
    }
    unread: PpoConfig::unread;
}

table! {
    /// Policy optimisation without a value function: completions of a prompt are each other's baseline.
    pub GrpoConfig {
        /// The method: "grpo", "dr_grpo", "bnpo", "dapo", "gspo", "cispo", "rloo", "reinforce++", "reinforce++-baseline" or "remax".
        loss: Loss = Loss(0);
        /// Passes over the completions of a step.
        epochs: u64 = 1, 1..=1000;
        /// The coefficient of the KL from the reference.
        kl_coef: f64 = 0.04, 0..=1000;
        /// Where the KL counts: "loss" (token by token: not the gradient of the KL), "sequence_loss" (½ of a completion's squared log-ratio: that
        /// gradient) or "rewards"; absent: rewards for rloo, reinforce++ and remax, else loss.
        kl_place: Option<KlPlace> = None;
        /// The estimator of the KL: "k1", "abs", "k2" or "k3"; absent: k3 in the loss, k1 in rewards.
        kl_estimator: Option<EstimatorChoice> = None;
        /// The estimator of the KL that is reported (objective/kl): the mean over completions of its sum over tokens.
        reported_kl: EstimatorChoice = EstimatorChoice(Estimator::K1);
        /// Ratios below 1 less this are clipped; absent: as the method has it.
        clip: Option<f64> = None, 0..=1;
        /// Ratios above 1 and this are clipped; absent: as the method has it.
        clip_high: Option<f64> = None, 0..=1000;
        /// Added to the standard deviation of a group: 1e-4 in TRL, 1e-6 in verl, 1e-9 in OpenRLHF.
        std_epsilon: f64 = 1e-4, 0..=1;
        /// How losses of tokens become one number: "token_mean", "seq_mean_token_mean", "seq_mean_token_sum" or "constant"; absent: as the method has it.
        aggregation: Option<Aggregation> = None;
        /// Completions without a stop token do not count in the loss.
        mask_truncated: bool = false;
        /// Tokens before the limit of length over which a completion loses up to 1; 0: none (DAPO's overlong penalty).
        overlong_buffer: usize = 0, 0..=1048576;
        /// The score of a completion without a stop token: "keep", "replace" (by missing_eos_value) or "subtract" (it).
        missing_eos: MissingEosChoice = MissingEosChoice::Keep;
        /// See missing_eos.
        missing_eos_value: f64 = 1.0, -1000..=1000;
        /// The weight of the policy's entropy, which is subtracted from the loss; 0: none.
        entropy_coef: f64 = 0.0, 0..=1000;
        /// Rounds of completions of a step at most (DAPO's dynamic sampling): prompts whose completions all have one score are left out, and further
        /// prompts take their places; 1: no prompt is left out; absent: 10 for dapo, else 1.
        dynamic_sampling: Option<u64> = None, 1..=1000;
    }
    unread: GrpoConfig::unread;
}

impl PpoConfig {
    /// The conventions that the preset names.
    pub fn conventions(&self) -> Conventions {
        let word = PpoPreset::WORDS.iter().find(|(_, preset)| *preset == self.preset).map_or("trl", |(word, _)| *word);
        Conventions::named(word).unwrap_or(Conventions::PRESETS[0])
    }

    /// Adam's ε in the preset, and where it stands.
    pub fn epsilon(&self) -> (f64, Epsilon) {
        let (eps, mode) = self.conventions().adam;
        let mode = match mode {
            AdamEpsilon::BeforeCorrection => Epsilon::BeforeCorrection,
            AdamEpsilon::AfterCorrection => Epsilon::AfterCorrection,
        };
        (eps, mode)
    }

    /// The method.
    pub fn method(&self) -> Method {
        let c = self.conventions();
        let or = |given: Option<f64>, preset: f64| given.unwrap_or(preset) as f32;
        let low = or(self.clip, c.clip.low);
        let high = self.clip_high.or(self.clip).unwrap_or(c.clip.high) as f32;
        let missing_eos = match (self.missing_eos, c.rewards.missing_eos) {
            (Some(choice), _) => choice.rule(self.missing_eos_value.unwrap_or(1.0)),
            (None, MissingEos::Keep) => MissingEos::Keep,
            (None, MissingEos::Replace(x)) => MissingEos::Replace(or(self.missing_eos_value, x)),
            (None, MissingEos::Subtract(x)) => MissingEos::Subtract(or(self.missing_eos_value, x)),
        };
        Method {
            advantage: self.advantage(&c),
            surrogate: Surrogate::Token,
            clip: Clip {
                low,
                high,
                dual: above_zero(self.dual_clip.or(c.clip.dual)),
                log_ratio: c.clip.log_ratio.map(|x| x as f32),
            },
            aggregation: Aggregation::TokenMean,
            whole_step: true,
            rewards: TokenRewards {
                beta: or(self.kl_coef, c.rewards.beta),
                score_at: self.score_at.unwrap_or(c.rewards.score_at),
                missing_eos,
                penalised: c.rewards.penalised,
                score_limit: c.rewards.score_limit.map(|x| x as f32),
            },
            controller: match (self.kl_target, c.controller) {
                (None, KlController::Fixed) => KlController::Fixed,
                (None, KlController::Adaptive { target, horizon }) => {
                    KlController::Adaptive { target, horizon: self.kl_horizon.unwrap_or(horizon) }
                }
                (Some(target), _) if target > 0.0 => {
                    KlController::Adaptive { target, horizon: self.kl_horizon.unwrap_or(10_000.0) }
                }
                (Some(_), _) => KlController::Fixed,
            },
            kl: (
                self.kl_estimator.map_or(c.kl.0, |choice| choice.0),
                Limits { difference: c.kl.1.difference.map(|x| x as f32), value: c.kl.1.value.map(|x| x as f32) },
            ),
            kl_place: KlPlace::Rewards,
            reported_kl: self.reported_kl.0,
            overlong: None,
            mask_truncated: false,
            entropy: self.entropy_coef as f32,
            rounds: 1,
            epochs: self.epochs.map_or(c.epochs, |epochs| epochs as u32),
        }
    }
}

impl PpoConfig {
    fn unread(&self) -> Vec<Unread> {
        let method = self.method();
        let is_fixed = matches!(method.controller, KlController::Fixed);
        let keeps = matches!(method.rewards.missing_eos, MissingEos::Keep);
        [
            (is_fixed, "kl_horizon", "ppo.kl_target, or a preset with an adaptive coefficient, reads it"),
            (keeps, "missing_eos_value", "ppo.missing_eos = \"replace\" or \"subtract\" reads it"),
        ]
        .into_iter()
        .filter_map(|(idle, key, instead)| idle.then_some(Unread { key, instead }))
        .collect()
    }

    /// How advantages come about.
    fn advantage(&self, c: &Conventions) -> Advantage {
        let or = |given: Option<f64>, preset: f64| given.unwrap_or(preset) as f32;
        let whitening = Whitening {
            variance: self.variance.unwrap_or(c.whitening.variance),
            shift_mean: c.whitening.shift_mean,
            epsilon: c.whitening.epsilon as f32,
            floor: c.whitening.floor,
        };
        Advantage::Critic {
            gae: Gae { gamma: or(self.gamma, c.gae.gamma), lambda: or(self.lambda, c.gae.lambda), gaps: c.gae.gaps },
            value_clip: above_zero(Some(self.value_clip.unwrap_or(c.value_clip))),
            whiten_rewards: self.whiten_rewards.unwrap_or(c.whiten_rewards),
            whitening: self.whiten_advantages.then_some(whitening),
            scope: self.whiten_scope.unwrap_or(c.whiten_scope),
        }
    }
}

/// A number where 0 means none.
fn above_zero(x: Option<f64>) -> Option<f32> {
    x.filter(|&x| x > 0.0).map(|x| x as f32)
}

impl GrpoConfig {
    fn unread(&self) -> Vec<Unread> {
        const KL: &str = "grpo.kl_coef above 0 reads it";
        let scaled = matches!(self.recipe().baseline, Baseline::Group(scale) if scale != Scale::None);
        [
            (!scaled, "std_epsilon", "a loss that divides by a standard deviation reads it, as grpo.loss = \"grpo\""),
            (
                self.missing_eos == MissingEosChoice::Keep,
                "missing_eos_value",
                "grpo.missing_eos = \"replace\" or \"subtract\" reads it",
            ),
            (self.kl_coef == 0.0, "kl_place", KL),
            (self.kl_coef == 0.0, "kl_estimator", KL),
        ]
        .into_iter()
        .filter_map(|(idle, key, instead)| idle.then_some(Unread { key, instead }))
        .collect()
    }

    /// The recipe that the loss names.
    pub fn recipe(&self) -> Recipe {
        Recipe::ALL[self.loss.0]
    }

    /// Rounds of completions of a step at most.
    fn rounds(&self) -> u32 {
        // As many as verl samples.
        const OF_DAPO: u64 = 10;
        self.dynamic_sampling.unwrap_or(if self.recipe().name == "dapo" { OF_DAPO } else { 1 }) as u32
    }

    /// The method, for completions of at most `max_new_tokens` tokens.
    pub fn method(&self, max_new_tokens: usize) -> Method {
        let recipe = self.recipe();
        let advantage = match recipe.baseline {
            Baseline::Group(scale) => Advantage::Group(GroupAdvantages {
                scale,
                std_epsilon: self.std_epsilon as f32,
                variance: Variance::Unbiased,
                group_of_one: GroupOfOne::Refuse,
            }),
            Baseline::LeaveOneOut => Advantage::LeaveOneOut(GroupOfOne::Refuse),
            Baseline::Batch { less_group_mean } => {
                Advantage::Returns { baseline: less_group_mean, whitening: Whitening::default() }
            }
            Baseline::Greedy => Advantage::Greedy,
        };
        let is_group = matches!(recipe.baseline, Baseline::Group(_));
        let kl_place = self.kl_place.unwrap_or(if is_group { KlPlace::TokenLoss } else { KlPlace::Rewards });
        let usual = if kl_place == KlPlace::TokenLoss { Estimator::K3 } else { Estimator::K1 };
        let limit = max_new_tokens;
        Method {
            advantage,
            surrogate: recipe.surrogate,
            clip: Clip {
                low: self.clip.unwrap_or(recipe.clip.low) as f32,
                high: self.clip_high.unwrap_or(recipe.clip.high) as f32,
                dual: recipe.clip.dual.map(|x| x as f32),
                log_ratio: recipe.clip.log_ratio.map(|x| x as f32),
            },
            aggregation: self.aggregation.unwrap_or(recipe.aggregation),
            whole_step: recipe.whole_step,
            rewards: TokenRewards {
                beta: self.kl_coef as f32,
                score_at: ScoreAt::Eos,
                missing_eos: self.missing_eos.rule(self.missing_eos_value),
                penalised: samara_core::rl::Penalised::Completion,
                score_limit: None,
            },
            controller: KlController::Fixed,
            kl: (self.kl_estimator.map_or(usual, |choice| choice.0), Limits { difference: None, value: None }),
            kl_place,
            reported_kl: self.reported_kl.0,
            overlong: (self.overlong_buffer > 0).then_some(OverlongPenalty { limit, buffer: self.overlong_buffer, factor: 1.0 }),
            mask_truncated: self.mask_truncated,
            entropy: self.entropy_coef as f32,
            rounds: self.rounds(),
            epochs: self.epochs as u32,
        }
    }
}
