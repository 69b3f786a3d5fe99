//! `samara score`: the log-probability of every token of a text, or what a reward model gives texts and rows.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::align::{merge, quoted};
use super::args::{EngineArgs, ModelArgs, WeightFormat, token_ids};
use super::{Command, Console, Error, output};
use crate::align::setup::score::{self, ScoredToken};
use crate::config::Preset;
use crate::lm::Model;
use crate::lm::score::{log_probabilities, logits, mean_loss};
use crate::lm::score_kind::has_score;
use crate::model::adapters::SCORE;
use crate::model::tune::peft::Source;
use crate::npy;
use crate::say;
use crate::tokenizer::{FileError, Tokenizer, specials_note, text_ids};

const EXAMPLES: &str = "\
Examples:
  samara score --model gpt2 --text 'The quick brown fox'
  samara score --model gpt2 --tokens 464,2068,7586 --logits out.npy --json
  samara score --model runs/reward --data answers.jsonl > scored.jsonl

A folder of a reward model gives a score, that of the last token: --data takes
rows of prompts with completions, which go through the chat template as in
samara reward, and writes each with \"reward\" and \"scored_token\".";

/// The defaults for rows.
const DEFAULTS: Preset =
    Preset { name: "score", about: "", toml: "[train]\nblock_size = 1024\nbatch_size = 8\n[data]\nval_fraction = 0.0\n" };

/// Print the log-probability of every token given those before it, or the score of a reward model for a text or rows.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "samara score [OPTIONS] --model DIR --text TEXT|--tokens IDS|--data FILE")]
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
    /// Print {"tokens":[...],"logprobs":[...],"loss":...}; of a reward model {"tokens":[...],"reward":...,"scored_token":{...}}.
    #[arg(long)]
    json: bool,
    /// Set a key for --data, as in dialogue.max_length=512.
    #[arg(long, value_name = "KEY=VALUE", requires = "data", allow_hyphen_values = true)]
    set: Vec<String>,
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
    /// Rows for a reward model: .jsonl, .json or .csv, each also .gz or .zst.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

/// What a reward model gives a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Reward {
    /// The version of this object.
    schema: u32,
    /// The ids.
    tokens: Vec<u32>,
    /// The score.
    reward: f32,
    /// The token that it is of.
    scored_token: Option<ScoredToken>,
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

/// A note where a text does not end with the token that ends texts: a reward model scores its last token, which rows have.
fn open_ended(ids: &[i32], tokenizer: Option<&Tokenizer>) -> Option<String> {
    let (tokenizer, end) = tokenizer.and_then(|tokenizer| Some((tokenizer, tokenizer.end_of_text()?)))?;
    let shown = String::from_utf8_lossy(&tokenizer.token_bytes(end)).into_owned();
    (ids.last() != Some(&(end as i32))).then(|| {
        format!(
            "note: --text does not end with {shown}, and a reward model scores the token that ends an answer; --data encodes rows as the training did"
        )
    })
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        self.given()?;
        let source = self.model.source()?;
        if has_score(&source)? {
            return self.reward(&source, console.quiet);
        }
        if self.input.data.is_some() {
            let folder = self.model.model.display();
            return Err(Error::usage(format!(
                "--data: rows are scored by a reward model, and {folder} has no {SCORE}; samara reward makes one, samara eval measures a text"
            )));
        }
        let outcome = self.outcome(console.quiet)?;
        output::show(self.json, &outcome, || outcome.text())
    }
}

impl Args {
    /// What a reward model gives.
    fn reward(&self, source: &Source, quiet: bool) -> Result<(), Error> {
        let folder = &self.model.model;
        if self.logits.is_some() || self.weights.quantize.is_some() {
            let flag = if self.logits.is_some() { "--logits" } else { "--quantize" };
            return Err(Error::usage(format!(
                "{flag}: {} is a reward model, whose score is f32 and which has no logits",
                folder.display()
            )));
        }
        if let Some(data) = &self.input.data {
            let [threads, gemm] = self.engine.flags();
            let rows = ("--data", "data.path", quoted(Some(data)));
            let config = merge(
                &DEFAULTS,
                None,
                &self.set,
                &[("--model", "train.init", quoted(Some(folder))), rows, threads, gemm],
                |_| Ok(()),
            )?;
            return Ok(score::run(config, source, quiet, &mut io::stdout())?);
        }
        let vocab_size = source.config()?.model.vocab_size().unwrap_or(0);
        let (tokens, tokenizer) = self.tokens(source.tokenizer(Tokenizer::is_in), vocab_size, quiet)?;
        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        if let Some(note) = open_ended(&ids, tokenizer.as_ref()).filter(|_| self.input.text.is_some() && !quiet) {
            say::line(&note);
        }
        let reward = score::score_of(&self.engine.engine()?, source, &ids)?;
        let reward = Reward { schema: 1, tokens, reward, scored_token: ScoredToken::last(&ids, tokenizer.as_ref()) };
        output::show(self.json, &reward, || reward.text())
    }

    /// The ids of `--tokens`.
    fn given(&self) -> Result<Option<Vec<u32>>, Error> {
        let given = self.input.tokens.as_deref().map(token_ids).transpose();
        given.map_err(|problem| Error::usage(format!("--tokens: {problem}")))
    }

    /// The ids that are scored, and the tokenizer.
    fn tokens(&self, folder: &Path, vocab_size: usize, quiet: bool) -> Result<(Vec<u32>, Option<Tokenizer>), Error> {
        let (tokens, tokenizer) = match self.given()? {
            Some(ids) => (ids, Tokenizer::of_model_if_usable(folder, quiet)),
            None => self.encode(folder, vocab_size, quiet)?,
        };
        if let Some((at, id)) = tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            return Err(Error::data(format!(
                "token {at} has id {id}, expected an id below {vocab_size}, the model's vocabulary"
            )));
        }
        Ok((tokens, tokenizer))
    }

    fn outcome(&self, quiet: bool) -> Result<Outcome, Error> {
        let engine = self.engine.engine()?;
        let source = self.model.source()?;
        let mut model = self.weights.open(&engine, &source, quiet)?;
        let limit = model.dims.vocab_size;
        let (tokens, tokenizer) = self.tokens(source.tokenizer(Tokenizer::is_in), limit, quiet)?;
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

impl Reward {
    fn text(&self) -> String {
        let token = self.scored_token.as_ref().map_or_else(String::new, |token| {
            format!(" at token {} of {}, id {} {:?}", token.position + 1, self.tokens.len(), token.id, token.text)
        });
        format!("reward {:.6}{token}\n", self.reward)
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
