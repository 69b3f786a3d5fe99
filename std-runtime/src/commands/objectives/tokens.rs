//! Per-token quantities before a policy update: advantages, whitening, KL estimates; the value loss.

use samara_core::rl::{
    Estimator, Floor, Gae, Gaps, Limits, ValueBatch, Variance, Whitening, aggregate, gae as estimate, kl as estimates,
    sequence_k2, token_weights, value_loss, whiten as normalise,
};
use serde_json::{Value, json};

use super::Refused;
use super::arrays::{Arrays, mask_of};
use super::entry::Entry;
use super::policy::{AGGREGATIONS, totals};
use super::settings::Settings;

/// Divisors of variances.
pub(super) const VARIANCES: [(&str, Variance); 2] = [("unbiased", Variance::Unbiased), ("biased", Variance::Biased)];

/// Generalised advantage estimation.
pub(super) fn gae(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let how = Gae {
        gamma: settings.number("gamma")?,
        lambda: settings.number("lambda")?,
        gaps: settings.word("gaps", &[("zero", Gaps::Zero), ("skip", Gaps::Skip)])?,
    };
    let (rewards, live) = (arrays.finite("rewards")?, arrays.live("rewards")?);
    let [mut advantages, mut returns] = [(); 2].map(|()| vec![0.0; rewards.len()]);
    estimate(&how, &mask_of(&live)?, rewards, arrays.finite("values")?, &mut advantages, &mut returns)?;
    let [advantages, returns] = [advantages, returns].map(|x| arrays.shaped("rewards", &x));
    Ok(json!({ "advantages": advantages, "returns": returns }))
}

/// How values are whitened.
pub(super) fn whitening(settings: &Settings) -> Result<Whitening<f64>, Refused> {
    Ok(Whitening {
        variance: settings.word("variance", &VARIANCES)?,
        shift_mean: settings.word("shift_mean", &[("true", true), ("false", false)])?,
        epsilon: settings.number("epsilon")?,
        floor: settings.word("floor", &[("added", Floor::Added), ("least", Floor::Least)])?,
    })
}

/// Whitening.
pub(super) fn whiten(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let mut values = arrays.finite("values")?.to_vec();
    let moments = normalise(&whitening(settings)?, &arrays.live("values")?.0, &mut values)?;
    Ok(json!({ "values": arrays.shaped("values", &values), "mean": moments.mean, "variance": moments.variance }))
}

/// Estimators of the KL of each token, and the sequence form of k2.
pub(super) fn kl(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let (logprobs, reference) = (arrays.finite("logprobs")?, arrays.finite("reference")?);
    let limits = Limits { difference: settings.option("difference_limit")?, value: settings.option("value_limit")? };
    let mut found = json!({});
    let mut slopes = json!({});
    for (name, estimator) in [("k1", Estimator::K1), ("k2", Estimator::K2), ("k3", Estimator::K3)] {
        let [mut values, mut gradients] = [(); 2].map(|()| vec![0.0; logprobs.len()]);
        estimates(estimator, &limits, logprobs, reference, &mut values, &mut gradients)?;
        found[name] = arrays.shaped("logprobs", &values);
        slopes[name] = arrays.shaped("logprobs", &gradients);
    }
    let live = arrays.live("logprobs")?;
    let mask = mask_of(&live)?;
    let (mut values, mut gradients) = (vec![0.0; mask.rows()], vec![0.0; logprobs.len()]);
    sequence_k2(&mask, logprobs, reference, &mut values, &mut gradients)?;
    found["sequence_k2"] = values.into();
    slopes["sequence_k2"] = arrays.shaped("logprobs", &gradients);
    found["gradients"] = json!({ "logprobs": slopes });
    Ok(found)
}

/// The clipped value loss.
pub(super) fn value(_: &Entry, arrays: &Arrays, settings: &Settings) -> Result<Value, Refused> {
    let live = arrays.live("values")?;
    let mask = mask_of(&live)?;
    let (values, old_values) = (arrays.finite("values")?, arrays.finite("old_values")?);
    let batch = ValueBatch { mask, values, old_values, returns: arrays.finite("returns")? };
    let [mut losses, mut gradients, mut weights] = [(); 3].map(|()| vec![0.0; values.len()]);
    let clip = if settings.text("clip") == "none" { None } else { Some(settings.number("clip")?) };
    let statistics = value_loss(clip, &batch, &mut losses, &mut gradients)?;
    token_weights(settings.word("aggregation", &AGGREGATIONS)?, totals(&mask, settings)?, &mask, &mut weights)?;
    let loss = aggregate(&weights, &losses, &mut gradients)?;
    let (losses, gradients) = (arrays.shaped("values", &losses), arrays.shaped("values", &gradients));
    let mut found = json!({ "loss": loss, "losses": losses, "gradients": { "values": gradients } });
    found["clipfrac"] = statistics.clipfrac.into();
    found["explained_variance"] = statistics.explained_variance.into();
    Ok(found)
}
