//! Objectives of learning from rewards and preferences, in both precisions.

use core::hint::black_box;

use samara_core::math::Real;
use samara_core::rl::categorical::{entropy_gradient, log_softmax, logprob_gradient};
use samara_core::rl::groups::{
    GroupAdvantages, GroupOfOne, OverlongPenalty, Scale, group_advantages, informative_groups, mask_truncated,
    reinforce_plus_plus, remax, rloo,
};
use samara_core::rl::pairs::{
    CDpo, Cpo, Dpo, Hinge, IpoMean, IpoSum, Orpo, PairLoss, PairOutputs, Pairs, RobustDpo, SigmoidNorm, SimPo, pair_losses,
};
use samara_core::rl::rewards::{Preference, RewardLoss, best_of_n, kway, plackett_luce, reward_pairs};
use samara_core::rl::{
    Aggregation, Clip, Completions, Conventions, Estimator, Gae, KlController, Kto, Limits, Mask, MissingEos, Penalised,
    PolicyBatch, Ptx, Recipe, ScoreAt, TokenRewards, Totals, Unpaired, ValueBatch, Whitening, aggregate, broadcast,
    discounted_returns, entropy_bonus, gae, kl, kto, kto_reference_point, ptx, reinforce, sequence_k2, token_weights, value_loss,
    whiten,
};

/// Rows of tokens of a batch.
const ROW: usize = 3;
const ALL: usize = 2 * ROW;

pub fn learn(n: usize) -> Option<()> {
    for recipe in Recipe::ALL {
        tokens::<f32>(n, &recipe)?;
        tokens::<f64>(n, &recipe)?;
    }
    sequences::<f32>(n)?;
    sequences::<f64>(n)?;
    pairs::<f32>(n)?;
    pairs::<f64>(n)?;
    Conventions::named(black_box("trl")).map(|_| ())
}

fn numbers<R: Real>(low: f64) -> [R; ALL] {
    black_box([0.1, 0.7, -0.4, 0.3, -0.2, 0.5]).map(|x| R::from_f64(low + x))
}

fn clip<R: Real>(clip: &Clip<f64>) -> Clip<R> {
    let number = |x: Option<f64>| x.map(R::from_f64);
    Clip { low: R::from_f64(clip.low), high: R::from_f64(clip.high), dual: number(clip.dual), log_ratio: number(clip.log_ratio) }
}

/// From log-probs to a gradient, by way of rewards, advantages and a surrogate.
fn tokens<R: Real>(n: usize, recipe: &Recipe) -> Option<()> {
    let (logprobs, old, reference) = (numbers::<R>(-1.0), numbers::<R>(-1.1), numbers::<R>(-1.2));
    let mut live = black_box([true, true, false, true, true, true]);
    mask_truncated(ROW, &[true, n > 0], &mut live).ok()?;
    let mask = Mask::new(&live, 2 + n).ok()?;
    let [mut a, mut b, mut c, mut d] = [[R::ZERO; ALL]; 4];
    let limits = Limits { difference: Some(R::from_f64(20.0)), value: Some(R::from_f64(10.0)) };
    kl(black_box(Estimator::K3), &limits, &logprobs, &reference, &mut a, &mut b).ok()?;
    sequence_k2(&mask, &logprobs, &reference, b.get_mut(..1 + n)?, &mut c).ok()?;
    let how = TokenRewards {
        beta: R::from_f64(0.1),
        score_at: black_box(ScoreAt::EosPlusOne),
        missing_eos: black_box(MissingEos::Subtract(R::ONE)),
        penalised: black_box(Penalised::Completion),
        score_limit: Some(R::ONE),
    };
    let completions = Completions { row: 2 + n, lengths: &[2, 2 + n], ended: &[true, n > 1], scores: logprobs.get(..1 + n)? };
    how.rewards(&completions, &a, &mut b).ok()?;
    gae(&Gae::default(), &mask, &b, &old, &mut c, &mut d).ok()?;
    discounted_returns(R::ONE, &mask, &b, &mut c).ok()?;
    remax(&mask, &c, old.get(..1 + n)?, &mut d).ok()?;
    reinforce_plus_plus(R::ONE, &Whitening::default(), &mask, &b, &mut c).ok()?;
    whiten(&Whitening::default(), &live, &mut d).ok()?;
    broadcast(&mask, old.get(..1 + n)?, &mut d).ok()?;
    reinforce(&mask, &logprobs, &c, &mut a, &mut b).ok()?;
    let batch = PolicyBatch { mask, logprobs: &logprobs, old_logprobs: &old, advantages: &c };
    let statistics = recipe.surrogate.losses(&clip::<R>(&recipe.clip), &batch, &mut a, &mut b).ok()?;
    token_weights(recipe.aggregation, Totals::of(&mask).and(Totals::of(&mask)), &mask, &mut d).ok()?;
    let loss = aggregate(&d, &a, &mut b).ok()?;
    entropy_bonus(R::ONE, &d, &old, &mut b).ok()?;
    let batch = ValueBatch { mask, values: &logprobs, old_values: &old, returns: &c };
    value_loss(Some(R::from_f64(0.2)), &batch, &mut a, &mut b).ok()?;
    let mixed = Ptx { coefficient: R::ONE, aggregation: Aggregation::Constant };
    ptx(&mixed, Totals::of(&mask), &mask, &logprobs, &mut a, &mut b).ok()?;
    let controller = KlController::Adaptive { target: R::ONE, horizon: R::from_f64(100.0) };
    let beta = controller.next(R::ONE, statistics.approxkl(), 4).ok()?;
    (loss.is_finite() && beta.is_finite() && statistics.and(&statistics).mean().is_finite()).then_some(())
}

