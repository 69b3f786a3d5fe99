//! Closed forms, f64 finite differences, and what is refused.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::assignment::{Portable, workspace_len};
use crate::math::rng::{Purpose, Rng};

/// Random boxes inside of an image.
fn boxes(rng: &mut Rng, n: usize) -> Vec<f64> {
    let mut next = || rng.uniform_f64();
    (0..n).flat_map(|_| [0.3 + 0.4 * next(), 0.3 + 0.4 * next(), 0.05 + 0.5 * next(), 0.05 + 0.5 * next()]).collect()
}

/// One image: 7 queries, 3 objects, 4 classes.
struct Image {
    logits: Vec<f64>,
    boxes: Vec<f64>,
    objects: Vec<f64>,
    classes: Vec<u32>,
}

impl Image {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, Purpose::Init, 0);
        let logits = (0..7 * 5).map(|_| rng.normal_f64()).collect();
        Self { logits, boxes: boxes(&mut rng, 7), objects: boxes(&mut rng, 3), classes: vec![2, 0, 3] }
    }

    fn prediction(&self) -> Prediction<'_, f64> {
        Prediction { logits: &self.logits, boxes: &self.boxes, classes: &self.classes, objects: &self.objects }
    }
}

const WEIGHTS: LossWeights<f64> = LossWeights { class: 1.5, l1: 5.0, giou: 2.0, no_object: 0.1 };

fn matched(image: &Image) -> Vec<i32> {
    let (prediction, len) = (image.prediction(), workspace_len(3, 7));
    let (mut matrix, mut costs, mut indices) = (vec![0.0; 21], vec![0.0; len.costs], vec![0; len.indices]);
    let mut matched = vec![0; 7];
    let memory = MatchMemory { matrix: &mut matrix, costs: &mut costs, indices: &mut indices };
    let total = matched_queries(Portable, &prediction, &MatchCosts::default(), memory, &mut matched).unwrap();
    let of = |q: usize, t: usize| matrix[t * 7 + q];
    let pairs = matched.iter().enumerate().filter_map(|(q, &t)| Some((q, usize::try_from(t).ok()?)));
    assert!((pairs.clone().map(|(q, t)| of(q, t)).sum::<f64>() - total).abs() < 1e-12);
    // No other three queries are better.
    let all = (0..7).flat_map(|a| (0..7).flat_map(move |b| (0..7).map(move |c| [a, b, c])));
    let best = all.filter(|[a, b, c]| a != b && b != c && a != c).map(|[a, b, c]| of(a, 0) + of(b, 1) + of(c, 2));
    assert!((best.fold(f64::INFINITY, f64::min) - total).abs() < 1e-12);
    matched
}

#[test]
fn gradients_are_those_of_the_losses() {
    for seed in 0..20 {
        let mut image = Image::new(seed);
        let matched = matched(&image);
        let totals = Totals { weight: 3.0 + 4.0 * 0.1, objects: 3.0 };
        let (mut by_logits, mut by_boxes) = (vec![0.0; 35], vec![0.0; 28]);
        let total = |image: &Image, by_logits: &mut [f64], by_boxes: &mut [f64]| {
            set_losses(&image.prediction(), &matched, (&WEIGHTS, &totals), by_logits, by_boxes).unwrap().total(&WEIGHTS)
        };
        total(&image, &mut by_logits, &mut by_boxes);
        let step = 1e-6;
        let mut unused = (vec![0.0; 35], vec![0.0; 28]);
        for (k, &expected) in by_logits.iter().chain(&by_boxes).enumerate() {
            let mut moved = [step, -step].map(|by| {
                let place = if k < 35 { &mut image.logits[k] } else { &mut image.boxes[k - 35] };
                let old = *place;
                *place += by;
                let loss = total(&image, &mut unused.0, &mut unused.1);
                *if k < 35 { &mut image.logits[k] } else { &mut image.boxes[k - 35] } = old;
                loss
            });
            moved[0] -= moved[1];
            let found = moved[0] / (2.0 * step);
            assert!((found - expected).abs() <= 1e-7 * expected.abs().max(1.0), "seed {seed}, value {k}: {found} for {expected}");
        }
    }
}

