//! A world small enough to enumerate: completions of at most four of five tokens, with a reward for each.

use std::sync::Arc;

use samara::lm::register;
use samara::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use samara::model::ModelConfig;
use samara::model::gpt::GptModel;
use samara::session::{CpuDevice, Session, SetId};

/// Tokens.
pub const VOCAB: usize = 5;
/// Tokens of a completion at most.
pub const LEN: usize = 4;
/// The token that ends a completion.
pub const END: i32 = 3;
/// The prompt.
pub const BEGIN: i32 = 4;

/// The model of policies here: two layers of 64.
pub fn model() -> ModelConfig {
    GptModel { vocab_size: Some(VOCAB), n_positions: 8, n_embd: 64, n_layer: 2, n_head: 2, ..GptModel::default() }.into()
}

/// The reward of a completion: features of its tokens and of their neighbours.
pub fn gold(completion: &[i32]) -> f32 {
    let one = |token: i32| [0.3, -0.2, 0.5, 0.1, 0.0][token as usize];
    let two = |a: i32, b: i32| ((a * 7 + b * 3 + 1) % 5) as f32 * 0.25 - 0.5;
    completion.iter().map(|&token| one(token)).sum::<f32>() + completion.windows(2).map(|w| two(w[0], w[1])).sum::<f32>()
}

/// Every completion.
pub fn completions() -> Vec<Vec<i32>> {
    let mut all = Vec::new();
    let mut open: Vec<Vec<i32>> = vec![Vec::new()];
    while let Some(prefix) = open.pop() {
        for token in 0..VOCAB as i32 {
            let text = [prefix.as_slice(), &[token]].concat();
            if token == END || text.len() == LEN { all.push(text) } else { open.push(text) }
        }
    }
    all
}

/// ln π of every completion under the weights of a set.
pub fn log_probabilities(session: &mut Session<CpuDevice>, set: SetId, all: &[Vec<i32>]) -> Vec<f64> {
    token_log_probabilities(session, set, all).iter().map(|of| of.iter().sum()).collect()
}

/// ln π of every token of every completion.
pub fn token_log_probabilities(session: &mut Session<CpuDevice>, set: SetId, all: &[Vec<i32>]) -> Vec<Vec<f64>> {
    let (registry, layers) = register(&*model().architecture().unwrap(), 0, |_, _| ()).unwrap();
    // Parameters are in the order of the model: layers of one registration can read sets of another with the same model.
    assert_eq!(registry.view().trainable_len(), session.set(set).params().trainable_len());
    let shape = TokensShape { rows: 64, len: LEN + 1, picks: LEN };
    let mut program =
        Tokenwise::new(session, set, &Arc::clone(&layers), shape, (Number::Logprob { temperature: 1.0 }, None)).unwrap();
    let mut batch = TokenBatch::new(shape);
    let mut found = Vec::new();
    for chunk in all.chunks(shape.rows) {
        batch.clear();
        chunk.iter().for_each(|text| batch.push(&[&[BEGIN], text.as_slice()].concat(), 0..text.len()));
        let numbers = program.forward(session, set, &batch).unwrap();
        found.extend(
            chunk
                .iter()
                .zip(numbers.chunks(LEN))
                .map(|(text, x)| x[..text.len()].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()),
        );
    }
    found
}

/// The value of a policy, summed over all completions.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    /// (J − J_ref) / (J* − J_ref) with J = Σ π (r − β ln π/π_ref): the policy's share of the gain of the optimum over the reference.
    pub share: f64,
    /// KL(π‖π*), π* ∝ π_ref exp(r/β).
    pub from_optimum: f64,
    /// KL(π‖π_ref).
    pub from_reference: f64,
    /// Σ π r.
    pub reward: f64,
}

/// Compares a policy with the optimum for a coefficient β. Arrays are (completions), the first two ln π.
pub fn exact(reference: &[f64], policy: &[f64], rewards: &[f64], beta: f64) -> Exact {
    let log_z = reference.iter().zip(rewards).map(|(q, r)| (q + r / beta).exp()).sum::<f64>().ln();
    let rows = || policy.iter().zip(reference).zip(rewards);
    let objective = |policy: &[f64]| -> f64 {
        policy.iter().zip(reference).zip(rewards).map(|((p, q), r)| p.exp() * (r - beta * (p - q))).sum()
    };
    let start = objective(reference);
    Exact {
        share: (objective(policy) - start) / (beta * log_z - start),
        from_optimum: rows().map(|((p, q), r)| p.exp() * (p - (q + r / beta - log_z))).sum(),
        from_reference: rows().map(|((p, q), _)| p.exp() * (p - q)).sum(),
        reward: rows().map(|((p, _), r)| p.exp() * r).sum(),
    }
}

/// KL from the reference and reward of the optimum for a coefficient β: a point of the frontier, above which no policy lies.
pub fn frontier(reference: &[f64], rewards: &[f64], beta: f64) -> (f64, f64) {
    let log_z = reference.iter().zip(rewards).map(|(q, r)| (q + r / beta).exp()).sum::<f64>().ln();
    let mean: f64 = reference.iter().zip(rewards).map(|(q, r)| (q + r / beta - log_z).exp() * r).sum();
    (mean / beta - log_z, mean)
}

/// How much more reward the frontier has at the same KL from the reference.
pub fn below_frontier(reference: &[f64], rewards: &[f64], found: &Exact) -> f64 {
    let (mut low, mut high) = (0.01_f64.ln(), 1e3_f64.ln());
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if frontier(reference, rewards, middle.exp()).0 > found.from_reference { low = middle } else { high = middle }
    }
    frontier(reference, rewards, low.exp()).1 - found.reward
}
