//! Everything that can go wrong in a run, and the exit code of the binary for it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::{ConfigError, Difference, Invalid};
use crate::data::DataError;
use crate::gpt::RunError;
use crate::model_folder::FolderError;
use crate::model_folder::safetensors::WeightsError;
use crate::run::checkpoint::CheckpointError;
use crate::run::metrics::MetricsError;
use crate::session::BuildError;
use crate::threads::PoolError;
use crate::tokenizer::{self, DecodeError, EncodeError, TrainError};

/// The run did what was asked.
pub const EXIT_OK: u8 = 0;
/// The run failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Data, weights or a tokenizer are not as they should be.
pub const EXIT_DATA: u8 = 3;
/// The operating system refused to read or write; the disk may be full.
pub const EXIT_IO: u8 = 4;
/// Training diverged.
pub const EXIT_DIVERGED: u8 = 5;

/// Why a run did not do what was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Values of the configuration that do not go together, found later.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A resumed run is configured otherwise than it was begun.
    #[error("{}: the run was begun with another configuration:{}\nresume with the same values, or choose another --out", path.display(), list(differences))]
    Mismatch {
        /// The run's configuration file.
        path: PathBuf,
        /// What differs: begun with, asked for now.
        differences: Vec<Difference>,
    },
    /// Wrong use, in words.
    #[error("{0}")]
    Usage(String),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tokenizer's files.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::FileError),
    /// Training a tokenizer.
    #[error(transparent)]
    TokenizerTraining(#[from] TrainError),
    /// Text that has no ids.
    #[error("{what}: {source}")]
    Encode {
        /// The text.
        what: String,
        /// Why.
        source: EncodeError,
    },
    /// Ids that are no text.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Input that is not as it should be, in words.
    #[error("{0}")]
    Input(String),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A program that cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Threads.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// A file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Numbers that are not finite.
    #[error("training diverged in step {step}: {tensor} is not finite; lower train.lr, or set train.grad_clip")]
    Diverged {
        /// The optimizer step, from 1.
        step: u64,
        /// The first tensor that is not finite.
        tensor: String,
    },
    /// A signal ended the run after the step in progress was saved.
    #[error("stopped by {}; go on with: {resume}", if *signal == 15 { "SIGTERM" } else { "Ctrl-C" })]
    Interrupted {
        /// Number of the signal: 2 or 15.
        signal: u8,
        /// The command that resumes.
        resume: String,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

fn list(differences: &[Difference]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    differences.iter().map(|d| format!("\n  {} = {}, now {}", d.key, value(&d.first), value(&d.second))).collect()
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Build(error) => Self::Build(error),
            RunError::Data(error) => Self::Data(error),
            RunError::Device(error) => Self::Failed(error.to_string()),
            RunError::Diverged { step, what } => Self::Diverged { step, tensor: what },
            error @ (RunError::Input { .. } | RunError::TooLong { .. } | RunError::TooShort { .. }) => {
                Self::Input(error.to_string())
            }
        }
    }
}

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// The exit code of the binary: one of the constants here, or 128 + the signal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Invalid(_) | Self::Mismatch { .. } | Self::Usage(_) => EXIT_USAGE,
            Self::TokenizerTraining(TrainError::VocabSize { .. }) => EXIT_USAGE,
            Self::Data(DataError::Io { .. }) => EXIT_IO,
            Self::Folder(
                FolderError::Io { .. }
                | FolderError::NoModel { .. }
                | FolderError::Weights(WeightsError::Write { .. } | WeightsError::File(DataError::Io { .. })),
            ) => EXIT_IO,
            Self::Weights(WeightsError::Write { .. } | WeightsError::File(DataError::Io { .. })) => EXIT_IO,
            Self::Tokenizer(tokenizer::FileError::Io { .. }) => EXIT_IO,
            Self::Checkpoint(CheckpointError::Io { .. }) | Self::Io { .. } => EXIT_IO,
            Self::Metrics(error) => match error {
                MetricsError::Io { .. } => EXIT_IO,
                _ => EXIT_DATA,
            },
            Self::Data(_) | Self::Folder(_) | Self::Weights(_) | Self::Tokenizer(_) | Self::TokenizerTraining(_) => EXIT_DATA,
            Self::Encode { .. } | Self::Decode(_) | Self::Input(_) | Self::Checkpoint(_) => EXIT_DATA,
            Self::Diverged { .. } => EXIT_DIVERGED,
            Self::Interrupted { signal, .. } => signal.saturating_add(128),
            Self::Build(_) | Self::Threads(_) | Self::Failed(_) => EXIT_FAILED,
        }
    }
}
