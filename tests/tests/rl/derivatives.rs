//! Every derivative against central differences of its loss, on random numbers.

use proptest::prelude::*;
use samara_core::rl::categorical::{entropy, entropy_gradient, log_softmax, logprob_gradient};
use samara_core::rl::pairs::{
    CDpo, Cpo, Dpo, Hinge, IpoMean, IpoSum, Orpo, PairLoss, PairOutputs, Pairs, RobustDpo, SigmoidNorm, SimPo, pair_losses,
};
use samara_core::rl::rewards::{Preference, RewardLoss, best_of_n, kway, plackett_luce, reward_pairs};
use samara_core::rl::{
    Aggregation, Clip, Estimator, Kto, Limits, Mask, PolicyBatch, Ptx, SequenceRatio, Surrogate, Totals, Unpaired, ValueBatch,
    WeightLimits, aggregate, cispo, entropy_bonus, kl, kto, ptx, reinforce, sequence_k2, token_weights, value_loss,
};

/// Rows and tokens of a batch.
const ROWS: usize = 3;
const TOKENS: usize = 4;
const ALL: usize = ROWS * TOKENS;

/// Compares derivatives at `x` with central differences of the loss, but where it has a corner.
fn holds(x: &[f64], mut f: impl FnMut(&[f64]) -> (f64, Vec<f64>)) {
    const STEP: f64 = 1e-5;
    let (loss, gradient) = f(x);
    assert_eq!(gradient.len(), x.len());
    for i in 0..x.len() {
        let mut at = |offset: f64| {
            let mut moved = x.to_vec();
            moved[i] += offset;
            f(&moved).0
        };
        let (above, below) = (at(STEP), at(-STEP));
        let (right, left) = ((above - loss) / STEP, (loss - below) / STEP);
        let scale = 1.0 + right.abs().max(left.abs());
        if (right - left).abs() > 1e-3 * scale {
            continue;
        }
        let expected = 0.5 * (right + left);
        assert!((gradient[i] - expected).abs() < 1e-6 * scale, "element {i}: {} but differences say {expected}", gradient[i]);
    }
}

/// Weights of a mask, and what they make of token losses.
fn batch_loss(mean: Aggregation, mask: &Mask<'_>, losses: &[f64], mut gradients: Vec<f64>) -> (f64, Vec<f64>) {
    let mut weights = vec![0.0; losses.len()];
    token_weights(mean, Totals::of(mask), mask, &mut weights).unwrap();
    (aggregate(&weights, losses, &mut gradients).unwrap(), gradients)
}

fn numbers(low: f64, high: f64, len: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(low..high, len)
}

/// A mask that leaves something.
fn masks() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), ALL).prop_filter("a token", |live| live.contains(&true))
}

