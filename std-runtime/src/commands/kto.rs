//! `samara kto`.

use super::align::AlignArgs;
use super::{Command, Console, Error};
use crate::align::setup::kto::run;
use crate::config::Preset;

const EXAMPLES: &str = "\
Rows: \"prompt\", \"completion\" and \"label\" (true or false).

Examples:
  samara kto --init runs/sft --data labels.jsonl --out runs/kto
  samara kto --out runs/kto --resume";

/// The defaults of this command.
const DEFAULTS: Preset = Preset {
    name: "kto",
    about: "",
    toml: "[train]\nlr = 1e-5\nsteps = 500\nbatch_size = 8\nblock_size = 1024\nweight_decay = 0.0\nbeta2 = 0.95\nwarmup_steps = 10\nschedule = \"linear\"\neval_every = 50\neval_batches = 20\ncheckpoint_every = 100\n[dialogue]\nepochs = 1.0\n",
};

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
