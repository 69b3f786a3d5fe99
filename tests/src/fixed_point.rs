//! The policy that GRPO with groups of two comes to rest at, from its exact expected gradient on the enumerated world, in `f64`.

use std::collections::BTreeMap;

use crate::world::{VOCAB, completions};

/// GRPO with two completions of a prompt, advantages divided by their standard deviation, and β k3 of every token in the loss; means over the tokens of
/// each completion.
#[derive(Clone, Copy, Debug)]
pub struct GrpoOfTwo {
    /// β.
    pub beta: f64,
    /// What is added to the standard deviation.
    pub std_epsilon: f64,
}

/// A policy as a table: ln p of every token after every beginning.
struct Table {
    /// Of each completion, the places of its tokens in the table.
    places: Vec<Vec<usize>>,
    /// (states, V).
    logprobs: Vec<f64>,
}

impl Table {
    /// The table of a policy that is given by ln π of every completion.
    fn of(policy: &[f64]) -> Self {
        let mut states = BTreeMap::new();
        let mut place = |beginning: &[i32], token: i32| {
            let next = states.len();
            *states.entry(beginning.to_vec()).or_insert(next) * VOCAB + token as usize
        };
        let places: Vec<Vec<usize>> =
            completions().iter().map(|text| (0..text.len()).map(|t| place(&text[..t], text[t])).collect()).collect();
        let mut mass = vec![0.0; states.len() * VOCAB];
        for (places, p) in places.iter().zip(policy) {
            places.iter().for_each(|&at| mass[at] += p.exp());
        }
        let logprobs = mass.chunks(VOCAB).flat_map(|row| row.iter().map(|p| (p / row.iter().sum::<f64>()).ln()));
        Self { logprobs: logprobs.collect(), places }
    }

    /// ln π of every completion.
    fn policy(&self) -> Vec<f64> {
        self.places.iter().map(|places| places.iter().map(|&at| self.logprobs[at]).sum()).collect()
    }

    /// Puts weights in the place of probabilities.
    fn normalise(&mut self) {
        for row in self.logprobs.chunks_mut(VOCAB) {
            let most = row.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(x));
            let all = most + row.iter().map(|x| (x - most).exp()).sum::<f64>().ln();
            row.iter_mut().for_each(|x| *x -= all);
        }
    }
}

impl GrpoOfTwo {
    /// The advantage of every completion, in expectation over the other of its group: half of the difference, by its standard deviation |d|/√2 + ε.
    fn advantages(&self, policy: &[f64], rewards: &[f64]) -> Vec<f64> {
        let of = |reward: &f64| {
            let against = |(p, other): (&f64, &f64)| {
                let d = reward - other;
                p.exp() * 0.5 * d / (d.abs() * 0.5_f64.sqrt() + self.std_epsilon)
            };
            policy.iter().zip(rewards).map(against).sum()
        };
        rewards.iter().map(of).collect()
    }

    /// ln π of every completion where the expected gradient is 0, from the reference on: every token of a state then has the same mean of
    /// (A − β(1 − e⁻ˣ))/|y|, x = ln π/π_ref of the token, so that steps go by its differences from the state's mean, damped by the slope of k3.
    ///
    /// # Panics
    /// Where the gradient is not below 10⁻¹⁰ after the last step.
    pub fn fixed_point(&self, reference: &[f64], rewards: &[f64]) -> Vec<f64> {
        const STEPS: usize = 20_000;
        let start = Table::of(reference);
        let mut table = Table::of(reference);
        let mut largest = f64::INFINITY;
        for _ in 0..STEPS {
            let policy = table.policy();
            let advantages = self.advantages(&policy, rewards);
            let [mut visits, mut gains, mut slopes] = [(); 3].map(|()| vec![0.0; table.logprobs.len()]);
            for ((places, p), advantage) in table.places.iter().zip(&policy).zip(&advantages) {
                let (p, share) = (p.exp(), 1.0 / places.len() as f64);
                for &at in places {
                    let turned = (start.logprobs[at] - table.logprobs[at]).exp();
                    visits[at] += p;
                    gains[at] += p * share * (advantage - self.beta * (1.0 - turned));
                    slopes[at] += p * share * self.beta * turned;
                }
            }
            largest = 0.0;
            for (row, ((visits, gains), slopes)) in
                table.logprobs.chunks_mut(VOCAB).zip(visits.chunks(VOCAB).zip(gains.chunks(VOCAB)).zip(slopes.chunks(VOCAB)))
            {
                let (visited, gained) = (visits.iter().sum::<f64>(), gains.iter().sum::<f64>());
                for (x, ((visit, gain), slope)) in row.iter_mut().zip(visits.iter().zip(gains).zip(slopes)) {
                    let gradient = gain - visit * gained / visited;
                    largest = f64::max(largest, gradient.abs());
                    *x += gradient / visit / (1.0 + slope / visit);
                }
            }
            table.normalise();
            if largest < 1e-10 {
                return table.policy();
            }
        }
        panic!("the gradient is still {largest}");
    }
}
