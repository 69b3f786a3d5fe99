//! Generated texts as JSON: one row per prompt, written in the order of the prompts, or samples of one prompt.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::Error;
use crate::data::prompts::Prompt;
use crate::decoding::logprobs::TokenLogprobs;
use crate::decoding::stop_strings::StopStrings;
use crate::decoding::texts::{Stop, Text};
use crate::files::{IoError, STDOUT};
use crate::tokenizer::Tokenizer;

/// The continuation of a prompt.
#[derive(Serialize)]
struct Continuation {
    /// Without the token, or the string, that ended it.
    text: String,
    /// Ids of all that was drawn.
    tokens: Vec<i32>,
    /// One for each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Drawn>>,
}

/// A token that was drawn, and the most probable ones.
#[derive(Serialize)]
struct Drawn {
    #[serde(flatten)]
    chosen: Chance,
    top: Vec<Chance>,
}

/// A token and its log-probability by the model's own logits.
#[derive(Serialize)]
struct Chance {
    token: i32,
    text: String,
    /// In nats.
    logprob: f32,
}

/// A row: a text with its prompt.
#[derive(Serialize)]
struct Row<'a> {
    prompt: &'a str,
    #[serde(flatten)]
    continuation: Continuation,
    /// `"token"` after a stop token, `"string"` after a stop string, `"length"` at the token limit.
    stop: &'static str,
}

/// Samples of one prompt.
#[derive(Serialize)]
struct Samples<'a> {
    schema: u32,
    prompt: &'a str,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    #[serde(flatten)]
    continuation: Continuation,
    /// `"stop"`, `"stop_string"` or `"length"`.
    finish_reason: &'static str,
}

/// How texts become JSON.
pub(super) struct TextForm<'a> {
    /// The tokenizer for decoding.
    pub(super) tokenizer: &'a Tokenizer,
    /// Strings that end a text.
    pub(super) stop_strings: StopStrings<'a>,
    /// Whether log-probabilities were requested.
    pub(super) logprobs: bool,
}

impl TextForm<'_> {
    /// The bytes of the continuation, without the stop string or token.
    pub(super) fn bytes(&self, text: &Text) -> Vec<u8> {
        let tokens = text.tokens.get(text.prompt..).unwrap_or_default();
        let shown = tokens.len().saturating_sub(usize::from(text.stop == Stop::Token));
        self.stop_strings.text_of(tokens.get(..shown).unwrap_or_default())
    }

    /// Samples of a prompt as a line of JSON.
    pub(super) fn samples(&self, prompt: &str, texts: &[Text]) -> Result<String, Error> {
        let finish_reason = |stop: Stop| match stop {
            Stop::Token => "stop",
            Stop::String => "stop_string",
            Stop::Length => "length",
        };
        let sample = |text: &Text| Sample { continuation: self.continuation(text), finish_reason: finish_reason(text.stop) };
        line(&Samples { schema: 1, prompt, samples: texts.iter().map(sample).collect() })
    }

    fn row(&self, prompt: &str, text: &Text) -> Result<String, Error> {
        let stop = match text.stop {
            Stop::Token => "token",
            Stop::String => "string",
            Stop::Length => "length",
        };
        line(&Row { prompt, continuation: self.continuation(text), stop })
    }

    fn continuation(&self, text: &Text) -> Continuation {
        let tokens = text.tokens.get(text.prompt..).unwrap_or_default().to_vec();
        let logprobs = self.logprobs.then(|| text.logprobs.iter().map(|drawn| self.drawn(drawn)).collect());
        Continuation { text: String::from_utf8_lossy(&self.bytes(text)).into_owned(), tokens, logprobs }
    }

    fn drawn(&self, drawn: &TokenLogprobs) -> Drawn {
        let text = |token: i32| String::from_utf8_lossy(&self.tokenizer.token_bytes(token as u32)).into_owned();
        let chance = |token: i32, logprob: f32| Chance { token, text: text(token), logprob };
        let top = drawn.top.iter().map(|&(token, logprob)| chance(token, logprob)).collect();
        Drawn { chosen: chance(drawn.token, drawn.logprob), top }
    }
}

fn line(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::failed(error.to_string()))
}

/// Writes a line to standard output.
pub(super) fn write_line(out: &mut dyn Write, line: &str) -> Result<(), IoError> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(IoError::at(Path::new(STDOUT), "write"))
}

/// Keeps rows that are finished before their turn.
pub(super) struct RowWriter<'a> {
    prompts: &'a [Prompt],
    form: TextForm<'a>,
    out: &'a mut dyn Write,
    waiting: BTreeMap<usize, String>,
    next: usize,
}

impl<'a> RowWriter<'a> {
    /// No rows written yet.
    pub(super) fn new(prompts: &'a [Prompt], form: TextForm<'a>, out: &'a mut dyn Write) -> Self {
        Self { prompts, form, out, waiting: BTreeMap::new(), next: 0 }
    }

    /// Takes the text of a prompt, and writes all rows whose predecessors are written.
    pub(super) fn push(&mut self, number: usize, text: &Text) -> Result<(), Error> {
        let prompt = self.prompts.get(number).map_or("", |prompt| &prompt.prompt);
        self.waiting.insert(number, self.form.row(prompt, text)?);
        while let Some(line) = self.waiting.remove(&self.next) {
            self.next += 1;
            write_line(self.out, &line)?;
        }
        Ok(())
    }
}
