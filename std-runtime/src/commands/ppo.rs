//! `samara ppo`.

use super::align::{AlignArgs, ON_PROMPTS, quoted};
use super::{Command, Console, Error};
use crate::align::setup::ppo::{PpoRun, run};
use crate::config::{ConfigError, Layers, Place, Preset};

const EXAMPLES: &str = "\
Rows are prompts. Rewards come from [rewards]: a reward model, functions of text,
or a program. ppo.preset names the conventions of a source.

Examples:
  samara ppo --init runs/sft --data prompts.jsonl --reward runs/reward --out runs/ppo
  samara ppo --init runs/sft --data prompts.jsonl --reward runs/reward --set ppo.preset=instructgpt
  samara ppo --init runs/sft --data prompts.jsonl --set rewards.sentiment_weight=1
  samara ppo --out runs/ppo --resume";

/// The defaults of this command.
pub(super) const DEFAULTS: Preset = Preset { name: "ppo", about: "", toml: ON_PROMPTS };

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
        let reward = ("--reward", "rewards.model", quoted(self.reward.as_ref()));
        self.align.train_with(console, &DEFAULTS, &[reward], follow_preset, run)
    }
}

/// What a preset says of Adam is the default of `[train]`.
pub(super) fn follow_preset(layers: &mut Layers<PpoRun>) -> Result<(), ConfigError> {
    let (eps, mode) = layers.values()?.ppo.epsilon();
    if layers.place("train.eps").is_none() {
        layers.put(&["train.eps"], &Place::Default, |config| config.train.eps = eps);
    }
    if layers.place("train.eps_mode").is_none() {
        layers.put(&["train.eps_mode"], &Place::Default, |config| config.train.eps_mode = mode);
    }
    Ok(())
}
