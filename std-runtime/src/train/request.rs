//! What a training is asked for, and what it answers.

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
    /// The run folder; none: a new one, `runs/NAME-NNN`.
    pub out: Option<PathBuf>,
    /// The name of the preset, for the name of a new run folder.
    pub name: String,
    /// A model folder with the initial weights.
    pub init: Option<PathBuf>,
    /// Go on from the newest valid checkpoint of `out`.
    pub resume: bool,
    /// Begin a new run when there is nothing to go on with: the request says what is trained.
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
    /// What every training is asked for. It begins with the model of `init`.
    pub train: TrainRequest,
    /// How dialogues become tokens.
    pub dialogue: DialogueConfig,
}

/// Which run folder is asked for.
#[derive(Clone, Copy, Debug)]
pub struct FolderRequest<'r> {
    /// What messages call the command.
    pub command: &'static str,
    /// The folder; none: the next free one.
    pub out: Option<&'r Path>,
    /// The name of a new folder.
    pub name: &'r str,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// Go on from the newest valid checkpoint.
    pub resume: bool,
    /// Begin a new run when there is nothing to go on with.
    pub begins: bool,
    /// Print results only.
    pub quiet: bool,
}

impl TrainRequest {
    /// The run folder that it asks for, for a command.
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
