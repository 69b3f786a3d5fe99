//! What becomes of the gold reward when a policy is pushed along a learnt one, on the enumerated world, so that every point is exact (Gao et al. 2022,
//! "Scaling laws for reward model overoptimization").

use std::env;

use samara::align::config::RewardConfig;
use samara::align::policy::rewards::{RewardSource, Rewards};
use samara::align::policy::scorer::FnScorer;
use samara::align::policy::state::Policy;
use samara::align::reward::{Ranking, RewardSpec, RewardTraining};
use samara::lm::scored::{ScoreInit, Scored};
use samara::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use samara::train::config::TrainConfig;
use samara_core::math::rng::{Purpose, Rng};
use samara_tests::policies::{enumerated, rewards, rloo, run, run_to, spec, train};
use samara_tests::world::{BEGIN, LEN, completions, model};

use super::completion;

/// Scores of every completion by a model that was trained on so many comparisons of even pairs.
fn proxy(seed: u64, comparisons: usize) -> Vec<f64> {
    let (all, gold) = (completions(), rewards());
    let mut rng = Rng::new(seed, Purpose::User, 2);
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let compared = |_| {
        let [a, b] = [(); 2].map(|()| (unit() * all.len() as f64) as usize);
        let (better, worse) = if unit() < 1.0 / (1.0 + (gold[b] - gold[a]).exp()) { (a, b) } else { (b, a) };
        Ranking { completions: vec![completion(&all[better]), completion(&all[worse])], ranks: vec![1, 2], margin: 0.0 }
    };
    let rankings: Vec<Ranking> = (0..comparisons).map(compared).collect();
    let steps = (comparisons as u64 / 8).clamp(60, 400);
    let train = TrainConfig { batch_size: 32, grad_accumulation: 1, ..train(seed, steps, 1e-3) };
    let scored = || Scored::new(&model(), ScoreInit::Normal).unwrap();
    let (model, loss) = (scored(), RewardConfig::default().loss());
    let mut training =
        RewardTraining::new(RewardSpec { model, init: None, loss, rankings, held_out: Vec::new(), train: train.clone() });
    let (mut stepper, _) = run(&mut training, &train);
    let (_, set) = stepper.sets().next().unwrap();
    let (shape, scored) = (TokensShape { rows: 64, len: LEN + 1, picks: 1 }, scored());
    let session = &mut stepper.session;
    let mut program = Tokenwise::new(session, set, &scored.layers, shape, (Number::Score(scored.score), None)).unwrap();
    let mut batch = TokenBatch::new(shape);
    let mut scores = Vec::new();
    for chunk in all.chunks(shape.rows) {
        batch.clear();
        chunk.iter().for_each(|text| batch.push(&[&[BEGIN], text.as_slice()].concat(), [text.len()]));
        scores.extend(program.forward(session, set, &batch).unwrap()[..chunk.len()].iter().map(|&x| f64::from(x)));
    }
    scores
}

/// A policy: its distance √KL from the reference, and what both rewards are.
#[derive(Clone, Copy)]
struct Point {
    distance: f64,
    gold: f64,
    proxy: f64,
}

/// Rewards in standard deviations under the reference, with mean 0 there.
fn standard(reference: &[f64], of: &[f64]) -> Vec<f64> {
    let mean: f64 = reference.iter().zip(of).map(|(q, x)| q.exp() * x).sum();
    let variance: f64 = reference.iter().zip(of).map(|(q, x)| q.exp() * (x - mean).powi(2)).sum();
    of.iter().map(|x| (x - mean) / variance.sqrt()).collect()
}

fn point(reference: &[f64], policy: &[f64], gold: &[f64], proxy: &[f64]) -> Point {
    let mean = |of: &[f64]| policy.iter().zip(of).map(|(p, x)| p.exp() * x).sum();
    let live = policy.iter().zip(reference).filter(|(p, _)| p.is_finite());
    let kl: f64 = live.map(|(p, q)| p.exp() * (p - q)).sum();
    Point { distance: kl.max(0.0).sqrt(), gold: mean(gold), proxy: mean(proxy) }
}

