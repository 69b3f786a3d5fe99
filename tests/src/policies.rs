//! Policies that are trained on the small world of `world.rs`, and methods in their plainest forms.

use std::collections::BTreeMap;
use std::env;

use samara::align::base::Base;
use samara::align::policy::episodes::RolloutOptions;
use samara::align::policy::method::{Advantage, KlPlace, Method};
use samara::align::policy::rewards::{RewardSource, Rewards};
use samara::align::policy::scorer::FnScorer;
use samara::align::policy::state::{Critic, PolicySpec, ValueOptimizer};
use samara::kernels::gemm::Gemm;
use samara::lm::scored::{ScoreInit, Scored};
use samara::session::{CpuDevice, Engine, Session};
use samara::train::config::TrainConfig;
use samara::train::objective::Objective;
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, Scale};
use samara_core::rl::{
    Aggregation, Clip, Estimator, Gae, KlController, Limits, MissingEos, Penalised, ScoreAt, SequenceRatio, Surrogate,
    TokenRewards, WhitenScope, Whitening,
};
use samara_core::schedule::{Decay, Schedule};

use crate::world::{BEGIN, END, Exact, LEN, completions, exact, gold, log_probabilities, model};

/// REINFORCE with a leave-one-out baseline, the KL in the reward.
pub fn rloo(beta: f32) -> Method {
    Method {
        advantage: Advantage::LeaveOneOut(GroupOfOne::Refuse),
        surrogate: Surrogate::Sequence(SequenceRatio::Sum),
        clip: Clip::default(),
        whole_step: true,
        aggregation: Aggregation::SeqMeanTokenSum,
        rewards: TokenRewards {
            beta,
            score_at: ScoreAt::Eos,
            missing_eos: MissingEos::Keep,
            penalised: Penalised::Completion,
            score_limit: None,
        },
        controller: KlController::Fixed,
        kl: (Estimator::K1, Limits { difference: None, value: None }),
        kl_place: KlPlace::Rewards,
        reported_kl: Estimator::K1,
        overlong: None,
        mask_truncated: false,
        entropy: 0.0,
        rounds: 1,
        epochs: 1,
    }
}

/// PPO with a value function, without whitening.
pub fn ppo(beta: f32) -> Method {
    Method {
        advantage: Advantage::Critic {
            gae: Gae { gamma: 1.0, lambda: 1.0, ..Gae::default() },
            value_clip: None,
            whiten_rewards: false,
            whitening: None,
            scope: WhitenScope::Batch,
        },
        surrogate: Surrogate::Token,
        ..rloo(beta)
    }
}

/// Dr. GRPO: differences from the mean, every token as much as another.
pub fn dr_grpo(beta: f32) -> Method {
    Method {
        advantage: Advantage::Group(GroupAdvantages { scale: Scale::None, ..GroupAdvantages::default() }),
        surrogate: Surrogate::Token,
        ..rloo(beta)
    }
}

/// REINFORCE++ : returns of tokens, whitened over the batch.
pub fn reinforce_plus_plus(beta: f32) -> Method {
    Method {
        advantage: Advantage::Returns { baseline: false, whitening: Whitening::default() },
        surrogate: Surrogate::Token,
        ..rloo(beta)
    }
}

/// GRPO as it was published: groups scaled by their standard deviation, k3 of tokens in the loss, means over the tokens of each completion.
pub fn grpo(beta: f32) -> Method {
    Method {
        advantage: Advantage::Group(GroupAdvantages::default()),
        aggregation: Aggregation::SeqMeanTokenMean,
        kl: (Estimator::K3, Limits { difference: None, value: None }),
        kl_place: KlPlace::TokenLoss,
        reported_kl: Estimator::K1,
        ..dr_grpo(beta)
    }
}

/// The same as Dr. GRPO with the KL as half the square of a sequence's log-ratio in the loss.
pub fn sequence_k2(beta: f32) -> Method {
    Method { kl_place: KlPlace::SequenceLoss, ..dr_grpo(beta) }
}

