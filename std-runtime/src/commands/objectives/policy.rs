//! Losses of a policy on sampled tokens.

use samara_core::rl::{
    Aggregation, Clip, Mask, PolicyBatch, RatioStatistics, SequenceRatio, Surrogate, Totals, aggregate, token_weights,
};
use serde_json::{Value, json};

use super::Refused;
use super::arrays::{Arrays, mask_of};
use super::entry::Entry;
use super::settings::Settings;

/// Names of means.
pub(super) const AGGREGATIONS: [(&str, Aggregation); 4] = [
    ("token_mean", Aggregation::TokenMean),
    ("seq_mean_token_mean", Aggregation::SeqMeanTokenMean),
    ("seq_mean_token_sum", Aggregation::SeqMeanTokenSum),
    ("constant", Aggregation::Constant),
];

/// The normalisation of means: this batch, with the configured length.
pub(super) fn totals(mask: &Mask<'_>, settings: &Settings) -> Result<Totals, Refused> {
    let totals = Totals::of(mask);
    let length = if settings.has("length") { settings.count("length")? } else { totals.length };
    Ok(Totals { length, ..totals })
}

/// The clip bounds: symmetric, unless the upper bound was set separately.
fn clip(settings: &Settings) -> Result<Clip<f64>, Refused> {
    let low = settings.number("clip")?;
    // A `clip` that was set applies to both sides; the default of the upper side is the method's.
    let high = if settings.has("clip") && !settings.has("clip_high") { low } else { settings.number("clip_high")? };
    Ok(Clip { low, high, dual: settings.option("dual_clip")?, log_ratio: settings.option("log_ratio_limit")? })
}

/// The surrogate's loss of a batch, its gradient, and statistics.
pub(super) fn surrogate(
    surrogate: Surrogate,
    arrays: &Arrays,
    advantages: &[f64],
    settings: &Settings,
) -> Result<Value, Refused> {
    let live = arrays.live("logprobs")?;
    let mask = mask_of(&live)?;
    let (logprobs, old_logprobs) = (arrays.finite("logprobs")?, arrays.finite("old_logprobs")?);
    let batch = PolicyBatch { mask, logprobs, old_logprobs, advantages };
    let [mut losses, mut gradients, mut weights] = [(); 3].map(|()| vec![0.0; logprobs.len()]);
    let statistics = surrogate.losses(&clip(settings)?, &batch, &mut losses, &mut gradients)?;
    token_weights(settings.word("aggregation", &AGGREGATIONS)?, totals(&mask, settings)?, &mask, &mut weights)?;
    let loss = aggregate(&weights, &losses, &mut gradients)?;
    let (losses, gradients) = (arrays.shaped("logprobs", &losses), arrays.shaped("logprobs", &gradients));
    let mut found = json!({ "loss": loss, "losses": losses, "gradients": { "logprobs": gradients } });
    write_statistics(&mut found, &statistics);
    Ok(found)
}

fn write_statistics(found: &mut Value, statistics: &RatioStatistics<f64>) {
    found["ratio"] = json!({ "min": statistics.min, "mean": statistics.mean(), "max": statistics.max });
    found["clipfrac"] = statistics.clipfrac().into();
    found["approxkl"] = statistics.approxkl().into();
}

/// PPO, GSPO and CISPO on advantages of tokens.
pub(super) fn of_advantages(entry: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let kind = match entry.name {
        "gspo" => Surrogate::Sequence(SequenceRatio::Mean),
        "cispo" => Surrogate::Weight,
        _ => Surrogate::Token,
    };
    surrogate(kind, arrays, arrays.finite("advantages")?, settings)
}
