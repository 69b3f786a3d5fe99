//! Values worked out by hand from the formulas, to 1e-9 in f64 and 1e-6 in f32.

use samara_core::math::Real;
use samara_core::rl::groups::{GroupAdvantages, GroupOfOne, Scale, group_advantages, rloo};
use samara_core::rl::pairs::{
    CDpo, Dpo, Hinge, IpoMean, IpoSum, Orpo, PairLoss, PairOutputs, Pairs, RobustDpo, SimPo, pair_losses,
};
use samara_core::rl::rewards::{Preference, RewardLoss, best_of_n, kway, plackett_luce};
use samara_core::rl::{
    Estimator, Gae, KlController, Kto, Mask, Unpaired, Variance, Whitening, gae, kto, kto_reference_point, whiten,
};

/// A number type and how close it must come.
trait Precision: Real {
    const TOLERANCE: f64;
}

impl Precision for f64 {
    const TOLERANCE: f64 = 1e-9;
}

impl Precision for f32 {
    const TOLERANCE: f64 = 1e-6;
}

fn all<R: Real>(x: &[f64]) -> Vec<R> {
    x.iter().map(|&x| R::from_f64(x)).collect()
}

fn close<R: Precision>(what: &str, found: R, expected: f64) {
    let off = (found.to_f64() - expected).abs();
    assert!(off <= R::TOLERANCE * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

fn each_close<R: Precision>(what: &str, found: &[R], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(&found, &expected)| close(what, found, expected));
}

fn mean_loss<R: Precision>(objective: &dyn PairLoss<R>) -> R {
    let [policy_chosen, policy_rejected] = [all(&[-10.0, -7.5]), all(&[-12.0, -7.0])];
    let [reference_chosen, reference_rejected] = [all(&[-11.0, -7.0]), all(&[-11.5, -7.25])];
    let pairs = Pairs {
        policy_chosen: &policy_chosen,
        policy_rejected: &policy_rejected,
        reference_chosen: &reference_chosen,
        reference_rejected: &reference_rejected,
        chosen_lengths: &[5, 3],
        rejected_lengths: &[6, 4],
    };
    let [mut losses, mut by_chosen, mut by_rejected] = [(); 3].map(|()| vec![R::ZERO; 2]);
    let outputs = PairOutputs { losses: &mut losses, by_chosen: &mut by_chosen, by_rejected: &mut by_rejected };
    pair_losses(objective, &pairs, outputs).unwrap();
    (losses[0] + losses[1]) / R::from_f64(2.0)
}

fn pairs<R: Precision>() {
    let [beta, tenth, zero] = [0.1, 0.1, 0.0].map(R::from_f64);
    let objectives: [(&str, &dyn PairLoss<R>, f64); 8] = [
        ("dpo", &Dpo { beta }, 0.676_153_594_3),
        ("cdpo", &CDpo { beta, label_smoothing: tenth }, 0.679_903_594_3),
        ("robust_dpo", &RobustDpo { beta, label_smoothing: tenth }, 0.671_466_094_3),
        ("hinge", &Hinge { beta }, 0.962_5),
        ("ipo_sum", &IpoSum { beta }, 22.656_25),
        ("ipo_mean", &IpoMean { beta }, 24.795_564_236_1),
        ("orpo", &Orpo { beta, nll_weight: zero }, 0.095_134_178_0),
        ("simpo", &SimPo { beta: R::from_f64(2.0), margin: R::ONE, label_smoothing: zero }, 1.946_075_710_9),
    ];
    objectives.iter().for_each(|(name, objective, expected)| close(name, mean_loss(*objective), *expected));
}

fn unpaired<R: Precision>() {
    let (policy, reference) = (all::<R>(&[-10.0, -7.5, -12.0, -7.0]), all::<R>(&[-11.0, -7.0, -11.5, -7.25]));
    let batch = Unpaired { policy: &policy, reference: &reference, desirable: &[true, true, false, false] };
    let how = Kto { beta: R::from_f64(0.1), desirable_weight: R::ONE, undesirable_weight: R::ONE };
    let (mut losses, mut gradients) = ([R::ZERO; 4], [R::ZERO; 4]);
    let z0 = kto_reference_point(&all::<R>(&[1.0, -0.4])).unwrap();
    close("z0", z0, 0.3);
    close("z0 of a mean below 0", kto_reference_point(&all::<R>(&[-1.0, 0.4])).unwrap(), 0.0);
    kto(&how, &batch, z0, &mut losses, &mut gradients).unwrap();
    let total = losses.into_iter().fold(R::ZERO, |total, loss| total + loss);
    close("kto", total / R::from_f64(4.0), 0.495_314_286_2);
}

fn rewards<R: Precision>() {
    let scores = all::<R>(&[1.2, 0.7, 0.9, -0.3]);
    let mut gradients = [R::ZERO; 4];
    close("kway", kway(&RewardLoss::default(), &scores, None, &mut gradients).unwrap(), 0.434_088_088_5);
    close("plackett_luce", plackett_luce(&scores, None, &mut gradients).unwrap(), 2.158_755_440_2);
    close("best_of_n", best_of_n(&scores, None, &mut gradients).unwrap(), 0.944_092_278_6);
    // Ties are not compared: each is drawn from itself and the worse ones. Those for the last place are a partial ranking.
    close("tied ranks", plackett_luce(&scores, Some(&[1, 2, 2, 3]), &mut gradients).unwrap(), 1.520_636_433_5);
    close("the first alone", plackett_luce(&scores, Some(&[1, 2, 2, 2]), &mut gradients).unwrap(), 0.944_092_278_6);
    close("several best", best_of_n(&scores, Some(&[1, 1, 2, 3]), &mut gradients).unwrap(), 0.813_168_810_5);
    for of in [plackett_luce, best_of_n] {
        let pair = of(&scores[..2], None, &mut gradients[..2]).unwrap();
        close("a pair", pair, kway(&RewardLoss::default(), &scores[..2], None, &mut gradients[..2]).unwrap().to_f64());
        let none = of(&scores, Some(&[1; 4]), &mut gradients).unwrap_err().to_string();
        assert!(none.contains("scores that are worse than another"), "{none}");
    }
    let people = Preference { random: R::from_f64(0.1) };
    close("certain", Preference::default().probability(R::from_f64(0.8)), 0.689_974_481_1);
    close("preference", people.probability(R::from_f64(0.8)), 0.670_977_033_0);
    close("cross-entropy", people.loss(R::from_f64(0.8), R::ONE).unwrap().0, 0.399_020_370_6);
}

fn returns<R: Precision>() {
    let (rewards, values) = (all::<R>(&[-0.01, 0.02, -0.03, 1.0]), all::<R>(&[0.1, 0.2, 0.3, 0.4]));
    let live = [true; 4];
    let (mut advantages, mut returns) = ([R::ZERO; 4], [R::ZERO; 4]);
    gae(&Gae::default(), &Mask::new(&live, 4).unwrap(), &rewards, &values, &mut advantages, &mut returns).unwrap();
    each_close("advantages", &advantages, &[0.7816, 0.728, 0.64, 0.6]);
    each_close("returns", &returns, &[0.8816, 0.928, 0.94, 1.0]);
    let cases = [
        (Variance::Biased, [1.318_819_492_3, 0.568_408_401_1, -0.663_609_808_2, -1.223_618_085_2]),
        (Variance::Unbiased, [1.142_131_463_2, 0.492_256_235_7, -0.574_703_092_9, -1.059_684_606_0]),
    ];
    for (variance, expected) in cases {
        let mut values = advantages;
        let _ = whiten(&Whitening { variance, ..Whitening::default() }, &live, &mut values).unwrap();
        each_close("whitened", &values, &expected);
    }
}

fn groups<R: Precision>() {
    let rewards = all::<R>(&[1.0, 0.0, 0.5, 1.0]);
    let cases = [
        (Scale::Group, 1e-4, vec![0.783_185_849_6, -1.305_309_749_4, -0.261_061_949_9, 0.783_185_849_6]),
        (Scale::Group, 1e-6, vec![0.783_347_815_4, -1.305_579_692_4]),
        (Scale::None, 0.0, vec![0.375, -0.625, -0.125, 0.375]),
    ];
    let mut advantages = [R::ZERO; 4];
    for (scale, epsilon, expected) in cases {
        let how = GroupAdvantages { scale, std_epsilon: R::from_f64(epsilon), ..GroupAdvantages::default() };
        group_advantages(&how, &rewards, &[7; 4], &mut advantages).unwrap();
        each_close("group", &advantages[..expected.len()], &expected);
    }
    rloo(GroupOfOne::Refuse, &rewards, &[7; 4], &mut advantages).unwrap();
    each_close("rloo", &advantages, &[0.5, -5.0 / 6.0, -1.0 / 6.0, 0.5]);
}

fn kl_estimators<R: Precision>() {
    let cases =
        [(0.5, [0.5, 0.125, 0.106_530_659_7]), (-0.5, [-0.5, 0.125, 0.148_721_270_7]), (3.0, [3.0, 4.5, 2.049_787_068_4])];
    for (x, expected) in cases {
        let estimators = [Estimator::K1, Estimator::K2, Estimator::K3];
        let found = estimators.map(|estimator| estimator.of(R::from_f64(x), R::ZERO).0);
        each_close("kl", &found, &expected);
    }
    let controller = KlController::Adaptive { target: R::from_f64(6.0), horizon: R::from_f64(1e4) };
    for (kl, expected) in [(3.0, 0.148_464), (6.0, 0.15), (12.0, 0.151_536)] {
        close("β", controller.next(R::from_f64(0.15), R::from_f64(kl), 512).unwrap(), expected);
    }
}

fn values<R: Precision>() {
    pairs::<R>();
    unpaired::<R>();
    rewards::<R>();
    returns::<R>();
    groups::<R>();
    kl_estimators::<R>();
}

#[test]
fn f64_to_1e_9() {
    values::<f64>();
}

#[test]
fn f32_to_1e_6() {
    values::<f32>();
}
