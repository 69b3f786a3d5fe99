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
use crate::model::tune::peft::{AdapterError, AdapterFolder, Source};
use crate::model::tune::tuned::Adapted;
use crate::model_folder::{ExtraTensors, FolderError};
use crate::say;
use crate::session::{BuildError, Engine};

/// A model folder that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The adapter, or its base.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A model that does not exist.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The model cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Weights whose rows are not whole quantisation blocks.
    #[error(transparent)]
    Rows(#[from] RowsError),
}

impl Failure for OpenError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Adapter(error) => error.kind(),
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
    /// The requested element type.
    pub quantize: Quantize,
    /// The weight.
    pub name: String,
    /// Its columns.
    pub cols: usize,
}

impl RowsError {
    /// The error about the rows of a weight, if that is why a quantised model could not be built; otherwise the error itself.
    ///
    /// # Errors
    /// The error that was given, where rows are not the reason.
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
    /// The model of a folder, or of an adapter folder with the base that it names; see [`Model::open_source`].
    ///
    /// # Errors
    /// As [`Model::open_source`].
    pub fn open(engine: Arc<Engine>, folder: &Path, dtype: DType) -> Result<Self, OpenError> {
        Self::open_source(engine, &Source::of(folder, None)?, dtype, ExtraTensors::Refuse)
    }

    /// A model with the matrices that every token reads whole in an element type: [`DType::Real`], or another, in which they are frozen. Weights are
    /// converted while they are read, so that only the model itself is in memory. Adapters stay in f32. Tensors of the base that the model does not
    /// have are refused or ignored.
    ///
    /// # Errors
    /// The folders, or a model that cannot be built.
    pub fn open_source(engine: Arc<Engine>, source: &Source, dtype: DType, extra: ExtraTensors) -> Result<Self, OpenError> {
        let base = FolderConfig::read(&source.base)?.model.architecture()?;
        let Some(folder) = &source.adapter else {
            let mut model = Self::stored_as(engine, base, dtype)?;
            model.load(&source.base, extra)?;
            return Ok(model);
        };
        let folder = AdapterFolder::open(folder, &source.base, &base)?;
        folder.doubt().map_err(AdapterError::from)?.iter().for_each(|doubt| say::line(doubt));
        let map = base.name_map();
        let mut model = Self::stored_as(engine, Arc::new(Adapted { base, adapters: folder.adapters.clone() }), dtype)?;
        model.load(&source.base, extra)?;
        let set = model.weights_mut();
        let registry = Arc::clone(set.registry());
        folder.load(&map, &registry.view(), set.weights.get_mut(), set.frozen.get_mut())?;
        Ok(model)
    }

    /// A model with its weights quantised, or in f32.
    ///
    /// # Errors
    /// As [`Model::open_source`]; rows of a weight that are not whole quantisation blocks.
    pub fn open_quantised(
        engine: &Arc<Engine>,
        source: &Source,
        quantize: Option<Quantize>,
        extra: ExtraTensors,
    ) -> Result<Self, OpenError> {
        let dtype = quantize.map_or(DType::Real, Quantize::dtype);
        Self::open_source(Arc::clone(engine), source, dtype, extra).map_err(|error| match (error, quantize) {
            (OpenError::Build(error), Some(quantize)) => {
                RowsError::of(quantize, error).map_or_else(OpenError::Build, OpenError::Rows)
            }
            (error, _) => error,
        })
    }
}
