//! `samara kto`.

use super::align::{AlignArgs, on_rows};
use super::{Command, Console, Error};
use crate::align::setup::kto::run;
use crate::config::Preset;

const EXAMPLES: &str = "\
Rows: \"prompt\", \"completion\" and \"label\" (true or false).

Examples:
  samara kto --init runs/sft --data labels.jsonl --out runs/kto
  samara kto --out runs/kto --resume";

/// The defaults of this command.
pub(super) const DEFAULTS: Preset = Preset { name: "kto", about: "", toml: on_rows!("1e-5") };

/// Learn from completions that are good or bad, without pairs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    align: AlignArgs,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        self.align.train(console, &DEFAULTS, &[], run)
    }
}
