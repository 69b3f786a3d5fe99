//! Dynamic sampling (Yu et al. 2025, section 3.2): prompts whose completions all have one score teach nothing, and further prompts take their places.

use samara_core::rl::groups::informative_groups;

use super::episodes::{Episode, roll_out};
use super::state::{DynamicSampling, Policy};
use crate::align::guard::guard;
use crate::data::batches::{Order, Sampler};
use crate::lm::RunError;
use crate::session::{Device, Session};
use crate::stop::Stop;
use crate::train::objective::StepBatch;

/// Further prompts come in an order of their own, and their episodes have numbers that no step has.
const FURTHER: u64 = 1 << 62;

/// Completions with their scores, those of a prompt side by side.
#[derive(Default)]
pub(super) struct Sampled {
    pub(super) episodes: Vec<Episode>,
    pub(super) scores: Vec<f32>,
}

impl Sampled {
    fn push(&mut self, (episode, score): (Episode, f32)) {
        self.episodes.push(episode);
        self.scores.push(score);
    }

    fn into_rows(self) -> impl Iterator<Item = (Episode, f32)> {
        self.episodes.into_iter().zip(self.scores)
    }
}

impl Policy {
    /// Completions of the prompts with these numbers, and their scores. Episode i is number `first` + i.
    pub(super) fn sample<D: Device>(
        &mut self,
        session: &mut Session<D>,
        numbers: &[usize],
        first: u64,
        stop: &Stop,
    ) -> Result<Sampled, RunError> {
        let group = |&n: &usize| std::iter::repeat_n((n, self.spec.prompts[n].as_slice()), self.spec.group_size);
        let prompts: Vec<(usize, &[i32])> = numbers.iter().flat_map(group).collect();
        let episodes = roll_out(&mut self.bound(session, false), &prompts, first, &self.spec.rollout, stop)?;
        let scores = self.scores(session, &episodes)?;
        Ok(Sampled { episodes, scores })
    }

    /// Completions of as many prompts with something to learn, from at most `rounds` rounds, of which `sampled` is the first. Prompts that were left
    /// out take the places that are free after the last round: every update has its completions, and their advantages are 0.
    pub(super) fn sample_dynamically<D: Device>(
        &mut self,
        session: &mut Session<D>,
        sampled: Sampled,
        step: &StepBatch,
    ) -> Result<Sampled, RunError> {
        let (all, group_size) = (sampled.episodes.len(), self.spec.group_size);
        let (mut kept, mut dropped) = (Sampled::default(), Sampled::default());
        self.divide(sampled, &mut kept, &mut dropped)?;
        let mut round = 1;
        while kept.episodes.len() < all && round < self.spec.method.rounds {
            let missing = (all - kept.episodes.len()) / group_size;
            let (numbers, first) = self.further(step.step, round, missing)?;
            let more = self.sample(session, &numbers, first, &step.stop)?;
            self.divide(more, &mut kept, &mut dropped)?;
            round += 1;
        }
        self.sampling = DynamicSampling { dropped: dropped.episodes.len() / group_size, rounds: round };
        let missing = all - kept.episodes.len();
        dropped.into_rows().take(missing).for_each(|row| kept.push(row));
        Ok(kept)
    }

    /// The numbers of `count` further prompts of a round, and the number of their first episode: functions of step and round.
    fn further(&self, step: u64, round: u32, count: usize) -> Result<(Vec<usize>, u64), RunError> {
        let (rows, rounds) = (self.spec.prompts.len() as u64, u64::from(self.spec.method.rounds));
        let order = Sampler::over_rows(Order::Shuffled, self.spec.train.seed ^ FURTHER, rows, "prompts")?;
        let number = step * rounds + u64::from(round);
        let first = number * (self.spec.episodes / self.spec.group_size) as u64;
        let numbers: Result<Vec<usize>, _> =
            (first..first + count as u64).map(|row| order.start(row).map(|n| n as usize)).collect();
        Ok((numbers?, FURTHER + number * self.spec.episodes as u64))
    }

    /// Parts prompts with something to learn from those without.
    fn divide(&self, sampled: Sampled, kept: &mut Sampled, dropped: &mut Sampled) -> Result<(), RunError> {
        let rewards = &self.spec.method.rewards;
        let rows = sampled.scores.iter().zip(&sampled.episodes);
        let scores: Vec<f32> = rows.map(|(&score, episode)| rewards.score(score, episode.ended)).collect();
        let groups: Vec<u32> = (0..scores.len()).map(|i| (i / self.spec.group_size) as u32).collect();
        let mut informative = vec![false; scores.len()];
        informative_groups(&scores, &groups, &mut informative).map_err(guard)?;
        for (row, informative) in sampled.into_rows().zip(informative) {
            if informative { kept.push(row) } else { dropped.push(row) }
        }
        Ok(())
    }
}
