//! The request for a training, and its outcome.

use std::path::{Path, PathBuf};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::config::RunConfig;
use super::progress::View;
use crate::data::config::TokenizerChoice;
use crate::dialogue::config::DialogueConfig;

/// Train a model.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// The effective configuration.
    pub config: RunConfig,
    /// The run folder; `None`: a new one, `runs/NAME-NNN`.
    pub out: Option<PathBuf>,
    /// The name of the preset, for the name of a new run folder.
    pub name: String,
    /// A model folder with the initial weights.
    pub init: Option<PathBuf>,
    /// Go on from the newest valid checkpoint of `out`.
    pub resume: bool,
    /// Start a new run when there is nothing to resume: the request defines what is trained.
    pub begins: bool,
    /// How a person follows the run.
    pub view: View,
}

impl TrainRequest {
    /// Whether only results are printed.
    pub fn is_quiet(&self) -> bool {
        self.view == View::Quiet
    }
}

/// Train a model on dialogues.
#[derive(Clone, Debug)]
pub struct SftRequest {
    /// The common part of all training requests. The training starts from the model in `init`.
    pub train: TrainRequest,
    /// How dialogues become tokens.
    pub dialogue: DialogueConfig,
}

/// The request for a run folder.
#[derive(Clone, Copy, Debug)]
pub struct FolderRequest<'r> {
    /// The name of the command in messages.
    pub command: &'static str,
    /// The folder; `None`: the next free one.
    pub out: Option<&'r Path>,
    /// The name of a new folder.
    pub name: &'r str,
    /// Checkpoints to keep.
    pub keep: usize,
    /// Go on from the newest valid checkpoint.
    pub resume: bool,
    /// Start a new run when there is nothing to resume.
    pub begins: bool,
    /// The tokenizer that is named for the run, which may be that of its folder.
    pub tokenizer: Option<&'r Path>,
    /// Print results only.
    pub quiet: bool,
}

impl TrainRequest {
    /// The run folder of the request, for a command.
    pub fn folder(&self, command: &'static str) -> FolderRequest<'_> {
        FolderRequest {
            command,
            out: self.out.as_deref(),
            name: &self.name,
            keep: self.config.train.keep_checkpoints,
            resume: self.resume,
            begins: self.begins,
            tokenizer: match &self.config.data.tokenizer {
                TokenizerChoice::Path(path) => Some(path.as_path()),
                _ => None,
            },
            quiet: self.is_quiet(),
        }
    }
}

/// What a training is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// The name of the scalar, such as `objective/scores`.
    pub name: &'static str,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// Whether larger values are better.
    #[serde(skip)]
    pub is_larger_better: bool,
}

impl Measure {
    /// What people call it: the name without what it belongs to.
    pub fn word(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }
}

impl Default for Measure {
    fn default() -> Self {
        Self { name: "loss", unit: "nats per token", is_larger_better: false }
    }
}

/// A finished training. In JSON its values have the names of the measure: `train_loss`, `val_accuracy`, `best_val_accuracy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainOutcome {
    /// Steps done, those before a resumption included.
    pub steps: u64,
    /// What the values are: the loss of a language model, the scores of a policy.
    pub measure: Measure,
    /// Its value in the last step.
    pub train_loss: Option<f64>,
    /// Its last value on the validation rows.
    pub val_loss: Option<f64>,
    /// Its best value on them.
    pub best_val_loss: Option<f64>,
    /// The KL of a policy from its reference in the last step, in nats per completion.
    pub kl: Option<f64>,
    /// The run folder, which is also a model folder.
    pub out: PathBuf,
}

impl Serialize for TrainOutcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let word = self.measure.word();
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("steps", &self.steps)?;
        map.serialize_entry("measure", &self.measure)?;
        for (part, value) in [("train", self.train_loss), ("val", self.val_loss), ("best_val", self.best_val_loss)] {
            map.serialize_entry(&format!("{part}_{word}"), &value)?;
        }
        self.kl.map_or(Ok(()), |kl| map.serialize_entry("kl", &kl))?;
        map.serialize_entry("out", &self.out)?;
        map.end()
    }
}
