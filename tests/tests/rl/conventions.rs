//! Conventions by name: where each preset puts the score and what it does without EOS; properties of advantages, masks and statistics; errors.

use proptest::prelude::*;
use samara_core::rl::groups::{
    GroupAdvantages, GroupOfOne, GroupStatistics, OverlongPenalty, Scale, group_advantages, informative_groups, mask_truncated,
    remax, rloo,
};
use samara_core::rl::pairs::{Dpo, Pair, PairLoss, PairOutputs, Pairs, RobustDpo, SimPo, pair_losses};
use samara_core::rl::rewards::{RewardLoss, kway, reward_pairs};
use samara_core::rl::{
    Clip, Completions, Conventions, Error, Floor, Gae, Gaps, KlController, Kto, Mask, MissingEos, PolicyBatch, RatioStatistics,
    Recipe, TokenRewards, Unpaired, Variance, Whitening, entropy_bonus, gae, kto, ppo, whiten,
};

/// One completion of two tokens with EOS, one cut at three, in rows of four; KL .1 at every token, scores 1 and 2.
#[test]
fn token_rewards_of_presets() {
    let completions = Completions { row: 4, lengths: &[2, 3], ended: &[true, false], scores: &[1.0, 2.0] };
    let kl = [0.1; 8];
    let rows = |name: &str, beta: f64| {
        let conventions = Conventions::named(name).unwrap();
        let mut rewards = [f64::NAN; 8];
        TokenRewards { beta, ..conventions.rewards }.rewards(&completions, &kl, &mut rewards).unwrap();
        rewards.map(|x| (x * 1e6).round() / 1e6)
    };
    // β = 1 for all, so that a penalty is −.1.
    assert_eq!(rows("lm-human-preferences", 1.0), [-0.1, -0.1, -0.1, 0.9, -0.1, -0.1, -0.1, -1.1]);
    assert_eq!(rows("tldr", 1.0), [-0.1, -0.1, 1.0, 0.0, -0.1, -0.1, -0.1, -1.0]);
    assert_eq!(rows("instructgpt", 1.0), rows("tldr", 1.0));
    assert_eq!(rows("trl", 1.0), [-0.1, -0.1, 1.0, 0.0, -0.1, -0.1, -0.1, 2.0]);
    assert_eq!(rows("openrlhf", 1.0), [-0.1, 0.9, 0.0, 0.0, -0.1, -0.1, 1.9, 0.0]);
    assert_eq!(rows("verl", 1.0), rows("openrlhf", 1.0));
    // Behind a completion as long as its row there is no token: the last one gets the score.
    let full = Completions { lengths: &[4, 4], ..completions };
    let mut rewards = [0.0; 8];
    Conventions::named("trl").unwrap().rewards.rewards(&full, &[0.0; 8], &mut rewards).unwrap();
    assert_eq!(rewards, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]);
    let limited = Conventions::named("openrlhf").unwrap().rewards;
    assert_eq!((limited.score(12.0, false), limited.score(-11.0, true)), (10.0, -10.0));
    assert_eq!(Conventions::PRESETS.map(|preset| preset.rewards.score(0.5, false)), [-1.0, -1.0, -1.0, 0.5, 0.5, 0.5]);
    assert_eq!(Conventions::named("tlr"), None);
}

/// What did not end is replaced or loses a penalty; what ended keeps its score.
#[test]
fn scores_without_eos() {
    let how = |missing_eos| TokenRewards { missing_eos, ..Conventions::named("trl").unwrap().rewards };
    let cases = [(MissingEos::Keep, 0.5), (MissingEos::Replace(-1.0), -1.0), (MissingEos::Subtract(2.0), -1.5)];
    for (missing_eos, cut) in cases {
        assert_eq!([true, false].map(|ended| how(missing_eos).score(0.5, ended)), [0.5, cut], "{missing_eos:?}");
    }
}

