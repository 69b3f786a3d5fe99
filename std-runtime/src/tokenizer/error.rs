//! Errors in the files of a tokenizer.

use crate::error::{Failure, Kind};
use crate::files::IoError;
use std::path::{Path, PathBuf};

/// Why a tokenizer file cannot be used, or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No tokenizer in a folder.
    #[error("{}: no tokenizer here; expected tokenizer.json, or vocab.json and merges.txt, or vocab.txt", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A model folder without a tokenizer, where text must be encoded or decoded.
    #[error("{}: the folder has no tokenizer: add tokenizer.json, or vocab.json and merges.txt, or vocab.txt{way_out}", path.display())]
    NoneInModel {
        /// The folder.
        path: PathBuf,
        /// An alternative.
        way_out: &'static str,
    },
    /// Broken JSON, or a value of the wrong kind.
    #[error("{}:{line}:{column}: expected a tokenizer's JSON file, found: {message}", path.display())]
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
    /// Something that is well-formed and wrong or not supported.
    #[error("{}: {item}: {problem}", path.display())]
    Item {
        /// The file.
        path: PathBuf,
        /// The part of the file.
        item: String,
        /// What was found and what was expected.
        problem: String,
    },
}

impl FileError {
    /// The error for the model folder `path`, which has no tokenizer although text is used. `way_out` is an alternative: `""`, or `", or …"`.
    pub fn none_in(path: &Path, way_out: &'static str) -> Self {
        Self::NoneInModel { path: path.to_path_buf(), way_out }
    }

    /// An error in a part of the file `path`.
    pub(super) fn item(path: &Path, (item, problem): Problem) -> Self {
        Self::Item { path: path.to_path_buf(), item, problem }
    }
}

impl Failure for FileError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            _ => Kind::Data,
        }
    }
}

/// An item of a file and the problem with it.
pub(super) type Problem = (String, String);

pub(super) fn problem<T>(item: impl Into<String>, what: impl Into<String>) -> Result<T, Problem> {
    Err((item.into(), what.into()))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    Ok(std::fs::read(path).map_err(IoError::at(path, "read"))?)
}

pub(super) fn parse<'j, T: serde::Deserialize<'j>>(json: &'j [u8], path: &Path) -> Result<T, FileError> {
    serde_json::from_slice(json).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        FileError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
        }
    })
}
