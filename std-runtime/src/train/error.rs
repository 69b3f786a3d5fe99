//! Why a run ended early.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::prepare::PrepareError;
use crate::config::{ConfigError, Invalid};
use crate::data::DataError;
use crate::gpt::RunError;
use crate::model_folder::ModelError;
use crate::model_folder::safetensors::WeightsError;
use crate::run::checkpoint::CheckpointError;
use crate::run::metrics::MetricsError;
use crate::session::BuildError;
use crate::threads::PoolError;
use crate::tokenizer::{EncodeError, FileError};

/// Why a run ended early.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The run folder holds a run.
    #[error("{}: the folder already holds a run; add --resume to go on with it, or choose another --out", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The run to go on with had another configuration.
    #[error("{}: the run was started with another configuration:\n{differences}go on with the same, or start another run with --init {}", path.display(), path.display())]
    ConfigChanged {
        /// The run folder.
        path: PathBuf,
        /// What differs.
        differences: String,
    },
    /// A model that does not fit its data or the request.
    #[error("{key}: {message}")]
    Config {
        /// The key to change.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// The configuration of the run to go on with.
    #[error(transparent)]
    FormerConfig(#[from] ConfigError),
    /// A configuration that cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The prompt of samples.
    #[error("generate.prompt: {0}")]
    Prompt(#[from] EncodeError),
    /// Text or tokens.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Text or tokens.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model folder.
    #[error(transparent)]
    Folder(#[from] ModelError),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tokenizer file.
    #[error(transparent)]
    Tokenizer(#[from] FileError),
    /// A program.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Threads.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A step.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl TrainError {
    /// A [`TrainError::Io`] maker for `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }
}
