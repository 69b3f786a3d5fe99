//! Policies on the enumerated world: what they report and draw, and what becomes of them when they are trained to their end, for benches/RESULTS.md and the
//! picture of the frontier (`benches/frontier.py`).

mod draws;
mod losses;
mod overoptimisation;

use std::env;

use samara::align::base::Base;
use samara::align::completion::Completion;
use samara::align::pairs::{PairTraining, PairsSpec};
use samara::align::policy::method::Method;
use samara::align::policy::state::Policy;
use samara::session::CpuDevice;
use samara::train::config::TrainConfig;
use samara::train::step::Stepper;
use samara_core::math::rng::{Purpose, Rng};
use samara_core::rl::KlController;
use samara_core::rl::pairs::Dpo;
use samara_tests::fixed_point::GrpoOfTwo;
use samara_tests::policies::{
    dr_grpo, enumerated, grpo, ppo, reinforce_plus_plus, rewards, rloo, run_to, sequence_k2, spec, train,
};
use samara_tests::world::{BEGIN, END, below_frontier, completions, exact, frontier, gold, model};

/// A completion of the prompt.
fn completion(text: &[i32]) -> Completion {
    Completion { tokens: [&[BEGIN], text].concat(), picks: (0..text.len()).collect() }
}

/// What steps without learning report is what the enumeration of the reference says; sampler and trainer have the same temperature; every step has draws of
/// its own.
#[test]
fn reports_are_those_of_the_enumeration() {
    let train = train(7, 2, 0.0);
    for temperature in [1.0, 0.7] {
        let mut spec = spec(rloo(0.1), train.clone());
        (spec.episodes, spec.rollout.temperature, spec.prompts) = (512, temperature, vec![vec![BEGIN]; 512]);
        let mut reported = Vec::new();
        let mut policy = Policy::new(spec).unwrap();
        let mut stepper = run_to(&mut policy, &train, 0.0, |_, _, found| reported.push(found));
        assert!(reported.iter().all(|found| found["rollout/sampler_gap"] < 1e-5 && found["objective/kl"] == 0.0), "{reported:?}");
        assert_ne!(reported[0]["objective/scores"], reported[1]["objective/scores"]);
        if temperature == 1.0 {
            let ([policy, _], all) = (enumerated(&mut stepper), completions());
            let mean = |of: &dyn Fn(&[i32]) -> f64| all.iter().zip(&policy).map(|(text, p)| p.exp() * of(text)).sum::<f64>();
            let (length, ended) = (mean(&|text| text.len() as f64), mean(&|text| f64::from(text.ends_with(&[END]))));
            let close = |name: &str, expected: f64, by: f64| reported.iter().all(|found| (found[name] - expected).abs() < by);
            assert!(close("rollout/length", length, 0.25) && close("rollout/ended", ended, 0.1), "{length} {ended} {reported:?}");
        }
    }
}

/// The controller leads the coefficient: below the target it falls by a fifth of what a step is of the horizon.
#[test]
fn the_coefficient_follows_the_controller() {
    let train = train(0, 3, 0.0);
    let controller = KlController::Adaptive { target: 1.0, horizon: 512.0 };
    let mut coefficients = Vec::new();
    let mut policy = Policy::new(spec(Method { controller, ..dr_grpo(0.5) }, train.clone())).unwrap();
    let _ = run_to(&mut policy, &train, 0.0, |_, _, found| coefficients.push(found["objective/kl_coef"]));
    assert!(
        coefficients.iter().zip([0.5, 0.45, 0.405]).all(|(found, expected)| (found - expected).abs() < 1e-6),
        "{coefficients:?}"
    );
}

/// A method and how long it is trained for β = .5 and .1.
struct Trial {
    name: &'static str,
    method: fn(f32) -> Method,
    steps: [u64; 2],
}

/// Where the advantage is 0 at the optimum the noise ends there; the others need a learning rate that falls to 0 slowly.
const TRIALS: [Trial; 5] = [
    Trial { name: "PPO", method: ppo, steps: [200, 400] },
    Trial { name: "RLOO", method: rloo, steps: [200, 400] },
    Trial { name: "REINFORCE++", method: reinforce_plus_plus, steps: [200, 800] },
    Trial { name: "Dr. GRPO, KL in rewards", method: dr_grpo, steps: [200, 400] },
    Trial { name: "Dr. GRPO, sequence k2", method: sequence_k2, steps: [400, 800] },
];

/// A number of the environment, for long runs by hand.
fn chosen(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |n| n.parse().unwrap())
}

