//! Why a training ended without its result.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::recompute::BudgetError;
use crate::config::{ConfigError, Difference, Invalid};
use crate::data::DataError;
use crate::data::splits::PrepareError;
use crate::dialogue::encode::EncodeError;
use crate::dialogue::examples::ExampleError;
use crate::dialogue::template::TemplateError;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::lm::RunError;
use crate::lm::open::OpenError;
use crate::lm::set_weights::SetError;
use crate::memory::OutOfMemory;
use crate::model_folder::FolderError;
use crate::model_folder::safetensors::WeightsError;
use crate::run::checkpoint::CheckpointError;
use crate::run::lock::LockError;
use crate::run::metrics::MetricsError;
use crate::session::BuildError;
use crate::stop;
use crate::threads::PoolError;
use crate::tokenizer::{FileError, TextError};
use crate::vision::weights::ImageModelError;

/// Why a training did not start, or ended.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// The configuration of the run that is resumed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Values of the configuration that do not go together.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A resumed run is configured otherwise than it was begun.
    #[error("{}: the run was begun with another configuration:{}\nresume with the same values, or choose another --out", path.display(), list(differences))]
    Mismatch {
        /// The run's configuration file.
        path: PathBuf,
        /// The differences: value at the start, value now.
        differences: Vec<Difference>,
    },
    /// A run folder that cannot be used, in words.
    #[error("{0}")]
    Usage(String),
    /// Text, tokens, or the tokenizer for them.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A prompt that has no ids.
    #[error(transparent)]
    Prompt(#[from] TextError),
    /// Dialogues that have no ids, or a template.
    #[error(transparent)]
    Dialogue(#[from] EncodeError),
    /// Rows that are no examples.
    #[error(transparent)]
    Example(#[from] ExampleError),
    /// A model folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The initial model's folder, or the one of a model that scores.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Weights from a folder or into one.
    #[error(transparent)]
    Set(#[from] SetError),
    /// An image model.
    #[error(transparent)]
    Image(#[from] ImageModelError),
    /// Weights of a checkpoint.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A run folder that another process has.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A program that cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A memory budget that is too small.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A training that needs more memory than is available.
    #[error("this training takes {} MiB of memory (samara train --plan), and {}; {way}", error.bytes >> 20, error.least())]
    Memory {
        /// The memory that it needs, and what is available.
        error: OutOfMemory,
        /// The advice.
        way: String,
    },
    /// A step, an evaluation or a sample.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Threads.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// A file of the run folder.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A signal ended the run after the step in progress was saved.
    #[error("stopped by {}; resume with: {resume}", stop::name(*signal))]
    Interrupted {
        /// The signal number.
        signal: u8,
        /// The command that resumes.
        resume: String,
    },
}

impl TrainingError {
    /// A maker for `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(IoError::at(path, action)(source))
    }
}

impl From<DataError> for TrainingError {
    fn from(error: DataError) -> Self {
        Self::Prepare(error.into())
    }
}

impl From<TemplateError> for TrainingError {
    fn from(error: TemplateError) -> Self {
        Self::Dialogue(error.into())
    }
}

impl From<FileError> for TrainingError {
    fn from(error: FileError) -> Self {
        Self::Prepare(error.into())
    }
}

fn list(differences: &[Difference]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    differences.iter().map(|d| format!("\n  {} = {}, now {}", d.key, value(&d.first), value(&d.second))).collect()
}

impl Failure for TrainingError {
    fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Mismatch { .. } | Self::Usage(_) => Kind::Usage,
            Self::Invalid(error) => error.kind(),
            Self::Prepare(error) => error.kind(),
            Self::Prompt(error) => error.kind(),
            Self::Dialogue(error) => error.kind(),
            Self::Example(error) => error.kind(),
            Self::Folder(error) => error.kind(),
            Self::Open(error) => error.kind(),
            Self::Set(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Weights(error) => error.kind(),
            Self::Checkpoint(error) => error.kind(),
            Self::Lock(error) => error.kind(),
            Self::Metrics(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Budget(error) => error.kind(),
            Self::Memory { error, .. } => error.kind(),
            Self::Run(error) => error.kind(),
            Self::Threads(error) => error.kind(),
            Self::Io(error) => error.kind(),
            Self::Interrupted { signal, .. } => Kind::Interrupted(*signal),
        }
    }
}
