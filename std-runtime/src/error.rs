//! Error kinds. Every error of the library has one, and the exit code follows from it.

use std::error::Error;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line or the configuration is wrong.
    Usage,
    /// Data, weights, a tokenizer or a checkpoint are not as they should be.
    Data,
    /// The operating system refused to read or write; the disk may be full.
    Io,
    /// Training diverged.
    Diverged,
    /// A signal with this number ended the run after the current step was saved.
    Interrupted(u8),
    /// Anything else.
    Failed,
}

/// An error that knows its kind.
pub trait Failure: Error + Send + Sync + 'static {
    /// The kind of failure.
    fn kind(&self) -> Kind;
}