/// Rewards and scores of completions, and a row of logits.
fn sequences<R: Real>(n: usize) -> Option<()> {
    let (scores, groups) = (numbers::<R>(0.0), black_box([0, 1, 0, 1, 0, 1]));
    let mut to = [R::ZERO; ALL];
    for scale in [Scale::None, Scale::Group, Scale::Batch] {
        group_advantages(&GroupAdvantages { scale, ..GroupAdvantages::default() }, &scores, &groups, &mut to).ok()?;
    }
    rloo(GroupOfOne::Refuse, &scores, &groups, &mut to).ok()?;
    informative_groups(&scores, &groups, &mut [false; ALL]).ok()?;
    OverlongPenalty { limit: 6 + n, buffer: 1 + n, factor: R::ONE }.of(6 * n).ok()?;
    let terms = RewardLoss { margin: R::ONE, centring: R::ONE, label_smoothing: R::from_f64(0.1) };
    kway(&terms, &scores, Some(&groups), &mut to).ok()?;
    plackett_luce(&scores, Some(&groups), &mut to).ok()?;
    best_of_n(&scores, None, &mut to).ok()?;
    let [mut a, mut b, mut c] = [[R::ZERO; ALL]; 3];
    reward_pairs(&terms, [&scores, &scores], Some(&scores), &mut a, [&mut b, &mut c]).ok()?;
    Preference { random: R::from_f64(0.1) }.loss(R::ONE, R::ONE).ok()?;
    let mut logits = scores;
    log_softmax(&mut logits).ok()?;
    logprob_gradient(&logits, n, R::ONE, &mut to).ok()?;
    entropy_gradient(&logits, R::ONE, &mut to).ok()
}

fn pairs<R: Real>(n: usize) -> Option<()> {
    let (policy, reference) = (numbers::<R>(-3.0), numbers::<R>(-4.0));
    let (beta, label_smoothing, none) = (R::from_f64(0.1), R::from_f64(0.1), R::ZERO);
    let objectives: [&dyn PairLoss<R>; 10] = [
        &Dpo { beta },
        &CDpo { beta, label_smoothing },
        &RobustDpo { beta, label_smoothing },
        &SigmoidNorm { beta },
        &IpoSum { beta },
        &IpoMean { beta },
        &Hinge { beta },
        &Orpo { beta, nll_weight: R::ONE },
        &Cpo { beta, label_smoothing, nll_weight: R::ONE },
        &SimPo { beta, margin: none, label_smoothing },
    ];
    let lengths = [4 + n; ALL];
    let [mut losses, mut by_chosen, mut by_rejected] = [[R::ZERO; ALL]; 3];
    for objective in objectives {
        let pairs = Pairs {
            policy_chosen: &policy,
            policy_rejected: &reference,
            reference_chosen: &reference,
            reference_rejected: &policy,
            chosen_lengths: &lengths,
            rejected_lengths: &lengths,
        };
        let outputs = PairOutputs { losses: &mut losses, by_chosen: &mut by_chosen, by_rejected: &mut by_rejected };
        pair_losses(objective, &pairs, outputs).ok()?;
    }
    let how = Kto { beta, desirable_weight: R::ONE, undesirable_weight: R::ONE };
    let batch = Unpaired { policy: &policy, reference: &reference, desirable: &[true, false, true, false, true, n > 1] };
    kto(&how, &batch, kto_reference_point(&policy).ok()?, &mut losses, &mut by_chosen).ok()?;
    losses.iter().all(|loss| loss.is_finite()).then_some(())
}
