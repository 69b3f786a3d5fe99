//! The error of a command: any library error with its kind, or a message.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{Failure, Kind};
use crate::files::IoError;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Error(Box<dyn Failure>);

/// A message.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Words {
    kind: Kind,
    text: String,
}

impl Failure for Words {
    fn kind(&self) -> Kind {
        self.kind
    }
}

impl Error {
    /// Wrong use of the command.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Words { kind: Kind::Usage, text: text.into() }.into()
    }

    /// Input that is not as it should be.
    pub(crate) fn data(text: impl Into<String>) -> Self {
        Words { kind: Kind::Data, text: text.into() }.into()
    }

    /// Anything else.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Words { kind: Kind::Failed, text: text.into() }.into()
    }

    /// The kind of failure.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// Whether the reader of standard output has closed it.
    pub(crate) fn is_closed_output(&self) -> bool {
        let error: &(dyn StdError + 'static) = self.0.as_ref();
        error.downcast_ref::<IoError>().is_some_and(IoError::is_closed_output)
    }
}

impl<E: Failure> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
