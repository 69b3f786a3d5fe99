//! An update of policy and value function from a minibatch of completions.

use samara_core::exec::Gradients;
use samara_core::math::rng::{Purpose, Rng};
use samara_core::rl::groups::mask_truncated;
use samara_core::rl::{
    Aggregation, Error, Mask, PolicyBatch, RatioStatistics, Totals, ValueBatch, aggregate, entropy_bonus, kl, sequence_k2,
    token_weights, value_loss,
};

use super::advantages::{Batch, Targets, is_of_minibatch};
use super::method::{Advantage, KlPlace, Method};
use super::state::{Losses, Policy};
use crate::align::guard::{guard, mean, some_token};
use crate::lm::RunError;
use crate::session::{Device, Session};
use crate::train::objective::StepBatch;
use crate::train::scalars::Combine::{self, Max, Mean, Min};

/// What is reported of a step, under the names that the field uses.
pub(super) const NAMES: [(&str, Combine); 25] = [
    ("objective/scores", Mean),
    ("objective/rlhf_reward", Mean),
    ("objective/kl", Mean),
    ("objective/kl_coef", Mean),
    ("objective/non_score_reward", Mean),
    ("objective/entropy", Mean),
    ("objective/frac_reward_zero_std", Mean),
    ("policy/approxkl", Mean),
    ("policy/clipfrac", Mean),
    ("policy/entropy", Mean),
    ("loss/policy", Mean),
    ("loss/kl", Mean),
    ("loss/entropy", Mean),
    (PTX, Mean),
    ("loss/value", Mean),
    ("val/clipfrac", Mean),
    ("val/explained_var", Mean),
    ("val/ratio", Mean),
    ("val/ratio_min", Min),
    ("val/ratio_max", Max),
    ("rollout/length", Mean),
    ("rollout/ended", Mean),
    ("rollout/sampler_gap", Mean),
    ("rollout/dropped_prompts", Mean),
    ("rollout/rounds", Mean),
];

/// −ln p of the pretraining text, before it is multiplied by its coefficient.
pub(super) const PTX: &str = "loss/ptx";

/// Sums of what the micro-batches of an update report.
#[derive(Default)]
struct Report {
    policy: f64,
    kl: f64,
    entropy: f64,
    value: f64,
    ratios: RatioStatistics<f32>,
    entropies: Vec<f32>,
    value_clipfrac: Vec<f32>,
    explained: Vec<f32>,
}

impl Policy {
    /// Fills the gradients of policy and value function.
    pub(super) fn update<D: Device>(&mut self, session: &mut Session<D>, update: u32, step: &StepBatch) -> Result<(), RunError> {
        let rows = self.minibatch_rows(update, step.step);
        let method = self.spec.method;
        let batch = self.rollouts.batch.rows(&rows);
        let targets = if is_of_minibatch(&method) {
            batch.targets(&method, self.lasting.beta as f32).map_err(guard)?
        } else {
            self.rollouts.targets.rows(&rows, batch.row)
        };
        let loss_mask = loss_mask(&method, &batch)?;
        let mask = Mask::new(&loss_mask, batch.row).map_err(guard)?;
        let micro_rows = self.spec.train.batch_size;
        let weights = weights(&method, &mask, micro_rows).map_err(guard)?;
        let value_totals = Totals::of(&Mask::new(&batch.value_mask, batch.row).map_err(guard)?);
        let mut report = Report::default();
        for (micro, chunk) in rows.chunks(micro_rows).enumerate() {
            step.stop.check()?;
            let range = micro * micro_rows * batch.row..(micro * micro_rows + chunk.len()) * batch.row;
            let part: Vec<usize> = (micro * micro_rows..micro * micro_rows + chunk.len()).collect();
            let (batch, targets) = (batch.rows(&part), targets.rows(&part, batch.row));
            self.fill_rows(chunk);
            let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
            let weights = (&loss_mask[range.clone()], &weights[range]);
            self.policy_gradient(session, (&batch, &targets), weights, rows.len(), gradients, &mut report)?;
            self.value_gradient(session, (&batch, &targets), value_totals, gradients, &mut report)?;
        }
        self.check_first(update, &report)?;
        self.report_update(&report);
        self.pretraining_gradient(session, update, step)
    }

