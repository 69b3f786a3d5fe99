//! A policy that is a table: logits for every beginning of a completion, every completion with its probability, and the exact gradient of J.

use samara_core::rl::categorical::{log_softmax, logprob_gradient};

/// The token that ends a completion.
const EOS: usize = 0;

/// Completions of at most `length` tokens over `vocabulary`, EOS among them. A state is a beginning without EOS.
pub(crate) struct World {
    pub(crate) vocabulary: usize,
    pub(crate) length: usize,
    /// States before each token of each completion, and its tokens.
    pub(crate) completions: Vec<Vec<(usize, usize)>>,
    pub(crate) states: usize,
}

/// Numbers in [−1, 1] that look random.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f64> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..8).for_each(|_| {
        next();
    });
    (0..len).map(|_| next()).collect()
}

impl World {
    pub(crate) fn new(vocabulary: usize, length: usize) -> Self {
        let mut world = Self { vocabulary, length, completions: Vec::new(), states: 0 };
        world.grow(&mut Vec::new());
        world
    }

    fn grow(&mut self, before: &mut Vec<(usize, usize)>) {
        let state = self.states;
        self.states += 1;
        for token in 0..self.vocabulary {
            before.push((state, token));
            if token == EOS || before.len() == self.length {
                self.completions.push(before.clone());
            } else {
                self.grow(before);
            }
            before.pop();
        }
    }

    /// log π of a table of logits (states, vocabulary).
    pub(crate) fn logprobs(&self, logits: &[f64]) -> Vec<f64> {
        let mut logprobs = logits.to_vec();
        logprobs.chunks_mut(self.vocabulary).for_each(|row| log_softmax(row).unwrap());
        logprobs
    }

    /// The place of a token in a table.
    pub(crate) fn at(&self, (state, token): (usize, usize)) -> usize {
        state * self.vocabulary + token
    }

    /// Whether a completion ends with EOS.
    pub(crate) fn ended(completion: &[(usize, usize)]) -> bool {
        completion.last().is_some_and(|&(_, token)| token == EOS)
    }

    /// Adds weight · Σ_t upstream_t ∂ log π(token t)/∂ logits.
    pub(crate) fn add_gradient(
        &self,
        logprobs: &[f64],
        completion: &[(usize, usize)],
        upstream: &[f64],
        weight: f64,
        to: &mut [f64],
    ) {
        let v = self.vocabulary;
        for (&(state, token), upstream) in completion.iter().zip(upstream) {
            let row = state * v..(state + 1) * v;
            logprob_gradient(&logprobs[row.clone()], token, weight * upstream, &mut to[row]).unwrap();
        }
    }

    /// The probability of a completion.
    pub(crate) fn probability(&self, logprobs: &[f64], completion: &[(usize, usize)]) -> f64 {
        completion.iter().map(|&step| logprobs[self.at(step)]).sum::<f64>().exp()
    }

    /// How probable it is to come by each state.
    pub(crate) fn visits(&self, logprobs: &[f64]) -> Vec<f64> {
        let mut visits = vec![0.0; self.states];
        for completion in &self.completions {
            let p = self.probability(logprobs, completion);
            completion.iter().for_each(|&(state, _)| visits[state] += p);
        }
        visits
    }

    /// Σ_y π(y) (R(y) − β log π(y)/π_ref(y)).
    pub(crate) fn objective(&self, logits: &[f64], reference: &[f64], rewards: &[f64], beta: f64) -> f64 {
        let logprobs = self.logprobs(logits);
        let value = |(completion, reward): (&Vec<(usize, usize)>, &f64)| {
            let kl: f64 = completion.iter().map(|&step| logprobs[self.at(step)] - reference[self.at(step)]).sum();
            self.probability(&logprobs, completion) * (reward - beta * kl)
        };
        self.completions.iter().zip(rewards).map(value).sum()
    }

    /// Its gradient by the logits, from the derivative of every π(y) without any estimator: dπ(y)/dz = π(y) Σ_t (1{token} − π), and d(π log π) = (1 + log π) dπ.
    pub(crate) fn exact_gradient(&self, logits: &[f64], reference: &[f64], rewards: &[f64], beta: f64) -> Vec<f64> {
        let logprobs = self.logprobs(logits);
        let mut gradient = vec![0.0; logits.len()];
        for (completion, reward) in self.completions.iter().zip(rewards) {
            let kl: f64 = completion.iter().map(|&step| logprobs[self.at(step)] - reference[self.at(step)]).sum();
            let by_probability = reward - beta * (1.0 + kl);
            let p = self.probability(&logprobs, completion);
            for &(state, token) in completion {
                for other in 0..self.vocabulary {
                    let own = if other == token { 1.0 } else { 0.0 };
                    gradient[self.at((state, other))] += by_probability * p * (own - logprobs[self.at((state, other))].exp());
                }
            }
        }
        gradient
    }
}

/// The largest difference of two arrays.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn the_exact_gradient_is_that_of_the_objective() {
    let world = World::new(4, 3);
    assert_eq!((world.states, world.completions.len()), (1 + 3 + 9, 1 + 3 + 9 + 27));
    let logits = noise(1, world.states * 4);
    let reference = world.logprobs(&noise(2, world.states * 4));
    let rewards = noise(3, world.completions.len());
    let gradient = world.exact_gradient(&logits, &reference, &rewards, 0.3);
    for i in (0..logits.len()).step_by(5) {
        let at = |step: f64| {
            let mut logits = logits.clone();
            logits[i] += step;
            world.objective(&logits, &reference, &rewards, 0.3)
        };
        assert!((gradient[i] - (at(1e-5) - at(-1e-5)) / 2e-5).abs() < 1e-9);
    }
}
