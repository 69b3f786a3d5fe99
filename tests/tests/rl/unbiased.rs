//! Expected gradients: the sum over all completions of probability times an estimator's gradient, against the exact gradient of J; and of estimators that
//! are biased, the bias against its own closed form.

use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, group_advantages, reinforce_plus_plus, rloo};
use samara_core::rl::{
    Aggregation, Clip, Completions, Estimator, Gae, Gaps, Limits, Mask, MissingEos, Penalised, PolicyBatch, ScoreAt,
    SequenceRatio, TokenRewards, Totals, Variance, Whitening, aggregate, broadcast, discounted_returns, gae, gspo, kl, ppo,
    reinforce, sequence_k2, token_weights,
};

use crate::tabular::{World, distance, noise};

const BETA: f64 = 0.3;
const CLOSE: f64 = 1e-10;

/// A gradient by log p, from ln p of policy and reference and the KL of the state.
type Form = dyn Fn(f64, f64, f64) -> f64;

/// A world with a policy, a reference, and rewards that look random.
struct Setting {
    world: World,
    logits: Vec<f64>,
    logprobs: Vec<f64>,
    reference: Vec<f64>,
    rewards: Vec<f64>,
    values: Vec<f64>,
}

impl Setting {
    fn new(vocabulary: usize, length: usize) -> Self {
        let world = World::new(vocabulary, length);
        let table = world.states * vocabulary;
        let logits = noise(11, table);
        let (logprobs, reference) = (world.logprobs(&logits), world.logprobs(&noise(12, table)));
        let (rewards, values) = (noise(13, world.completions.len()), noise(14, world.states));
        Self { world, logits, logprobs, reference, rewards, values }
    }

    /// −∇J, with the KL at weight β.
    fn descent(&self, rewards: &[f64], beta: f64) -> Vec<f64> {
        let mut gradient = self.world.exact_gradient(&self.logits, &self.reference, rewards, beta);
        gradient.iter_mut().for_each(|x| *x = -*x);
        gradient
    }

    /// Σ_y π(y) Σ_t upstream_t(y) ∇ log π(y_t).
    fn expected(&self, mut upstream: impl FnMut(usize, &Row) -> Vec<f64>) -> Vec<f64> {
        let mut gradient = vec![0.0; self.logits.len()];
        for (number, completion) in self.world.completions.iter().enumerate() {
            let row = self.row(number);
            let p = self.world.probability(&self.logprobs, completion);
            self.world.add_gradient(&self.logprobs, completion, &upstream(number, &row), p, &mut gradient);
        }
        gradient
    }

    /// The same over all pairs of completions that are drawn independently; `upstream` gives those of both.
    fn expected_of_two(&self, mut upstream: impl FnMut([usize; 2], [&Row; 2]) -> [Vec<f64>; 2]) -> Vec<f64> {
        let world = &self.world;
        let mut gradient = vec![0.0; self.logits.len()];
        let rows: Vec<Row> = (0..world.completions.len()).map(|number| self.row(number)).collect();
        let probability: Vec<f64> = world.completions.iter().map(|c| world.probability(&self.logprobs, c)).collect();
        for (i, first) in world.completions.iter().enumerate() {
            for (j, second) in world.completions.iter().enumerate() {
                let of_both = upstream([i, j], [&rows[i], &rows[j]]);
                for (completion, upstream) in [first, second].into_iter().zip(of_both) {
                    world.add_gradient(&self.logprobs, completion, &upstream, probability[i] * probability[j], &mut gradient);
                }
            }
        }
        gradient
    }

    /// A completion as a row of a batch.
    fn row(&self, number: usize) -> Row {
        let (completion, length) = (&self.world.completions[number], self.world.length);
        let table = |of: &[f64], padding: f64| -> Vec<f64> {
            let tokens = completion.iter().map(|&step| of[self.world.at(step)]);
            tokens.chain(std::iter::repeat(padding)).take(length).collect()
        };
        // Whatever stands in the padding must not count.
        Row {
            live: (0..length).map(|t| t < completion.len()).collect(),
            length: completion.len(),
            ended: World::ended(completion),
            logprobs: table(&self.logprobs, -77.0),
            reference: table(&self.reference, -5.0),
            values: completion.iter().map(|&(s, _)| self.values[s]).chain(std::iter::repeat(99.0)).take(length).collect(),
            score: self.rewards[number],
        }
    }
}