#[test]
fn overlap_in_closed_form() {
    let unit = [0.5, 0.5, 1.0, 1.0];
    assert_eq!(giou(unit, unit), 1.0);
    // A half of the other one: 1/2, and the hull is the union.
    assert_eq!(giou([0.25, 0.5, 0.5, 1.0], unit), 0.5);
    // Two squares of side 1 at distance 2: I = 0, U = 2, H = 4.
    assert_eq!(giou(unit, [3.5, 0.5, 1.0, 1.0]), -0.5);
    assert_eq!(corners(unit), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!((l1(unit, [0.0; 4]), l1_gradient(unit, [0.5, 1.0, 0.0, 1.0])), (3.0, [0.0, -1.0, 1.0, 0.0]));
    // Equal boxes are at a maximum, where PyTorch's halves cancel.
    assert_eq!(giou_gradient(unit, unit), (1.0, [0.0; 4]));
}

#[test]
fn the_loss_of_an_image_without_objects_is_its_cross_entropy() {
    let image = Image { objects: Vec::new(), classes: Vec::new(), ..Image::new(1) };
    let totals = Totals::of([0].into_iter(), 7, 0.1);
    assert!((totals.weight - 0.7).abs() < 1e-12 && totals.objects == 1.0);
    let (mut by_logits, mut by_boxes) = (vec![0.0; 35], vec![1.0; 28]);
    let losses = set_losses(&image.prediction(), &[UNMATCHED; 7], (&WEIGHTS, &totals), &mut by_logits, &mut by_boxes).unwrap();
    let rows = image.logits.chunks(5).map(|row| row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[4]);
    assert!((losses.class - rows.sum::<f64>() / 7.0).abs() < 1e-6);
    assert_eq!((losses.l1, losses.giou, losses.matched, by_boxes), (0.0, 0.0, 0, vec![0.0; 28]));
}

#[test]
fn values_that_no_match_has_are_named() {
    let cost = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::new(3);
        change(&mut image);
        let mut matrix = vec![0.0; 7 * image.classes.len()];
        cost_matrix(&image.prediction(), &MatchCosts::default(), &mut matrix)
    };
    assert_eq!(cost(&|_| ()), Ok(()));
    assert_eq!(cost(&|i| i.logits[12] = f64::NAN), Err(Error::NotFinite { name: "logits of query", index: 2 }));
    assert_eq!(cost(&|i| i.logits[34] = f64::INFINITY), Err(Error::NotFinite { name: "logits of query", index: 6 }));
    assert_eq!(cost(&|i| i.boxes[5] = f64::NAN), Err(Error::NotFinite { name: "box of query", index: 1 }));
    assert_eq!(
        cost(&|i| i.boxes[2] = -0.5),
        Err(Error::Degenerate { name: "query", index: 0, width: -0.5, height: i_height(3) })
    );
    assert_eq!(cost(&|i| i.objects[4] = f64::NAN), Err(Error::NotFinite { name: "box of object", index: 1 }));
    assert!(matches!(cost(&|i| i.objects[11] = 0.0), Err(Error::Degenerate { name: "object", index: 2, height: 0.0, .. })));
    assert_eq!(cost(&|i| i.classes[1] = 4), Err(Error::Class { index: 1, found: 4, classes: 4 }));
    assert_eq!(cost(&|i| i.objects.truncate(8)), Err(Error::Length { name: "objects", expected: 12, found: 8 }));
}

/// The height of the first query's box.
fn i_height(seed: u64) -> f64 {
    Image::new(seed).boxes[3]
}

#[test]
fn masks_and_positions_of_a_small_map() {
    // 5 × 4 pixels, of which the first 3 × 4 are the image, as 3 × 2 places: rows 0, 1, 3.
    let pixels: Vec<bool> = (0..20).map(|i| i < 12).collect();
    let mut mask = [false; 6];
    nearest_mask(&pixels, [5, 4], [3, 2], &mut mask);
    assert_eq!(mask, [true, true, true, true, false, false]);
    let mut positions = [0.0; 6 * 8];
    sine_positions(&mask, [3, 2], &mut positions);
    // Place (1, 0): y is the last of 2, x the first of 2.
    let close = |found: f32, expected: f64| assert!((f64::from(found) - expected).abs() < 1e-5, "{found} {expected}");
    let (y, x) = (2.0 / 2.000_001 * std::f64::consts::TAU, 1.0 / 2.000_001 * std::f64::consts::TAU);
    let waves = |at: f64| [at.sin(), at.cos(), (at / 100.0).sin(), (at / 100.0).cos()];
    for (found, expected) in positions[16..24].iter().zip(waves(y).into_iter().chain(waves(x))) {
        close(*found, expected);
    }
    // Below the image y stays that of its last row, and a column without any place has 0.
    assert_eq!(positions[32..36], positions[16..20]);
    assert_eq!(positions[36..40], [0.0, 1.0, 0.0, 1.0]);
}
