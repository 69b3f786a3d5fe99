//! What is added to the training of a policy: an entropy bonus, pretraining text, dynamic sampling, and a picture of scores against the KL.

use std::fs;
use std::path::Path;

use samara::align::policy::pretraining::{Normaliser, Pretraining};
use samara::align::policy::rewards::{RewardSource, Rewards};
use samara::align::policy::scorer::FnScorer;
use samara::align::policy::state::{Policy, PolicySpec};
use samara::data::batches::{Order, Sampler};
use samara::data::shards::{TokenList, Tokens};
use samara::lm::register;
use samara::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise, Trained};
use samara::run::metrics::{self, Metrics};
use samara::session::CpuDevice;
use samara::train::config::TrainConfig;
use samara::train::launch::launch;
use samara::train::step::Stepper;
use samara_core::exec::Gradients;
use samara_core::rl::{Aggregation, Mask, Ptx, Totals, ptx};
use samara_core::schedule::Decay;
use samara_tests::policies::{dr_grpo, ppo, rloo, run, spec, train};
use samara_tests::world::{BEGIN, gold, log_probabilities, model};

/// Tokens of a row of text.
const BLOCK: usize = 6;

/// The policy's weights and gradients after the last update.
fn policy_of(stepper: &Stepper<CpuDevice>) -> [Vec<f32>; 2] {
    let (_, id) = stepper.sets().next().unwrap();
    let set = stepper.session.set(id);
    [set.weights.get().to_vec(), set.grads.iter().flat_map(|grads| grads.get()).copied().collect()]
}

/// With an entropy bonus c and no KL, a policy of one token maximises Σ p r + c H, whose optimum is p ∝ exp(r/c).
#[test]
fn an_entropy_bonus_reaches_its_closed_form() {
    let c = 0.3;
    let train = train(0, 60, 3e-3);
    let mut method = rloo(0.0);
    method.entropy = c;
    let mut spec = spec(method, train.clone());
    spec.rollout.max_new_tokens = 1;
    let mut policy = Policy::new(spec).unwrap();
    let (mut stepper, last) = run(&mut policy, &train);
    assert!(last["loss/entropy"] < 0.0, "{last:?}");
    let texts: Vec<Vec<i32>> = (0..=BEGIN).map(|token| vec![token]).collect();
    let (_, id) = stepper.sets().next().unwrap();
    let found = log_probabilities(&mut stepper.session, id, &texts);
    let wanted: Vec<f64> = texts.iter().map(|text| f64::from(gold(text) / c)).collect();
    let log_z = wanted.iter().map(|x| x.exp()).sum::<f64>().ln();
    let kl: f64 = found.iter().zip(&wanted).map(|(p, x)| p.exp() * (p - (x - log_z))).sum();
    assert!(kl < 2e-3, "{kl} {found:?} {wanted:?}");
}

fn text() -> (Vec<u32>, Sampler) {
    let tokens: Vec<u32> = (0..200_u32).map(|i| (i * i + i / 3) % 5).collect();
    let order = Sampler::new(Order::Shuffled, 7, BLOCK, tokens.len() as u64, "text").unwrap();
    (tokens, order)
}

fn pretraining(coefficient: f64, normaliser: Normaliser) -> Pretraining {
    let (tokens, order) = text();
    let tokens: Box<dyn Tokens + Send> = Box::new(TokenList::new("text", tokens));
    Pretraining { coefficient, normaliser, rows: 1, block: BLOCK, text: Some((tokens, order)) }
}

fn with_text(spec: PolicySpec, pretraining: Option<Pretraining>) -> PolicySpec {
    PolicySpec { episodes: 64, pretraining, ..spec }
}