const MEANS: [Aggregation; 4] =
    [Aggregation::TokenMean, Aggregation::SeqMeanTokenMean, Aggregation::SeqMeanTokenSum, Aggregation::Constant];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn policy_losses(
        logprobs in numbers(-3.0, -0.1, ALL), steps in numbers(-0.6, 0.6, ALL), advantages in numbers(-2.0, 2.0, ALL), live in masks(),
    ) {
        let mask = Mask::new(&live, TOKENS).unwrap();
        let old: Vec<f64> = logprobs.iter().zip(&steps).map(|(x, step)| x - step).collect();
        let clips = [
            Clip { low: 0.2, high: 0.28, dual: None, log_ratio: None },
            Clip { low: 0.2, high: 0.2, dual: Some(1.5), log_ratio: Some(0.5) },
        ];
        let surrogates = [Surrogate::Token, Surrogate::Sequence(SequenceRatio::Mean), Surrogate::Sequence(SequenceRatio::Sum)];
        for (clip, surrogate, mean) in clips.iter().flat_map(|c| surrogates.iter().flat_map(move |s| MEANS.map(|m| (c, s, m)))) {
            holds(&logprobs, |x| {
                let batch = PolicyBatch { mask, logprobs: x, old_logprobs: &old, advantages: &advantages };
                let (mut losses, mut gradients) = (vec![0.0; ALL], vec![0.0; ALL]);
                let _ = surrogate.losses(clip, &batch, &mut losses, &mut gradients).unwrap();
                batch_loss(mean, &mask, &losses, gradients)
            });
        }
        holds(&logprobs, |x| {
            let (mut losses, mut gradients) = (vec![0.0; ALL], vec![0.0; ALL]);
            reinforce(&mask, x, &advantages, &mut losses, &mut gradients).unwrap();
            batch_loss(Aggregation::TokenMean, &mask, &losses, gradients)
        });
    }

    /// No gradient flows through a clipped weight: the derivative is weight times −A, and the loss that times the log-prob.
    #[test]
    fn clipped_weights(logprobs in numbers(-3.0, -0.1, ALL), old in numbers(-3.0, -0.1, ALL), advantages in numbers(-2.0, 2.0, ALL), live in masks()) {
        let mask = Mask::new(&live, TOKENS).unwrap();
        let batch = PolicyBatch { mask, logprobs: &logprobs, old_logprobs: &old, advantages: &advantages };
        let (mut losses, mut gradients) = (vec![0.0; ALL], vec![0.0; ALL]);
        let _ = cispo(&WeightLimits { low: 0.5, high: 1.2 }, &batch, &mut losses, &mut gradients).unwrap();
        for i in 0..ALL {
            let expected = if live[i] { -(logprobs[i] - old[i]).exp().clamp(0.5, 1.2) * advantages[i] } else { 0.0 };
            prop_assert!((gradients[i] - expected).abs() < 1e-14 && (losses[i] - expected * logprobs[i]).abs() < 1e-13);
        }
    }

    #[test]
    fn kl_estimates(logprobs in numbers(-3.0, -0.1, ALL), reference in numbers(-3.0, -0.1, ALL), live in masks()) {
        let mask = Mask::new(&live, TOKENS).unwrap();
        let limits = Limits { difference: Some(2.0), value: Some(1.5) };
        for estimator in [Estimator::K1, Estimator::Abs, Estimator::K2, Estimator::K3] {
            for limits in [Limits::default(), limits] {
                holds(&logprobs, |x| {
                    let (mut values, mut gradients) = (vec![0.0; ALL], vec![0.0; ALL]);
                    kl(estimator, &limits, x, &reference, &mut values, &mut gradients).unwrap();
                    (values.iter().sum(), gradients)
                });
            }
        }
        holds(&logprobs, |x| {
            let (mut values, mut gradients) = (vec![0.0; ROWS], vec![0.0; ALL]);
            sequence_k2(&mask, x, &reference, &mut values, &mut gradients).unwrap();
            (values.iter().sum(), gradients)
        });
        // k3 never is negative, and its other form has its value and the derivative of k2.
        for (&x, &y) in logprobs.iter().zip(&reference) {
            let (k3, plus) = (Estimator::K3.of(x, y), Estimator::K3Plus.of(x, y));
            prop_assert!(k3.0 >= 0.0 && plus == (k3.0, Estimator::K2.of(x, y).1));
            prop_assert!((k3.0 - ((y - x).exp() - 1.0 - (y - x))).abs() < 1e-14);
        }
    }

    #[test]
    fn values_entropy_and_pretraining(
        values in numbers(-1.0, 1.0, ALL), old_values in numbers(-1.0, 1.0, ALL), returns in numbers(-1.0, 1.0, ALL), live in masks(),
    ) {
        let mask = Mask::new(&live, TOKENS).unwrap();
        for (clip, mean) in [None, Some(0.2)].into_iter().flat_map(|clip| MEANS.map(|mean| (clip, mean))) {
            holds(&values, |x| {
                let batch = ValueBatch { mask, values: x, old_values: &old_values, returns: &returns };
                let (mut losses, mut gradients) = (vec![0.0; ALL], vec![0.0; ALL]);
                let _ = value_loss(clip, &batch, &mut losses, &mut gradients).unwrap();
                batch_loss(mean, &mask, &losses, gradients)
            });
        }
        let mut weights = vec![0.0; ALL];
        token_weights(Aggregation::TokenMean, Totals::of(&mask), &mask, &mut weights).unwrap();
        holds(&values, |entropies| {
            let mut gradients = vec![0.0; ALL];
            (entropy_bonus(0.01, &weights, entropies, &mut gradients).unwrap(), gradients)
        });
        let how = Ptx { coefficient: 27.8, aggregation: Aggregation::SeqMeanTokenSum };
        holds(&values, |logprobs| {
            let (mut weights, mut gradients) = (vec![0.0; ALL], vec![0.0; ALL]);
            (ptx(&how, Totals::of(&mask), &mask, logprobs, &mut weights, &mut gradients).unwrap(), gradients)
        });
    }

    #[test]
    fn pairs(policy in numbers(-9.0, -0.5, 8), reference in numbers(-9.0, -0.5, 8), lengths in prop::collection::vec(1_usize..6, 8)) {
        let (beta, label_smoothing) = (0.3, 0.1);
        let objectives: [&dyn PairLoss<f64>; 11] = [
            &Dpo { beta }, &CDpo { beta, label_smoothing }, &RobustDpo { beta, label_smoothing }, &SigmoidNorm { beta },
            &IpoSum { beta }, &IpoMean { beta }, &Hinge { beta }, &Orpo { beta, nll_weight: 0.7 },
            &Cpo { beta, label_smoothing, nll_weight: 1.3 }, &SimPo { beta, margin: 0.4, label_smoothing },
            &SimPo { beta, margin: 0.0, label_smoothing: 0.0 },
        ];
        for objective in objectives {
            holds(&policy, |x| {
                let (chosen, rejected) = x.split_at(4);
                let pairs = Pairs {
                    policy_chosen: chosen, policy_rejected: rejected,
                    reference_chosen: &reference[..4], reference_rejected: &reference[4..],
                    chosen_lengths: &lengths[..4], rejected_lengths: &lengths[4..],
                };
                let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![0.0; 4]);
                let outputs = PairOutputs { losses: &mut losses, by_chosen: &mut by_chosen, by_rejected: &mut by_rejected };
                pair_losses(objective, &pairs, outputs).unwrap();
                by_chosen.extend(by_rejected);
                (losses.iter().sum(), by_chosen)
            });
        }
        let desirable = [true, false, true, true, false, false, true, false];
        holds(&policy, |x| {
            let how = Kto { beta, desirable_weight: 1.2, undesirable_weight: 0.9 };
            let batch = Unpaired { policy: x, reference: &reference, desirable: &desirable };
            let (mut losses, mut gradients) = (vec![0.0; 8], vec![0.0; 8]);
            kto(&how, &batch, 0.4, &mut losses, &mut gradients).unwrap();
            (losses.iter().sum(), gradients)
        });
    }

    #[test]
    fn scores(scores in numbers(-3.0, 3.0, 6), margins in numbers(-0.5, 0.5, 3), ranks in prop::collection::vec(1_u32..4, 6)) {
        let how = RewardLoss { margin: 0.3, centring: 0.05, label_smoothing: 0.1 };
        holds(&scores, |x| {
            let (chosen, rejected) = x.split_at(3);
            let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![0.0; 3]);
            reward_pairs(&how, [chosen, rejected], Some(&margins), &mut losses, [&mut by_chosen, &mut by_rejected]).unwrap();
            by_chosen.extend(by_rejected);
            (losses.iter().sum(), by_chosen)
        });
        for ranks in [None, Some(&ranks[..])].into_iter().filter(|r| r.is_none_or(|r| r.iter().any(|x| *x != r[0]))) {
            holds(&scores, |x| {
                let mut gradients = vec![0.0; 6];
                (kway(&how, x, ranks, &mut gradients).unwrap(), gradients)
            });
            for of in [plackett_luce, best_of_n] {
                holds(&scores, |x| {
                    let mut gradients = vec![0.0; 6];
                    (of(x, ranks, &mut gradients).unwrap(), gradients)
                });
            }
        }
        for (random, first) in [(0.0, 1.0), (0.1, 1.0), (0.1, 0.5), (0.2, 0.0)] {
            holds(&scores[..1], |x| {
                let (loss, slope) = Preference { random }.loss(x[0], first).unwrap();
                (loss, vec![slope])
            });
        }
    }

    #[test]
    fn a_row_of_logits(logits in numbers(-3.0, 3.0, 5), action in 0_usize..5) {
        let logprobs = |z: &[f64]| {
            let mut x = z.to_vec();
            log_softmax(&mut x).unwrap();
            x
        };
        holds(&logits, |z| {
            let mut gradients = vec![0.0; 5];
            logprob_gradient(&logprobs(z), action, 1.5, &mut gradients).unwrap();
            (1.5 * logprobs(z)[action], gradients)
        });
        holds(&logits, |z| {
            let mut gradients = vec![0.0; 5];
            entropy_gradient(&logprobs(z), 0.7, &mut gradients).unwrap();
            (0.7 * entropy(&logprobs(z)), gradients)
        });
    }
}

