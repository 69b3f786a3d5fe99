//! Values that do not go together.

use crate::error::{Failure, Kind};

/// A value that does not go with others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, found {found}")]
pub struct Invalid {
    /// The key with its table.
    pub key: &'static str,
    /// The expected range.
    pub expected: String,
    /// The value found.
    pub found: String,
}

impl Invalid {
    /// The value `found` of `key` is not as `expected`.
    pub fn new(key: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self { key, expected: expected.into(), found: found.to_string() }
    }
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}
