//! Continuous batching: a slot whose row is finished takes the next prompt at once.

use samara_core::graph::DType;

use super::logprobs::TokenLogprobs;
use super::row::{Draws, Row};
use super::slots::{Slots, SlotsShape};
use super::stop_strings::{StopStrings, StoppedText};
use crate::lm::sampling::SamplingParams;
use crate::lm::{Bound, RunError};
use crate::session::Device;

/// A request for a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Vec<i32>,
    /// The most tokens after the prompt.
    pub max_new_tokens: usize,
}

/// How texts are generated.
#[derive(Clone, Debug)]
pub struct TextOptions<'t> {
    /// The most rows at a time.
    pub rows: usize,
    /// How keys and values are stored.
    pub cache: DType,
    /// How tokens are sampled.
    pub sampling: SamplingParams,
    /// Seed of the samples. Request i uses the random stream of row `first_row` + i, in whichever slot.
    pub seed: u64,
    /// The row of the first request.
    pub first_row: u32,
    /// Whether log-probabilities of the tokens as they were drawn are wanted.
    pub sampled_logprobs: bool,
    /// Tokens after which a text ends.
    pub stops: Vec<i32>,
    /// Strings that end a text.
    pub stop_strings: Option<StopStrings<'t>>,
    /// How many of the most probable tokens to report per token; `None`: no log-probabilities.
    pub logprobs: Option<usize>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A stop token was sampled; it is the text's last token.
    Token,
    /// It has the requested number of tokens.
    Length,
    /// One of the stop strings is complete within its last token.
    String,
}

/// A finished text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// The prompt and its continuation.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// ln p of every token after the prompt under the distribution that it was sampled from, in nats: with repetition penalty, temperature and
    /// filters; empty unless requested.
    pub sampled_logprobs: Vec<f32>,
    /// Why it ended.
    pub stop: Stop,
    /// By the model's own logits, for every token after the prompt, if requested.
    pub logprobs: Vec<TokenLogprobs>,
}

/// Generates all texts and passes each, with the index of its request, to `finished` when it is complete.
///
/// # Errors
/// As [`Slots::new`] and [`Slots::fill`], a prompt without tokens, or what `finished` returns.
pub fn texts<D: Device, E: From<RunError>>(
    model: &mut Bound<'_, D>,
    requests: &[Request],
    options: &TextOptions<'_>,
    finished: &mut dyn FnMut(usize, Text) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(row) = requests.iter().position(|request| request.prompt.is_empty()) {
        return Err(RunError::NoPrompt { row }.into());
    }
    let longest = |of: &dyn Fn(&Request) -> usize| requests.iter().map(of).max().unwrap_or(0);
    let shape = SlotsShape {
        slots: options.rows.min(requests.len()),
        tokens: longest(&|request| request.prompt.len().saturating_add(request.max_new_tokens)),
        prompt: longest(&|request| request.prompt.len()),
        dtype: options.cache,
    };
    let slots = Slots::new(model, &shape)?;
    let order = vec![0; model.dims.vocab_size];
    let mut rows = Rows { slots, rows: Vec::new(), order, requests, next: 0, options };
    rows.rows.resize_with(rows.slots.count(), || None);
    loop {
        let mut left = false;
        for slot in 0..rows.slots.count() {
            left |= rows.advance(model, slot, finished)?;
        }
        if !left {
            return Ok(());
        }
        rows.slots.step(model)?;
    }
}

/// A row in a slot, with the index of its request.
struct Active<'r> {
    number: usize,
    row: Row,
    /// Its text, where strings may end it.
    text: Option<StoppedText<'r>>,
    /// ln p of its tokens as they were drawn.
    sampled_logprobs: Vec<f32>,
    /// ln p by the model's own logits, if requested.
    logprobs: Vec<TokenLogprobs>,
}

/// The rows of all slots, and the requests that wait for one.
struct Rows<'r> {
    slots: Slots,
    rows: Vec<Option<Active<'r>>>,
    order: Vec<u32>,
    requests: &'r [Request],
    next: usize,
    options: &'r TextOptions<'r>,
}

impl<'r> Rows<'r> {
    /// Samples the next token of a slot's row and gives it to the slot; a finished row is replaced by the next request. Returns whether the slot has
    /// a row.
    fn advance<D: Device, E: From<RunError>>(
        &mut self,
        model: &mut Bound<'_, D>,
        slot: usize,
        finished: &mut dyn FnMut(usize, Text) -> Result<(), E>,
    ) -> Result<bool, E> {
        loop {
            let Some(mut active) = self.take(model, slot)? else { return Ok(false) };
            if let Some(stop) = self.draw(slot, &mut active) {
                let Active { number, row, sampled_logprobs, logprobs, .. } = active;
                let (tokens, prompt) = row.into_parts();
                finished(number, Text { tokens, prompt, sampled_logprobs, stop, logprobs })?;
                continue;
            }
            let has_logits = active.row.append(model, &mut self.slots, slot)?;
            self.rows[slot] = Some(active);
            if !has_logits {
                return Ok(true);
            }
        }
    }

    /// The row of a slot, or the next request as a row in it.
    fn take<D: Device>(&mut self, model: &mut Bound<'_, D>, slot: usize) -> Result<Option<Active<'r>>, RunError> {
        if let Some(active) = self.rows[slot].take() {
            return Ok(Some(active));
        }
        let Some(request) = self.requests.get(self.next) else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        let draws = Draws::new(self.options.seed, self.options.first_row.wrapping_add(number as u32));
        let row = Row::new(model, &mut self.slots, slot, &request.prompt, draws)?;
        let text = self.options.stop_strings.as_ref().map(StopStrings::begin);
        Ok(Some(Active { number, row, text, sampled_logprobs: Vec::new(), logprobs: Vec::new() }))
    }

    /// Draws a token unless the row has all; why the row ends, if it does.
    fn draw(&mut self, slot: usize, Active { number, row, text, sampled_logprobs, logprobs }: &mut Active<'r>) -> Option<Stop> {
        let most = self.requests[*number].max_new_tokens;
        if row.new_tokens().len() == most {
            return Some(Stop::Length);
        }
        // A draw overwrites them.
        let own = self.options.logprobs.map(|count| (self.slots.logits(slot).to_vec(), count)); // (V)
        let token = row.draw(self.slots.logits_mut(slot), &mut self.order, &self.options.sampling);
        logprobs.extend(own.map(|(logits, count)| TokenLogprobs::new(&logits, token, count)));
        if self.options.sampled_logprobs {
            sampled_logprobs.push(self.logprob(slot, token));
        }
        if self.options.stops.contains(&token) {
            return Some(Stop::Token);
        }
        if text.as_mut().is_some_and(|text| text.push(token, &mut Vec::new())) {
            return Some(Stop::String);
        }
        (row.new_tokens().len() == most).then_some(Stop::Length)
    }

    /// ln p of a sampled token, from the probabilities relative to the largest that sampling left in the logits.
    fn logprob(&self, slot: usize, token: i32) -> f32 {
        if self.options.sampling.sampling.temperature <= 0.0 {
            return 0.0;
        }
        let relative = self.slots.logits(slot);
        let total: f64 = relative.iter().map(|&p| f64::from(p)).sum();
        relative.get(token as usize).map_or(f32::NEG_INFINITY, |&p| (f64::from(p) / total).ln() as f32)
    }
}
