//! Log-probabilities of a sampled token and of the most probable ones, from the model's own logits: before repetition penalty, temperature and
//! filters.

/// A sampled token, and the model's most probable ones.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token.
    pub token: i32,
    /// ln p(token | all before it), in nats.
    pub logprob: f32,
    /// The most probable tokens with their log-probabilities, in descending order; ties by smaller id.
    pub top: Vec<(i32, f32)>,
}

impl TokenLogprobs {
    /// ln p of a token and of the `count` most probable: z − max − ln Σ exp(z − max), with the sum in f64. `logits` (V) are the model's.
    pub fn new(logits: &[f32], token: i32, count: usize) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = logits.iter().map(|&z| f64::from(z - max).exp()).sum::<f64>().ln();
        let logprob = |place: usize| logits.get(place).map_or(f32::NEG_INFINITY, |&z| (f64::from(z - max) - log_sum) as f32);
        let best_first = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
        let mut order: Vec<usize> = (0..logits.len()).collect(); // (V)
        if count < order.len() {
            if count > 0 {
                order.select_nth_unstable_by(count - 1, best_first);
            }
            order.truncate(count);
        }
        order.sort_unstable_by(best_first);
        let top = order.into_iter().map(|place| (place as i32, logprob(place))).collect();
        Self { token, logprob: logprob(token as usize), top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_probabilities_sum_to_one() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.2, 0.1].iter().map(|p| p.ln() + 3.0).collect();
        let of = |count| TokenLogprobs::new(&logits, 2, count);
        let close = |found: f32, p: f32| (found - p.ln()).abs() < 1e-6;
        assert!(close(of(0).logprob, 0.2) && of(0).top.is_empty());
        assert_eq!(of(3).top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(close(of(3).top[0].1, 0.4) && close(of(3).top[2].1, 0.2));
        let sum: f32 = of(9).top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && of(9).top.len() == 5);
    }
}
