//! The request for a training, and its outcome.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::RunConfig;
use super::progress::View;
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
            quiet: self.is_quiet(),
        }
    }
}

/// A finished training.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrainOutcome {
    /// Steps done, those before a resumption included.
    pub steps: u64,
    /// Loss of the last batch, in nats per token.
    pub train_loss: Option<f64>,
    /// The last validation loss, in nats per token.
    pub val_loss: Option<f64>,
    /// The smallest validation loss.
    pub best_val_loss: Option<f64>,
    /// The run folder, which is also a model folder.
    pub out: PathBuf,
}
