//! `samara score`: the log-probability of every token of a text.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{EngineArgs, ModelArgs, WeightFormat, token_ids};
use super::{Command, Console, Error, output};
use crate::lm::Model;
use crate::lm::score::{log_probabilities, logits, mean_loss};
use crate::npy;
use crate::say;
use crate::tokenizer::{FileError, Tokenizer, specials_note, text_ids};

const EXAMPLES: &str = "\
Examples:
  samara score --model gpt2 --text 'The quick brown fox'
  samara score --model gpt2 --tokens 464,2068,7586 --logits out.npy --json";

/// Print the log-probability of every token given those before it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: Input,
    /// Encode special tokens such as <|endoftext|> in --text as tokens, not as characters.
    #[arg(long, requires = "text")]
    specials: bool,
    #[command(flatten)]
    weights: WeightFormat,
    /// Write the logits (T, V) of all positions.
    #[arg(long, value_name = "FILE.npy")]
    logits: Option<PathBuf>,
    /// Print {"tokens":[...],"logprobs":[...],"loss":...}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// Text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// Token ids between commas.
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    tokens: Option<String>,
}

/// Scored tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    /// The ids.
    tokens: Vec<u32>,
    /// log p of each token after the first, given those before it, in nats.
    logprobs: Vec<f32>,
    /// Their mean, negated.
    loss: f64,
    /// The same with weights in f32, when they were quantised.
    #[serde(skip_serializing_if = "Option::is_none")]
    f32_loss: Option<f64>,
    /// Each token as text; empty without a tokenizer. Not part of the JSON.
    #[serde(skip)]
    texts: Vec<String>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let outcome = self.outcome(console.quiet)?;
        output::show(self.json, &outcome, || outcome.text())
    }
}

impl Args {
    fn outcome(&self, quiet: bool) -> Result<Outcome, Error> {
        let given = self.input.tokens.as_deref().map(token_ids).transpose();
        let given = given.map_err(|problem| Error::usage(format!("--tokens: {problem}")))?;
        let engine = self.engine.engine()?;
        let source = self.model.source()?;
        let mut model = self.weights.open(&engine, &source, quiet)?;
        let limit = model.dims.vocab_size;
        let (tokens, tokenizer) = match given {
            Some(ids) => (ids, Tokenizer::of_model_if_usable(source.tokenizer(Tokenizer::is_in), quiet)),
            None => self.encode(source.tokenizer(Tokenizer::is_in), limit, quiet)?,
        };
        if let Some((at, id)) = tokens.iter().enumerate().find(|(_, id)| **id as usize >= limit) {
            return Err(Error::data(format!("token {at} has id {id}, expected an id below {limit}, the model's vocabulary")));
        }
        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        if let Some(path) = &self.logits {
            npy::write_f32(path, &[ids.len(), limit], &logits(&mut model.bound(), &ids)?)?;
        }
        let measure = |model: &mut Model| Ok(log_probabilities(&mut model.bound(), &ids)?);
        let (logprobs, f32_logprobs) = self.weights.compared(&engine, &source, model, measure)?;
        let text_of = |id: &u32| tokenizer.as_ref().map(|t| String::from_utf8_lossy(&t.token_bytes(*id)).into_owned());
        let texts = tokens.iter().filter_map(text_of).collect();
        let (loss, f32_loss) = (mean_loss(&logprobs), f32_logprobs.as_deref().map(mean_loss));
        Ok(Outcome { tokens, logprobs, loss, f32_loss, texts })
    }

    /// The ids of `--text`, and the tokenizer that gave them.
    fn encode(&self, folder: &Path, vocab_size: usize, quiet: bool) -> Result<(Vec<u32>, Option<Tokenizer>), Error> {
        let tokenizer =
            Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ", or give token ids with --tokens"))?;
        let text = self.input.text.as_deref().unwrap_or_default();
        if let Some(note) = specials_note(&tokenizer, "--text", text.as_bytes()).filter(|_| !self.specials && !quiet) {
            say::line(&note);
        }
        Ok((text_ids(&tokenizer, "--text", text, self.specials, vocab_size)?, Some(tokenizer)))
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut rows = vec![["id", "log p", "text"].map(str::to_owned).to_vec()];
        for (i, id) in self.tokens.iter().enumerate() {
            let logprob = i.checked_sub(1).and_then(|i| self.logprobs.get(i)).map_or_else(String::new, |p| format!("{p:.4}"));
            let text = self.texts.get(i).map_or_else(String::new, |text| format!("{text:?}"));
            rows.push(vec![id.to_string(), logprob, text]);
        }
        format!("{}loss {:.6}{}\n", output::table(&rows), self.loss, output::cost(self.loss, self.f32_loss))
    }
}
