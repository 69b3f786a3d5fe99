//! Models of folders, with weights in f32 or quantised.

use std::path::Path;
use std::sync::Arc;

use samara_core::graph::DType;
use samara_core::params::ParamsError;
use samara_core::quant::BLOCK;
use thiserror::Error;

use super::Model;
use super::formats::Quantize;
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::model::folder::FolderConfig;
use crate::model_folder::{ExtraTensors, FolderError};
use crate::session::{BuildError, Engine};

/// A model folder that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A model that does not exist.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The model cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Weights whose rows are not whole blocks.
    #[error(transparent)]
    Rows(#[from] RowsError),
}

impl Failure for OpenError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Rows(error) => error.kind(),
        }
    }
}

/// A weight that cannot be quantised: its rows are not whole blocks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "--quantize {}: tensor {name} has rows of {cols} numbers, expected a multiple of {BLOCK}; leave --quantize out, or take a model whose \
     widths are multiples of {BLOCK}",
    quantize.name()
)]
pub struct RowsError {
    /// The element type that was asked for.
    pub quantize: Quantize,
    /// The weight.
    pub name: String,
    /// Its columns.
    pub cols: usize,
}

impl RowsError {
    /// What is wrong with the rows of a weight, if that is why a quantised model could not be built; the error itself otherwise.
    pub fn of(quantize: Quantize, error: BuildError) -> Result<Self, BuildError> {
        match error {
            BuildError::Params(ParamsError::Blocks { name, cols }) => Ok(Self { quantize, name: name.to_string(), cols }),
            error => Err(error),
        }
    }
}

impl Failure for RowsError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

impl Model {
    /// The model of a folder, with what every token reads whole in an element type: [`DType::Real`], or another, in which it is frozen.
    /// Weights are converted while they are read, so that no more than the model itself is in memory.
    ///
    /// # Errors
    /// The folder, or a model that cannot be built.
    pub fn open(engine: Arc<Engine>, folder: &Path, dtype: DType) -> Result<Self, OpenError> {
        Self::open_with(engine, folder, dtype, ExtraTensors::Refuse)
    }

    /// The same, where it is said what is done with tensors that the model has no place for.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(engine: Arc<Engine>, folder: &Path, dtype: DType, extra: ExtraTensors) -> Result<Self, OpenError> {
        let architecture = FolderConfig::read(folder)?.model.architecture()?;
        let mut model = Self::stored_as(engine, architecture, dtype)?;
        model.load(folder, extra)?;
        Ok(model)
    }

    /// The model of a folder with its weights quantised, or in f32.
    ///
    /// # Errors
    /// As [`Model::open_with`]; rows of a weight that are not whole blocks.
    pub fn open_quantised(
        engine: &Arc<Engine>,
        folder: &Path,
        quantize: Option<Quantize>,
        extra: ExtraTensors,
    ) -> Result<Self, OpenError> {
        let dtype = quantize.map_or(DType::Real, Quantize::dtype);
        Self::open_with(Arc::clone(engine), folder, dtype, extra).map_err(|error| match (error, quantize) {
            (OpenError::Build(error), Some(quantize)) => {
                RowsError::of(quantize, error).map_or_else(OpenError::Build, OpenError::Rows)
            }
            (error, _) => error,
        })
    }
}
