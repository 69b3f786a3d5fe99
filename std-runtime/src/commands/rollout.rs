//! `samara rollout`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::align::{Given, quoted};
use super::out_file::refuse_content;
use super::{Command, Console, Error};
use crate::align::setup::rollout::{RolloutRequest, RolloutRun, run};
use crate::config::{ConfigError, Layers, Preset, Table, Unread};
use crate::files::{IoError, STDOUT};

const EXAMPLES: &str = "\
Every completion is a row that samara sft takes: the best of several, scored by a
reward model, are rejection sampling.

Examples:
  samara rollout --model runs/sft --data prompts.jsonl --out answers.jsonl
  samara rollout --model runs/sft --data prompts.jsonl --samples 16 --reward runs/reward --best
  samara rollout --model runs/sft --data prompts.jsonl --set rewards.length_weight=1";

pub(super) const DEFAULTS: Preset =
    Preset { name: "rollout", about: "", toml: "[train]\nblock_size = 1024\n[data]\nval_fraction = 0.0\n" };

/// Complete prompts, and score the completions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows of prompts: .jsonl, .json or .csv, each also .gz or .zst.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file of rows that is written; it must not exist, or be empty. Absent: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Completions of a prompt.
    #[arg(long, value_name = "N")]
    samples: Option<String>,
    /// The folder of a reward model.
    #[arg(long, value_name = "DIR")]
    reward: Option<PathBuf>,
    /// Keep the completion with the best score of every prompt alone.
    #[arg(long)]
    best: bool,
    #[command(flatten)]
    given: Given,
}

/// Keys of `[train]` that a rollout reads.
const READ: [&str; 5] = ["init", "threads", "gemm", "seed", "block_size"];

/// Refuses keys of `[train]` that nothing reads where nothing is trained.
fn refuse_training(layers: &mut Layers<RolloutRun>) -> Result<(), ConfigError> {
    let config = layers.values()?;
    let unread = config.train.keys().iter().filter(|key| !READ.contains(&key.name));
    unread
        .map(|key| Unread { key: key.name, instead: "a rollout trains nothing" })
        .try_for_each(|unread| layers.refuse_given(&config, "train", unread))
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let flags = [
            ("--data", "data.path", quoted(Some(&self.data))),
            ("--model", "train.init", quoted(Some(&self.model))),
            ("--samples", "rollout.group_size", self.samples.clone()),
            ("--reward", "rewards.model", quoted(self.reward.as_ref())),
        ];
        let config: RolloutRun = self.given.merge(&DEFAULTS, None, &flags, refuse_training)?;
        let rewards = &config.rewards;
        let weights = [rewards.exact_match_weight, rewards.sentiment_weight, rewards.length_weight];
        let scored =
            rewards.model.is_some() || rewards.regex.is_some() || rewards.command.is_some() || weights.iter().any(|&w| w != 0.0);
        if self.best && !scored {
            return Err(Error::usage(
                "--best needs scores: add --reward DIR, or a source of [rewards], as in --set rewards.length_weight=1",
            ));
        }
        self.out.as_deref().map_or(Ok(()), refuse_content)?;
        let out = self.out.clone().unwrap_or_else(|| Path::new(STDOUT).to_path_buf());
        let mut to: Box<dyn Write + Send> = match &self.out {
            Some(path) => Box::new(io::BufWriter::new(File::create(path).map_err(IoError::at(path, "create"))?)),
            None => Box::new(io::stdout()),
        };
        run(RolloutRequest { config, scored, best: self.best, quiet: console.quiet, out: out.clone() }, &mut *to)?;
        Ok(to.flush().map_err(IoError::at(&out, "write"))?)
    }
}
