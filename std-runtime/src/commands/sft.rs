//! `samara sft`.

use std::path::PathBuf;

use super::args::ConfigArgs;
use super::train::{former, refuse_nothing, refuse_other_init, show};
use super::{Command, Console, Error, plan};
use crate::data::config::TokenizerChoice;
use crate::lm::step::StepShape;
use crate::say;
use crate::train::config::SftConfig;
use crate::train::presets::DEFAULT_SFT_PRESET;
use crate::train::progress::View;
use crate::train::request::{SftRequest, TrainRequest};
use crate::train::sft;
use crate::train::shape::shape_of;

const EXAMPLES: &str = "\
Rows are dialogues: \"messages\", \"conversations\" (ShareGPT), \"prompt\" and
\"completion\", or \"instruction\", \"input\", \"output\" (Alpaca), in .jsonl, .json or
.csv, each also .gz or .zst. Only what the assistant says is learnt.

Examples:
  samara sft --init gpt2 --data dialogues.jsonl --out runs/chat
  samara sft --init gpt2 --data alpaca.json --set dialogue.packing=true
  samara sft --init gpt2 --data rows.jsonl --set dialogue.template=chatml
  samara sft --init gpt2 --data rows.jsonl --plan
  samara sft --out runs/chat --resume";

/// Train a model further on dialogues.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The run folder, which becomes a model folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume from the newest valid checkpoint of --out. If there is no run, a new one begins, provided that --init and --data are given.
    #[arg(long)]
    resume: bool,
    /// Report what it would take, and stop.
    #[arg(long)]
    plan: bool,
    /// Print the outcome as one line of JSON: {"schema", "steps", "measure", "train_loss", "val_loss", "best_val_loss", "out"}.
    #[arg(long, conflicts_with = "plan")]
    json: bool,
}

/// Keys of `[data]` that dialogues have no use for.
pub(super) const UNREAD: &[(&str, &str)] = &[
    ("text_field", "the keys of a dialogue say what it is"),
    ("tokenizer", TOKENIZER),
    ("tokenizer_vocab_size", TOKENIZER),
    ("id_type", "dialogues are text; it applies to token shards (.bin)"),
    ("corpus_bytes", "it applies to the built-in corpus"),
    ("order", "every dialogue comes once per epoch"),
    ("batches", "every dialogue comes once per epoch"),
];
const TOKENIZER: &str = "the tokenizer is that of the model of --init";

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let former = former(self.out.as_deref(), self.resume, sft::COMMAND)?;
        refuse_other_init(former.as_deref(), self.config.init.as_deref(), false)?;
        let has_init = self.config.init.is_some() || self.config.set.iter().any(|set| set.starts_with("train.init"));
        if let Some(set) = self.config.set.iter().find(|set| set.starts_with("model.")).filter(|_| has_init) {
            return Err(Error::usage(format!("--set {set}: the model is that of --init, as it is; leave it out")));
        }
        let nothing = self.out.as_deref().filter(|_| self.resume && former.is_none() && !has_init);
        refuse_nothing(nothing, [&self.config.init, &self.config.data, &self.config.config])?;
        if !has_init && former.is_none() && self.config.config.is_none() {
            return Err(Error::usage(sft::NO_INIT));
        }
        let (mut config, notes) =
            self.config.merge_for(DEFAULT_SFT_PRESET, "data", UNREAD, former.as_deref(), self.out.as_deref())?;
        // The folder of --init has the tokenizer: a resumed run does not need it there again.
        config.data.tokenizer = TokenizerChoice::default();
        let config = config.sft();
        if self.plan {
            let training = config.training();
            return plan::print_text(&training, StepShape { packed: config.dialogue.packing, ..shape_of(&training) });
        }
        if self.resume && config.train.out.is_none() {
            return Err(Error::usage("--resume needs the run folder: add --out DIR"));
        }
        if !console.quiet {
            notes.iter().for_each(|note| say::line(note));
        }
        let outcome = sft::run(&self.request(&config, console.quiet))?;
        show(self.json, &outcome)
    }
}

impl Args {
    fn request(&self, config: &SftConfig, quiet: bool) -> SftRequest {
        let (out, init) = (config.train.out.clone(), config.train.init.clone());
        let begins = init.is_some() && config.data.path.is_some();
        let (name, training) = (self.config.preset.clone().unwrap_or_else(|| DEFAULT_SFT_PRESET.to_owned()), config.training());
        let view = if quiet { View::Quiet } else { View::Line };
        let train = TrainRequest { out, name, init, config: training, resume: self.resume, begins, view };
        SftRequest { train, dialogue: config.dialogue.clone() }
    }
}