/// A completion as a row of a batch of one.
struct Row {
    live: Vec<bool>,
    length: usize,
    ended: bool,
    logprobs: Vec<f64>,
    reference: Vec<f64>,
    values: Vec<f64>,
    score: f64,
}

impl Row {
    fn mask(&self) -> Mask<'_> {
        Mask::new(&self.live, self.live.len()).unwrap()
    }

    fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.live.len()]
    }

    /// Rewards of tokens: k1 at weight β, the score at the last token.
    fn token_rewards(&self) -> Vec<f64> {
        let (mut values, mut slopes, mut rewards) = (self.zeros(), self.zeros(), self.zeros());
        kl(Estimator::K1, &Limits::default(), &self.logprobs, &self.reference, &mut values, &mut slopes).unwrap();
        let how = TokenRewards {
            beta: BETA,
            score_at: ScoreAt::Eos,
            missing_eos: MissingEos::Keep,
            penalised: Penalised::Completion,
            score_limit: None,
        };
        let completions =
            Completions { row: self.live.len(), lengths: &[self.length], ended: &[self.ended], scores: &[self.score] };
        how.rewards(&completions, &values, &mut rewards).unwrap();
        rewards
    }

    /// R − β Σ k1, the reward of the sequence.
    fn reward(&self) -> f64 {
        self.token_rewards().iter().sum()
    }

    /// Upstream gradients of PPO's first step, where π = π_old, on advantages of GAE.
    fn ppo_step(&self, lambda: f64) -> Vec<f64> {
        let (mut advantages, mut returns, mut losses, mut gradients) = (self.zeros(), self.zeros(), self.zeros(), self.zeros());
        let how = Gae { gamma: 1.0, lambda, gaps: Gaps::Zero };
        gae(&how, &self.mask(), &self.token_rewards(), &self.values, &mut advantages, &mut returns).unwrap();
        let batch =
            PolicyBatch { mask: self.mask(), logprobs: &self.logprobs, old_logprobs: &self.logprobs, advantages: &advantages };
        let statistics = ppo(&Clip::default(), &batch, &mut losses, &mut gradients).unwrap();
        assert_eq!((statistics.min, statistics.mean(), statistics.max), (1.0, 1.0, 1.0));
        assert_eq!((statistics.clipfrac(), statistics.approxkl()), (0.0, 0.0));
        self.weighted(Aggregation::SeqMeanTokenSum, losses, gradients)
    }

    fn weighted(&self, mean: Aggregation, losses: Vec<f64>, mut gradients: Vec<f64>) -> Vec<f64> {
        let mut weights = self.zeros();
        token_weights(mean, Totals::of(&self.mask()), &self.mask(), &mut weights).unwrap();
        let _ = aggregate(&weights, &losses, &mut gradients).unwrap();
        gradients
    }

    /// −A at every token.
    fn reinforce_step(&self, advantages: &[f64]) -> Vec<f64> {
        let (mut losses, mut gradients) = (self.zeros(), self.zeros());
        reinforce(&self.mask(), &self.logprobs, advantages, &mut losses, &mut gradients).unwrap();
        self.weighted(Aggregation::SeqMeanTokenSum, losses, gradients)
    }

    fn everywhere(&self, x: f64) -> Vec<f64> {
        let mut to = self.zeros();
        broadcast(&self.mask(), &[x], &mut to).unwrap();
        to
    }
}

#[test]
fn ppo_with_lambda_1_and_any_values() {
    for (vocabulary, length) in [(4, 4), (6, 5), (2, 5)] {
        let s = Setting::new(vocabulary, length);
        let found = s.expected(|_, row| row.ppo_step(1.0));
        let off = distance(&found, &s.descent(&s.rewards, BETA));
        assert!(off <= CLOSE, "V = {vocabulary}, L = {length}: {off:e}");
    }
}

