//! Closed forms and f64 finite differences.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::math::rng::{Purpose, Rng};

const D: usize = 4;

/// Two sets of vectors with padding, and the plan between them.
struct Draw {
    vectors: [Vec<f64>; 2],
    live: [Vec<bool>; 2],
    plan: Vec<f64>,
}

fn costs(vectors: &[Vec<f64>; 2], live: &[Vec<bool>; 2]) -> Vec<f64> {
    let mut costs = vec![f64::NAN; live[0].len() * live[1].len()];
    cosine_costs([&vectors[0], &vectors[1]], [&live[0], &live[1]], &mut costs).unwrap();
    costs
}

fn plan(costs: &[f64], live: &[Vec<bool>; 2], ipot: Ipot<f64>) -> Vec<f64> {
    let [m, n] = [live[0].len(), live[1].len()];
    let (mut kernel, mut delta, mut sigma, mut plan) = (vec![0.0; m * n], vec![0.0; n], vec![0.0; m], vec![f64::NAN; m * n]);
    let memory = IpotMemory { kernel: &mut kernel, delta: &mut delta, sigma: &mut sigma };
    ipot.plan(costs, [&live[0], &live[1]], memory, &mut plan).unwrap();
    plan
}

impl Draw {
    fn new(seed: u64, [m, n]: [usize; 2]) -> Self {
        let mut rng = Rng::new(seed, Purpose::Data, 3);
        let vectors = [m, n].map(|count| (0..count * D).map(|_| rng.uniform_f64() - 0.4).collect::<Vec<f64>>());
        let live = [m, n].map(|count| (0..count).map(|i| i == 0 || rng.uniform_f64() < 0.7).collect::<Vec<bool>>());
        let plan = plan(&costs(&vectors, &live), &live, Ipot::default());
        Self { vectors, live, plan }
    }

    fn distance(&self) -> f64 {
        distance(&costs(&self.vectors, &self.live), &self.plan)
    }
}

#[test]
fn gradients_are_those_of_finite_differences_with_a_constant_plan() {
    for seed in 0..4 {
        let mut draw = Draw::new(seed, [5, 7]);
        let mut by: [Vec<f64>; 2] = [0, 1].map(|side: usize| vec![0.0; draw.vectors[side].len()]);
        let [by_x, by_y] = &mut by;
        let Draw { vectors: [x, y], live: [of_x, of_y], plan } = &draw;
        cosine_gradient([x, y], [of_x, of_y], plan, 1.0, [by_x, by_y]).unwrap();
        let step = 1e-6;
        for (side, expected) in by.iter().enumerate() {
            for (k, &expected) in expected.iter().enumerate() {
                let mut moved = [step, -step].map(|by| {
                    let old = draw.vectors[side][k];
                    draw.vectors[side][k] += by;
                    let distance = draw.distance();
                    draw.vectors[side][k] = old;
                    distance
                });
                moved[0] -= moved[1];
                let found = moved[0] / (2.0 * step);
                assert!((found - expected).abs() <= 1e-7, "seed {seed}, set {side}, value {k}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn a_plan_has_uniform_masses_and_padding_has_none() {
    let draw = Draw::new(9, [6, 8]);
    let count = |side: usize| draw.live[side].iter().filter(|live| **live).count() as f64;
    let plan = plan(&costs(&draw.vectors, &draw.live), &draw.live, Ipot { outer: 2000, ..Ipot::default() });
    for (i, (row, &live)) in plan.chunks(8).zip(&draw.live[0]).enumerate() {
        let expected = if live { 1.0 / count(0) } else { 0.0 };
        assert!((row.iter().sum::<f64>() - expected).abs() < 1e-6, "row {i}");
    }
    for (j, &live) in draw.live[1].iter().enumerate() {
        let expected = if live { 1.0 / count(1) } else { 0.0 };
        assert!((plan.iter().skip(j).step_by(8).sum::<f64>() - expected).abs() < 1e-6, "column {j}");
    }
}

#[test]
fn equal_sets_are_matched_and_nothing_is_moved_without_mass() {
    // Orthogonal vectors in another order: the plan is the permutation, divided by 3, and the distance 0.
    let (x, y) = (vec![1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0], vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let (vectors, live) = ([x, y], [vec![true; 3], vec![true; 3]]);
    let costs = costs(&vectors, &live);
    let found = plan(&costs, &live, Ipot { outer: 200, ..Ipot::default() });
    for (&mass, expected) in found.iter().zip([0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]) {
        assert!((mass - expected / 3.0).abs() < 1e-6, "{found:?}");
    }
    assert!(distance(&costs, &found) < 1e-6);
    let nobody = [vec![false; 3], vec![true; 3]];
    assert_eq!(plan(&costs, &nobody, Ipot::default()), vec![0.0; 9]);
    let error = cosine_costs([&vectors[0], &vectors[1]], [&[true; 3], &[true; 2]], &mut [0.0; 6]);
    assert_eq!(error, Err(Length { name: "y", expected: 6, found: 9 }));
}
