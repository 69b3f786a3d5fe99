//! `samara grpo`.

use super::align::AlignArgs;
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
const DEFAULTS: Preset = Preset {
    name: "grpo",
    about: "",
    toml: "[train]\nlr = 1e-5\nsteps = 200\nbatch_size = 16\nblock_size = 1024\nweight_decay = 0.0\nbeta2 = 0.95\nwarmup_steps = 10\nschedule = \"linear\"\neval_every = 10\neval_batches = 4\ncheckpoint_every = 20\nsample_every = 20\n",
};

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
            &[
                ("--loss", "grpo.loss", self.loss.clone()),
                ("--reward", "rewards.model", super::align::quoted(self.reward.as_ref())),
            ],
            run,
        )
    }
}
