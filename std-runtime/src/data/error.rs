//! Errors in data files.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::detect::coco::CocoError;
use crate::error::{Failure, Kind};
use crate::files::{FileError, IoError};
use crate::stop::Interrupted;

/// An error in a data file: the file, the place, what was found and what was expected.
#[derive(Debug, Error)]
pub enum DataError {
    /// The file cannot be read or written, or does not have the required format.
    #[error(transparent)]
    File(#[from] FileError),
    /// An image of a training cannot be read.
    #[error(
        "image {number} of {count}: {error}; mend it, or leave such images out with data.on_bad_image=skip; samara data check lists all"
    )]
    Image {
        /// Its number in the list of images, from 1.
        number: usize,
        /// Images of the list.
        count: usize,
        /// What is wrong.
        error: FileError,
    },
    /// Boxes of images cannot be used.
    #[error(transparent)]
    Boxes(#[from] CocoError),
    /// A signal arrived before all data was read.
    #[error("{0} while data was read: nothing was written; repeat the command to start again")]
    Interrupted(#[from] Interrupted),
    /// A mapped file became shorter than it was when it was opened.
    #[error(
        "{path}: the file was truncated while in use: {expected_bytes} bytes when opened, {found_bytes} bytes now; restore it, then resume"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length when opened.
        expected_bytes: u64,
        /// Length now.
        found_bytes: u64,
    },
    /// A mapped file was written to.
    #[error("{path}: the file was modified while in use; restore it, then resume")]
    Modified {
        /// The file.
        path: PathBuf,
    },
    /// A place in a text file is not as it should be.
    #[error("{path}:{line}:{column}: expected {expected}, found {found}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column in characters, from 1.
        column: u64,
        /// The expected format.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The requested range exceeds the file.
    #[error("{path}: {unit} {start}..{end} requested, but the file has {len}")]
    Range {
        /// The file.
        path: PathBuf,
        /// The unit: bytes, tokens, steps.
        unit: &'static str,
        /// First element requested.
        start: u64,
        /// One past the last element requested.
        end: u64,
        /// Elements in the file.
        len: u64,
    },
    /// A token id that the vocabulary does not have.
    #[error("{path}: token {position} has id {found}, expected an id below {limit}; was the file made with another tokenizer?")]
    TokenId {
        /// The file.
        path: PathBuf,
        /// Index of the token in the file.
        position: u64,
        /// The id.
        found: i64,
        /// Size of the vocabulary.
        limit: u32,
    },
    /// Too little is held out.
    #[error(
        "{what} has {found} tokens held out, expected at least {expected} (train.block_size + 1): give more data, a larger data.val_fraction, or a smaller train.block_size; data.val_fraction=0 trains without validation"
    )]
    HeldOut {
        /// Which data.
        what: String,
        /// Tokens found.
        found: u64,
        /// Tokens needed.
        expected: u64,
    },
    /// The data is too small for its use.
    #[error("{what} has {found} tokens, expected at least {expected}: give more data or a smaller train.block_size")]
    TooSmall {
        /// Which data.
        what: String,
        /// Tokens found.
        found: u64,
        /// Tokens needed.
        expected: u64,
    },
}

impl DataError {
    /// An error about the form of `path`.
    pub(crate) fn format(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        FileError::format(path, expected, found).into()
    }
}

impl From<IoError> for DataError {
    fn from(error: IoError) -> Self {
        Self::File(error.into())
    }
}

impl Failure for DataError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Interrupted(error) => error.kind(),
            Self::Boxes(error) => error.kind(),
            _ => Kind::Data,
        }
    }
}
