//! `samara train`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::ConfigArgs;
use super::training::{Start, Training};
use super::{Command, Console, Error, output, plan};
use crate::say;
use crate::train::folder::{CONFIG_FILE, command_of};
use crate::train::progress::View;
use crate::train::request::TrainOutcome;

const EXAMPLES: &str = "\
Values come from the preset, then the file, then --set, then the flags.
Without arguments: a small model learns to tell tales, in about two minutes.

Signals: Ctrl-C, SIGTERM and SIGHUP stop after the batch in hand and write a
checkpoint; SIGUSR1 writes a checkpoint and goes on.

Examples:
  samara train
  samara train --preset nanogpt-char-cpu --data input.txt --out runs/chars
  samara train --init gpt2 --data mine.jsonl --set train.lr=1e-5
  samara train --out runs/chars --resume --live
  samara train --preset gpt2-124m --plan
  samara train --set model.model_type=vit --data photos --out runs/photos";

/// Train a model.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The run folder, which becomes a model folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume from the newest valid checkpoint of --out. If there is no run, a new one begins, provided that --preset, --config or --data is given.
    #[arg(long)]
    resume: bool,
    /// With --init: ignore tensors that the model does not have, list them, and do not save them (train.ignore_extra).
    #[arg(long)]
    ignore_extra: bool,
    /// Report what it would take, and stop.
    #[arg(long)]
    plan: bool,
    /// Print the outcome as one line of JSON: {"schema", "steps", "measure", "train_loss", "val_loss", "best_val_loss", "out"}, with the name of another measure in
    /// the place of "loss", as in "val_accuracy".
    #[arg(long, conflicts_with = "plan")]
    json: bool,
    /// Draw curves on the whole terminal: loss, learning rate, gradient norm, speed. `q` stops and saves. Without a terminal: the usual lines.
    #[arg(long, conflicts_with = "plan")]
    live: bool,
}

/// The configuration of the run in a folder that `command` resumes, if there is one.
pub(super) fn former(out: Option<&Path>, resume: bool, command: &str) -> Result<Option<PathBuf>, Error> {
    let Some(out) = out.filter(|_| resume) else { return Ok(None) };
    let shown = out.display();
    match command_of(out) {
        Some(own) if own != command => {
            Err(Error::usage(format!("{shown}: the run of another command; resume it with: {own} --resume --out {shown}")))
        }
        _ => Ok(Some(out.join(CONFIG_FILE)).filter(|file| file.is_file())),
    }
}

/// Refuses to resume a run that has a checkpoint with another `--init` than it began with. A run of adapters, or with `reads_init`, reads that folder
/// again, which may have moved.
pub(super) fn refuse_other_init(former: Option<&Path>, init: Option<&Path>, reads_init: bool) -> Result<(), Error> {
    let (Some(file), Some(init)) = (former, init) else { return Ok(()) };
    let Some(out) = file.parent() else { return Ok(()) };
    let run: toml::Table = fs::read_to_string(file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let text = |table: &str, key: &str| run.get(table).and_then(|table| table.get(key)).and_then(toml::Value::as_str);
    let has_checkpoint = fs::read_dir(out.join("checkpoints")).is_ok_and(|mut steps| steps.next().is_some());
    let is_same = |began: &str| match (fs::canonicalize(began), fs::canonicalize(init)) {
        (Ok(began), Ok(init)) => began == init,
        _ => Path::new(began) == init,
    };
    let began = text("train", "init");
    let reads_init = reads_init || text("tune", "method").is_some_and(|method| method != "full");
    let has_moved = |began: &str| reads_init && !Path::new(began).exists();
    if !has_checkpoint || began.is_some_and(|began| is_same(began) || has_moved(began)) {
        return Ok(());
    }
    let (out, init, began) = (out.display(), init.display(), began.unwrap_or("random weights"));
    Err(Error::usage(format!(
        "--resume goes on from the newest checkpoint in {out}, a run that began with {began}; --init {init} begins a new run with the weights \
         of {init}: leave one of the two out, and choose another --out for a new run"
    )))
}

/// Refuses to resume a run that is not there, in a folder `out`, unless what is given begins a new one.
pub(super) fn refuse_nothing(out: Option<&Path>, [init, data, config]: [&Option<PathBuf>; 3]) -> Result<(), Error> {
    match out {
        Some(out) if config.is_none() && (init.is_none() || data.is_none()) => Err(Error::usage(format!(
            "--out {}: no run to resume ({CONFIG_FILE} is not there); check the path, or begin a new run with --init DIR and --data FILE",
            out.display()
        ))),
        _ => Ok(()),
    }
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let former = former(self.out.as_deref(), self.resume, "samara train")?;
        refuse_other_init(former.as_deref(), self.config.init.as_deref(), false)?;
        let mut config = self.config.clone();
        config.set.extend(self.ignore_extra.then(|| "train.ignore_extra=true".to_owned()));
        let training = config.training(former.as_deref(), self.out.as_deref())?;
        if self.plan {
            return plan::print(&training);
        }
        if self.resume && training.out().is_none() {
            return Err(Error::usage("--resume needs the run folder: add --out DIR"));
        }
        let view = self.view(console.quiet)?;
        if let Training::Text(_, notes) = &training
            && !console.quiet
        {
            notes.iter().for_each(|note| say::line(note));
        }
        let outcome = training.run(&self.config, Start { resume: self.resume, begins: false, view })?;
        show(self.json, &outcome)?;
        training.hint(&outcome.out).into_iter().filter(|_| !console.quiet).for_each(|hint| say::line(&hint));
        Ok(())
    }
}

impl Args {
    fn view(&self, quiet: bool) -> Result<View, Error> {
        match (quiet, self.live) {
            (true, true) => Err(Error::usage("--live draws curves and --quiet prints results only: leave one of them out")),
            (true, false) => Ok(View::Quiet),
            (false, false) => Ok(View::Line),
            (false, true) => Ok(View::curves().unwrap_or_else(|| {
                say::line(
                    "note: --live needs standard error to be a terminal with cursor control: printing lines of progress instead",
                );
                View::Line
            })),
        }
    }
}

/// A finished training for programs.
#[derive(Serialize)]
struct Line<'o> {
    /// The version of this object.
    schema: u32,
    #[serde(flatten)]
    outcome: &'o TrainOutcome,
}

/// Writes the outcome of a training: as one line of JSON, or in words.
pub(super) fn show(as_json: bool, outcome: &TrainOutcome) -> Result<(), Error> {
    output::show(as_json, &Line { schema: 1, outcome }, || summary(outcome) + "\n")
}

/// The summary of a finished training.
fn summary(outcome: &TrainOutcome) -> String {
    let word = outcome.measure.word();
    let value = |name: &str, value: Option<f64>| value.map_or_else(String::new, |value| format!(", {name} {value:.4}"));
    format!(
        "{} steps{}{}{} -> {}",
        outcome.steps,
        value(&format!("train {word}"), outcome.train_loss),
        value(&format!("validation {word}"), outcome.val_loss),
        value("best", outcome.best_val_loss),
        outcome.out.display()
    )
}
