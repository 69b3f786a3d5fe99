//! `samara reward`.

use super::align::{AlignArgs, on_rows};
use super::{Command, Console, Error};
use crate::align::setup::reward::run;
use crate::config::Preset;

const EXAMPLES: &str = "\
Rows are those of samara dpo; completions of a prompt are one element of a batch.
The folder opens in transformers as a sequence classification with one label.

Examples:
  samara reward --init runs/sft --data pairs.jsonl --out runs/reward
  samara reward --init runs/sft --data ranked.jsonl --loss plackett_luce
  samara score --model runs/reward --data answers.jsonl";

/// The defaults of this command.
pub(super) const DEFAULTS: Preset = Preset { name: "reward", about: "", toml: on_rows!("2e-5") };

/// Train a reward model on human preferences.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    align: AlignArgs,
    /// The loss of the scores of a prompt: pairs, plackett_luce or best_of_n.
    #[arg(long, value_name = "NAME")]
    loss: Option<String>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        self.align.train(console, &DEFAULTS, &[("--loss", "reward.loss", self.loss.clone())], run)
    }
}
