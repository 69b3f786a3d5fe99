//! `samara eval`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use super::args::{MachineArgs, set_keys};
use super::output;
use super::requests::{EvalRequest, Kept, Split};
use crate::config::Layers;
use crate::error::Error;
use crate::evaluate;
use crate::say;

const EXAMPLES: &str = "\
Blocks do not overlap; each has as many tokens as the model takes at once.

Examples:
  samara eval --model runs/tales-001 --data tales.txt --split val
  samara eval --model gpt2 --data wiki.txt --json";

/// Evaluate a model: loss, perplexity and bits per byte over a whole split.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text, JSONL, token shards, or a folder of them.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The part of the data; val is the last tenth unless configured.
    #[arg(long, value_enum, default_value_t)]
    split: Split,
    /// Tokens of a block; 0: as many as the model takes.
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(0..))]
    block_size: u32,
    /// Blocks at a time.
    #[arg(long, value_name = "N", default_value_t = 8, allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    #[command(flatten)]
    kept: Kept,
    /// Read [data] of a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, as in data.val_fraction=0.2.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Print {"loss","perplexity","bits_per_byte","tokens"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

impl Args {
    pub(super) fn run(&self, quiet: bool) -> Result<(), Error> {
        let mut layers = Layers::new();
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        set_keys(&mut layers, &self.set, "data")?;
        let mut data = layers.peek().data.clone();
        data.path = Some(self.data.clone());
        let request = EvalRequest {
            model: self.model.clone(),
            data,
            split: self.split,
            block_size: self.block_size as usize,
            batch_size: self.batch_size as usize,
            kept: self.kept,
            machine: self.machine.machine()?,
        };
        let live = !quiet && io::stderr().is_terminal();
        let outcome = evaluate::run(&request, &mut |done, all| {
            if live {
                say::write(&format!("\r{done}/{all}{}", if done == all { "\n" } else { "" }));
            }
        })?;
        if self.json {
            return output::json(&outcome);
        }
        let bits = outcome.bits_per_byte.map_or_else(String::new, |bits| format!(", {bits:.4} bits per byte"));
        let cost = output::cost(outcome.loss, outcome.f32_loss);
        output::line(&format!(
            "loss {:.6}{cost}, perplexity {:.4}{bits}, {} tokens",
            outcome.loss, outcome.perplexity, outcome.tokens
        ))
    }
}