    /// The completions of an update: a fresh order in every pass.
    fn minibatch_rows(&self, update: u32, step: u64) -> Vec<usize> {
        let (episodes, minibatch) = (self.rollouts.episodes.len(), self.minibatch());
        let per_epoch = (episodes / minibatch).max(1) as u32;
        let (epoch, number) = (update / per_epoch, (update % per_epoch) as usize);
        let mut rows: Vec<usize> = (0..episodes).collect();
        let stream = step.wrapping_mul(u64::from(self.spec.method.epochs)).wrapping_add(u64::from(epoch));
        let mut rng = Rng::new(self.spec.train.seed ^ 0x5eed, Purpose::Data, stream);
        for i in (1..episodes).rev() {
            rows.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
        }
        rows.split_off(number * minibatch).into_iter().take(minibatch).collect()
    }

    fn policy_gradient<D: Device>(
        &mut self,
        session: &mut Session<D>,
        (batch, targets): (&Batch, &Targets),
        (loss_mask, weights): (&[bool], &[f32]),
        sequences: usize,
        gradients: Gradients,
        report: &mut Report,
    ) -> Result<(), RunError> {
        let (method, beta, len) = (self.spec.method, self.lasting.beta as f32, batch.logprobs.len());
        let built = self.built.as_mut().expect("built before");
        built.policy_program.forward(session, built.policy, &self.rows)?;
        self.losses.clear();
        // A micro-batch of nothing but completions that do not count has no gradient.
        if let Ok(mask) = Mask::new(loss_mask, batch.row) {
            let (logprobs, entropies) = (&built.policy_program.numbers()[..len], &built.policy_program.entropies()[..len]);
            let read = PolicyBatch { mask, logprobs, old_logprobs: &batch.logprobs, advantages: &targets.advantages };
            let (losses, live) = (&mut self.losses.losses[..len], &mut self.losses.upstream[..len]);
            let ratios = method.surrogate.losses(&method.clip, &read, losses, live).map_err(guard)?;
            report.ratios = report.ratios.and(&ratios);
            report.policy += f64::from(aggregate(weights, losses, live).map_err(guard)?);
            report.kl += self.losses.add_kl(&method, beta, (&read, &batch.reference), (weights, sequences)).map_err(guard)?;
            if method.entropy > 0.0 {
                let slopes = &mut self.losses.of_entropy[..len];
                report.entropy += f64::from(entropy_bonus(method.entropy, weights, entropies, slopes).map_err(guard)?);
            }
            report.entropies.extend(entropies.iter().zip(loss_mask).filter(|(_, live)| **live).map(|(&x, _)| x));
        }
        let upstreams = [&self.losses.upstream, &self.losses.of_entropy].map(Vec::as_slice);
        built.policy_program.backward_of(session, built.policy, upstreams, gradients)
    }

    fn value_gradient<D: Device>(
        &mut self,
        session: &mut Session<D>,
        (batch, targets): (&Batch, &Targets),
        totals: Totals,
        gradients: Gradients,
        report: &mut Report,
    ) -> Result<(), RunError> {
        let Advantage::Critic { value_clip, .. } = self.spec.method.advantage else { return Ok(()) };
        let built = self.built.as_mut().expect("built before");
        let (Some(program), Some(set)) = (&mut built.value_program, built.value) else { return Ok(()) };
        let len = batch.logprobs.len();
        program.forward(session, set, &self.rows)?;
        let Losses { losses, upstream, slopes, .. } = &mut self.losses;
        upstream.fill(0.0);
        let mask = Mask::new(&batch.value_mask, batch.row).map_err(guard)?;
        let read = ValueBatch { mask, values: &program.numbers()[..len], old_values: &batch.values, returns: &targets.returns };
        let statistics = value_loss(value_clip, &read, &mut losses[..len], &mut upstream[..len]).map_err(guard)?;
        // The mean over the tokens of the minibatch.
        token_weights(Aggregation::TokenMean, totals, &mask, &mut slopes[..len]).map_err(guard)?;
        report.value += f64::from(aggregate(&slopes[..len], &losses[..len], &mut upstream[..len]).map_err(guard)?);
        report.value_clipfrac.push(statistics.clipfrac);
        report.explained.push(statistics.explained_variance);
        program.backward(session, set, upstream, gradients)
    }

