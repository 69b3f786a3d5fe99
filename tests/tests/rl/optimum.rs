//! Where each objective on pairs leads, for a pair that is preferred with probability p.

use samara_core::rl::pairs::{CDpo, Dpo, IpoSum, Pair, PairLoss, RobustDpo};

/// Δ of least expected loss, by Newton's method on its derivative, halved where it would leave a bracket.
fn optimum(objective: &dyn PairLoss<f64>, p: f64) -> f64 {
    let slope = |delta: f64| {
        let by_chosen = |policy_chosen: f64| {
            let (chosen_length, rejected_length) = (1.0, 1.0);
            let pair = Pair {
                policy_chosen,
                policy_rejected: 0.0,
                reference_chosen: 0.0,
                reference_rejected: 0.0,
                chosen_length,
                rejected_length,
            };
            objective.of(&pair).by_chosen
        };
        // The second completion is the better one with probability 1 − p: then Δ has the other sign.
        p * by_chosen(delta) - (1.0 - p) * by_chosen(-delta)
    };
    let (mut low, mut high) = (-1e3, 1e3);
    let mut delta = 0.0;
    for _ in 0..200 {
        let at = slope(delta);
        if at > 0.0 {
            high = delta
        } else {
            low = delta
        }
        let curvature = (slope(delta + 1e-5) - slope(delta - 1e-5)) / 2e-5;
        let next = delta - at / curvature;
        delta = if next > low && next < high { next } else { 0.5 * (low + high) };
    }
    delta
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

#[test]
fn of_a_pair() {
    let (beta, label_smoothing) = (0.1, 0.1);
    for p in [0.2, 0.5, 0.6, 0.75, 0.85] {
        let e = label_smoothing;
        let cases: [(&str, &dyn PairLoss<f64>, f64); 4] = [
            ("dpo", &Dpo { beta }, logit(p) / beta),
            ("cdpo", &CDpo { beta, label_smoothing }, logit(p * (1.0 - e) + (1.0 - p) * e) / beta),
            ("robust_dpo", &RobustDpo { beta, label_smoothing }, logit((p - e) / (1.0 - 2.0 * e)) / beta),
            ("ipo_sum", &IpoSum { beta }, (2.0 * p - 1.0) / (2.0 * beta)),
        ];
        for (name, objective, expected) in cases {
            let found = optimum(objective, p);
            assert!((found - expected).abs() < 1e-6, "{name} at {p}: {found}, expected {expected}");
        }
    }
}
