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

/// All pairs of each prompt.
pub(super) fn all_pairs(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let (how, ranks) = (terms(settings)?, arrays.counts::<u32>("ranks")?);
    let scores = arrays.get("scores").map_or(0, |array| array.values.len());
    if arrays.get("ranks").is_some() && ranks.len() != scores {
        return Err(Refused::Input(format!("ranks: expected {scores} elements, found {}", ranks.len())));
    }
    of_prompts(arrays, |prompt, scores, gradients| {
        let ranks = arrays.get("ranks").and_then(|_| ranks.chunks(scores.len()).nth(prompt));
        Ok(kway(&how, scores, ranks, gradients)?)
    })
}

/// The ranking of each prompt.
pub(super) fn ranking(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let ranked = if settings.has("ranked") { Some(settings.count("ranked")?) } else { None };
    of_prompts(arrays, |_, scores, gradients| Ok(plackett_luce(scores, ranked.unwrap_or(scores.len()), gradients)?))
}

/// The choice of the best of each prompt.
pub(super) fn choice(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let best = settings.count("best")?;
    of_prompts(arrays, |_, scores, gradients| Ok(best_of_n(scores, best, gradients)?))
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
