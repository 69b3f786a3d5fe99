//! Errors in a model folder.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::map::MapError;
use super::safetensors::WeightsError;
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::files::IoError;

fn more_like_it(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" ({more} more like it)") }
}

/// A model folder that cannot be used: the file, the key or tensor, what was found and what was expected.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// There is no model.
    #[error("{}: cannot read: {source}; expected a model folder, such as samara train and transformers write", path.display())]
    NoModel {
        /// Its description, which does not exist.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of a model folder where the folder is expected.
    #[error("{}: a file, expected its folder: {}", path.display(), folder.display())]
    Inside {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// An adapter where a whole model is expected.
    #[error(
        "{}: an adapter, expected a whole model; merge it into its base first: samara merge --model {} --out DIR", path.display(), path.display()
    )]
    Adapter {
        /// The folder.
        path: PathBuf,
    },
    /// Broken JSON.
    #[error("{}:{line}:{column}: not JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The parser's message.
        message: String,
    },
    /// A key with a value that cannot be used.
    #[error("{}: {key}: expected {expected}, found {found}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The expected form.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor that the model has no place for.
    #[error(
        "{}: tensor {name:?} has no place in this model{}; expected the tensors of a language model as config.json \
         describes it; --ignore-extra leaves out what has no place",
        path.display(), more_like_it(*more)
    )]
    Unexpected {
        /// The file or folder.
        path: PathBuf,
        /// The first of them.
        name: String,
        /// The number of others.
        more: usize,
    },
    /// A weight that is not finite as f32.
    #[error(
        "{}: tensor {name:?} is {value} at {index:?}, expected weights that are finite as f32: take a sound copy, or an earlier checkpoint of \
         its training; `samara inspect` counts such values",
        path.display()
    )]
    NotFinite {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its place in the tensor, counted from 0.
        index: Vec<usize>,
        /// The value found.
        value: f64,
    },
    /// A bias that the model does not have and that is not zero.
    #[error(
        "{}: tensor {name:?} has values other than 0, but config.json says \"bias\": false; expected zeros, or \"bias\": true",
        path.display()
    )]
    Bias {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A head that is not the token embedding.
    #[error("{}: tensor {name:?} differs from {embedding:?}; expected a head that is tied to the embedding", path.display())]
    Untied {
        /// The file or folder.
        path: PathBuf,
        /// The head.
        name: String,
        /// The embedding.
        embedding: String,
    },
    /// A name map that does not fit its model.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A frozen parameter whose values are not f32.
    #[error("parameter {name} is frozen in another element type: expected a model whose parameters are all f32")]
    Frozen {
        /// The parameter.
        name: String,
    },
    /// A model that cannot be built.
    #[error(transparent)]
    Model(#[from] Invalid),
}

impl Failure for FolderError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            Self::NoModel { .. } => Kind::Io,
            Self::Weights(error) => error.kind(),
            _ => Kind::Data,
        }
    }
}
