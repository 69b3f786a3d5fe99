//! What a training is asked for, and what it answers.

use std::path::PathBuf;

use serde::Serialize;

use super::config::RunConfig;
use super::progress::View;

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