#[test]
fn reinforce_with_and_without_the_future_only() {
    let s = Setting::new(5, 4);
    let exact = s.descent(&s.rewards, BETA);
    let future = s.expected(|_, row| {
        let mut returns = row.zeros();
        discounted_returns(1.0, &row.mask(), &row.token_rewards(), &mut returns).unwrap();
        row.reinforce_step(&returns)
    });
    let whole = s.expected(|_, row| row.reinforce_step(&row.everywhere(row.reward())));
    assert!(distance(&future, &exact) <= CLOSE && distance(&whole, &exact) <= CLOSE);
}

#[test]
fn rloo_of_two() {
    let s = Setting::new(3, 3);
    let exact = s.descent(&s.rewards, BETA);
    let advantages = |rows: [&Row; 2]| {
        let mut advantages = [0.0; 2];
        rloo(GroupOfOne::Refuse, &rows.map(Row::reward), &[5, 5], &mut advantages).unwrap();
        advantages
    };
    // The mean of two completions: each at half.
    let half = |upstream: Vec<f64>| upstream.into_iter().map(|x| 0.5 * x).collect::<Vec<f64>>();
    let plain = s.expected_of_two(|_, rows| {
        let [a, b] = advantages(rows);
        [half(rows[0].reinforce_step(&rows[0].everywhere(a))), half(rows[1].reinforce_step(&rows[1].everywhere(b)))]
    });
    assert!(distance(&plain, &exact) <= CLOSE);
    // As TRL steps it: the clipped surrogate of the sequence's ratio.
    let sequence = s.expected_of_two(|_, rows| {
        let of_both = advantages(rows);
        [0, 1].map(|i| {
            let row = rows[i];
            let (mut losses, mut gradients, advantages) = (row.zeros(), row.zeros(), row.everywhere(of_both[i]));
            let batch =
                PolicyBatch { mask: row.mask(), logprobs: &row.logprobs, old_logprobs: &row.logprobs, advantages: &advantages };
            let _ = gspo(&Clip::default(), SequenceRatio::Sum, &batch, &mut losses, &mut gradients).unwrap();
            half(row.weighted(Aggregation::SeqMeanTokenMean, losses, gradients))
        })
    });
    assert!(distance(&sequence, &exact) <= CLOSE);
}

#[test]
fn sequence_k2_is_the_gradient_of_the_kl() {
    for (vocabulary, length) in [(4, 4), (6, 5)] {
        let s = Setting::new(vocabulary, length);
        let found = s.expected(|_, row| {
            let (mut values, mut gradients) = ([0.0], row.zeros());
            sequence_k2(&row.mask(), &row.logprobs, &row.reference, &mut values, &mut gradients).unwrap();
            gradients
        });
        let exact = s.descent(&vec![0.0; s.rewards.len()], 1.0);
        assert!(distance(&found, &exact) <= CLOSE, "V = {vocabulary}, L = {length}");
    }
}

/// Says how far an estimator is from ∇J, and holds it to its own closed form.
fn biased(name: &str, found: &[f64], exact: &[f64], closed_form: &[f64]) {
    let (bias, off) = (distance(found, exact), distance(found, closed_form));
    println!("{name}: bias {bias:.4e}, of which {off:.1e} is not as predicted");
    assert!(off <= CLOSE, "{name}: {off:e}");
    assert!(bias > 1e-4, "{name} is not biased here: {bias:e}");
}

/// Token-wise estimators as terms of the loss: k1 has gradient 0; k2 lacks the future, so that it is the gradient of the KL of each state with the visits
/// held fixed; k3 is that of the *other* KL of each state, KL(π_ref‖π).
#[test]
fn token_estimators_in_the_loss() {
    let s = Setting::new(4, 4);
    let world = &s.world;
    let exact = s.descent(&vec![0.0; s.rewards.len()], 1.0);
    let visits = world.visits(&s.logprobs);
    let of_state = |state: usize, form: &Form| -> Vec<f64> {
        let row = state * world.vocabulary..(state + 1) * world.vocabulary;
        let (p, q) = (&s.logprobs[row.clone()], &s.reference[row]);
        let kl: f64 = p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum();
        p.iter().zip(q).map(|(&p, &q)| visits[state] * form(p, q, kl)).collect()
    };
    let forms: [(&str, Estimator, &Form); 3] = [
        ("k1 of tokens in the loss", Estimator::K1, &|_, _, _| 0.0),
        ("k2 of tokens in the loss", Estimator::K2, &|p, q, kl| p.exp() * (p - q - kl)),
        ("k3 of tokens in the loss", Estimator::K3, &|p, q, _| p.exp() - q.exp()),
    ];
    for (name, estimator, form) in forms {
        let found = s.expected(|_, row| {
            let (mut values, mut gradients) = (row.zeros(), row.zeros());
            kl(estimator, &Limits::default(), &row.logprobs, &row.reference, &mut values, &mut gradients).unwrap();
            row.weighted(Aggregation::SeqMeanTokenSum, values, gradients)
        });
        let closed: Vec<f64> = (0..world.states).flat_map(|state| of_state(state, form)).collect();
        biased(name, &found, &exact, &closed);
    }
}