/// The gradient of γ times the loss of the first 64 rows of text at the policy's weights, by the function of the core, and that loss without γ.
fn of_text(stepper: &mut Stepper<CpuDevice>, how: &Ptx<f32>) -> (Vec<f32>, f32) {
    let (tokens, order) = text();
    let shape = TokensShape { rows: 64, len: BLOCK + 1, picks: BLOCK };
    let mut batch = TokenBatch::new(shape);
    for row in 0..64 {
        let start = order.start(row).unwrap() as usize;
        let row: Vec<i32> = tokens[start..start + BLOCK + 1].iter().map(|&id| id as i32).collect();
        batch.push(&row, 0..BLOCK);
    }
    let (_, set) = stepper.sets().next().unwrap();
    let (_, layers) = register(&*model().architecture().unwrap(), 0, |_, _| ()).unwrap();
    let number = (Number::Logprob { temperature: 1.0 }, Some(Trained::PLAIN));
    let mut program = Tokenwise::new(&mut stepper.session, set, &layers, shape, number).unwrap();
    let logprobs = program.forward(&mut stepper.session, set, &batch).unwrap().to_vec();
    let (live, mut weights, mut slopes) = ([true; 64 * BLOCK], [0.0; 64 * BLOCK], [0.0; 64 * BLOCK]);
    let mask = Mask::new(&live, BLOCK).unwrap();
    let loss = ptx(how, Totals::of(&mask), &mask, &logprobs, &mut weights, &mut slopes).unwrap();
    program.backward(&mut stepper.session, set, &slopes, Gradients::Overwrite).unwrap();
    stepper.session.sync().unwrap();
    (policy_of(stepper)[1].clone(), loss / how.coefficient)
}

/// The gradient with pretraining text is the sum of the policy's and γ times that of the text, whatever γ multiplies; a coefficient of 0 is no text to
/// the bit.
#[test]
fn gradients_of_text_are_added() {
    let train = TrainConfig { batch_size: 32, grad_accumulation: 2, ..train(2, 1, 0.0) };
    let of = |pretraining| {
        let mut policy = Policy::new(with_text(spec(ppo(0.1), train.clone()), pretraining)).unwrap();
        run(&mut policy, &train)
    };
    let [_, alone] = policy_of(&of(None).0);
    for (normaliser, aggregation) in
        [(Normaliser::Tokens, Aggregation::TokenMean), (Normaliser::Rows, Aggregation::SeqMeanTokenSum)]
    {
        let (mut stepper, last) = of(Some(pretraining(2.5, normaliser)));
        let [_, both] = policy_of(&stepper);
        let (text, loss) = of_text(&mut stepper, &Ptx { coefficient: 2.5, aggregation });
        let largest = both.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
        let error = both.iter().zip(&alone).zip(&text).map(|((both, a), b)| (both - (a + b)).abs()).fold(0.0, f32::max);
        assert!(error < 1e-5 * largest, "{normaliser:?}: {error} of {largest}");
        assert!(text.iter().any(|x| x.abs() > 0.1 * largest));
        assert!((last["loss/ptx"] - f64::from(loss)).abs() < 1e-5 * last["loss/ptx"], "{normaliser:?}: {loss} {last:?}");
    }
    let (zero, reported) = of(Some(pretraining(0.0, Normaliser::Tokens)));
    assert_eq!(policy_of(&zero)[1], alone);
    assert!(!reported.contains_key("loss/ptx"));
}

/// A score of 1 for completions that begin with token 2: in groups of two most prompts teach nothing.
fn rare(spec: PolicySpec) -> PolicySpec {
    let score = |_: &[i32], completion: &[i32]| f32::from(u8::from(completion[0] == 2));
    let reward = RewardSource::Scorer(Box::new(FnScorer::new("rare", score)));
    PolicySpec { group_size: 2, rewards: Rewards::new(vec![(reward, 1.0)]), ..spec }
}

