//! Models of folders as a command asks for them: weights as numbers of 32 bits, or in blocks.

use std::path::Path;
use std::sync::Arc;

use samara_core::graph::DType;
use samara_core::params::ParamsError;
use samara_core::quant::BLOCK;

use crate::cli::requests::{Kept, Quantize};
use crate::error::Error;
use crate::gpt::Gpt;
use crate::session::{BuildError, Engine};

/// The model of a folder with its weights as they are to be kept.
pub fn open(engine: &Arc<Engine>, folder: &Path, kept: &Kept) -> Result<Gpt, Error> {
    let dtype = kept.quantize.map_or(DType::Real, Quantize::dtype);
    Gpt::open(Arc::clone(engine), folder, dtype).map_err(|error| match (error, kept.quantize) {
        (Error::Build(error), Some(quantize)) => refused(quantize, error),
        (error, _) => error,
    })
}

/// The same model as numbers of 32 bits. Whoever has it in blocks drops it first, so that the two never stand in memory together.
pub fn open_f32(engine: &Arc<Engine>, folder: &Path) -> Result<Gpt, Error> {
    open(engine, folder, &Kept::default())
}

/// What to say when a model cannot be kept in blocks.
pub fn refused(quantize: Quantize, error: BuildError) -> Error {
    match error {
        BuildError::Params(ParamsError::Blocks { name, cols }) => Error::Usage(format!(
            "--quantize {}: tensor {name} has rows of {cols} numbers, expected a multiple of {BLOCK}; leave --quantize out, or take a model \
             whose n_embd and n_inner are multiples of {BLOCK}",
            quantize.name()
        )),
        error => Error::Build(error),
    }
}
