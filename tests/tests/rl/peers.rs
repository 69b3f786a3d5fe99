//! What the published code of others makes of random tensors (`tests/golden/rl`), to 1e-6.

use std::collections::BTreeMap;
use std::fs;

use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, Scale, group_advantages, reinforce_plus_plus, remax, rloo};
use samara_core::rl::pairs::{
    CDpo, Cpo, Dpo, Hinge, IpoMean, IpoSum, Orpo, PairLoss, PairOutputs, Pairs, RobustDpo, SigmoidNorm, SimPo, pair_losses,
};
use samara_core::rl::rewards::{RewardLoss, plackett_luce, reward_pairs};
use samara_core::rl::{
    Aggregation, Clip, Completions, Conventions, Estimator, Gae, Gaps, Limits, Mask, PolicyBatch, SequenceRatio, Surrogate,
    TokenRewards, Totals, ValueBatch, WeightLimits, Whitening, aggregate, broadcast, cispo, discounted_returns, gae, kl,
    token_weights, value_loss, whiten,
};
use samara_tests::golden::{numbers, path};
use serde_json::Value;

/// What came out, by name.
type Found = Vec<(&'static str, Vec<f64>)>;

/// A recorded call.
struct Case<'a>(&'a Value);

impl Case<'_> {
    fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(&self.0["inputs"][name])
    }

    fn counts(&self, name: &str) -> Vec<usize> {
        self.numbers(name).into_iter().map(|x| x as usize).collect()
    }

    fn live(&self) -> Vec<bool> {
        self.numbers("mask").into_iter().map(|x| x == 1.0).collect()
    }

    fn groups(&self) -> Vec<u32> {
        self.numbers("group").into_iter().map(|x| x as u32).collect()
    }

    fn has(&self, name: &str) -> bool {
        !self.0["inputs"][name].is_null()
    }

    fn setting(&self, name: &str) -> f64 {
        self.0["settings"][name].as_f64().unwrap_or(0.0)
    }

    fn word(&self, name: &str) -> &str {
        self.0["settings"][name].as_str().unwrap_or("")
    }
}

fn pairs(case: &Case<'_>, objective: &dyn PairLoss<f64>) -> Found {
    let [policy_chosen, policy_rejected, reference_chosen, reference_rejected] =
        ["policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"].map(|name| case.numbers(name));
    let [chosen_lengths, rejected_lengths] = ["chosen_lengths", "rejected_lengths"].map(|name| case.counts(name));
    let pairs = Pairs {
        policy_chosen: &policy_chosen,
        policy_rejected: &policy_rejected,
        reference_chosen: &reference_chosen,
        reference_rejected: &reference_rejected,
        chosen_lengths: &chosen_lengths,
        rejected_lengths: &rejected_lengths,
    };
    let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![0.0; policy_chosen.len()]);
    let outputs = PairOutputs { losses: &mut losses, by_chosen: &mut by_chosen, by_rejected: &mut by_rejected };
    pair_losses(objective, &pairs, outputs).unwrap();
    means(losses, by_chosen, by_rejected)
}

/// The loss of a batch is the mean of its losses.
fn means(losses: Vec<f64>, by_chosen: Vec<f64>, by_rejected: Vec<f64>) -> Found {
    let n = losses.len() as f64;
    let share = |x: Vec<f64>| x.into_iter().map(|x| x / n).collect::<Vec<f64>>();
    let loss = vec![share(losses).into_iter().sum()];
    vec![("loss", loss), ("by_chosen", share(by_chosen)), ("by_rejected", share(by_rejected))]
}

fn objective(case: &Case<'_>, name: &str) -> Option<Box<dyn PairLoss<f64>>> {
    let (beta, label_smoothing) = (case.setting("beta"), case.setting("label_smoothing"));
    Some(match name {
        "dpo" => Box::new(Dpo { beta }),
        "hinge" => Box::new(Hinge { beta }),
        "ipo_mean" => Box::new(IpoMean { beta }),
        "ipo_sum" => Box::new(IpoSum { beta }),
        "sigmoid_norm" => Box::new(SigmoidNorm { beta }),
        "robust_dpo" => Box::new(RobustDpo { beta, label_smoothing }),
        "cdpo" => Box::new(CDpo { beta, label_smoothing }),
        "cpo" => Box::new(Cpo { beta, label_smoothing, nll_weight: 0.0 }),
        "simpo" => Box::new(SimPo { beta, margin: case.setting("gamma"), label_smoothing }),
        "orpo" => Box::new(Orpo { beta, nll_weight: 0.0 }),
        _ => return None,
    })
}

fn scores(case: &Case<'_>, name: &str) -> Found {
    if name == "plackett_luce" {
        let scores = case.numbers("scores");
        let mut gradients = vec![0.0; scores.len()];
        return vec![("loss", vec![plackett_luce(&scores, None, &mut gradients).unwrap()])];
    }
    let [chosen, rejected, margins] = ["chosen", "rejected", "margins"].map(|name| case.numbers(name));
    let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![0.0; chosen.len()]);
    let by = [&mut by_chosen[..], &mut by_rejected[..]];
    reward_pairs(&RewardLoss::default(), [&chosen, &rejected], Some(&margins), &mut losses, by).unwrap();
    means(losses, by_chosen, by_rejected)
}