/// ln of the probability that each completion is the best of n by the proxy: F(≤)ⁿ − F(<)ⁿ.
fn best_of(n: f64, reference: &[f64], proxy: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..proxy.len()).collect();
    order.sort_by(|&a, &b| proxy[a].total_cmp(&proxy[b]));
    let (mut below, mut found) = (0.0_f64, vec![f64::NEG_INFINITY; proxy.len()]);
    for i in order {
        let up_to = below + reference[i].exp();
        found[i] = (up_to.powf(n) - below.powf(n)).ln();
        below = up_to;
    }
    found
}

/// Least squares of gold = d (α − β f(d)): α, β and the share of the variance that they explain.
fn fitted(points: &[Point], f: impl Fn(f64) -> f64) -> (f64, f64, f64) {
    let (mut xx, mut xy, mut yy, mut xg, mut yg) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for point in points {
        let (x, y) = (point.distance, -point.distance * f(point.distance));
        (xx, xy, yy, xg, yg) = (xx + x * x, xy + x * y, yy + y * y, xg + x * point.gold, yg + y * point.gold);
    }
    let determinant = xx * yy - xy * xy;
    let (alpha, beta) = ((xg * yy - yg * xy) / determinant, (yg * xx - xg * xy) / determinant);
    let mean = points.iter().map(|point| point.gold).sum::<f64>() / points.len() as f64;
    let off = |point: &Point| (point.gold - point.distance * (alpha - beta * f(point.distance))).powi(2);
    let all: f64 = points.iter().map(|point| (point.gold - mean).powi(2)).sum();
    (alpha, beta, 1.0 - points.iter().map(off).sum::<f64>() / all)
}

/// One line: the fit, the best gold reward and where it is, and the end.
fn say(what: &str, points: &[Point], (alpha, beta, explained): (f64, f64, f64)) {
    let best = points.iter().copied().reduce(|best, point| if point.gold > best.gold { point } else { best }).unwrap();
    let last = points[points.len() - 1];
    let monotone = points.windows(2).all(|w| w[1].proxy > w[0].proxy - 0.05);
    println!(
        "{what} | α {alpha:.3} | β {beta:.3} | R² {explained:.3} | gold {:.3} at most, at KL {:.2} | gold {:.3}, proxy {:.2} at the end, at KL {:.2} | proxy rises: {monotone}",
        best.gold,
        best.distance.powi(2),
        last.gold,
        last.proxy,
        last.distance.powi(2),
    );
}

#[test]
#[ignore = "takes minutes: SEEDS=3 cargo test --release --workspace --test closed_form -- --ignored --nocapture overoptimisation"]
fn overoptimisation() {
    let seeds = env::var("SEEDS").map_or(3, |n| n.parse().unwrap());
    for comparisons in [50, 200, 1000, 5000] {
        for seed in 0..seeds {
            let scores = proxy(seed, comparisons);
            let table: Vec<(Vec<i32>, f32)> = completions().into_iter().zip(scores.iter().map(|&x| x as f32)).collect();
            let score = move |_: &[i32], completion: &[i32]| {
                table.iter().find(|(text, _)| text == completion).map_or(f32::NAN, |(_, x)| *x)
            };
            let train = train(seed, 120, 1e-3);
            let mut spec = spec(rloo(0.0), train.clone());
            spec.rewards = Rewards::new(vec![(RewardSource::Scorer(Box::new(FnScorer::new("proxy", score))), 1.0)]);
            let (mut policy, mut pushed, mut drawn) = (Policy::new(spec).unwrap(), Vec::new(), Vec::new());
            run_to(&mut policy, &train, 0.5, |stepper, step, _| {
                if step % 4 != 0 {
                    return;
                }
                let [policy, reference] = enumerated(stepper);
                let (gold, proxy) = (standard(&reference, &rewards()), standard(&reference, &scores));
                pushed.push(point(&reference, &policy, &gold, &proxy));
                if drawn.is_empty() {
                    drawn
                        .extend((0..11).map(|i| point(&reference, &best_of(2.0_f64.powi(i), &reference, &proxy), &gold, &proxy)));
                }
            });
            let what = |how: &str| format!("{comparisons} comparisons | {seed} | {how}");
            say(&what("best of 1 to 1,024"), &drawn, fitted(&drawn, |d| d));
            let moved: Vec<Point> = pushed.iter().copied().filter(|point| point.distance > 0.05).collect();
            say(&what("RLOO, β = 0"), &moved, fitted(&moved, f64::ln));
        }
    }
}
