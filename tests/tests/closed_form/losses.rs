//! Losses of policies without a value function as their trainer reports them, against their formulas in f64 on the same completions. The first update
//! changes the weights, so that ratios of the second are not 1.

use std::sync::{Arc, Mutex};

use samara::align::policy::advantages::Batch;
use samara::align::policy::choices::Loss;
use samara::align::policy::config::GrpoConfig;
use samara::align::policy::rewards::{RewardSource, Rewards};
use samara::align::policy::scorer::FnScorer;
use samara::align::policy::state::{Policy, PolicySpec};
use samara::config::Choice;
use samara::train::config::TrainConfig;
use samara_tests::policies::{rloo, run, spec, train};
use samara_tests::world::{BEGIN, LEN, gold, token_log_probabilities};

/// Completions of a prompt, and of a step.
const GROUP: usize = 4;
const EPISODES: usize = 32;

/// What is known of the completions of a step.
struct Seen {
    rewards: Vec<f64>,
    /// The reward of the greedy completion of the prompt, where it is asked for.
    greedy: f64,
    /// ln π of every token when they were drawn.
    old: Vec<Vec<f64>>,
    /// The same after the first update.
    new: Vec<Vec<f64>>,
}

/// A method, written down once more.
struct Formula {
    name: &'static str,
    /// The advantage of a completion.
    advantage: fn(&Seen, usize) -> f64,
    /// Losses of a completion's tokens, from ln π, ln π_old and its advantage.
    losses: fn(&[f64], &[f64], f64) -> Vec<f64>,
    /// The loss of a step.
    mean: fn(&[Vec<f64>]) -> f64,
}

const FORMULAS: [Formula; 6] = [
    Formula { name: "grpo", advantage: standardised, losses: of_tokens, mean: rows_alike },
    Formula { name: "dr_grpo", advantage: centred, losses: of_tokens, mean: constant },
    Formula { name: "gspo", advantage: standardised, losses: of_sequence, mean: rows_alike },
    Formula { name: "cispo", advantage: standardised, losses: of_weights, mean: tokens_alike },
    Formula { name: "rloo", advantage: less_others, losses: of_product, mean: rows_alike },
    Formula { name: "remax", advantage: less_greedy, losses: of_tokens, mean: tokens_alike },
];

fn group(seen: &Seen, i: usize) -> &[f64] {
    let first = i / GROUP * GROUP;
    &seen.rewards[first..first + GROUP]
}

fn centred(seen: &Seen, i: usize) -> f64 {
    seen.rewards[i] - group(seen, i).iter().sum::<f64>() / GROUP as f64
}

fn standardised(seen: &Seen, i: usize) -> f64 {
    let mean = group(seen, i).iter().sum::<f64>() / GROUP as f64;
    let variance = group(seen, i).iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (GROUP - 1) as f64;
    (seen.rewards[i] - mean) / (variance.sqrt() + 1e-4)
}

fn less_others(seen: &Seen, i: usize) -> f64 {
    seen.rewards[i] - (group(seen, i).iter().sum::<f64>() - seen.rewards[i]) / (GROUP - 1) as f64
}

fn less_greedy(seen: &Seen, i: usize) -> f64 {
    seen.rewards[i] - seen.greedy
}

/// −min(ρA, clip(ρ)A).
fn clipped(log_ratio: f64, [low, high]: [f64; 2], advantage: f64) -> f64 {
    let ratio = log_ratio.exp();
    -(ratio * advantage).min(ratio.clamp(1.0 - low, 1.0 + high) * advantage)
}

fn of_tokens(new: &[f64], old: &[f64], advantage: f64) -> Vec<f64> {
    new.iter().zip(old).map(|(new, old)| clipped(new - old, [0.2, 0.2], advantage)).collect()
}

/// One ratio for all tokens: the geometric mean of theirs.
fn of_sequence(new: &[f64], old: &[f64], advantage: f64) -> Vec<f64> {
    let log_ratio = (new.iter().sum::<f64>() - old.iter().sum::<f64>()) / new.len() as f64;
    vec![clipped(log_ratio, [3e-4, 4e-4], advantage); new.len()]
}

