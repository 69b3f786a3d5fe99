//! Objectives on pairs, and on completions that are good or bad.

use samara_core::rl::pairs::{PairLoss, PairOutputs, Pairs, pair_losses};
use samara_core::rl::{Kto, Unpaired, kto, kto_reference_point};
use serde_json::{Value, json};

use super::Refused;
use super::arrays::Arrays;
use super::entry::Entry;
use super::settings::Settings;
use crate::align::config::{DpoConfig, PairObjective};
use crate::config::Choice;

/// The objective of a name, made as `samara dpo` makes it.
fn objective(name: &str, settings: &Settings) -> Result<Box<dyn PairLoss<f64> + Send>, Refused> {
    let Some(&(_, loss)) = PairObjective::WORDS.iter().find(|(word, _)| *word == name) else {
        return Err(Refused::Input(format!("{name} is no objective of pairs")));
    };
    let given = |key: &str| if settings.knows(key) { settings.number(key).map(Some) } else { Ok(None) };
    let config = DpoConfig {
        loss,
        beta: given("beta")?,
        label_smoothing: given("label_smoothing")?,
        gamma: given("gamma")?.unwrap_or(0.0),
        nll_weight: given("nll_weight")?.unwrap_or(0.0),
        ..DpoConfig::default()
    };
    Ok(config.loss())
}

/// The mean of losses, with its gradients from those of each loss.
pub(super) fn mean(losses: &[f64], gradients: &mut [&mut [f64]]) -> Result<f64, Refused> {
    if losses.is_empty() {
        return Err(Refused::Input("expected at least one element, found none".to_owned()));
    }
    let share = 1.0 / losses.len() as f64;
    gradients.iter_mut().flat_map(|gradient| gradient.iter_mut()).for_each(|x| *x *= share);
    Ok(losses.iter().sum::<f64>() * share)
}

/// Any objective on pairs.
pub(super) fn pairs(entry: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let (chosen_lengths, rejected_lengths) = (arrays.counts("chosen_lengths")?, arrays.counts("rejected_lengths")?);
    let pairs = Pairs {
        policy_chosen: arrays.finite("policy_chosen")?,
        policy_rejected: arrays.finite("policy_rejected")?,
        reference_chosen: arrays.finite("reference_chosen")?,
        reference_rejected: arrays.finite("reference_rejected")?,
        chosen_lengths: &chosen_lengths,
        rejected_lengths: &rejected_lengths,
    };
    let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![0.0; pairs.policy_chosen.len()]);
    let outputs = PairOutputs { losses: &mut losses, by_chosen: &mut by_chosen, by_rejected: &mut by_rejected };
    pair_losses(objective(entry.name, settings)?.as_ref(), &pairs, outputs)?;
    let loss = mean(&losses, &mut [&mut by_chosen, &mut by_rejected])?;
    let gradients = json!({ "policy_chosen": by_chosen, "policy_rejected": by_rejected });
    Ok(json!({ "loss": loss, "losses": losses, "gradients": gradients }))
}

/// KTO. `kl` is its reference point, or the log-ratios of mismatched pairs from which it is computed.
pub(super) fn unpaired(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let how = Kto {
        beta: settings.number("beta")?,
        desirable_weight: settings.number("desirable_weight")?,
        undesirable_weight: settings.number("undesirable_weight")?,
    };
    let desirable = arrays.truths("label")?;
    let batch = Unpaired { policy: arrays.finite("policy")?, reference: arrays.finite("reference")?, desirable: &desirable };
    let reference_point = kto_reference_point(arrays.finite("kl")?)?;
    let [mut losses, mut gradients] = [(); 2].map(|()| vec![0.0; batch.policy.len()]);
    kto(&how, &batch, reference_point, &mut losses, &mut gradients)?;
    let loss = mean(&losses, &mut [&mut gradients])?;
    Ok(json!({ "loss": loss, "losses": losses, "kl": reference_point, "gradients": { "policy": gradients } }))
}
