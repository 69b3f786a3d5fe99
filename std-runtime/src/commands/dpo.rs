//! `samara dpo`.

use super::align::{AlignArgs, on_rows};
use super::{Command, Console, Error};
use crate::align::setup::dpo::run;
use crate::config::Preset;

const EXAMPLES: &str = "\
Rows: \"chosen\" and \"rejected\", with a \"prompt\" or without (HH-RLHF, or the part that
both begin with); or \"prompt\" and \"completions\", best first.

Examples:
  samara dpo --init runs/sft --data pairs.jsonl --out runs/dpo
  samara dpo --init runs/sft --data pairs.jsonl --loss simpo --set train.lr=1e-6
  samara dpo --out runs/dpo --resume";

/// The defaults of this command.
pub(super) const DEFAULTS: Preset = Preset { name: "dpo", about: "", toml: on_rows!("1e-5") };

/// Learn from pairs of completions, one preferred to the other.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    align: AlignArgs,
    /// The loss: dpo, cdpo, robust_dpo, sigmoid_norm, hinge, ipo_sum, ipo_mean, orpo, simpo or cpo.
    #[arg(long, value_name = "NAME")]
    loss: Option<String>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        self.align.train(console, &DEFAULTS, &[("--loss", "dpo.loss", self.loss.clone())], run)
    }
}
