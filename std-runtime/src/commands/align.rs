//! Flags and output that the alignment commands share.

use std::path::PathBuf;

use super::args::is_given;
use super::sft;
use super::train::{former, refuse_nothing, refuse_other_init, show};
use super::{Console, Error};
use crate::align::run::{AlignConfig, AlignRequest};
use crate::config::{ConfigError, Layers, Place, Preset, Unread};
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

/// A path as a value of TOML.
pub(super) fn quoted(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| toml::Value::String(path.to_string_lossy().into_owned()).to_string())
}

/// The flags that determine a configuration, beside those of a command.
#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// Read a TOML file over the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads; 0: one for each core. The result does not depend on it.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    threads: Option<String>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<String>,
    /// Set a key of the configuration, as in train.steps=30 or rollout.temperature=0.7.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
}

impl Given {
    /// The configuration over defaults. `former` stands in for a file that is not given.
    pub(super) fn merge<C: AlignConfig>(
        &self,
        defaults: &Preset,
        former: Option<&PathBuf>,
        own: &[Flag],
        follow: impl FnOnce(&mut Layers<C>) -> Result<(), ConfigError>,
    ) -> Result<C, Error> {
        let flags = [("--threads", "train.threads", self.threads.clone()), ("--seed", "train.seed", self.seed.clone())];
        merge(defaults, self.config.as_ref().or(former), &self.set, &[&flags[..], own].concat(), follow)
    }
}

/// The flags that determine the configuration of an alignment, and its run folder.
#[derive(Debug, clap::Args)]
pub(super) struct AlignArgs {
    /// Begin with the model of this folder.
    #[arg(long, value_name = "DIR")]
    init: Option<PathBuf>,
    /// Rows: .jsonl, .json or .csv, each also .gz or .zst.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
    /// The run folder, which becomes a model folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume from the newest valid checkpoint of --out. If there is no run, a new one begins, provided that --init and --data are given.
    #[arg(long)]
    resume: bool,
    /// Report the memory that it would take, and stop.
    #[arg(long)]
    plan: bool,
    /// Print the outcome as one line of JSON: {"schema", "steps", "measure", "train_loss", "val_loss", "best_val_loss", "out"}.
    #[arg(long, conflicts_with = "plan")]
    json: bool,
}

impl AlignArgs {
    /// Runs a training whose configuration is made of `defaults` (TOML), these flags, and the flags of the command itself.
    pub(super) fn train<C: AlignConfig>(
        &self,
        console: &Console,
        defaults: &Preset,
        own: &[Flag],
        run: impl FnOnce(AlignRequest<C>) -> Result<Option<TrainOutcome>, TrainingError>,
    ) -> Result<(), Error> {
        self.train_with(console, defaults, own, |_| Ok(()), run)
    }

    /// The same with defaults that follow from what was given: `follow` lays them below it.
    pub(super) fn train_with<C: AlignConfig>(
        &self,
        console: &Console,
        defaults: &Preset,
        own: &[Flag],
        follow: impl FnOnce(&mut Layers<C>) -> Result<(), ConfigError>,
        run: impl FnOnce(AlignRequest<C>) -> Result<Option<TrainOutcome>, TrainingError>,
    ) -> Result<(), Error> {
        if self.resume && self.out.is_none() {
            return Err(Error::usage("--resume needs the run folder: add --out DIR"));
        }
        let config = self.merge(defaults, own, follow)?;
        let request = AlignRequest { config, resume: self.resume, plan: self.plan, quiet: console.quiet };
        match run(request)? {
            Some(outcome) => show(self.json, &outcome),
            None => Ok(()),
        }
    }

