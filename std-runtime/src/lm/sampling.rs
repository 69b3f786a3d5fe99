//! Sampling of the next token: a penalty on repeated tokens, then temperature and filters.

use samara_core::decode::{Sampling, sample};

/// How tokens are chosen from logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingParams {
    /// Temperature and filters.
    pub sampling: Sampling,
    /// Penalty θ on tokens of the prompt and of the text so far; 1: off.
    pub repetition_penalty: f32,
}

impl From<Sampling> for SamplingParams {
    fn from(sampling: Sampling) -> Self {
        Self { sampling, repetition_penalty: 1.0 }
    }
}

impl SamplingParams {
    /// Samples the token after `tokens` with 64 random bits. `logits` (V) is overwritten, `order` (V) is scratch.
    pub fn draw(&self, logits: &mut [f32], order: &mut [u32], tokens: &[i32], bits: u64) -> i32 {
        if self.repetition_penalty != 1.0 {
            penalise(logits, order, tokens, self.repetition_penalty);
        }
        sample(logits, order, &self.sampling, bits) as i32
    }
}

/// z / θ where z ≥ 0 and z · θ where z < 0, once for every token that occurs in `tokens` (Keskar et al. 2019, section 4.1, with the sign of z as
/// in `transformers`' `RepetitionPenaltyLogitsProcessor`). `logits` (V), `marks` (V) is scratch.
pub fn penalise(logits: &mut [f32], marks: &mut [u32], tokens: &[i32], penalty: f32) {
    marks.fill(0);
    for &token in tokens {
        let place = token as usize;
        if let (Some(z), Some(mark @ 0)) = (logits.get_mut(place), marks.get_mut(place)) {
            *mark = 1;
            *z = if *z < 0.0 { *z * penalty } else { *z / penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_penalised_once_away_from_its_logit() {
        let mut logits = [2.0, -2.0, 0.5, -0.0];
        penalise(&mut logits, &mut [9; 4], &[1, 0, 0, 1, 3, -1, 4], 2.0);
        assert_eq!(logits, [1.0, -4.0, 0.5, 0.0]);
    }

    #[test]
    fn without_a_penalty_the_draw_is_that_of_the_core() {
        let logits = [0.3, 1.0, 0.9, -2.0];
        let sampling = Sampling { temperature: 0.7, top_k: 3, top_p: 0.95, min_p: 0.0 };
        let with = |repetition_penalty, bits| {
            SamplingParams { sampling, repetition_penalty }.draw(&mut logits.clone(), &mut [0; 4], &[1, 2], bits)
        };
        for bits in (0..64).map(|i| i << 58) {
            assert_eq!(with(1.0, bits), sample(&mut logits.clone(), &mut [0; 4], &sampling, bits) as i32);
            // After this penalty tokens 1 and 2 are as probable as the best: token 0 can be drawn.
            assert!(with(1.0, bits) != 3);
        }
        let greedy = SamplingParams { sampling: Sampling::GREEDY, repetition_penalty: 4.0 };
        assert_eq!(greedy.draw(&mut logits.clone(), &mut [0; 4], &[1, 2], 0), 0);
    }
}
