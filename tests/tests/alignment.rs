//! Reinforcement learning and preferences on a world small enough to know the answer: sequences of up to four of four tokens, enumerated.

use std::collections::BTreeMap;
use std::sync::Arc;

use samara::align::base::Base;
use samara::align::policy::episodes::RolloutOptions;
use samara::align::policy::method::{Advantage, KlPlace, Method, Surrogate};
use samara::align::policy::objective::{Critic, Policy, PolicySpec, RewardSource};
use samara::align::policy::scorer::FnScorer;
use samara::kernels::gemm::Gemm;
use samara::lm::register;
use samara::lm::scored::{ScoreInit, Scored};
use samara::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use samara::model::ModelConfig;
use samara::model::gpt::GptModel;
use samara::session::{CpuDevice, Engine, Session};
use samara::train::config::TrainConfig;
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara_core::rl::groups::GroupOfOne;
use samara_core::rl::{
    Aggregation, Clip, Estimator, Gae, KlController, Limits, MissingEos, Penalised, ScoreAt, SequenceRatio, TokenRewards,
    WhitenScope,
};
use samara_core::schedule::{Decay, Schedule};

/// Tokens of the world: 0..4 are said, 4 begins every text. Token 3 ends one.
const V: usize = 5;
const LEN: usize = 4;
const END: i32 = 3;
const BEGIN: i32 = 4;

/// The reward of a completion: hidden numbers of tokens and of pairs.
fn gold(completion: &[i32]) -> f32 {
    let one = |t: i32| [0.3, -0.2, 0.5, 0.1, 0.0][t as usize];
    let two = |a: i32, b: i32| ((a * 7 + b * 3 + 1) % 5) as f32 * 0.25 - 0.5;
    completion.iter().map(|&t| one(t)).sum::<f32>() + completion.windows(2).map(|w| two(w[0], w[1])).sum::<f32>()
}

/// Every completion of at most four tokens.
fn completions() -> Vec<Vec<i32>> {
    let mut all = Vec::new();
    let mut open: Vec<Vec<i32>> = vec![Vec::new()];
    while let Some(prefix) = open.pop() {
        for token in 0..V as i32 {
            let text = [prefix.as_slice(), &[token]].concat();
            if token == END || text.len() == LEN { all.push(text) } else { open.push(text) }
        }
    }
    all
}

fn world() -> ModelConfig {
    GptModel { vocab_size: Some(V), n_positions: 8, n_embd: 64, n_layer: 2, n_head: 2, ..GptModel::default() }.into()
}

fn engine() -> Arc<Engine> {
    Engine::new(1, Gemm::Samara).unwrap()
}

fn base_method() -> Method {
    Method {
        advantage: Advantage::LeaveOneOut(GroupOfOne::Refuse),
        surrogate: Surrogate::Sequence(Clip::default(), SequenceRatio::Sum),
        aggregation: Aggregation::SeqMeanTokenSum,
        rewards: TokenRewards {
            beta: 0.5,
            score_at: ScoreAt::Eos,
            missing_eos: MissingEos::Keep,
            penalised: Penalised::Completion,
            score_limit: None,
        },
        controller: KlController::Fixed,
        kl: (Estimator::K1, Limits { difference: None, value: None }),
        kl_place: KlPlace::Rewards,
        overlong: None,
        mask_truncated: false,
        resample: 0,
        epochs: 1,
    }
}

fn spec(method: Method, train: TrainConfig) -> PolicySpec {
    let critic =
        method.has_critic().then(|| Critic { model: Scored::new(&world(), ScoreInit::Zero).unwrap(), init: None, lr_scale: 1.0 });
    let reward = RewardSource::Scorer(Box::new(FnScorer::new("gold", |_: &[i32], completion: &[i32]| gold(completion))));
    PolicySpec {
        policy: Base { architecture: world().architecture().unwrap(), init: None },
        method,
        rollout: RolloutOptions { rows: 64, max_new_tokens: LEN, temperature: 1.0, seed: train.seed, stops: vec![END] },
        episodes: 256,
        group_size: if method.has_critic() { 1 } else { 8 },
        critic,
        rewards: vec![(reward, 1.0)],
        prompts: vec![vec![BEGIN]; 256],
        held_out: Vec::new(),
        train,
    }
}