/// Steps of 256 completions with a learning rate.
pub fn train(seed: u64, steps: u64, lr: f64) -> TrainConfig {
    TrainConfig {
        batch_size: 128,
        grad_accumulation: 2,
        lr,
        seed,
        steps,
        weight_decay: 0.0,
        beta2: 0.95,
        threads: 1,
        ..TrainConfig::default()
    }
}

/// A policy that a method trains on the gold rewards.
pub fn spec(method: Method, train: TrainConfig) -> PolicySpec {
    let critic = || Critic {
        model: Scored::new(&model(), ScoreInit::Zero).unwrap(),
        init: None,
        lr_scale: 1.0,
        optimizer: ValueOptimizer::default(),
    };
    let reward = RewardSource::Scorer(Box::new(FnScorer::new("gold", |_: &[i32], completion: &[i32]| gold(completion))));
    PolicySpec {
        policy: Base { architecture: model().architecture().unwrap(), init: None },
        method,
        rollout: RolloutOptions {
            rows: 128,
            max_new_tokens: LEN,
            temperature: 1.0,
            seed: train.seed,
            stops: vec![END],
            fixed_length: method.rewards.score_at == ScoreAt::Last,
        },
        episodes: 256,
        group_size: if method.has_critic() { 1 } else { 8 },
        critic: method.has_critic().then(critic),
        rewards: Rewards::new(vec![(reward, 1.0)]),
        prompts: vec![vec![BEGIN]; 256],
        held_out: Vec::new(),
        pretraining: None,
        train,
    }
}

/// What a step reports, by name.
pub type Reported = BTreeMap<String, f64>;

/// A training to its end: the session, and what the last step reported.
pub fn run(objective: &mut impl Objective<CpuDevice>, train: &TrainConfig) -> (Stepper<CpuDevice>, Reported) {
    let mut last = BTreeMap::new();
    let stepper = run_to(objective, train, 0.02, |_, _, reported| last = reported);
    (stepper, last)
}

/// A training whose learning rate falls to `least` times its height; `seen` gets every step and what it
/// reports.
pub fn run_to(
    objective: &mut impl Objective<CpuDevice>,
    train: &TrainConfig,
    least: f64,
    mut seen: impl FnMut(&mut Stepper<CpuDevice>, u64, Reported),
) -> Stepper<CpuDevice> {
    let engine = Engine::new(train.threads, Gemm::Samara).unwrap();
    let mut stepper = Stepper::new(Session::new(CpuDevice::new(engine)), objective, train.rule()).unwrap();
    objective.initialise(&mut stepper.session, false).unwrap();
    let (lr, steps) = (train.lr, train.steps);
    let schedule = Schedule { lr, min_lr: lr * least, warmup_steps: 5, steps, decay: Decay::Cosine, drop_step: 0 };
    for step in 0..steps {
        stepper.step(objective, step, &update_numbers(train, schedule.at(step))).unwrap();
        let reported: Reported = stepper.scalars().iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        if env::var_os("SAMARA_SHOW").is_some() && step % 20 == 0 {
            println!("{step} {reported:?}");
        }
        seen(&mut stepper, step, reported);
    }
    stepper
}

/// ln π of every completion under the policy (the first set) and the reference (the second).
pub fn enumerated(stepper: &mut Stepper<CpuDevice>) -> [Vec<f64>; 2] {
    let all = completions();
    let ids: Vec<_> = stepper.sets().map(|(_, id)| id).collect();
    let found = [ids[0], ids[1]].map(|set| log_probabilities(&mut stepper.session, set, &all));
    for of in &found {
        assert!((of.iter().map(|p| p.exp()).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    found
}

/// The rewards of every completion.
pub fn rewards() -> Vec<f64> {
    completions().iter().map(|text| f64::from(gold(text))).collect()
}

/// The policy against the optimum, exactly.
pub fn judged(stepper: &mut Stepper<CpuDevice>, beta: f64) -> Exact {
    let [policy, reference] = enumerated(stepper);
    exact(&reference, &policy, &rewards(), beta)
}