/// One ratio for all tokens: their product.
fn of_product(new: &[f64], old: &[f64], advantage: f64) -> Vec<f64> {
    let log_ratio = new.iter().sum::<f64>() - old.iter().sum::<f64>();
    vec![clipped(log_ratio, [0.2, 0.2], advantage); new.len()]
}

fn of_weights(new: &[f64], old: &[f64], advantage: f64) -> Vec<f64> {
    new.iter().zip(old).map(|(new, old)| -(new - old).exp().min(1.2) * advantage * new).collect()
}

fn rows_alike(losses: &[Vec<f64>]) -> f64 {
    losses.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).sum::<f64>() / losses.len() as f64
}

fn tokens_alike(losses: &[Vec<f64>]) -> f64 {
    losses.iter().flatten().sum::<f64>() / losses.iter().map(Vec::len).sum::<usize>() as f64
}

fn constant(losses: &[Vec<f64>]) -> f64 {
    losses.iter().flatten().sum::<f64>() / (losses.len() * LEN) as f64
}

impl Formula {
    /// The loss of a step for log-probs of its completions.
    fn of(&self, seen: &Seen, logprobs: &[Vec<f64>]) -> f64 {
        let row = |(i, (new, old)): (usize, (&Vec<f64>, &Vec<f64>))| (self.losses)(new, old, (self.advantage)(seen, i));
        (self.mean)(&logprobs.iter().zip(&seen.old).enumerate().map(row).collect::<Vec<_>>())
    }
}

/// The loss of a step, the mean of its updates, with what was seen in it.
fn trained(name: &str, epochs: u32) -> (f64, Seen) {
    let train = TrainConfig { batch_size: 16, ..train(11, 1, 5e-2) };
    let loss = Loss::WORDS.iter().find(|(word, _)| *word == name).unwrap().1;
    let mut method = GrpoConfig { loss, ..GrpoConfig::default() }.method(LEN);
    method.epochs = epochs;
    let texts = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&texts);
    let score = move |_: &[i32], completion: &[i32]| {
        to.lock().unwrap().push(completion.to_vec());
        gold(completion)
    };
    let spec = PolicySpec {
        episodes: EPISODES,
        group_size: GROUP,
        prompts: vec![vec![BEGIN]; EPISODES / GROUP],
        rewards: Rewards::new(vec![(RewardSource::Scorer(Box::new(FnScorer::new("gold", score))), 1.0)]),
        ..spec(method, train.clone())
    };
    let (mut stepper, last) = run(&mut Policy::new(spec).unwrap(), &train);
    let texts = texts.lock().unwrap();
    let rewards: Vec<f64> = texts.iter().map(|text| f64::from(gold(text))).collect();
    let ids: Vec<_> = stepper.sets().map(|(_, id)| id).collect();
    let [new, old] = [ids[0], ids[1]].map(|set| token_log_probabilities(&mut stepper.session, set, &texts[..EPISODES]));
    let seen =
        Seen { greedy: rewards.get(EPISODES).copied().unwrap_or(f64::NAN), rewards: rewards[..EPISODES].to_vec(), old, new };
    (last["loss/policy"], seen)
}

#[test]
fn losses_of_policies_are_their_formulas() {
    for formula in FORMULAS {
        let name = formula.name;
        let (first, seen) = trained(name, 1);
        let (mean, _) = trained(name, 2);
        for (found, logprobs) in [(first, &seen.old), (2.0 * mean - first, &seen.new)] {
            let expected = formula.of(&seen, logprobs);
            assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{name}: {found}, expected {expected}");
        }
        let moved = seen.new.iter().flatten().zip(seen.old.iter().flatten()).map(|(new, old)| (new - old).abs());
        assert!(moved.fold(0.0, f64::max) > 0.3, "{name}: no ratio is beyond its limit");
    }
}

/// Whatever its log-probs are, padding has no KL.
#[test]
fn padding_has_no_kl() {
    let method = rloo(0.1);
    let mut batch = Batch { row: 3, lengths: vec![1, 3], logprobs: vec![-1.0; 6], reference: vec![-2.0; 6], ..Batch::default() };
    batch.set_masks(&method);
    assert_eq!(batch.kl(&method).unwrap(), [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}
