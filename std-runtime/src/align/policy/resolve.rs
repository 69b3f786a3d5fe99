//! Keys that are absent get the values of the preset or the method, so that a run writes down what it does.

use samara_core::rl::{KlController, MissingEos};

use super::choices::{EstimatorChoice, MissingEosChoice};
use super::config::{GrpoConfig, PpoConfig, RolloutConfig};
use super::method::Method;
use crate::train::config::{Optimizer, TrainConfig};

impl RolloutConfig {
    /// Gives keys that are absent their values: those of a command, or of its preset.
    pub fn resolve(&mut self, group_size: usize, temperature: f64) {
        self.group_size.get_or_insert(group_size);
        self.temperature.get_or_insert(temperature);
    }
}

impl PpoConfig {
    /// Gives keys that are absent the values of the preset, and of the optimizer of `[train]`. The method stays the same.
    pub fn resolve(&mut self, train: &TrainConfig) {
        let c = self.conventions();
        if train.optimizer == Optimizer::AdamW {
            self.value_beta1.get_or_insert(train.beta1);
            self.value_beta2.get_or_insert(train.beta2);
        }
        self.value_weight_decay.get_or_insert(train.weight_decay);
        self.value_grad_clip.get_or_insert(train.grad_clip);
        self.epochs.get_or_insert(c.epochs.into());
        self.kl_coef.get_or_insert(c.rewards.beta);
        // A target that is given has a horizon of its own.
        let (target, horizon) = match (self.kl_target, c.controller) {
            (None, KlController::Adaptive { target, horizon }) => (target, horizon),
            (target, _) => (target.unwrap_or(0.0), 10_000.0),
        };
        self.kl_target = Some(target);
        self.kl_horizon.get_or_insert(horizon);
        self.kl_estimator.get_or_insert(EstimatorChoice(c.kl.0));
        self.gamma.get_or_insert(c.gae.gamma);
        self.lambda.get_or_insert(c.gae.lambda);
        self.clip_high = self.clip_high.or(self.clip).or(Some(c.clip.high));
        self.clip.get_or_insert(c.clip.low);
        self.dual_clip.get_or_insert(c.clip.dual.unwrap_or(0.0));
        self.value_clip.get_or_insert(c.value_clip);
        self.whiten_rewards.get_or_insert(c.whiten_rewards);
        self.whiten_scope.get_or_insert(c.whiten_scope);
        self.variance.get_or_insert(c.whitening.variance);
        self.score_at.get_or_insert(c.rewards.score_at);
        let (choice, value) = match (self.missing_eos, c.rewards.missing_eos) {
            (Some(choice), _) => (choice, 1.0),
            (None, MissingEos::Keep) => (MissingEosChoice::Keep, 1.0),
            (None, MissingEos::Replace(value)) => (MissingEosChoice::Replace, value),
            (None, MissingEos::Subtract(value)) => (MissingEosChoice::Subtract, value),
        };
        self.missing_eos = Some(choice);
        self.missing_eos_value.get_or_insert(value);
    }
}

impl GrpoConfig {
    /// Gives keys that are absent the values of the method, which stays the same.
    pub fn resolve(&mut self) {
        let recipe = self.recipe();
        let Method { kl_place, kl, aggregation, rounds, .. } = self.method(1);
        self.kl_place = Some(kl_place);
        self.kl_estimator = Some(EstimatorChoice(kl.0));
        self.clip.get_or_insert(recipe.clip.low);
        self.clip_high.get_or_insert(recipe.clip.high);
        self.aggregation = Some(aggregation);
        self.dynamic_sampling = Some(rounds.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::policy::choices::{Loss, PpoPreset};
    use crate::config::{Choice, Table, set_json};

    /// What is written down is what is done: resolved keys name the same method, and none is absent.
    #[test]
    fn resolved_keys_name_the_same_method() {
        for (word, preset) in PpoPreset::WORDS {
            for given in [&[][..], &[("clip", 0.1)], &[("kl_target", 3.0)], &[("kl_target", 0.0), ("dual_clip", 3.0)]] {
                let mut config = PpoConfig { preset: *preset, ..PpoConfig::default() };
                given.iter().for_each(|(key, value)| set_json(&mut config, key, &(*value).into()).unwrap());
                let mut resolved = config.clone();
                resolved.resolve(&TrainConfig::default());
                assert_eq!(resolved.method(), config.method(), "{word} {given:?}");
                assert!(resolved.keys().iter().all(|key| resolved.show(key.name).is_some()), "{word}");
            }
            let mut config = PpoConfig { preset: *preset, missing_eos: Some(MissingEosChoice::Subtract), ..PpoConfig::default() };
            let method = config.method();
            config.resolve(&TrainConfig::default());
            assert_eq!(config.method(), method, "{word}");
        }
        for (word, loss) in Loss::WORDS {
            let config = GrpoConfig { loss: *loss, ..GrpoConfig::default() };
            let mut resolved = config.clone();
            resolved.resolve();
            assert_eq!(resolved.method(48), config.method(48), "{word}");
            assert!(resolved.keys().iter().all(|key| resolved.show(key.name).is_some()), "{word}");
        }
    }
}
