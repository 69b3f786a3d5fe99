//! Errors in a recording, or in running it.

use std::path::PathBuf;

use thiserror::Error;

use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::model_folder::error::FolderError;
use crate::model_folder::map::MapError;
use crate::model_folder::safetensors::WeightsError;
use crate::session::BuildError;

/// A recording that cannot be compared with a model.
#[derive(Debug, Error)]
pub enum ParityError {
    /// The model folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The recording.
    #[error(transparent)]
    Recording(#[from] WeightsError),
    /// A file beside it.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The model.
    #[error(transparent)]
    Model(#[from] Invalid),
    /// Its names.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Its program.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A tensor or key of the recording.
    #[error("{}: {name}: expected {expected}, found {found}", path.display())]
    Found {
        /// The file.
        path: PathBuf,
        /// The tensor or key.
        name: String,
        /// The expected form.
        expected: String,
        /// What was found.
        found: String,
    },
}

impl Failure for ParityError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Recording(error) => error.kind(),
            Self::Io(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Model(_) | Self::Map(_) | Self::Found { .. } => Kind::Data,
        }
    }
}