/// A bonus lowers the loss where the entropy is high, so that descent raises it.
#[test]
fn entropy_is_rewarded() {
    let mut gradients = [9.0; 2];
    let loss = entropy_bonus(0.5, &[0.25, 0.75], &[2.0, 4.0], &mut gradients).unwrap();
    assert_eq!((loss, gradients), (-1.75, [-0.125, -0.375]));
}

#[test]
fn choices_of_presets() {
    let preset = |name| Conventions::named(name).unwrap();
    let whitening = ["lm-human-preferences", "trl", "openrlhf", "verl"]
        .map(|name| (preset(name).whitening.variance, preset(name).whitening.floor));
    let (biased, unbiased) = (Variance::Biased, Variance::Unbiased);
    assert_eq!(whitening, [(biased, Floor::Added), (unbiased, Floor::Added), (biased, Floor::Least), (unbiased, Floor::Added)]);
    assert_eq!((preset("verl").clip.dual, preset("trl").clip.dual, preset("verl").gae.gaps), (Some(3.0), None, Gaps::Skip));
    assert_eq!(
        (preset("instructgpt").ptx_coefficient, preset("instructgpt").rewards.beta, preset("instructgpt").epochs),
        (27.8, 0.02, 1)
    );
    assert_eq!(preset("lm-human-preferences").controller, KlController::Adaptive { target: 6.0, horizon: 1e4 });
    // Values that span both floors: with a variance of 0 the floor decides nothing but that nothing is NaN.
    for floor in [Floor::Added, Floor::Least] {
        let mut values = [2.0; 3];
        let _ = whiten(&Whitening { floor, ..preset("openrlhf").whitening }, &[true; 3], &mut values).unwrap();
        assert_eq!(values, [0.0; 3]);
    }
}

#[test]
fn gaps_are_tokens_of_0_or_nothing() {
    let (rewards, values) = ([1.0, 50.0, 2.0], [0.5, 70.0, 0.25]);
    let live = [true, false, true];
    let of = |gaps| {
        let (mut advantages, mut returns) = ([0.0; 3], [0.0; 3]);
        let how = Gae { gamma: 1.0, lambda: 0.5, gaps };
        gae(&how, &Mask::new(&live, 3).unwrap(), &rewards, &values, &mut advantages, &mut returns).unwrap();
        (advantages, returns)
    };
    // The last: δ = 2 − .25. Skipped: δ = 1 + .25 − .5, plus half of that. Of 0: δ of the gap = .25, then δ = 1 − .5.
    assert_eq!(of(Gaps::Skip), ([0.75 + 0.875, 0.0, 1.75], [2.125, 0.0, 2.0]));
    assert_eq!(of(Gaps::Zero), ([0.5 + 0.5 * (0.25 + 0.875), 0.0, 1.75], [1.5625, 0.0, 2.0]));
}

fn statistics(clip: &Clip<f64>, log_ratio: f64, advantage: f64) -> (f64, f64, RatioStatistics<f64>) {
    let (mut losses, mut gradients) = ([0.0], [0.0]);
    let mask = Mask::new(&[true], 1).unwrap();
    let batch = PolicyBatch { mask, logprobs: &[log_ratio - 1.0], old_logprobs: &[-1.0], advantages: &[advantage] };
    let found = ppo(clip, &batch, &mut losses, &mut gradients).unwrap();
    (losses[0], gradients[0], found)
}