    fn merge<C: AlignConfig>(
        &self,
        defaults: &Preset,
        own: &[Flag],
        follow: impl FnOnce(&mut Layers<C>) -> Result<(), ConfigError>,
    ) -> Result<C, Error> {
        let former = former(self.out.as_deref(), self.resume, C::COMMAND)?;
        refuse_nothing(
            self.out.as_deref().filter(|_| self.resume && former.is_none()),
            [&self.init, &self.data, &self.given.config],
        )?;
        // The reference is read again.
        refuse_other_init(former.as_deref(), self.init.as_deref(), true)?;
        let flags = [
            ("--data", "data.path", quoted(self.data.as_ref())),
            ("--init", "train.init", quoted(self.init.as_ref())),
            ("--out", "train.out", quoted(self.out.as_ref())),
        ];
        self.given.merge(defaults, former.as_ref(), &[&flags[..], own].concat(), follow)
    }
}

/// The defaults of a training on preferences with a learning rate, as TOML.
macro_rules! on_rows {
    ($lr:literal) => {
        concat!(
            "[train]\nlr = ",
            $lr,
            "\nsteps = 500\nbatch_size = 8\nblock_size = 1024\nweight_decay = 0.0\nbeta2 = 0.95\nwarmup_steps = 10\nschedule = \"linear\"\n",
            "eval_every = 50\neval_batches = 20\ncheckpoint_every = 100\n[dialogue]\nepochs = 1.0\n"
        )
    };
}
pub(super) use on_rows;

/// The defaults of policy optimisation, as TOML.
pub(super) const ON_PROMPTS: &str = concat!(
    "[train]\nlr = 1e-5\nsteps = 200\nbatch_size = 16\nblock_size = 1024\nweight_decay = 0.0\nbeta2 = 0.95\nwarmup_steps = 10\n",
    "schedule = \"linear\"\neval_every = 10\neval_batches = 4\ncheckpoint_every = 20\nsample_every = 20\n"
);

/// A flag, the key that it sets, and its value.
pub(super) type Flag = (&'static str, &'static str, Option<String>);

/// The configuration: a file over defaults, `--set` over the file, flags over both.
pub(super) fn merge<C: AlignConfig>(
    defaults: &Preset,
    file: Option<&PathBuf>,
    set: &[String],
    flags: &[Flag],
    follow: impl FnOnce(&mut Layers<C>) -> Result<(), ConfigError>,
) -> Result<C, Error> {
    let mut layers = Layers::<C>::new();
    layers.preset(defaults)?;
    if let Some(file) = file {
        layers.file(file)?;
    }
    for set in set {
        layers.set(set)?;
    }
    for (flag, key, value) in flags {
        if let Some(value) = value {
            layers.flag(flag, key, value);
        }
    }
    choose_end(&mut layers)?;
    follow(&mut layers)?;
    let mut config = layers.finish()?;
    let idle = sft::UNREAD.iter().map(|&(key, instead)| ("data", key, instead));
    let samples = (!C::SAMPLES).then_some((
        "train",
        "sample_every",
        "it writes no samples; samara rollout completes prompts with the model that it leaves",
    ));
    for (table, key, instead) in idle.chain(IDLE).chain(samples) {
        layers.refuse_given(&config, table, Unread { key, instead })?;
    }
    config.resolve();
    Ok(config)
}

/// Keys of `[dialogue]` that are read by instruction tuning alone.
const IDLE: [(&str, &str, &str); 2] = [("dialogue", "packing", SFT), ("dialogue", "completion_only_loss", SFT)];
const SFT: &str = "samara sft reads it";

/// A step count given by the user replaces the default passes over the rows.
fn choose_end<C: AlignConfig>(layers: &mut Layers<C>) -> Result<(), Error> {
    let [steps, epochs] = ["train.steps", "dialogue.epochs"].map(|key| is_given(layers.place(key)));
    let on_line = |key| matches!(layers.place(key), Some(Place::Set(_) | Place::Flag(_)));
    if on_line("train.steps") && on_line("dialogue.epochs") && layers.values()?.parts().dialogue.epochs > 0.0 {
        return Err(Error::usage("train.steps and dialogue.epochs both end the run: give one of them"));
    }
    if steps && !epochs {
        layers.put(&["dialogue.epochs"], &Place::Default, |config| config.parts_mut().dialogue.epochs = 0.0);
    }
    Ok(())
}
