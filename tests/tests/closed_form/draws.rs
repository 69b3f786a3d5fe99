//! What the sampler draws is what the trainer says that it draws.

use samara::align::policy::episodes::{RolloutOptions, roll_out};
use samara::align::policy::state::Policy;
use samara::lm::{Bound, Caches, register};
use samara::stop::Stop;
use samara_tests::policies::{rloo, run, spec, train};
use samara_tests::world::{BEGIN, END, LEN, completions, model, token_log_probabilities};

use super::chosen;

/// What χ² of so many degrees of freedom exceeds once in a thousand (Wilson and Hilferty 1931).
fn limit(freedom: f64) -> f64 {
    let ninth = 2.0 / (9.0 * freedom);
    freedom * (1.0 - ninth + 3.0902 * ninth.sqrt()).powi(3)
}

/// Pearson's χ² of counts against what is expected, and its degrees of freedom. Cells that expect fewer than five are one cell.
fn chi_squared(counts: &[u64], probabilities: &[f64]) -> (f64, f64) {
    let total = counts.iter().sum::<u64>() as f64;
    let (mut rare, mut sum, mut cells) = ((0.0, 0.0), 0.0, 0.0);
    let term = |found: f64, expected: f64| (found - expected).powi(2) / expected;
    for (&count, p) in counts.iter().zip(probabilities) {
        let (found, expected) = (count as f64, p * total);
        if expected < 5.0 {
            rare = (rare.0 + found, rare.1 + expected);
        } else {
            sum += term(found, expected);
            cells += 1.0;
        }
    }
    if rare.1 >= 5.0 {
        sum += term(rare.0, rare.1);
        cells += 1.0;
    }
    (sum, cells - 1.0)
}

/// Draws so many completions of a policy that has learnt for some steps, and compares frequencies and log-probs with those of the trainer.
fn draws_follow_the_policy(seed: u64, steps: u64, draws: usize) {
    let train = train(seed, steps, 3e-3);
    let mut policy = Policy::new(spec(rloo(0.1), train.clone())).unwrap();
    let (mut stepper, _) = run(&mut policy, &train);
    let (_, set) = stepper.sets().next().unwrap();
    let all = completions();
    let logprobs = token_log_probabilities(&mut stepper.session, set, &all);
    let architecture = model().architecture().unwrap();
    let (_, layers) = register(&*architecture, 0, |_, _| ()).unwrap();
    let caches = Caches::new(&mut stepper.session);
    let mut model = Bound { dims: layers.dims(), layers, session: &mut stepper.session, set, caches };
    let options =
        RolloutOptions { rows: 128, max_new_tokens: LEN, temperature: 1.0, seed, stops: vec![END], fixed_length: false };
    let (mut counts, mut gap) = (vec![0; all.len()], 0.0_f64);
    let part = draws.min(1 << 16);
    for first in (0..draws).step_by(part) {
        let prompts = vec![(0, [BEGIN].as_slice()); part.min(draws - first)];
        for episode in roll_out(&mut model, &prompts, first as u64, &options, &Stop::new()).unwrap() {
            let number = all.iter().position(|text| text == episode.completion()).unwrap();
            counts[number] += 1;
            let pairs = episode.sampled.iter().zip(&logprobs[number]);
            gap = pairs.map(|(&sampled, trained)| (f64::from(sampled) - trained).abs()).fold(gap, f64::max);
        }
    }
    let probabilities: Vec<f64> = logprobs.iter().map(|of| of.iter().sum::<f64>().exp()).collect();
    let (found, freedom) = chi_squared(&counts, &probabilities);
    println!(
        "seed {seed}, {draws} draws: χ² {found:.1} at {freedom} degrees of freedom, limit {:.1}; log-prob of a token {gap:.1e}",
        limit(freedom)
    );
    assert!(found < limit(freedom), "{found} {freedom}");
    assert!(gap <= 1e-4, "{gap}");
}

#[test]
fn draws_follow_the_policy_in_short() {
    draws_follow_the_policy(0, 8, 2048);
}

#[test]
#[ignore = "takes minutes: cargo test --release --workspace --test closed_form -- --ignored --nocapture a_million_draws"]
fn a_million_draws_follow_the_policy() {
    (0..chosen("SEEDS", 3)).for_each(|seed| draws_follow_the_policy(seed, 40, chosen("DRAWS", 1_000_000) as usize));
}