#[test]
fn clips_of_ppo() {
    let clip = Clip { low: 0.2, high: 0.28, dual: Some(3.0), log_ratio: Some(20.0) };
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    let (up, down) = (2.0_f64.ln(), 0.5_f64.ln());
    // To gain: clipped above, never below. To lose: clipped below, and at 3 A above.
    for (log_ratio, advantage, loss, gradient) in [
        (up, 1.0, -1.28, 0.0),
        (down, 1.0, -0.5, -0.5),
        (up, -1.0, 2.0, 2.0),
        (down, -1.0, 0.8, 0.0),
        (4.0_f64.ln(), -1.0, 3.0, 0.0),
        (50.0, 0.0, 0.0, 0.0),
    ] {
        let (found, slope, statistics) = statistics(&clip, log_ratio, advantage);
        near(found, loss);
        near(slope, gradient);
        assert_eq!(statistics.clipfrac(), if gradient == 0.0 && advantage != 0.0 { 1.0 } else { 0.0 });
        near(statistics.max / log_ratio.exp(), 1.0);
    }
    near(statistics(&clip, up, 1.0).2.approxkl(), 0.5 * up * up);
    // Beyond the limit of the log-ratio there is no gradient, and what is reported is the ratio before any limit.
    let unlimited = Clip { dual: None, ..clip };
    let (loss, slope, found) = statistics(&unlimited, 30.0, -1.0);
    near(loss, 20.0_f64.exp());
    assert_eq!((slope, found.max), (0.0, 30.0_f64.exp()));
}

#[test]
fn dapo() {
    let penalty = OverlongPenalty { limit: 100, buffer: 20, factor: 1.0 };
    assert_eq!([0, 80, 85, 100, 1000].map(|length| penalty.of(length).unwrap()), [0.0, 0.0, -0.25, -1.0, -1.0]);
    let mut keep = [false; 6];
    let kept = informative_groups(&[1.0, 0.0, 1.0, 1.0, f64::NAN, 0.5], &[0, 0, 1, 1, 2, 2], &mut keep).unwrap();
    assert_eq!((kept, keep), (2, [true, true, false, false, false, false]));
    let mut live = [true; 6];
    assert_eq!(mask_truncated(3, &[false, true], &mut live).unwrap(), 1);
    assert_eq!(live, [false, false, false, true, true, true]);
    let mask = Mask::new(&live, 3).unwrap();
    let mut advantages = [9.0; 6];
    remax(&mask, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[9.0, 1.0], &mut advantages).unwrap();
    assert_eq!(advantages, [0.0, 0.0, 0.0, 3.0, 4.0, 5.0]);
}

