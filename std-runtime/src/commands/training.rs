//! What a command line trains: the kind of task follows from the model.

use std::fs;
use std::path::Path;

use super::Error;
use super::args::ConfigArgs;
use super::task_args::Task;
use crate::config::{Tables, to_toml, to_toml_without};
use crate::model::ModelConfig;
use crate::train;
use crate::train::albef_config::AlbefRunConfig;
use crate::train::config::{ImageRunConfig, RunConfig};
use crate::train::contrast_config::ContrastRunConfig;
use crate::train::detection::{self, DetectRequest, DetectRunConfig};
use crate::train::error::TrainingError;
use crate::train::folder::CONFIG_FILE;
use crate::train::images::{self, ImageRequest};
use crate::train::masked::{self, MaskedRequest};
use crate::train::masked_config::MaskedRunConfig;
use crate::train::pairs::{self, PairRequest, PairRun};
use crate::train::presets::DEFAULT_PRESET;
use crate::train::progress::View;
use crate::train::request::{TrainOutcome, TrainRequest};
use crate::train::vilt_config::ViltRunConfig;

/// A configured training.
pub(super) enum Training {
    /// An image classifier.
    Images(Box<ImageRunConfig>),
    /// A detector.
    Detector(Box<DetectRunConfig>),
    /// A CLIP or SigLIP.
    Pairs(Box<ContrastRunConfig>),
    /// A ViLT.
    Vilt(Box<ViltRunConfig>),
    /// An encoder of text.
    Masked(Box<MaskedRunConfig>),
    /// An ALBEF.
    Albef(Box<AlbefRunConfig>),
    /// A language model, with notes for the user.
    Text(Box<RunConfig>, Vec<String>),
}

/// How a training starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Go on from the newest valid checkpoint.
    pub(super) resume: bool,
    /// Begin a new run when there is nothing to resume, whatever is given.
    pub(super) begins: bool,
    /// How a person follows the run.
    pub(super) view: View,
}

impl ConfigArgs {
    /// The training of a command line. `base` is the file to use when no file is given.
    pub(super) fn training(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Training, Error> {
        self.check_type()?;
        if let Some(config) = self.merge_task(base, out)? {
            return Ok(Training::Images(Box::new(config)));
        }
        if let Some(config) = self.merge_task(base, out)? {
            return Ok(Training::Detector(Box::new(config)));
        }
        if let Some(config) = self.merge_task(base, out)? {
            return Ok(Training::Pairs(Box::new(config)));
        }
        if let Some(config) = self.merge_task(base, out)? {
            return Ok(Training::Vilt(Box::new(config)));
        }
        if let Some(config) = self.merge_task(base, out)? {
            return Ok(Training::Masked(Box::new(config)));
        }
        if let Some(config) = self.merge_task(base, out)? {
            return Ok(Training::Albef(Box::new(config)));
        }
        let (config, notes) = self.merge_and_note(base, out)?;
        Ok(Training::Text(Box::new(config.run()), notes))
    }

    /// Refuses a type of model that none has.
    fn check_type(&self) -> Result<(), Error> {
        let of_tasks = [
            ImageRunConfig::TYPES,
            DetectRunConfig::TYPES,
            ContrastRunConfig::TYPES,
            ViltRunConfig::TYPES,
            AlbefRunConfig::TYPES,
            MaskedRunConfig::TYPES,
        ];
        let all: Vec<&str> = ModelConfig::types().chain(of_tasks.into_iter().flatten().copied()).collect();
        match self.set_of("model", "model_type").filter(|named| !all.contains(&named.as_str())) {
            None => Ok(()),
            Some(named) => {
                Err(Error::usage(format!("--set model.model_type: expected one of {}, found {named:?}", all.join(", "))))
            }
        }
    }

    /// The name of a run folder: that of the file, if there is one.
    fn stem(&self) -> Option<String> {
        self.config.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned())
    }
}

impl Training {
    /// Trains, or resumes.
    ///
    /// # Errors
    /// As the training of its kind.
    pub(super) fn run(&self, args: &ConfigArgs, Start { resume, begins, view }: Start) -> Result<TrainOutcome, TrainingError> {
        // A configuration without any of these would train on built-in data, which is not what --resume is for.
        let given = begins || args.config.is_some();
        self.refuse_inside_data(resume)?;
        match self {
            Self::Images(config) => {
                let config = (**config).clone();
                let name = args.stem().unwrap_or_else(|| config.model.model_type().to_owned());
                let has_data = config.data.path.is_some() || config.shapes.target.is_some();
                let begins = given || has_data || config.train.init.is_some();
                images::run(&ImageRequest { config, name, resume, begins, view })
            }
            Self::Detector(config) => {
                let config = (**config).clone();
                let begins = given || config.data.path.is_some() || config.train.init.is_some();
                detection::run(&DetectRequest { config, resume, begins, view })
            }
            Self::Pairs(config) => of_pairs(&**config, given, (resume, view)),
            Self::Vilt(config) => of_pairs(&**config, given, (resume, view)),
            Self::Albef(config) => of_pairs(&**config, given, (resume, view)),
            Self::Masked(config) => {
                let config = (**config).clone();
                let begins = given || config.data.path.is_some() || config.train.init.is_some();
                masked::run(&MaskedRequest { config, resume, begins, view })
            }
            Self::Text(config, _) => {
                let config = (**config).clone();
                let name = args.preset.clone().or_else(|| args.stem()).unwrap_or_else(|| DEFAULT_PRESET.to_owned());
                let (out, init) = (config.train.out.clone(), config.train.init.clone());
                let begins = given || args.preset.is_some() || config.data.path.is_some() || init.is_some();
                train::run(&TrainRequest { out, name, init, config, resume, begins, view })
            }
        }
    }

