//! `samara dpo`.

use super::align::AlignArgs;
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
const DEFAULTS: Preset = Preset {
    name: "dpo",
    about: "",
    toml: "[train]\nlr = 1e-5\nsteps = 500\nbatch_size = 8\nblock_size = 1024\nweight_decay = 0.0\nbeta2 = 0.95\nwarmup_steps = 10\nschedule = \"linear\"\neval_every = 50\neval_batches = 20\ncheckpoint_every = 100\n[dialogue]\nepochs = 1.0\n",
};

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
