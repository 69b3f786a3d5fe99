//! The beginning of a step: completions, their log-probs under policy and reference, values, scores, and what follows from them.

use samara_core::rl::Estimator;

use super::advantages::{Batch, is_of_minibatch};
use super::dynamic::Sampled;
use super::episodes::{Episode, roll_out};
use super::method::Advantage;
use super::state::{DynamicSampling, Policy, Rollouts};
use crate::align::guard::{guard, mean, none_ends, scored};
use crate::data::dataset::RowNumbers;
use crate::lm::RunError;
use crate::say;
use crate::session::{Device, Session};
use crate::stop::Stop;
use crate::train::objective::StepBatch;

/// Episodes of the validation have numbers that no step has.
const HELD_OUT: u64 = 1 << 31;
/// Steps in a row without anything to learn after which a run ends.
const EQUAL_STEPS: u32 = 20;

impl Policy {
    /// Fills `rollouts` for a step.
    pub(super) fn roll_out<D: Device>(&mut self, session: &mut Session<D>, step: &StepBatch) -> Result<(), RunError> {
        let numbers: Vec<usize> = step.micro_batches(0).iter().flat_map(RowNumbers::of).collect();
        let group_size = self.spec.group_size;
        let mut sampled = self.sample(session, &numbers, step.step * self.spec.episodes as u64, &step.stop)?;
        if self.spec.method.rounds > 1 {
            sampled = self.sample_dynamically(session, sampled, step)?;
        }
        let Sampled { episodes, scores } = sampled;
        let mut batch = Batch {
            row: self.spec.rollout.max_new_tokens,
            lengths: episodes.iter().map(|episode| episode.completion().len()).collect(),
            ended: episodes.iter().map(|episode| episode.ended).collect(),
            groups: (0..episodes.len()).map(|i| (i / group_size) as u32).collect(),
            scores,
            ..Batch::default()
        };
        batch.set_masks(&self.spec.method);
        if let Some(warning) = none_ends(&batch.ended).filter(|_| step.step == 0 && !self.quiet) {
            say::line(&warning);
        }
        scored(&batch.scores, self.spec.method.compares())?;
        if self.spec.method.advantage == Advantage::Greedy {
            batch.greedy = self.greedy_scores(session, &episodes, &step.stop)?;
        }
        self.rollouts = Rollouts { episodes, batch, ..Rollouts::default() };
        self.read_numbers(session)?;
        let (method, beta) = (self.spec.method, self.lasting.beta as f32);
        if !is_of_minibatch(&method) {
            self.rollouts.targets = self.rollouts.batch.targets(&method, beta).map_err(guard)?;
        }
        self.report_rollouts()?;
        let kl = mean(&self.rollouts.batch.sequence_kl(Estimator::K1).map_err(guard)?);
        self.next.beta = method.controller.next(self.lasting.beta, kl, self.spec.episodes).map_err(guard)?;
        Ok(())
    }

    /// Log-probs of policy and reference, and values, for all completions of the step, by the programs that train.
    fn read_numbers<D: Device>(&mut self, session: &mut Session<D>) -> Result<(), RunError> {
        let rows: Vec<usize> = (0..self.rollouts.episodes.len()).collect();
        let picks = self.rows.shape().picks;
        for chunk in rows.chunks(self.rows.shape().rows) {
            self.fill_rows(chunk);
            let batch = &mut self.rollouts.batch;
            let built = self.built.as_mut().expect("built before");
            let live = chunk.len() * picks;
            batch.logprobs.extend_from_slice(&built.policy_program.forward(session, built.policy, &self.rows)?[..live]);
            self.entropies.extend_from_slice(&built.policy_program.entropies()[..live]);
            batch.reference.extend_from_slice(&built.reference_program.forward(session, built.reference, &self.rows)?[..live]);
            if let (Some(program), Some(set)) = (&mut built.value_program, built.value) {
                batch.values.extend_from_slice(&program.forward(session, set, &self.rows)?[..live]);
            }
        }
        Ok(())
    }

    /// Puts completions into the rows of a micro-batch. Pick i of a row is the token before the completion's token i.
    pub(super) fn fill_rows(&mut self, rows: &[usize]) {
        self.rows.clear();
        let picks = self.rows.shape().picks;
        for &row in rows {
            let episode = &self.rollouts.episodes[row];
            self.rows.push(&episode.tokens, (0..picks).map(|i| episode.prompt - 1 + i));
        }
    }