#[test]
fn groups_of_one_and_rows_without_a_score() {
    let (rewards, groups) = ([2.0, f64::NAN, 1.0, 1.0], [0, 0, 1, 1]);
    let mut advantages = [9.0; 4];
    let keep = GroupAdvantages { group_of_one: GroupOfOne::Keep, std_epsilon: 1e-6, ..GroupAdvantages::default() };
    let found = group_advantages(&keep, &rewards, &groups, &mut advantages).unwrap();
    assert_eq!(found, GroupStatistics { groups: 2, equal: 2, unscorable: 1 });
    assert_eq!(advantages, [2.0 / (1.0 + 1e-6), 0.0, 0.0, 0.0]);
    rloo(GroupOfOne::Keep, &rewards, &groups, &mut advantages).unwrap();
    assert_eq!(advantages, [2.0, 0.0, 0.0, 0.0]);
    let refused = group_advantages(&GroupAdvantages::default(), &rewards, &groups, &mut advantages);
    assert_eq!(refused, Err(Error::Group { id: 0 }));
    assert_eq!(rloo(GroupOfOne::Refuse, &rewards, &groups, &mut advantages), Err(Error::Group { id: 0 }));
    let infinite = rloo(GroupOfOne::Keep, &[f64::INFINITY, 0.0], &[0, 0], &mut advantages[..2]);
    assert_eq!(infinite, Err(Error::NotFinite { name: "rewards", index: 0 }));
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(Mask::new(&[true; 5], 2).err(), Some(Error::Rows { name: "mask", row: 2, found: 5 }));
    assert_eq!(Mask::new(&[true; 4], 0).err(), Some(Error::Rows { name: "mask", row: 0, found: 4 }));
    assert_eq!(Mask::new(&[false; 4], 2).err(), Some(Error::TooFew { name: "mask", expected: 1, found: 0 }));
    let mut values = [1.0];
    let alone = whiten(&Whitening::default(), &[true], &mut values);
    assert_eq!(alone, Err(Error::TooFew { name: "values", expected: 2, found: 1 }));
    for (objective, name) in [
        (&Dpo { beta: 0.0 } as &dyn PairLoss<f64>, "beta"),
        (&RobustDpo { beta: 0.1, label_smoothing: 0.5 }, "label_smoothing"),
        (&SimPo { beta: 1.0, margin: f64::NAN, label_smoothing: 0.0 }, "margin"),
    ] {
        assert!(matches!(objective.check(), Err(Error::Parameter { name: found, .. }) if found == name));
    }
    let empty = Pairs {
        policy_chosen: &[-1.0],
        policy_rejected: &[-1.0],
        reference_chosen: &[],
        reference_rejected: &[],
        chosen_lengths: &[0],
        rejected_lengths: &[1],
    };
    let outputs = || [(); 3].map(|()| vec![0.0]);
    let [mut losses, mut by_chosen, mut by_rejected] = outputs();
    let mut run = |objective: &dyn PairLoss<f64>| {
        let outputs = PairOutputs { losses: &mut losses, by_chosen: &mut by_chosen, by_rejected: &mut by_rejected };
        pair_losses(objective, &empty, outputs).unwrap_err()
    };
    assert_eq!(run(&Dpo { beta: 0.1 }), Error::Length { name: "reference_chosen", expected: 1, found: 0 });
    let simpo = run(&SimPo { beta: 1.0, margin: 0.0, label_smoothing: 0.0 });
    assert!(simpo.to_string().contains("chosen_lengths: expected at least one token"), "{simpo}");
    let ranks = kway(&RewardLoss::default(), &[1.0, 2.0], Some(&[1, 1]), &mut [0.0; 2]);
    assert!(matches!(ranks, Err(Error::TooFew { found: 0, .. })));
    let completions = Completions { row: 2, lengths: &[0], ended: &[true], scores: &[1.0] };
    let rewards = Conventions::PRESETS[0].rewards.rewards(&completions, &[0.0; 2], &mut [0.0; 2]);
    assert!(matches!(rewards, Err(Error::Parameter { name: "lengths", .. })));
}