    /// The run folder that is given.
    pub(super) fn out(&self) -> Option<&Path> {
        self.places().1
    }

    /// The data and the run folder that are given.
    fn places(&self) -> (Option<&Path>, Option<&Path>) {
        let (data, train) = match self {
            Self::Images(config) => (&config.data.path, &config.train),
            Self::Detector(config) => (&config.data.path, &config.train),
            Self::Pairs(config) => (&config.data.path, &config.train),
            Self::Vilt(config) => (&config.data.path, &config.train),
            Self::Masked(config) => (&config.data.path, &config.train),
            Self::Albef(config) => (&config.data.path, &config.train),
            Self::Text(config, _) => (&config.data.path, &config.train),
        };
        (data.as_deref(), train.out.as_deref())
    }

    /// Refuses to write a new run into the folder of its data, where the next training would read it.
    fn refuse_inside_data(&self, resume: bool) -> Result<(), TrainingError> {
        let (Some(data), Some(out)) = self.places() else { return Ok(()) };
        let begun = resume && out.join(CONFIG_FILE).is_file();
        // Of a folder that is not there yet, the part that is.
        let above = out
            .ancestors()
            .find_map(|part| if part.as_os_str().is_empty() { fs::canonicalize(".") } else { fs::canonicalize(part) }.ok());
        let inside = fs::canonicalize(data).is_ok_and(|data| data.is_dir() && above.is_some_and(|above| above.starts_with(data)));
        if inside && !begun {
            let (data, out) = (data.display(), out.display());
            let text =
                format!("--out {out}: is in the folder of the data, {data}, and would be read as data: choose another folder");
            return Err(TrainingError::Usage(text));
        }
        Ok(())
    }

    /// The configuration in TOML, without keys that are refused whatever the others are.
    pub(super) fn to_toml(&self) -> String {
        match self {
            Self::Images(config) => toml_of(&**config),
            Self::Detector(config) => toml_of(&**config),
            Self::Pairs(config) => toml_of(&**config),
            Self::Vilt(config) => toml_of(&**config),
            Self::Masked(config) => toml_of(&**config),
            Self::Albef(config) => toml_of(&**config),
            Self::Text(config, _) => to_toml(&**config),
        }
    }

    /// A checksum of every key but those of a place and of a machine.
    pub(super) fn checksum(&self) -> u32 {
        match self {
            Self::Images(config) => checksum(&**config),
            Self::Detector(config) => checksum(&**config),
            Self::Pairs(config) => checksum(&**config),
            Self::Vilt(config) => checksum(&**config),
            Self::Masked(config) => checksum(&**config),
            Self::Albef(config) => checksum(&**config),
            Self::Text(config, _) => checksum(&**config),
        }
    }

    /// What to do with the outcome in a folder.
    pub(super) fn hint(&self, out: &Path) -> Option<String> {
        let out = out.display();
        match self {
            Self::Images(_) => Some(format!("hint: samara predict --model {out} IMAGE")),
            Self::Detector(_) => Some(format!("hint: samara eval detect --model {out}")),
            Self::Pairs(_) | Self::Vilt(_) | Self::Albef(_) => None,
            Self::Masked(_) => Some(format!("hint: samara embed --model {out} TEXT")),
            Self::Text(..) => Some(format!("hint: samara generate --model {out} --prompt TEXT")),
        }
    }
}

/// Trains a model of images with texts.
fn of_pairs<C: PairRun + Sync>(config: &C, given: bool, (resume, view): (bool, View)) -> Result<TrainOutcome, TrainingError> {
    let mut config = config.clone();
    let begins = given || config.data_path().is_some() || config.train().init.is_some();
    pairs::run(&PairRequest { config, resume, begins, view })
}

fn toml_of<T: Task>(config: &T) -> String {
    to_toml_without(config, &T::UNREAD.iter().map(|(key, _)| ("train", *key)).collect::<Vec<_>>())
}

fn checksum(config: &impl Tables) -> u32 {
    let mut text = String::new();
    for (name, table) in config.tables() {
        for key in table.keys().iter().map(|key| key.name).filter(|key| !(name == "train" && ["out", "threads"].contains(key))) {
            text += &format!("{name}.{key}={:?}\n", table.show(key));
        }
    }
    crc32c::crc32c(text.as_bytes())
}