    /// Weighted sums of all sources' scores.
    pub(super) fn scores<D: Device>(&mut self, session: &mut Session<D>, episodes: &[Episode]) -> Result<Vec<f32>, RunError> {
        let mut total = self.spec.rewards.score(session, episodes)?;
        if let Some(overlong) = self.spec.method.overlong {
            for (total, episode) in total.iter_mut().zip(episodes) {
                *total += overlong.of(episode.completion().len()).map_err(guard)?;
            }
        }
        Ok(total)
    }

    /// Scores of the greedy completion of every prompt.
    fn greedy_scores<D: Device>(
        &mut self,
        session: &mut Session<D>,
        episodes: &[Episode],
        stop: &Stop,
    ) -> Result<Vec<f32>, RunError> {
        let prompts: Vec<(usize, &[i32])> = episodes.iter().map(|e| (e.row, &e.tokens[..e.prompt])).collect();
        let options = super::episodes::RolloutOptions { temperature: 0.0, ..self.spec.rollout.clone() };
        let episodes = roll_out(&mut self.bound(session, false), &prompts, 0, &options, stop)?;
        self.scores(session, &episodes)
    }

    /// Scores of completions of held-out prompts.
    pub(super) fn score_held_out<D: Device>(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        numbers: &[usize],
        stop: &Stop,
    ) -> Result<Vec<f32>, RunError> {
        let prompts: Vec<(usize, &[i32])> =
            numbers.iter().map(|&n| (self.spec.prompts.len() + n, self.spec.held_out[n].as_slice())).collect();
        let first = HELD_OUT + numbers.first().map_or(0, |&n| n as u64);
        let episodes = roll_out(&mut self.bound(session, averaged), &prompts, first, &self.spec.rollout, stop)?;
        self.scores(session, &episodes)
    }

    /// What the completions of a step come to.
    fn report_rollouts(&mut self) -> Result<(), RunError> {
        let Rollouts { episodes, batch, targets } = &self.rollouts;
        let all_equal = targets.groups.groups > 0 && targets.groups.equal == targets.groups.groups;
        self.next.equal_steps = if all_equal { self.lasting.equal_steps + 1 } else { 0 };
        if all_equal && !std::mem::replace(&mut self.equal_said, true) && !self.quiet {
            say::line(&format!(
                "warning: all completions of every prompt of this step have one score, so that nothing is learnt from it; {EQUAL_STEPS} such steps in a row \
                 end the run: look at the reward (samara rollout prints scores), raise rollout.temperature or rollout.group_size"
            ));
        }
        if self.next.equal_steps >= EQUAL_STEPS {
            return Err(RunError::Guard(format!(
                "in {EQUAL_STEPS} steps in a row all completions of every prompt had the same score, so that there was nothing to learn: look at the \
                 reward (samara rollout prints scores), raise rollout.temperature or rollout.group_size"
            )));
        }
        let live = |x: &[f32]| -> Vec<f32> { x.iter().zip(&batch.mask).filter(|(_, live)| **live).map(|(&x, _)| x).collect() };
        let sampled = episodes.iter().zip(batch.logprobs.chunks(batch.row));
        let gap = sampled.flat_map(|(episode, logprobs)| episode.sampled.iter().zip(logprobs).map(|(a, b)| (a - b).abs()));
        let kl = mean(&batch.sequence_kl(self.spec.method.reported_kl).map_err(guard)?);
        let penalised = mean(&batch.sequence_kl(Estimator::K1).map_err(guard)?);
        let scores: Vec<f32> = batch.scores.iter().copied().filter(|x| x.is_finite()).collect();
        let penalty = -self.lasting.beta * penalised;
        self.reported = vec![
            ("objective/kl", kl),
            ("objective/kl_coef", self.lasting.beta),
            ("objective/entropy", mean(&live(&self.entropies))),
            ("objective/non_score_reward", penalty),
            ("objective/rlhf_reward", penalty + mean(&scores)),
            ("objective/scores", mean(&scores)),
            ("objective/frac_reward_zero_std", targets.groups.equal as f64 / targets.groups.groups.max(1) as f64),
            ("rollout/length", batch.lengths.iter().sum::<usize>() as f64 / batch.lengths.len() as f64),
            ("rollout/ended", batch.ended.iter().filter(|ended| **ended).count() as f64 / batch.ended.len() as f64),
            ("rollout/sampler_gap", f64::from(gap.fold(0.0, f32::max))),
        ];
        if self.spec.method.rounds > 1 {
            let DynamicSampling { dropped, rounds } = self.sampling;
            self.reported.extend([("rollout/dropped_prompts", dropped as f64), ("rollout/rounds", f64::from(rounds))]);
        }
        self.entropies.clear();
        Ok(())
    }
}
