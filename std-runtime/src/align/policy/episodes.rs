//! Completions of prompts by the policy. Tokens are functions of (seed, episode, position) and the weights: not of the batch that they are sampled in.

use samara_core::decode::Sampling;
use samara_core::graph::DType;

use crate::decoding::texts::{Request, TextOptions, texts};
use crate::lm::{Bound, RunError};
use crate::session::Device;
use crate::stop::Stop;

/// How completions are sampled. There is no top-k and no top-p: log-probs of a filtered sampler are not those of the policy, and ratios of them are wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutOptions {
    /// Rows that are sampled side by side.
    pub rows: usize,
    /// The most tokens of a completion, R.
    pub max_new_tokens: usize,
    /// Logits are divided by it; 0: always the most probable token.
    pub temperature: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Tokens after which a completion ends.
    pub stops: Vec<i32>,
    /// Go on behind a stop token, to the most tokens (lm-human-preferences).
    pub fixed_length: bool,
}

/// A prompt and the policy's completion of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Episode {
    /// Both.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// The number of the prompt among all.
    pub row: usize,
    /// Whether the completion has a stop token, with which it ends unless its length is fixed.
    pub ended: bool,
    /// The sampler's log-probs of the completion's tokens, in nats.
    pub sampled: Vec<f32>,
}

impl Episode {
    /// The completion, its stop token included.
    pub fn completion(&self) -> &[i32] {
        &self.tokens[self.prompt..]
    }
}

/// Samples a completion of every prompt: its number among all, and its tokens. Prompt i is the episode `first` + i, from which its draws come.
///
/// # Errors
/// A prompt without tokens, a program that cannot be built, a device that failed, or a signal between two completions.
pub fn roll_out<D: Device>(
    model: &mut Bound<'_, D>,
    prompts: &[(usize, &[i32])],
    first: u64,
    options: &RolloutOptions,
    stop: &Stop,
) -> Result<Vec<Episode>, RunError> {
    let sampling = Sampling { temperature: options.temperature as f32, ..Sampling { temperature: 1.0, ..Sampling::GREEDY } };
    let request = |(_, prompt): &(usize, &[i32])| Request { prompt: prompt.to_vec(), max_new_tokens: options.max_new_tokens };
    let requests: Vec<Request> = prompts.iter().map(request).collect();
    let text = TextOptions {
        rows: options.rows,
        cache: DType::Real,
        sampling: sampling.into(),
        // The upper half of a long run's number goes to the seed: rows of draws have 32 bits.
        seed: options.seed ^ (first >> 32) << 32,
        first_row: first as u32,
        sampled_logprobs: true,
        stops: if options.fixed_length { Vec::new() } else { options.stops.clone() },
        stop_strings: None,
        logprobs: None,
    };
    let mut episodes = vec![Episode::default(); prompts.len()];
    texts(model, &requests, &text, &mut |number, text| {
        stop.check()?;
        let ended = text.tokens[text.prompt..].iter().any(|token| options.stops.contains(token));
        let (row, sampled) = (prompts[number].0, text.sampled_logprobs);
        episodes[number] = Episode { tokens: text.tokens, prompt: text.prompt, row, ended, sampled };
        Ok::<(), RunError>(())
    })?;
    Ok(episodes)
}
