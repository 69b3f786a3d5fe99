//! `samara grpo`.

use super::align::{AlignArgs, ON_PROMPTS, quoted};
use super::{Command, Console, Error};
use crate::align::setup::grpo::run;
use crate::config::Preset;

const EXAMPLES: &str = "\
Rows are prompts; completions of a prompt are compared with each other.

Examples:
  samara grpo --init runs/sft --data prompts.jsonl --reward runs/reward --out runs/grpo
  samara grpo --init runs/sft --data sums.jsonl --loss dr_grpo --set rewards.exact_match_weight=1
  samara grpo --out runs/grpo --resume";

/// The defaults of this command.
pub(super) const DEFAULTS: Preset = Preset { name: "grpo", about: "", toml: ON_PROMPTS };

/// Improve a policy by rewards, without a value function (GRPO and its relatives).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    align: AlignArgs,
    /// The method: grpo, dr_grpo, bnpo, dapo, gspo, cispo, rloo, reinforce++, reinforce++-baseline or remax.
    #[arg(long, value_name = "NAME")]
    loss: Option<String>,
    /// The folder of a reward model.
    #[arg(long, value_name = "DIR")]
    reward: Option<std::path::PathBuf>,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        self.align.train(
            console,
            &DEFAULTS,
            &[("--loss", "grpo.loss", self.loss.clone()), ("--reward", "rewards.model", quoted(self.reward.as_ref()))],
            run,
        )
    }
}