#[test]
fn recipes_have_their_own_means_and_clips() {
    let names = Recipe::ALL.map(|recipe| recipe.name);
    assert!(names.iter().all(|name| Recipe::named(name).is_some_and(|recipe| recipe.name == *name)));
    let [dapo, gspo, rloo] = ["dapo", "gspo", "rloo"].map(|name| Recipe::named(name).unwrap());
    assert_eq!((dapo.clip.high, gspo.clip.low), (0.28, 3e-4));
    assert_ne!(rloo.surrogate, gspo.surrogate);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_advantages(rewards in prop::collection::vec(-3.0_f64..3.0, 8), shift in -5.0_f64..5.0) {
        let groups = [4, 9, 4, 9, 4, 9, 4, 9];
        let of = |rewards: &[f64], scale| {
            let mut advantages = [0.0; 8];
            let how = GroupAdvantages { scale, ..GroupAdvantages::default() };
            group_advantages(&how, rewards, &groups, &mut advantages).unwrap();
            advantages
        };
        let moved: Vec<f64> = rewards.iter().zip(groups).map(|(x, group)| x + if group == 4 { shift } else { 0.0 }).collect();
        for scale in [Scale::None, Scale::Group] {
            let (here, there) = (of(&rewards, scale), of(&moved, scale));
            prop_assert!(here.iter().sum::<f64>().abs() < 1e-12);
            prop_assert!(here.iter().zip(there).all(|(a, b)| (a - b).abs() < 1e-9), "a prompt's level does not count");
        }
        let mut leave_one_out = [0.0; 8];
        rloo(GroupOfOne::Refuse, &rewards, &groups, &mut leave_one_out).unwrap();
        let less_mean = of(&rewards, Scale::None);
        prop_assert!(leave_one_out.iter().zip(less_mean).all(|(a, b)| (a - b * 4.0 / 3.0).abs() < 1e-12));
        let equal = [rewards[0]; 8];
        prop_assert_eq!(of(&equal, Scale::Group), [0.0; 8]);
    }

    #[test]
    fn of_whitening(values in prop::collection::vec(-9.0_f64..9.0, 12), shift_mean in any::<bool>()) {
        let live: Vec<bool> = (0..12).map(|i| i % 4 != 1).collect();
        let mut whitened = values.clone();
        let how = Whitening { variance: Variance::Biased, shift_mean, ..Whitening::default() };
        let before = whiten(&how, &live, &mut whitened).unwrap();
        let kept = || whitened.iter().zip(&live).filter(|(_, live)| **live).map(|(x, _)| *x);
        let mean = kept().sum::<f64>() / 9.0;
        let variance = kept().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 9.0;
        let expected = if shift_mean { 0.0 } else { before.mean };
        prop_assert!((mean - expected).abs() < 1e-9 && (variance - 1.0).abs() < 1e-6);
        prop_assert!(whitened.iter().zip(&live).all(|(x, live)| *live || *x == 0.0));
    }

    /// λ = 1 is the sum of what comes less the value; λ = 0 the temporal difference.
    #[test]
    fn of_gae(rewards in prop::collection::vec(-1.0_f64..1.0, 5), values in prop::collection::vec(-1.0_f64..1.0, 5)) {
        let live = [true; 5];
        let of = |lambda| {
            let (mut advantages, mut returns) = ([0.0; 5], [0.0; 5]);
            let how = Gae { gamma: 1.0, lambda, gaps: Gaps::Zero };
            gae(&how, &Mask::new(&live, 5).unwrap(), &rewards, &values, &mut advantages, &mut returns).unwrap();
            (advantages, returns)
        };
        for t in 0..5 {
            let future: f64 = rewards[t..].iter().sum();
            prop_assert!((of(1.0).0[t] - (future - values[t])).abs() < 1e-12 && (of(1.0).1[t] - future).abs() < 1e-12);
            let next = values.get(t + 1).copied().unwrap_or(0.0);
            prop_assert!((of(0.0).0[t] - (rewards[t] + next - values[t])).abs() < 1e-12);
        }
    }

    /// Equal policies: DPO is ln 2 and pulls both ways alike; KTO at its reference point is ½; a pair of a ranking is a pair.
    #[test]
    fn of_losses(a in -50.0_f64..-0.1, b in -50.0_f64..-0.1, beta in 0.01_f64..3.0) {
        let pair = Pair { policy_chosen: a, policy_rejected: b, reference_chosen: a, reference_rejected: b, chosen_length: 1.0, rejected_length: 1.0 };
        let found = Dpo { beta }.of(&pair);
        prop_assert_eq!(found.loss, std::f64::consts::LN_2);
        prop_assert_eq!((found.by_chosen, found.by_rejected), (-0.5 * beta, 0.5 * beta));
        let how = Kto { beta, desirable_weight: 1.0, undesirable_weight: 1.0 };
        let batch = Unpaired { policy: &[a, b], reference: &[a, b], desirable: &[true, false] };
        let (mut losses, mut gradients) = ([0.0; 2], [0.0; 2]);
        kto(&how, &batch, 0.0, &mut losses, &mut gradients).unwrap();
        prop_assert_eq!(losses, [0.5, 0.5]);
        let [mut loss, mut by_chosen, mut by_rejected] = [[0.0]; 3];
        reward_pairs(&RewardLoss::default(), [&[a], &[b]], None, &mut loss, [&mut by_chosen, &mut by_rejected]).unwrap();
        let mut gradients = [0.0; 2];
        prop_assert_eq!(kway(&RewardLoss::default(), &[a, b], None, &mut gradients).unwrap(), loss[0]);
        prop_assert_eq!(gradients, [by_chosen[0], by_rejected[0]]);
    }
}
