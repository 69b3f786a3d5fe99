//! From completions, log-probs, values and scores to advantages and returns.

use samara_core::rl::groups::{GroupAdvantages, GroupStatistics, Scale, group_advantages, reinforce_plus_plus, remax, rloo};
use samara_core::rl::{
    Completions, Error, Estimator, Limits, Mask, ScoreAt, TokenRewards, WhitenScope, Whitening, broadcast, discounted_returns,
    gae, kl, whiten,
};

use super::method::{Advantage, KlPlace, Method};

/// What is known of the completions of a step. Arrays are (N, R) for N completions of at most R tokens, or (N).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// R.
    pub row: usize,
    /// Tokens of each completion (N).
    pub lengths: Vec<usize>,
    /// Whether each ends with a stop token (N).
    pub ended: Vec<bool>,
    /// The prompt of each (N).
    pub groups: Vec<u32>,
    /// Scores (N), those of missing stop tokens and lengths included.
    pub scores: Vec<f32>,
    /// Scores of greedy completions of the same prompts (N); empty unless the method needs them.
    pub greedy: Vec<f32>,
    /// log π_old (N, R).
    pub logprobs: Vec<f32>,
    /// log π_ref (N, R).
    pub reference: Vec<f32>,
    /// V_old (N, R); empty without a critic.
    pub values: Vec<f32>,
    /// Tokens that count in the policy's loss (N, R).
    pub mask: Vec<bool>,
    /// Tokens that have a value (N, R): those of the completion, and the one behind it where the score goes there.
    pub value_mask: Vec<bool>,
}

/// What the losses read (N, R).
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Advantages.
    pub advantages: Vec<f32>,
    /// Returns, for the value function.
    pub returns: Vec<f32>,
    /// Groups, if completions were compared.
    pub groups: GroupStatistics,
}

impl Targets {
    /// The same of some rows of `row` elements.
    #[must_use]
    pub fn rows(&self, rows: &[usize], row: usize) -> Self {
        Self { advantages: pick(&self.advantages, rows, row), returns: pick(&self.returns, rows, row), groups: self.groups }
    }
}

impl Batch {
    /// The mask that says which tokens of completions count, and the one for values.
    pub fn set_masks(&mut self, method: &Method) {
        let beyond = usize::from(method.rewards.score_at == ScoreAt::EosPlusOne && method.has_critic());
        let row = self.row;
        let live = |extra: usize, lengths: &[usize]| -> Vec<bool> {
            lengths.iter().flat_map(|&length| (0..row).map(move |i| i < length + extra)).collect()
        };
        (self.mask, self.value_mask) = (live(0, &self.lengths), live(beyond, &self.lengths));
    }

    /// The same of some rows.
    #[must_use]
    pub fn rows(&self, rows: &[usize]) -> Self {
        let row = self.row;
        Self {
            row,
            lengths: pick(&self.lengths, rows, 1),
            ended: pick(&self.ended, rows, 1),
            groups: pick(&self.groups, rows, 1),
            scores: pick(&self.scores, rows, 1),
            greedy: pick(&self.greedy, rows, 1),
            logprobs: pick(&self.logprobs, rows, row),
            reference: pick(&self.reference, rows, row),
            values: pick(&self.values, rows, row),
            mask: pick(&self.mask, rows, row),
            value_mask: pick(&self.value_mask, rows, row),
        }
    }

    /// KL estimates of every token (N, R), 0 outside of completions.
    ///
    /// # Errors
    /// Arrays that do not fit.
    pub fn kl(&self, method: &Method) -> Result<Vec<f32>, Error> {
        let (mut values, mut slopes) = (vec![0.0; self.logprobs.len()], vec![0.0; self.logprobs.len()]);
        kl(method.kl.0, &method.kl.1, &self.logprobs, &self.reference, &mut values, &mut slopes)?;
        values.iter_mut().zip(&self.mask).filter(|(_, live)| !**live).for_each(|(x, _)| *x = 0.0);
        Ok(values)
    }

    /// The sum over the tokens of every completion (N) of an estimate of the KL from the reference, in nats; of k1 that is log π − log π_ref.
    ///
    /// # Errors
    /// Arrays that do not fit.
    pub fn sequence_kl(&self, estimator: Estimator) -> Result<Vec<f32>, Error> {
        let (mut values, mut slopes) = (vec![0.0; self.logprobs.len()], vec![0.0; self.logprobs.len()]);
        kl(estimator, &Limits { difference: None, value: None }, &self.logprobs, &self.reference, &mut values, &mut slopes)?;
        let rows = values.chunks(self.row).zip(self.mask.chunks(self.row));
        let sum = |(values, mask): (&[f32], &[bool])| {
            values.iter().zip(mask).filter(|(_, live)| **live).map(|(&x, _)| f64::from(x)).sum::<f64>() as f32
        };
        Ok(rows.map(sum).collect())
    }