/// Prompts without anything to learn are left out, up to a number of rounds; what was left out is reported.
#[test]
fn dynamic_sampling_fills_a_step_with_prompts_that_teach() {
    let train = TrainConfig { batch_size: 32, grad_accumulation: 2, ..train(3, 1, 1e-3) };
    let of = |rounds, reward_is_constant| {
        let mut method = dr_grpo(0.0);
        method.rounds = rounds;
        let mut spec = rare(with_text(spec(method, train.clone()), None));
        if reward_is_constant {
            let one = RewardSource::Scorer(Box::new(FnScorer::new("one", |_: &[i32], _: &[i32]| 1.0)));
            spec.rewards = Rewards::new(vec![(one, 1.0)]);
        }
        run(&mut Policy::new(spec).unwrap(), &train).1
    };
    let plain = of(1, false);
    assert!(plain["objective/frac_reward_zero_std"] > 0.5 && !plain.contains_key("rollout/rounds"), "{plain:?}");
    let full = of(20, false);
    assert_eq!(full["objective/frac_reward_zero_std"], 0.0, "{full:?}");
    // Of two completions whose scores differ one has a score of 1.
    assert_eq!(full["objective/scores"], 0.5);
    assert!(full["rollout/rounds"] > 2.0 && full["rollout/dropped_prompts"] > 20.0, "{full:?}");
    // With one round more the step is not full yet: prompts that were left out take the places that are free.
    let two = of(2, false);
    assert_eq!(two["rollout/rounds"], 2.0);
    assert!(two["objective/frac_reward_zero_std"] > 0.0, "{two:?}");
    assert!(two["objective/frac_reward_zero_std"] < plain["objective/frac_reward_zero_std"]);
    // Where nothing can be learnt the limit ends the search.
    let none = of(3, true);
    assert_eq!((none["rollout/rounds"], none["rollout/dropped_prompts"]), (3.0, 96.0), "{none:?}");
}

fn launched(out: &Path, steps: u64) -> Vec<Metrics> {
    let train = TrainConfig {
        batch_size: 16,
        schedule: Decay::Constant,
        warmup_steps: 0,
        grad_accumulation: 1,
        eval_every: 0,
        checkpoint_every: 0,
        ..train(5, steps, 2e-3)
    };
    let mut method = dr_grpo(0.05);
    (method.rounds, method.entropy) = (4, 0.01);
    let spec =
        rare(PolicySpec { episodes: 32, pretraining: Some(pretraining(0.5, Normaliser::Tokens)), ..spec(method, train.clone()) });
    launch(out, Policy::new(spec).unwrap(), &train).unwrap();
    metrics::read(&out.join("metrics.jsonl")).unwrap()
}

/// Pretraining text, further prompts and the bonus go on where a run stopped; a run leaves the picture of its scores against the KL.
#[test]
fn resumed_to_the_bit_with_everything_added() {
    let [whole, parted] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let expected = launched(whole.path(), 4);
    launched(parted.path(), 2);
    let found = launched(parted.path(), 4);
    for name in ["loss/policy", "loss/entropy", "loss/ptx", "rollout/rounds", "rollout/dropped_prompts", "objective/kl"] {
        let of = |records: &[Metrics]| records.iter().map(|m| m.get(name)).collect::<Vec<_>>();
        assert_eq!(of(&found), of(&expected), "{name}");
        assert!(of(&found).iter().all(Option::is_some), "{name}");
    }
    let weights = |out: &Path| {
        let newest = samara_tests::training::newest_checkpoint(out);
        fs::read(newest.join("policy.safetensors")).unwrap()
    };
    assert!(weights(whole.path()) == weights(parted.path()), "weights");
    let picture = fs::read_to_string(whole.path().join("reward_against_kl.svg")).unwrap();
    assert!(picture.contains("objective/scores against objective/kl") && picture.matches("<circle").count() >= 4);
}

/// Steps in which nothing can be learnt are counted on where a run stopped.
#[test]
fn a_resumed_run_still_ends_where_nothing_is_learnt() {
    let out = tempfile::tempdir().unwrap();
    let to = |steps| {
        let train =
            TrainConfig { batch_size: 8, grad_accumulation: 1, eval_every: 0, checkpoint_every: 0, ..train(5, steps, 1e-3) };
        let one = RewardSource::Scorer(Box::new(FnScorer::new("one", |_: &[i32], _: &[i32]| 1.0)));
        let rewards = Rewards::new(vec![(one, 1.0)]);
        let spec = PolicySpec { episodes: 8, rewards, ..spec(dr_grpo(0.0), train.clone()) };
        launch(out.path(), Policy::new(spec).unwrap(), &train)
    };
    to(12).unwrap();
    let error = to(40).unwrap_err().to_string();
    assert!(error.contains("in 20 steps in a row all completions of every prompt had the same score"), "{error}");
    assert_eq!(metrics::read(&out.path().join("metrics.jsonl")).unwrap().last().unwrap().step, 19);
}
