//! Methods without a critic: from rewards of completions to advantages, and to the loss if log-probs are given.

use samara_core::rl::groups::{
    GroupAdvantages, GroupOfOne, GroupStatistics, Scale, group_advantages, reinforce_plus_plus, remax, rloo,
};
use samara_core::rl::{Baseline, Recipe, broadcast, discounted_returns};
use serde_json::{Value, json};

use super::Refused;
use super::arrays::{Arrays, mask_of};
use super::entry::Entry;
use super::policy::surrogate;
use super::settings::Settings;
use super::tokens::{VARIANCES, whitening};

const GROUPS_OF_ONE: [(&str, GroupOfOne); 2] = [("refuse", GroupOfOne::Refuse), ("keep", GroupOfOne::Keep)];

/// Rewards, where null cannot be scored.
fn rewards(arrays: &Arrays) -> &[f64] {
    arrays.get("rewards").map_or(&[], |array| &array.values)
}

/// Advantages, and the loss if there are log-probs, for any method in the list of recipes.
pub(super) fn method(entry: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let Some(recipe) = Recipe::named(entry.name) else {
        return Err(Refused::Input(format!("{} is no method of groups", entry.name)));
    };
    let (advantages, statistics) = match recipe.baseline {
        Baseline::Group(_) | Baseline::LeaveOneOut => of_groups(&recipe, arrays, settings)?,
        Baseline::Batch { less_group_mean } => (of_batch(less_group_mean, arrays, settings)?, None),
        Baseline::Greedy => (of_greedy(arrays, settings)?, None),
    };
    let mut found = json!({ "advantages": arrays.shaped("rewards", &advantages) });
    if let Some(statistics) = statistics {
        let GroupStatistics { groups, equal, unscorable } = statistics;
        found["groups"] = json!({ "count": groups, "equal": equal, "unscorable": unscorable });
    }
    if arrays.get("logprobs").is_some() {
        let of_tokens = at_tokens(arrays, advantages)?;
        let loss = surrogate(recipe.surrogate, arrays, &of_tokens, settings)?;
        if let (Some(found), Value::Object(loss)) = (found.as_object_mut(), loss) {
            found.extend(loss);
        }
    }
    Ok(found)
}

/// Advantages (B, T), of sequences or of tokens.
fn at_tokens(arrays: &Arrays, advantages: Vec<f64>) -> Result<Vec<f64>, Refused> {
    if arrays.get("rewards").is_some_and(|rewards| rewards.nested) {
        return Ok(advantages);
    }
    let live = arrays.live("logprobs")?;
    let mut to = vec![0.0; live.0.len()];
    broadcast(&mask_of(&live)?, &advantages, &mut to)?;
    Ok(to)
}

fn of_groups(recipe: &Recipe, arrays: &Arrays, settings: &Settings) -> Result<(Vec<f64>, Option<GroupStatistics>), Refused> {
    let (rewards, groups) = (rewards(arrays), arrays.counts::<u32>("group")?);
    let mut advantages = vec![0.0; rewards.len()];
    let group_of_one = settings.word("group_of_one", &GROUPS_OF_ONE)?;
    let statistics = match recipe.baseline {
        Baseline::Group(scale) => {
            let divided = scale != Scale::None;
            let how = GroupAdvantages {
                scale,
                std_epsilon: if divided { settings.number("std_epsilon")? } else { 0.0 },
                variance: if divided { settings.word("variance", &VARIANCES)? } else { VARIANCES[0].1 },
                group_of_one,
            };
            group_advantages(&how, rewards, &groups, &mut advantages)?
        }
        _ => rloo(group_of_one, rewards, &groups, &mut advantages)?,
    };
    Ok((advantages, Some(statistics)))
}

/// REINFORCE++ on rewards of tokens, or on one reward of each completion.
fn of_batch(less_group_mean: bool, arrays: &Arrays, settings: &Settings) -> Result<Vec<f64>, Refused> {
    let (mut rewards, nested) = (arrays.finite("rewards")?.to_vec(), arrays.get("rewards").is_some_and(|r| r.nested));
    if less_group_mean {
        if nested {
            let text = "rewards: expected one for each completion, whose group's mean is subtracted, found rows of tokens";
            return Err(Refused::Input(text.to_owned()));
        }
        let how = GroupAdvantages { scale: Scale::None, ..GroupAdvantages::default() };
        let scores = rewards.clone();
        group_advantages(&how, &scores, &arrays.counts::<u32>("group")?, &mut rewards)?;
    }
    // A reward of a completion is a row of one token.
    let live = if nested { arrays.live("rewards")? } else { (vec![true; rewards.len()], 1) };
    let mut advantages = vec![0.0; rewards.len()];
    let _ = reinforce_plus_plus(settings.number("gamma")?, &whitening(settings)?, &mask_of(&live)?, &rewards, &mut advantages)?;
    Ok(advantages)
}

/// ReMax on rewards of tokens, or on one reward of each completion.
fn of_greedy(arrays: &Arrays, settings: &Settings) -> Result<Vec<f64>, Refused> {
    let rewards = arrays.finite("rewards")?;
    let nested = arrays.get("rewards").is_some_and(|rewards| rewards.nested);
    let live = if nested { arrays.live("rewards")? } else { (vec![true; rewards.len()], 1) };
    let mask = mask_of(&live)?;
    let [mut returns, mut advantages] = [(); 2].map(|()| vec![0.0; rewards.len()]);
    discounted_returns(settings.number("gamma")?, &mask, rewards, &mut returns)?;
    remax(&mask, &returns, arrays.finite("greedy")?, &mut advantages)?;
    Ok(advantages)
}
