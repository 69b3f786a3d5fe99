//! `samara ppo`.

use super::align::AlignArgs;
use super::{Command, Console, Error};
use crate::align::setup::ppo::run;
use crate::config::Preset;

const EXAMPLES: &str = "\
Rows are prompts. Rewards come from [rewards]: a reward model, functions of text,
or a program. ppo.preset names the conventions of a source.

Examples:
  samara ppo --init runs/sft --data prompts.jsonl --reward runs/reward --out runs/ppo
  samara ppo --init runs/sft --data prompts.jsonl --reward runs/reward --set ppo.preset=instructgpt
  samara ppo --init runs/sft --data prompts.jsonl --set rewards.sentiment_weight=1
  samara ppo --out runs/ppo --resume";

/// The defaults of this command.
const DEFAULTS: Preset = Preset {
    name: "ppo",
    about: "",
    toml: "[train]\nlr = 1e-5\nsteps = 200\nbatch_size = 16\nblock_size = 1024\nweight_decay = 0.0\nbeta2 = 0.95\nwarmup_steps = 10\nschedule = \"linear\"\neval_every = 10\neval_batches = 4\ncheckpoint_every = 20\nsample_every = 20\n",
};

/// Improve a policy by rewards, with a value function (PPO).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    align: AlignArgs,
    /// The folder of a reward model.
    #[arg(long, value_name = "DIR")]
    reward: Option<std::path::PathBuf>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        self.align.train(console, &DEFAULTS, &[("--reward", "rewards.model", super::align::quoted(self.reward.as_ref()))], run)
    }
}
