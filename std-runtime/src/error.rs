//! What an error means to whoever started the program. Every error of the library says it; the exit code follows from it.

use std::error::Error;

/// What kind of failure an error is.
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
    /// A signal of this number ended the run after the step in progress was saved.
    Interrupted(u8),
    /// Anything else.
    Failed,
}

/// An error that knows its kind.
pub trait Failure: Error + Send + Sync + 'static {
    /// What kind of failure it is.
    fn kind(&self) -> Kind;
}