/// Advantages of completions at their tokens, where the record has a mask.
fn at_tokens(case: &Case<'_>, row: usize, advantages: Vec<f64>) -> Vec<f64> {
    if !case.has("mask") {
        return advantages;
    }
    let live = case.live();
    let mut to = vec![0.0; live.len()];
    broadcast(&Mask::new(&live, row).unwrap(), &advantages, &mut to).unwrap();
    to
}

fn of_groups(case: &Case<'_>, row: usize, name: &str) -> Found {
    let (mut rewards, groups) = (case.numbers("rewards"), case.groups());
    if case.has("unscorable") {
        case.counts("unscorable").into_iter().for_each(|i| rewards[i] = f64::NAN);
    }
    let mut advantages = vec![0.0; rewards.len()];
    let scale = if name.starts_with("grpo") { Scale::Group } else { Scale::None };
    let how = GroupAdvantages { scale, std_epsilon: case.setting("std_epsilon"), ..GroupAdvantages::default() };
    if name == "rloo" {
        rloo(GroupOfOne::Refuse, &rewards, &groups, &mut advantages).unwrap();
    } else {
        group_advantages(&how, &rewards, &groups, &mut advantages).unwrap();
    }
    let mut advantages = at_tokens(case, row, advantages);
    if name == "reinforce++-baseline" {
        let _ = whiten(&Whitening::default(), &case.live(), &mut advantages).unwrap();
    }
    vec![("advantages", advantages)]
}

fn of_tokens(case: &Case<'_>, row: usize, name: &str) -> Found {
    let (rewards, live) = (case.numbers("rewards"), case.live());
    let mask = Mask::new(&live, row).unwrap();
    let [mut advantages, mut returns] = [(); 2].map(|()| vec![0.0; rewards.len()]);
    match name {
        "gae" => {
            let how = Gae { gamma: case.setting("gamma"), lambda: case.setting("lambda"), gaps: Gaps::Skip };
            gae(&how, &mask, &rewards, &case.numbers("values"), &mut advantages, &mut returns).unwrap();
            let _ = whiten(&Whitening::default(), &live, &mut advantages).unwrap();
            vec![("advantages", advantages), ("returns", returns)]
        }
        "remax" => {
            discounted_returns(1.0, &mask, &rewards, &mut returns).unwrap();
            remax(&mask, &returns, &case.numbers("greedy"), &mut advantages).unwrap();
            vec![("advantages", advantages)]
        }
        _ => {
            let how = Whitening::default();
            let _ = reinforce_plus_plus(case.setting("gamma"), &how, &mask, &rewards, &mut advantages).unwrap();
            vec![("advantages", advantages)]
        }
    }
}

fn whitened(case: &Case<'_>) -> Found {
    let mut values = case.numbers("values");
    let shift_mean = case.0["settings"]["shift_mean"].as_bool().unwrap();
    let _ = whiten(&Whitening { shift_mean, ..Whitening::default() }, &case.live(), &mut values).unwrap();
    vec![("values", values)]
}

fn token_rewards(case: &Case<'_>, row: usize) -> Found {
    let (lengths, kl, scores) = (case.counts("lengths"), case.numbers("kl"), case.numbers("scores"));
    let ended = vec![true; lengths.len()];
    let completions = Completions { row, lengths: &lengths, ended: &ended, scores: &scores };
    let mut rewards = vec![0.0; kl.len()];
    let how = TokenRewards { beta: case.setting("beta"), ..Conventions::named("openrlhf").unwrap().rewards };
    how.rewards(&completions, &kl, &mut rewards).unwrap();
    vec![("rewards", rewards)]
}

fn batch_loss(case: &Case<'_>, mask: &Mask<'_>, losses: &[f64], mut gradients: Vec<f64>) -> Found {
    let mean = match case.word("aggregation") {
        "seq_mean_token_mean" => Aggregation::SeqMeanTokenMean,
        "seq_mean_token_sum" => Aggregation::SeqMeanTokenSum,
        "constant" => Aggregation::Constant,
        _ => Aggregation::TokenMean,
    };
    let totals = Totals { length: (case.setting("length") as usize).max(1), ..Totals::of(mask) };
    let mut weights = vec![0.0; losses.len()];
    token_weights(mean, totals, mask, &mut weights).unwrap();
    let loss = aggregate(&weights, losses, &mut gradients).unwrap();
    vec![("loss", vec![loss]), ("gradients", gradients)]
}

