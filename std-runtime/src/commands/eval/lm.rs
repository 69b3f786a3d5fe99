//! `samara eval lm`: loss, perplexity and bits per byte of a model on a text.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use serde::Serialize;

use super::super::args::{EngineArgs, ModelArgs, WeightFormat, set_keys};
use super::super::tables::Config;
use super::super::{Console, Error, output};
use crate::config::Layers;
use crate::data::config::DataConfig;
use crate::eval::{Selected, Selection, bits_per_byte, mean_loss, text_bytes, tokenizer_of, tokens};
use crate::say;
use crate::tokenizer::Tokenizer;

const EXAMPLES: &str = "\
Blocks do not overlap; each has as many tokens as the model takes at once.

Examples:
  samara eval --model runs/tales-001 --data tales.txt --split val
  samara eval lm --model gpt2 --data wiki.txt --json     # the same with its name";

/// Evaluate a language model: loss, perplexity and bits per byte over a whole split.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text, JSONL, token shards, or a folder of them.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The part of the data; val is the last tenth unless configured.
    #[arg(long, value_enum, default_value_t)]
    split: Selection,
    /// Window in tokens; 0: the model's context.
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(0..))]
    block_size: u32,
    /// Windows per batch [default: 8; of windows over 1024 tokens as many as make 8192].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    #[command(flatten)]
    weights: WeightFormat,
    /// Encode special tokens such as <|endoftext|> in text as tokens, not as characters.
    #[arg(long)]
    specials: bool,
    /// Read `[data]` of a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, as in data.val_fraction=0.2.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Print {"loss","perplexity","bits_per_byte","tokens"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// An evaluation over a whole split.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    /// Mean of −log p over all tokens but the first, in nats.
    loss: f64,
    /// The same with weights in f32, when they were quantised.
    #[serde(skip_serializing_if = "Option::is_none")]
    f32_loss: Option<f64>,
    /// e^loss.
    perplexity: f64,
    /// Bits per byte of the text; `None` when the number of bytes is unknown.
    bits_per_byte: Option<f64>,
    /// Tokens predicted.
    tokens: u64,
}

impl Args {
    pub(super) fn run(&self, console: &Console) -> Result<(), Error> {
        let outcome = self.outcome(console)?;
        output::show(self.json, &outcome, || outcome.text())
    }

    fn outcome(&self, console: &Console) -> Result<Outcome, Error> {
        let data = self.data()?;
        let engine = self.engine.engine()?;
        let source = self.model.source()?;
        let model = self.weights.open(&engine, &source, console.quiet)?;
        let tokenizer_folder = source.tokenizer(Tokenizer::is_in);
        let tokenizer = tokenizer_of(&data, tokenizer_folder, console.quiet)?;
        let Selected { tokens: split, notes } =
            tokens(&data, self.split, tokenizer.as_ref(), tokenizer_folder, model.dims.vocab_size)?;
        if !console.quiet {
            notes.iter().for_each(|note| say::line(note));
        }
        let block = self.block(model.dims.n_positions)?;
        let live = !console.quiet && io::stderr().is_terminal();
        let mut progress = |done: u64, all: u64| {
            if live {
                say::write(&format!("\r{done}/{all}{}", if done == all { "\n" } else { "" }));
            }
        };
        let (mean, f32_mean) = self.weights.compared(&engine, &source, model, |model| {
            Ok(mean_loss(model, split.as_ref(), self.batch_size.map(|n| n as usize), block, &mut progress)?)
        })?;
        let bytes = tokenizer.as_ref().map(|t| text_bytes(t, split.as_ref())).transpose()?;
        Ok(Outcome {
            loss: mean.loss,
            f32_loss: f32_mean.map(|mean| mean.loss),
            perplexity: mean.loss.exp(),
            bits_per_byte: bytes.and_then(|bytes| bits_per_byte(&mean, bytes)),
            tokens: mean.tokens,
        })
    }

    /// The data, and how it is read.
    fn data(&self) -> Result<DataConfig, Error> {
        let mut layers = Layers::<Config>::new();
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        set_keys(&mut layers, &self.set, "data")?;
        let data = layers.values()?.data;
        Ok(DataConfig { path: Some(self.data.clone()), specials: self.specials || data.specials, ..data })
    }

    /// Tokens of a window.
    fn block(&self, positions: usize) -> Result<usize, Error> {
        match self.block_size as usize {
            0 => Ok(positions),
            block if block <= positions => Ok(block),
            block => Err(Error::usage(format!(
                "--block-size {block}: expected at most {positions}, the model's context, or 0 for all of it"
            ))),
        }
    }
}

impl Outcome {
    fn text(&self) -> String {
        let bits = self.bits_per_byte.map_or_else(String::new, |bits| format!(", {bits:.4} bits per byte"));
        let cost = output::cost(self.loss, self.f32_loss);
        format!("loss {:.6}{cost}, perplexity {:.4}{bits}, {} tokens\n", self.loss, self.perplexity, self.tokens)
    }
}
