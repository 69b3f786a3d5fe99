//! `samara ppo`.

use super::align::{AlignArgs, ON_PROMPTS, quoted};
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
const DEFAULTS: Preset = Preset { name: "ppo", about: "", toml: ON_PROMPTS };

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
        self.align.train(console, &DEFAULTS, &[("--reward", "rewards.model", quoted(self.reward.as_ref()))], run)
    }
}
