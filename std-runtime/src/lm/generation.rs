//! `[generate]`: how text is generated.

use samara_core::decode::Sampling;

use super::sampling::SamplingParams;
use crate::config::table;

table! {
    /// How text is generated.
    pub GenerateConfig {
        /// The start of the text; empty: the end-of-text token, or a line break.
        prompt: String = String::new();
        /// Encode the texts of special tokens in prompts, such as <|endoftext|>, as tokens.
        specials: bool = false;
        /// Tokens to generate.
        max_new_tokens: usize = 200, 0..=1000000000;
        /// Logits are divided by it; 0: always the most probable token.
        temperature: f64 = 0.8, 0..=1000;
        /// Draw only from this many most probable tokens; 0: from all.
        top_k: usize = 0, 0..=16777216;
        /// Sample from the most probable tokens up to this cumulative probability; 1: from all.
        top_p: f64 = 1.0, 0..=1;
        /// Sample from tokens whose probability is at least this fraction of the largest; 0: from all.
        min_p: f64 = 0.0, 0..=1;
        /// Divides positive logits of tokens that occur in the prompt and the text, and multiplies negative ones; 1: off.
        repetition_penalty: f64 = 1.0, 0.01..=100;
        /// Seed of the random samples.
        seed: u64 = 0, 0..=9007199254740992_u64;
    }
    may change: prompt specials max_new_tokens temperature top_k top_p min_p repetition_penalty seed;
}

impl GenerateConfig {
    /// How tokens are sampled.
    pub fn sampling(&self) -> SamplingParams {
        let (temperature, top_p, min_p) = (self.temperature as f32, self.top_p as f32, self.min_p as f32);
        let sampling = Sampling { temperature, top_k: self.top_k, top_p, min_p };
        SamplingParams { sampling, repetition_penalty: self.repetition_penalty as f32 }
    }
}