    /// In the first update of a step nothing has changed since the completions were sampled: a ratio that is not 1 means that sampler and trainer do not
    /// read the same.
    fn check_first(&self, update: u32, report: &Report) -> Result<(), RunError> {
        let ratios = &report.ratios;
        let is_one = ratios.min == 1.0 && ratios.max == 1.0 && ratios.approxkl() == 0.0;
        if update > 0 || ratios.count() == 0 || is_one {
            return Ok(());
        }
        Err(RunError::Guard(format!(
            "the first minibatch has ratios from {} to {} and approxkl {}, expected exactly 1 and 0: log-probs of the same weights differ; this is a \
             fault of samara, please report it with run.toml",
            ratios.min,
            ratios.max,
            ratios.approxkl()
        )))
    }

    fn report_update(&mut self, report: &Report) {
        let ratios = &report.ratios;
        if ratios.count() > 0 {
            self.reported.extend([
                ("policy/approxkl", f64::from(ratios.approxkl())),
                ("policy/clipfrac", f64::from(ratios.clipfrac())),
                ("policy/entropy", mean(&report.entropies)),
                ("val/ratio", f64::from(ratios.mean())),
                ("val/ratio_min", f64::from(ratios.min)),
                ("val/ratio_max", f64::from(ratios.max)),
                ("loss/policy", report.policy),
            ]);
        }
        if self.spec.method.kl_place != KlPlace::Rewards {
            self.reported.push(("loss/kl", report.kl));
        }
        if self.spec.method.entropy > 0.0 {
            self.reported.push(("loss/entropy", report.entropy));
        }
        if self.spec.method.has_critic() {
            self.reported.extend([
                ("loss/value", report.value),
                ("val/clipfrac", mean(&report.value_clipfrac)),
                ("val/explained_var", mean(&report.explained)),
            ]);
        }
    }
}

impl Losses {
    fn clear(&mut self) {
        self.upstream.fill(0.0);
        self.of_entropy.fill(0.0);
    }

    /// Adds β times the derivatives of the KL where it is a part of the loss, and returns its value: of `sequences` completions in a minibatch.
    fn add_kl(
        &mut self,
        method: &Method,
        beta: f32,
        (read, reference): (&PolicyBatch<'_, f32>, &[f32]),
        (weights, sequences): (&[f32], usize),
    ) -> Result<f64, Error> {
        let (mask, logprobs, len) = (&read.mask, read.logprobs, reference.len());
        let (live, penalty, slopes) = (&mut self.upstream[..len], &mut self.penalty[..len], &mut self.slopes[..len]);
        match method.kl_place {
            KlPlace::Rewards => Ok(0.0),
            KlPlace::TokenLoss => {
                kl(method.kl.0, &method.kl.1, logprobs, reference, penalty, slopes)?;
                let value = f64::from(aggregate(weights, penalty, slopes)?);
                live.iter_mut().zip(&*slopes).for_each(|(to, x)| *to += beta * x);
                Ok(value)
            }
            KlPlace::SequenceLoss => {
                let mut values = vec![0.0; mask.rows()];
                sequence_k2(mask, logprobs, reference, &mut values, slopes)?;
                live.iter_mut().zip(&*slopes).for_each(|(to, x)| *to += beta * x / sequences as f32);
                Ok(values.iter().map(|&x| f64::from(x)).sum::<f64>() / sequences as f64)
            }
        }
    }
}

/// The tokens that count in the policy's loss.
fn loss_mask(method: &Method, batch: &Batch) -> Result<Vec<bool>, RunError> {
    let mut mask = batch.mask.clone();
    if method.mask_truncated {
        mask_truncated(batch.row, &batch.ended, &mut mask).map_err(guard)?;
        some_token(&mask, batch.ended.len())?;
    }
    Ok(mask)
}

/// What the loss of every token is multiplied by (M, R): over the whole minibatch, or over each of its micro-batches of `micro_rows` rows, which then
/// count alike.
fn weights(method: &Method, mask: &Mask<'_>, micro_rows: usize) -> Result<Vec<f32>, Error> {
    let mut weights = vec![0.0; mask.live().len()];
    if method.whole_step {
        token_weights(method.aggregation, Totals::of(mask), mask, &mut weights)?;
        return Ok(weights);
    }
    let part = micro_rows * mask.row_len();
    let parts = mask.live().len().div_ceil(part) as f32;
    for (live, weights) in mask.live().chunks(part).zip(weights.chunks_mut(part)) {
        let Ok(mask) = Mask::new(live, mask.row_len()) else { continue };
        token_weights(method.aggregation, Totals::of(&mask), &mask, weights)?;
        weights.iter_mut().for_each(|weight| *weight /= parts);
    }
    Ok(weights)
}
