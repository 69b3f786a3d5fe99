//! `samara config`.

use super::args::ConfigArgs;
use super::{Command, Console, Error, output};
use crate::config::to_toml;

const EXAMPLES: &str = "\
Examples:
  samara config > my.toml
  samara config --preset gpt2-124m --set train.lr=1e-4
  samara config --set model.model_type=vit";

/// Print the effective configuration of a training with the meaning of every key.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        if let Some(config) = self.config.merge_images(None, None)? {
            return output::write(to_toml(&config).as_bytes());
        }
        output::write(to_toml(&self.config.merge(None, None)?).as_bytes())
    }
}
