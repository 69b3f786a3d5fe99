//! `samara config`.

use super::align::{merge, quoted};
use super::args::ConfigArgs;
use super::training::Training;
use super::{Command, Console, Error, dpo, grpo, kto, output, ppo, reward, rollout};
use crate::align::run::AlignConfig;
use crate::align::setup::dpo::DpoRun;
use crate::align::setup::grpo::GrpoRun;
use crate::align::setup::kto::KtoRun;
use crate::align::setup::ppo::PpoRun;
use crate::align::setup::reward::RewardRun;
use crate::align::setup::rollout::RolloutRun;
use crate::config::{ConfigError, Layers, Preset, to_toml};

const EXAMPLES: &str = "\
Examples:
  samara config > my.toml
  samara config --preset gpt2-124m --set train.lr=1e-4
  samara config --set model.model_type=vit
  samara config --set model.model_type=detr
  samara config --of ppo --set ppo.preset=instructgpt";

/// Print the effective configuration of a training with the meaning of every key.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The command whose tables are printed [default: train].
    #[arg(long, value_enum, value_name = "COMMAND")]
    of: Option<Of>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Commands whose tables can be printed; `samara sft` has those of `samara train`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// Training and instruction tuning.
    Train,
    /// Reward models.
    Reward,
    /// Preferences.
    Dpo,
    /// Labelled completions.
    Kto,
    /// Policies with a value function.
    Ppo,
    /// Policies without one.
    Grpo,
    /// Completions.
    Rollout,
}

impl Args {
    /// Prints the tables of a command on rows.
    fn print<C: AlignConfig>(
        &self,
        defaults: &Preset,
        follow: impl FnOnce(&mut Layers<C>) -> Result<(), ConfigError>,
    ) -> Result<(), Error> {
        let ConfigArgs { preset, config, data, init, threads, seed, set } = &self.config;
        if preset.is_some() {
            return Err(Error::usage("--preset names a configuration of samara train or sft: leave it out, or --of"));
        }
        let flags = [
            ("--data", "data.path", quoted(data.as_ref())),
            ("--init", "train.init", quoted(init.as_ref())),
            ("--threads", "train.threads", threads.clone()),
            ("--seed", "train.seed", seed.clone()),
        ];
        let config: C = merge(defaults, config.as_ref(), set, &flags, follow)?;
        output::write(to_toml(&config).as_bytes())
    }
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        match self.of.unwrap_or(Of::Train) {
            Of::Train => {}
            Of::Reward => return self.print::<RewardRun>(&reward::DEFAULTS, |_| Ok(())),
            Of::Dpo => return self.print::<DpoRun>(&dpo::DEFAULTS, |_| Ok(())),
            Of::Kto => return self.print::<KtoRun>(&kto::DEFAULTS, |_| Ok(())),
            Of::Ppo => return self.print::<PpoRun>(&ppo::DEFAULTS, ppo::follow_preset),
            Of::Grpo => return self.print::<GrpoRun>(&grpo::DEFAULTS, |_| Ok(())),
            Of::Rollout => return self.print::<RolloutRun>(&rollout::DEFAULTS, |_| Ok(())),
        }
        let toml = match self.config.training(None, None)? {
            // Its tables are those of samara sft as well.
            Training::Text(..) => to_toml(&self.config.merge(None, None)?),
            training => training.to_toml(),
        };
        output::write(toml.as_bytes())
    }
}