fn policy(case: &Case<'_>, row: usize, name: &str) -> Found {
    let [logprobs, old, advantages] = ["logprobs", "old_logprobs", "advantages"].map(|name| case.numbers(name));
    let live = case.live();
    let mask = Mask::new(&live, row).unwrap();
    let batch = PolicyBatch { mask, logprobs: &logprobs, old_logprobs: &old, advantages: &advantages };
    let [mut losses, mut gradients] = [(); 2].map(|()| vec![0.0; logprobs.len()]);
    let limit = |name: &str| Some(case.setting(name)).filter(|x| *x > 0.0);
    let (low, high) = (case.setting("clip"), case.setting("clip_high"));
    let clip = Clip { low, high, dual: limit("dual_clip"), log_ratio: limit("log_ratio_limit") };
    let surrogate = match name {
        "gspo" => Surrogate::Sequence(SequenceRatio::Mean),
        "cispo" => Surrogate::Weight,
        _ => Surrogate::Token,
    };
    let _ = if name == "cispo_cap" {
        cispo(&WeightLimits { low: 0.0, high }, &batch, &mut losses, &mut gradients).unwrap()
    } else {
        surrogate.losses(&clip, &batch, &mut losses, &mut gradients).unwrap()
    };
    let beta = case.setting("beta");
    if beta > 0.0 {
        let reference = case.numbers("reference");
        let [mut values, mut slopes] = [(); 2].map(|()| vec![0.0; logprobs.len()]);
        kl(Estimator::K3, &Limits::default(), &logprobs, &reference, &mut values, &mut slopes).unwrap();
        losses.iter_mut().zip(values).for_each(|(loss, kl)| *loss += beta * kl);
        gradients.iter_mut().zip(slopes).for_each(|(gradient, slope)| *gradient += beta * slope);
    }
    batch_loss(case, &mask, &losses, gradients)
}

fn value(case: &Case<'_>, row: usize) -> Found {
    let [values, old_values, returns] = ["values", "old_values", "returns"].map(|name| case.numbers(name));
    let live = case.live();
    let mask = Mask::new(&live, row).unwrap();
    let batch = ValueBatch { mask, values: &values, old_values: &old_values, returns: &returns };
    let [mut losses, mut gradients] = [(); 2].map(|()| vec![0.0; values.len()]);
    let statistics = value_loss(Some(case.setting("clip")), &batch, &mut losses, &mut gradients).unwrap();
    let mut found = batch_loss(case, &mask, &losses, gradients);
    found.push(("clipfrac", vec![statistics.clipfrac]));
    found
}

fn estimates(case: &Case<'_>) -> Found {
    let [logprobs, reference] = ["logprobs", "reference"].map(|name| case.numbers(name));
    let [mut values, mut gradients] = [(); 2].map(|()| vec![0.0; logprobs.len()]);
    let estimator = match case.word("estimator") {
        "kl" => Estimator::K1,
        "abs" => Estimator::Abs,
        "k2" => Estimator::K2,
        _ => Estimator::K3,
    };
    // verl limits k3 alone.
    let limits =
        if estimator == Estimator::K3 { Limits { difference: Some(20.0), value: Some(10.0) } } else { Limits::default() };
    kl(estimator, &limits, &logprobs, &reference, &mut values, &mut gradients).unwrap();
    vec![("values", values), ("gradients", gradients)]
}

#[test]
fn agree() {
    let file = std::env::var_os("SAMARA_RL_PEERS").map_or_else(|| path("rl/peers.json"), Into::into);
    let record: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let row = record["tokens"].as_u64().unwrap() as usize;
    let cases = record["cases"].as_array().unwrap();
    assert!(cases.len() >= 100);
    let mut largest = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let (name, case) = (case["function"].as_str().unwrap(), Case(case));
        let found = match name {
            "reward_pairs" | "plackett_luce" => scores(&case, name),
            "grpo" | "dr_grpo" | "grpo_unscorable" | "rloo" | "reinforce++-baseline" => of_groups(&case, row, name),
            "gae" | "reinforce++" | "remax" => of_tokens(&case, row, name),
            "whiten" => whitened(&case),
            "token_rewards" => token_rewards(&case, row),
            "ppo" | "gspo" | "cispo" | "cispo_cap" => policy(&case, row, name),
            "value" => value(&case, row),
            "kl" => estimates(&case),
            name => pairs(&case, objective(&case, name).unwrap_or_else(|| panic!("{name}")).as_ref()),
        };
        for (output, expected) in case.0["outputs"].as_object().unwrap() {
            let (_, found) = found.iter().find(|(name, _)| name == output).unwrap_or_else(|| panic!("{name}: {output}"));
            let expected = numbers(expected);
            assert_eq!(found.len(), expected.len(), "{name}: {output}");
            for (found, expected) in found.iter().zip(expected) {
                let off = (found - expected).abs() / expected.abs().max(1.0);
                assert!(off <= 1e-6, "case {number}, {name}: {output} {found}, expected {expected}");
                let (cases, worst) = largest.entry(name).or_insert((0, 0.0_f64));
                (*cases, *worst) = (*cases + 1, worst.max(off));
            }
        }
    }
    largest.iter().for_each(|(name, (numbers, worst))| println!("{name}: {numbers} numbers, largest difference {worst:.1e}"));
}