/// log π of every completion.
fn log_probabilities(session: &mut Session<CpuDevice>, set: samara::session::SetId, all: &[Vec<i32>]) -> Vec<f64> {
    let registry = Arc::clone(session.set(set).registry());
    let (_, layers) = register(&*world().architecture().unwrap(), 0, |_, _| ()).unwrap();
    let _ = registry;
    let shape = TokensShape { rows: 64, len: LEN + 1, picks: LEN };
    let mut program = Tokenwise::new(session, set, &layers, shape, (Number::Logprob { temperature: 1.0 }, None)).unwrap();
    let mut batch = TokenBatch::new(shape);
    let mut found = Vec::new();
    for chunk in all.chunks(64) {
        batch.clear();
        for text in chunk {
            let tokens = [&[BEGIN], text.as_slice()].concat();
            batch.push(&tokens, 0..text.len());
        }
        let numbers = program.forward(session, set, &batch).unwrap();
        found.extend(
            chunk.iter().zip(numbers.chunks(LEN)).map(|(text, x)| x[..text.len()].iter().map(|&x| f64::from(x)).sum::<f64>()),
        );
    }
    found
}

/// What a policy comes to, exactly.
struct Exact {
    /// Σ π (r − β log π/π_ref), less that of the reference, as a share of the optimum's.
    share: f64,
    /// KL(π‖π*).
    kl: f64,
    /// KL(π‖π_ref).
    from_reference: f64,
}

fn exact(reference: &[f64], policy: &[f64], rewards: &[f64], beta: f64) -> Exact {
    let log_z = reference.iter().zip(rewards).map(|(q, r)| (q + r / beta).exp()).sum::<f64>().ln();
    let best = beta * log_z;
    let of = |policy: &[f64]| -> f64 {
        policy.iter().zip(reference).zip(rewards).map(|((p, q), r)| p.exp() * (r - beta * (p - q))).sum()
    };
    let start = of(reference);
    let kl = policy.iter().zip(reference).zip(rewards).map(|((p, q), r)| p.exp() * (p - (q + r / beta - log_z))).sum();
    let from_reference = policy.iter().zip(reference).map(|(p, q)| p.exp() * (p - q)).sum();
    Exact { share: (of(policy) - start) / (best - start), kl, from_reference }
}

fn trained(method: Method, lr: f64, steps: u64, seed: u64) -> (Exact, BTreeMap<String, f64>) {
    let train = TrainConfig {
        batch_size: 64,
        grad_accumulation: 4,
        lr,
        seed,
        steps,
        weight_decay: 0.0,
        beta2: 0.95,
        threads: 1,
        ..TrainConfig::default()
    };
    let beta = f64::from(method.rewards.beta);
    let mut policy = Policy::new(spec(method, train.clone())).unwrap();
    let engine = engine();
    let mut stepper = Stepper::new(Session::new(CpuDevice::new(engine)), &mut policy, train.rule()).unwrap();
    use samara::train::objective::Objective;
    policy.initialise(&mut stepper.session, false).unwrap();
    let schedule = Schedule { lr, min_lr: lr * 0.02, warmup_steps: 5, steps, decay: Decay::Cosine };
    let mut last = BTreeMap::new();
    for step in 0..steps {
        let numbers = update_numbers(&train, schedule.at(step));
        stepper.step(&mut policy, step, &numbers).unwrap();
        last = stepper.scalars().iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect();
        if step == 0 {
            assert_eq!((last["val/ratio_min"], last["val/ratio_max"], last["policy/approxkl"]), (1.0, 1.0, 0.0));
        }
        if std::env::var("SHOW").is_ok() && step % 20 == 0 {
            println!("{step} {last:?}");
        }
    }
    let all = completions();
    let rewards: Vec<f64> = all.iter().map(|text| f64::from(gold(text))).collect();
    let ids: Vec<_> = stepper.sets().map(|(_, id)| id).collect();
    let (p, r) = (ids[0], ids[1]);
    let reference = log_probabilities(&mut stepper.session, r, &all);
    let policy = log_probabilities(&mut stepper.session, p, &all);
    assert!((reference.iter().map(|p| p.exp()).sum::<f64>() - 1.0).abs() < 1e-5);
    (exact(&reference, &policy, &rewards, beta), last)
}

#[test]
fn closed_form() {
    let rloo = base_method();
    let ppo = Method {
        advantage: Advantage::Critic {
            gae: Gae { gamma: 1.0, lambda: 1.0, ..Gae::default() },
            value_clip: None,
            whiten_rewards: false,
            whitening: None,
            scope: WhitenScope::Batch,
        },
        surrogate: Surrogate::Token(Clip::default()),
        ..rloo
    };
    for (name, method) in [("rloo", rloo), ("ppo", ppo)] {
        let begun = std::time::Instant::now();
        let (exact, last) = trained(method, 2e-3, 150, 0);
        println!("{name} share {} kl {} from ref {} {last:?} {:?}", exact.share, exact.kl, exact.from_reference, begun.elapsed());
    }
}
