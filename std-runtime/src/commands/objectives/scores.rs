//! Losses of reward models.

use samara_core::rl::rewards::{RewardLoss, best_of_n, kway, plackett_luce, reward_pairs};
use serde_json::{Value, json};

use super::Refused;
use super::arrays::Arrays;
use super::entry::Entry;
use super::pairs::mean;
use super::settings::Settings;

fn terms(settings: &Settings) -> Result<RewardLoss<f64>, Refused> {
    let [margin, centring] = [settings.number("margin")?, settings.number("centring")?];
    Ok(RewardLoss { margin, centring, label_smoothing: settings.number("label_smoothing")? })
}

/// A loss of every row of scores, a prompt each, and their mean.
fn of_prompts(arrays: &Arrays, mut of: impl FnMut(usize, &[f64], &mut [f64]) -> Result<f64, Refused>) -> Result<Value, Refused> {
    let scores = arrays.finite("scores")?;
    let row = arrays.get("scores").map_or(1, |array| array.row).max(1);
    let mut gradients = vec![0.0; scores.len()];
    let prompts = scores.chunks(row).zip(gradients.chunks_mut(row)).enumerate();
    let losses = prompts.map(|(prompt, (scores, gradients))| of(prompt, scores, gradients)).collect::<Result<Vec<_>, _>>()?;
    let loss = mean(&losses, &mut [&mut gradients])?;
    Ok(json!({ "loss": loss, "losses": losses, "gradients": { "scores": arrays.shaped("scores", &gradients) } }))
}

/// The ranks of all scores, where they are given.
fn given_ranks(arrays: &Arrays) -> Result<Option<Vec<u32>>, Refused> {
    if arrays.get("ranks").is_none() {
        return Ok(None);
    }
    let (ranks, scores) = (arrays.counts::<u32>("ranks")?, arrays.get("scores").map_or(0, |array| array.values.len()));
    if ranks.len() != scores {
        return Err(Refused::Input(format!("ranks: expected {scores} elements, found {}", ranks.len())));
    }
    Ok(Some(ranks))
}

/// Ranks of so many scores that a key's number makes; none where it does not fit.
type RanksOfKey = fn(usize, usize) -> Option<Vec<u32>>;
/// A loss of ranked scores, which writes its gradient.
type RankedLoss = fn(&[f64], Option<&[u32]>, &mut [f64]) -> Result<f64, samara_core::rl::Error>;

/// A loss of every prompt's scores and their ranks. Where these are not given, a key may say how many or which ones are compared: `of_key` makes ranks of
/// scores of its number.
fn of_ranked(
    arrays: &Arrays,
    (settings, key, of_key): (&Settings, &'static str, RanksOfKey),
    of: RankedLoss,
) -> Result<Value, Refused> {
    let (all, is_set) = (given_ranks(arrays)?, settings.has(key));
    if all.is_some() && is_set {
        return Err(Refused::Setting(format!("{key}: expected no value, because \"ranks\" are given")));
    }
    of_prompts(arrays, |prompt, scores, gradients| {
        if let Some(all) = &all {
            return Ok(of(scores, all.chunks(scores.len()).nth(prompt), gradients)?);
        }
        if !is_set {
            return Ok(of(scores, None, gradients)?);
        }
        let (number, count) = (settings.count(key)?, scores.len());
        let ranks = of_key(number, count);
        let misses = || Refused::Setting(format!("{key}: expected a number that fits {count} scores, found {number}"));
        Ok(of(scores, Some(&ranks.ok_or_else(misses)?), gradients)?)
    })
}

/// All pairs of each prompt.
pub(super) fn all_pairs(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let (how, ranks) = (terms(settings)?, given_ranks(arrays)?);
    of_prompts(arrays, |prompt, scores, gradients| {
        let ranks = ranks.as_ref().and_then(|ranks| ranks.chunks(scores.len()).nth(prompt));
        Ok(kway(&how, scores, ranks, gradients)?)
    })
}

/// The ranking of each prompt; of a partial one the first `ranked` are in order, and all others are worse.
pub(super) fn ranking(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let first =
        |ranked: usize, count: usize| (1..=count).contains(&ranked).then(|| (0..count).map(|i| i.min(ranked) as u32).collect());
    of_ranked(arrays, (settings, "ranked", first), plackett_luce)
}

/// The choice of the best of each prompt.
pub(super) fn choice(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let only = |best: usize, count: usize| (best < count).then(|| (0..count).map(|i| u32::from(i != best)).collect());
    of_ranked(arrays, (settings, "best", only), best_of_n)
}

/// Two scores of each prompt.
pub(super) fn two(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let (chosen, rejected) = (arrays.finite("chosen")?, arrays.finite("rejected")?);
    let margins = arrays.get("margins").map(|_| arrays.finite("margins")).transpose()?;
    let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![0.0; chosen.len()]);
    reward_pairs(&terms(settings)?, [chosen, rejected], margins, &mut losses, [&mut by_chosen, &mut by_rejected])?;
    let loss = mean(&losses, &mut [&mut by_chosen, &mut by_rejected])?;
    let gradients = json!({ "chosen": by_chosen, "rejected": by_rejected });
    Ok(json!({ "loss": loss, "losses": losses, "gradients": gradients }))
}
