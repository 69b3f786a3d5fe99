//! `samara eval`: how good a model, or what it has written, is.

mod classify;
mod detect;
mod gallery;
mod held_out;
mod judge;
mod labelled;
mod lm;
mod probe;
mod ranking;
mod retrieval;

use clap::{ArgMatches, FromArgMatches, Subcommand};

use super::{Command, Console, Error};

const EXAMPLES: &str = "\
Without a command, as samara eval lm. Blocks do not overlap; each has as many
tokens as the model takes at once.

Examples:
  samara eval --model runs/tales-001 --data tales.txt --split val
  samara eval --model gpt2 --data wiki.txt --json
  samara eval classify --model runs/photos --data photos --split val
  samara eval probe --model runs/photos --data flowers --shots 1,5,10
  samara eval detect --predictions found.json --annotations val.json";

/// Evaluate a model: loss, perplexity and bits per byte over a whole split; or an image classifier, detections, or retrieval.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    lm: Wordless,
}

#[derive(Debug, Subcommand)]
enum Action {
    Lm(lm::Args),
    Classify(classify::Args),
    Detect(detect::Args),
    Retrieval(retrieval::Args),
    Probe(probe::Args),
}

/// The arguments of `eval lm` where no command is given.
#[derive(Debug)]
struct Wordless(Option<lm::Args>);

impl FromArgMatches for Wordless {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // Without a command `--data` is required, and beside one it is refused.
        matches.contains_id("data").then(|| lm::Args::from_arg_matches(matches)).transpose().map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Wordless {
    fn augment_args(command: clap::Command) -> clap::Command {
        lm::Args::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        lm::Args::augment_args_for_update(command)
    }
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        match (&self.action, &self.lm.0) {
            (Some(Action::Classify(args)), _) => args.run(console),
            (Some(Action::Detect(args)), _) => args.run(console),
            (Some(Action::Retrieval(args)), _) => args.run(console),
            (Some(Action::Probe(args)), _) => args.run(),
            (Some(Action::Lm(args)), _) | (None, Some(args)) => args.run(console),
            (None, None) => Err(Error::usage("eval: give --model and --data, or a command: samara eval --help lists them")),
        }
    }
}
