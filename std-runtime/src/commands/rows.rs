//! Rows of JSON for many texts, written in the order of their prompts however they are finished.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::Error;
use crate::data::prompts::Prompt;
use crate::decoding::texts::{Stop, Text};
use crate::files::{IoError, STDOUT};
use crate::tokenizer::Tokenizer;

/// A row: a text and what it began with.
#[derive(Serialize)]
struct Row<'a> {
    prompt: &'a str,
    /// What came after the prompt, without the token that ended it.
    text: String,
    /// Ids of what came after the prompt.
    tokens: &'a [i32],
    /// `"token"` when a stop token was drawn, `"length"` when there were enough tokens.
    stop: &'static str,
}

/// Keeps rows that are finished before their turn.
pub(super) struct RowWriter<'a> {
    prompts: &'a [Prompt],
    tokenizer: &'a Tokenizer,
    out: &'a mut dyn Write,
    waiting: BTreeMap<usize, String>,
    next: usize,
}

impl<'a> RowWriter<'a> {
    /// Nothing is written yet.
    pub(super) fn new(prompts: &'a [Prompt], tokenizer: &'a Tokenizer, out: &'a mut dyn Write) -> Self {
        Self { prompts, tokenizer, out, waiting: BTreeMap::new(), next: 0 }
    }

    /// Takes the text of a prompt, and writes all rows whose turn it is.
    pub(super) fn push(&mut self, number: usize, text: &Text) -> Result<(), Error> {
        let tokens = text.tokens.get(text.prompt..).unwrap_or_default();
        let (stop, shown) = match text.stop {
            Stop::Token => ("token", tokens.len().saturating_sub(1)),
            Stop::Length => ("length", tokens.len()),
        };
        let mut bytes = Vec::new();
        for &token in tokens.iter().take(shown) {
            // An id that only the model knows stands for no text.
            self.tokenizer.push_token(token as u32, &mut bytes);
        }
        let prompt = self.prompts.get(number).map_or("", |prompt| &prompt.prompt);
        let row = Row { prompt, text: String::from_utf8_lossy(&bytes).into_owned(), tokens, stop };
        let line = serde_json::to_string(&row).map_err(|error| Error::failed(error.to_string()))?;
        self.waiting.insert(number, line);
        while let Some(line) = self.waiting.remove(&self.next) {
            self.next += 1;
            let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
            written.map_err(IoError::at(Path::new(STDOUT), "write"))?;
        }
        Ok(())
    }
}