/// The loss of a batch does not depend on how it is cut into micro-batches, in any mean.
#[test]
fn micro_batches_add_up() {
    let losses: Vec<f64> = (0..ALL).map(|i| (i as f64).sin()).collect();
    let live: Vec<bool> = (0..ALL).map(|i| i % 5 != 3).collect();
    let mask = Mask::new(&live, TOKENS).unwrap();
    for mean in MEANS {
        let (whole, of_whole) = batch_loss(mean, &mask, &losses, vec![1.0; ALL]);
        let (mut total, mut of_parts) = (0.0, Vec::new());
        let parts = live.chunks(TOKENS).map(|live| Totals::of(&Mask::new(live, TOKENS).unwrap()));
        let totals = parts.reduce(Totals::and).unwrap();
        assert_eq!(totals, Totals::of(&mask));
        for (live, losses) in live.chunks(TOKENS).zip(losses.chunks(TOKENS)) {
            let (mut weights, mut gradients) = ([0.0; TOKENS], [1.0; TOKENS]);
            token_weights(mean, totals, &Mask::new(live, TOKENS).unwrap(), &mut weights).unwrap();
            total += aggregate(&weights, losses, &mut gradients).unwrap();
            of_parts.extend(gradients);
        }
        assert!((total - whole).abs() < 1e-14, "{mean:?}");
        assert_eq!(of_parts, of_whole, "{mean:?}");
    }
}