    /// Advantages and returns, with the coefficient β of the KL.
    ///
    /// # Errors
    /// Arrays that do not fit, groups of one where they are refused, values that cannot be whitened.
    pub fn targets(&self, method: &Method, beta: f32) -> Result<Targets, Error> {
        let len = self.logprobs.len();
        let mut targets = Targets { advantages: vec![0.0; len], returns: vec![0.0; len], groups: GroupStatistics::default() };
        let beta = if method.kl_place == KlPlace::Rewards { beta } else { 0.0 };
        let mask = Mask::new(&self.mask, self.row)?;
        match method.advantage {
            Advantage::Critic { gae: how, whiten_rewards, whitening, .. } => {
                let mut rewards = self.token_rewards(method, beta, &self.scores)?;
                if whiten_rewards {
                    let keep = Whitening { shift_mean: false, ..whitening.unwrap_or_default() };
                    whiten(&keep, &self.value_mask, &mut rewards)?;
                }
                let values = Mask::new(&self.value_mask, self.row)?;
                gae(&how, &values, &rewards, &self.values, &mut targets.advantages, &mut targets.returns)?;
                self.whiten(whitening, &mut targets.advantages)?;
            }
            Advantage::Group(how) => {
                let (rewards, mut of_rows) = (self.sequence_rewards(method, beta)?, vec![0.0; self.scores.len()]);
                targets.groups = group_advantages(&how, &rewards, &self.groups, &mut of_rows)?;
                broadcast(&mask, &of_rows, &mut targets.advantages)?;
            }
            Advantage::LeaveOneOut(group_of_one) => {
                let (rewards, mut of_rows) = (self.sequence_rewards(method, beta)?, vec![0.0; self.scores.len()]);
                targets.groups = rloo(group_of_one, &rewards, &self.groups, &mut of_rows)?;
                broadcast(&mask, &of_rows, &mut targets.advantages)?;
            }
            Advantage::Greedy => {
                let rewards = self.token_rewards(method, beta, &self.scores)?;
                discounted_returns(1.0, &mask, &rewards, &mut targets.returns)?;
                remax(&mask, &targets.returns, &self.greedy, &mut targets.advantages)?;
            }
            Advantage::Returns { baseline, whitening } => {
                let mut scores = self.scores.clone();
                if baseline {
                    let how = GroupAdvantages { scale: Scale::None, ..GroupAdvantages::default() };
                    targets.groups = group_advantages(&how, &self.scores, &self.groups, &mut scores)?;
                }
                let rewards = self.token_rewards(method, beta, &scores)?;
                reinforce_plus_plus(1.0, &whitening, &mask, &rewards, &mut targets.advantages)?;
            }
        }
        Ok(targets)
    }

    /// Whitens advantages over the tokens of the policy's loss; the others become 0.
    fn whiten(&self, whitening: Option<Whitening<f32>>, advantages: &mut [f32]) -> Result<(), Error> {
        if let Some(how) = whitening {
            whiten(&how, &self.mask, advantages)?;
        }
        advantages.iter_mut().zip(&self.mask).filter(|(_, live)| !**live).for_each(|(x, _)| *x = 0.0);
        Ok(())
    }

    /// Rewards of tokens (N, R).
    fn token_rewards(&self, method: &Method, beta: f32, scores: &[f32]) -> Result<Vec<f32>, Error> {
        let mut rewards = vec![0.0; self.logprobs.len()];
        let how = TokenRewards { beta, ..method.rewards };
        let completions = Completions { row: self.row, lengths: &self.lengths, ended: &self.ended, scores };
        how.rewards(&completions, &self.kl(method)?, &mut rewards)?;
        Ok(rewards)
    }

    /// Rewards of completions (N): the score less β times the KL of the sequence.
    fn sequence_rewards(&self, method: &Method, beta: f32) -> Result<Vec<f32>, Error> {
        let kl = self.kl(method)?;
        let rows = self.scores.iter().zip(&self.ended).zip(kl.chunks(self.row));
        Ok(rows.map(|((&score, &ended), kl)| method.rewards.score(score, ended) - beta * kl.iter().sum::<f32>()).collect())
    }
}

/// Whether advantages are made within a minibatch.
pub fn is_of_minibatch(method: &Method) -> bool {
    matches!(method.advantage, Advantage::Critic { scope: WhitenScope::Minibatch, .. })
}

/// The given rows of an array whose rows have `row` elements; of an empty array none.
fn pick<T: Copy>(x: &[T], rows: &[usize], row: usize) -> Vec<T> {
    rows.iter().flat_map(|&i| x.get(i * row..(i + 1) * row).unwrap_or(&[]).iter().copied()).collect()
}