/// λ = 0 with values that are wrong: the advantage is the temporal difference, whose gradient by state is visits · π (Q − V) with Q = r + V(next).
#[test]
fn gae_with_lambda_0() {
    let s = Setting::new(4, 3);
    let world = &s.world;
    let visits = world.visits(&s.logprobs);
    let mut q = vec![f64::NAN; s.logits.len()];
    for (completion, reward) in world.completions.iter().zip(&s.rewards) {
        for (t, &(state, token)) in completion.iter().enumerate() {
            let at = world.at((state, token));
            let after = completion.get(t + 1).map_or(*reward, |&(next, _)| s.values[next]);
            q[at] = after - BETA * (s.logprobs[at] - s.reference[at]);
        }
    }
    let mut closed = vec![0.0; q.len()];
    for (state, visits) in visits.iter().enumerate() {
        let row = || (0..world.vocabulary).map(|token| world.at((state, token)));
        let mean: f64 = row().map(|at| s.logprobs[at].exp() * q[at]).sum();
        row().for_each(|at| closed[at] = -visits * s.logprobs[at].exp() * (q[at] - mean));
    }
    let found = s.expected(|_, row| row.ppo_step(0.0));
    biased("λ = 0", &found, &s.descent(&s.rewards, BETA), &closed);
}

/// The standard deviation of a group of two leaves only who won: A = ±1/√2, the gradient of a game against oneself. Whitening of two single rewards
/// with a biased variance leaves ±1.
#[test]
fn scaled_groups_and_whitening() {
    let s = Setting::new(3, 3);
    let world = &s.world;
    let rewards: Vec<f64> = (0..s.rewards.len()).map(|number| s.row(number).reward()).collect();
    let probability: Vec<f64> = world.completions.iter().map(|c| world.probability(&s.logprobs, c)).collect();
    let wins = |i: usize| -> f64 { rewards.iter().zip(&probability).map(|(r, p)| p * sign(rewards[i] - r)).sum() };
    let game: Vec<f64> = (0..rewards.len()).map(wins).collect();
    let scaled = |factor: f64| s.descent(&game.iter().map(|x| factor * x).collect::<Vec<_>>(), 0.0);
    let exact = s.descent(&s.rewards, BETA);

    let how = GroupAdvantages { std_epsilon: 0.0, ..GroupAdvantages::default() };
    let half_step = |row: &Row, advantage: f64| row.reinforce_step(&row.everywhere(0.5 * advantage));
    let grpo = s.expected_of_two(|_, rows| {
        let mut advantages = [0.0; 2];
        group_advantages(&how, &rows.map(Row::reward), &[1, 1], &mut advantages).unwrap();
        [half_step(rows[0], advantages[0]), half_step(rows[1], advantages[1])]
    });
    biased("standard deviation of a group of 2", &grpo, &exact, &scaled(0.5_f64.sqrt()));

    let biased_variance = Whitening { variance: Variance::Biased, epsilon: 0.0, ..Whitening::default() };
    let whitened = s.expected_of_two(|_, rows| {
        let mut advantages = [0.0; 2];
        let mask = Mask::new(&[true; 2], 1).unwrap();
        reinforce_plus_plus(1.0, &biased_variance, &mask, &rows.map(Row::reward), &mut advantages).unwrap();
        [half_step(rows[0], advantages[0]), half_step(rows[1], advantages[1])]
    });
    biased("whitening of a batch of 2", &whitened, &exact, &scaled(1.0));
}

fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}