/// The methods that are asked for.
fn is_chosen(name: &str) -> bool {
    env::var("METHOD").map_or(true, |word| name.contains(&word))
}

/// Coefficients that are asked for.
fn coefficients() -> Vec<f64> {
    [0.5, 0.1].into_iter().filter(|beta| env::var("BETA").map_or(true, |only| only.parse() == Ok(*beta))).collect()
}

/// Prints what a policy comes to, and says whether it is at the optimum.
fn said(name: &str, (beta, seed): (f64, u64), stepper: &mut Stepper<CpuDevice>) -> bool {
    let ([policy, reference], rewards) = (enumerated(stepper), rewards());
    let found = exact(&reference, &policy, &rewards, beta);
    println!(
        "{name} | {beta} | {seed} | {:.3} | {:.4} | {:.4} | {:.4} | {:.5}",
        100.0 * (1.0 - found.share),
        found.from_optimum,
        found.from_reference,
        found.reward,
        below_frontier(&reference, &rewards, &found),
    );
    found.share > 0.98 && found.from_optimum < 0.02
}

/// Every method, SEEDS seeds, two coefficients: J within 2 % of the optimum's gain, KL(π‖π*) below .02.
#[test]
#[ignore = "takes minutes: SEEDS=5 cargo test --release --workspace --test closed_form -- --ignored --nocapture every_method"]
fn every_method_reaches_the_closed_form() {
    let mut missed = Vec::new();
    for (i, beta) in coefficients().into_iter().enumerate() {
        for trial in TRIALS.iter().filter(|trial| is_chosen(trial.name)) {
            let steps = chosen("STEPS", trial.steps[usize::from(beta < 0.3)]);
            for seed in chosen("SEED", 0)..chosen("SEED", 0) + chosen("SEEDS", 5) {
                let train = train(seed, steps, 3e-3);
                let mut policy = Policy::new(spec((trial.method)(beta as f32), train.clone())).unwrap();
                let mut stepper = run_to(&mut policy, &train, 0.0, |_, _, _| ());
                if i == 0 && seed == 0 && trial.name == "PPO" {
                    print_frontier(&mut stepper);
                }
                if !said(trial.name, (beta, seed), &mut stepper) {
                    missed.push((trial.name, beta, seed));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// Points of the frontier, for its picture.
fn print_frontier(stepper: &mut Stepper<CpuDevice>) {
    let ([_, reference], rewards) = (enumerated(stepper), rewards());
    for i in 0..60 {
        let (kl, reward) = frontier(&reference, &rewards, 0.05 * 1.12_f64.powi(i));
        println!("frontier | {kl:.5} | {reward:.5}");
    }
}

/// Where completions of pairs come from: any distribution that reaches all of them has the same optimum.
struct Compared {
    /// Cumulated probabilities of the optimum.
    optimum: Vec<f64>,
    /// The share of them that is drawn from the optimum; the rest is drawn evenly.
    share: f64,
}

impl Compared {
    fn draw(&self, unit: &mut impl FnMut() -> f64) -> usize {
        let last = self.optimum.len() - 1;
        if unit() < self.share {
            let at = unit() * self.optimum[last];
            return self.optimum.partition_point(|sum| *sum <= at).min(last);
        }
        ((unit() * self.optimum.len() as f64) as usize).min(last)
    }
}

/// DPO on pairs that are labelled with the probability σ(r − r′).
fn dpo(seed: u64, beta: f64, pairs: usize, share: f64) -> Stepper<CpuDevice> {
    const BATCH: usize = 256;
    let train = TrainConfig { batch_size: BATCH, grad_accumulation: 1, ..train(seed, (pairs / BATCH) as u64, 2e-3) };
    let (all, rewards) = (completions(), rewards());
    let mut rng = Rng::new(seed, Purpose::User, 0);
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    // Weights that are random give every token about the same probability.
    let weight = |(text, reward): (&Vec<i32>, &f64)| 0.2_f64.powi(text.len() as i32) * (reward / beta).exp();
    let optimum = all.iter().zip(&rewards).map(weight).scan(0.0, |sum, x| {
        *sum += x;
        Some(*sum)
    });
    let compared = Compared { optimum: optimum.collect(), share };
    let completion = |i: usize| completion(&all[i]);
    let labelled = |_| {
        let (a, b) = (compared.draw(&mut unit), compared.draw(&mut unit));
        let p = 1.0 / (1.0 + f64::from(gold(&all[b]) - gold(&all[a])).exp());
        let (better, worse) = if unit() < p { (a, b) } else { (b, a) };
        [completion(better), completion(worse)]
    };
    let spec = PairsSpec {
        policy: Base { architecture: model().architecture().unwrap(), init: None },
        loss: Box::new(Dpo { beta: beta as f32 }),
        beta,
        pairs: (0..pairs).map(labelled).collect(),
        held_out: Vec::new(),
        train: train.clone(),
    };
    run_to(&mut PairTraining::new(spec).unwrap(), &train, 0.0, |_, _, _| ())
}

/// DPO, each label read once. Of noisy labels the log-ratios have an error of about (label noise)/β: for the small β it takes more of them, of the completions
/// that the optimum has.
#[test]
#[ignore = "takes minutes: SEEDS=5 cargo test --release --workspace --test closed_form -- --ignored --nocapture preferences"]
fn preferences_reach_the_closed_form() {
    let mut missed = Vec::new();
    for beta in coefficients() {
        let (pairs, share) = if beta < 0.3 { (409_600, 0.5) } else { (153_600, 0.0) };
        let (pairs, share) = (chosen("PAIRS", pairs), chosen("SHARE", (share * 100.0) as u64) as f64 / 100.0);
        for seed in chosen("SEED", 0)..chosen("SEED", 0) + chosen("SEEDS", 5) {
            let mut stepper = dpo(seed, beta, pairs as usize, share);
            if !said("DPO", (beta, seed), &mut stepper) {
                missed.push((beta, seed));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// GRPO with groups of two against the policy at which its expected gradient is 0, which is not the optimum of J.
#[test]
#[ignore = "takes minutes: SEEDS=5 cargo test --release --workspace --test closed_form -- --ignored --nocapture grpo_reaches"]
fn grpo_reaches_its_fixed_point() {
    let mut missed = Vec::new();
    for beta in coefficients() {
        let steps = chosen("STEPS", if beta < 0.3 { 1200 } else { 600 });
        for seed in chosen("SEED", 0)..chosen("SEED", 0) + chosen("SEEDS", 5) {
            let train = train(seed, steps, 3e-3);
            let mut spec = spec(grpo(beta as f32), train.clone());
            (spec.group_size, spec.prompts) = (2, vec![vec![BEGIN]; 256]);
            let mut policy = Policy::new(spec).unwrap();
            let mut stepper = run_to(&mut policy, &train, 0.0, |_, _, _| ());
            let ([policy, reference], rewards) = (enumerated(&mut stepper), rewards());
            let fixed = GrpoOfTwo { beta, std_epsilon: 1e-4 }.fixed_point(&reference, &rewards);
            let from_fixed: f64 = policy.iter().zip(&fixed).map(|(p, q)| p.exp() * (p - q)).sum();
            let [own, at_fixed] = [&policy, &fixed].map(|policy| exact(&reference, policy, &rewards, beta));
            println!(
                "GRPO | {beta} | {seed} | KL from its fixed point {from_fixed:.4} | gap {:.2} %, of the fixed point {:.2} % | KL from the optimum {:.4}, of the fixed point {:.4}",
                100.0 * (1.0 - own.share),
                100.0 * (1.0 - at_fixed.share),
                own.from_optimum,
                at_fixed.from_optimum,
            );
            if from_fixed > 0.02 {
                missed.push((beta, seed));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// The adaptive coefficient settles where the KL is what was asked for: its mean over the last fifth of the steps within 10 %.
#[test]
#[ignore = "takes minutes: SEEDS=5 cargo test --release --workspace --test closed_form -- --ignored --nocapture adaptive"]
fn the_adaptive_coefficient_settles_at_its_target() {
    let mut missed = Vec::new();
    for target in [1.0, 3.0] {
        for seed in chosen("SEED", 0)..chosen("SEED", 0) + chosen("SEEDS", 5) {
            let train = train(seed, 400, 3e-3);
            let controller = KlController::Adaptive { target, horizon: 2560.0 };
            let mut policy = Policy::new(spec(Method { controller, ..rloo(0.2) }, train.clone())).unwrap();
            let (mut kl, mut coefficient) = (0.0, 0.0);
            let last = train.steps / 5;
            let _ = run_to(&mut policy, &train, 0.02, |_, step, found| {
                if step >= train.steps - last {
                    kl += found["objective/kl"] / last as f64;
                    coefficient = found["objective/kl_coef"];
                }
            });
            println!("adaptive | target {target} | {seed} | KL {kl:.3} | coefficient {coefficient:.4}");
            if (kl / target - 1.0_f64).abs() > 0.1 {
                missed.push((target, seed));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
