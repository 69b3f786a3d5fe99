//! Why a session refuses a call.

use core::fmt;

use crate::exec::WriteError;
use crate::file::ProgramKind;

/// Why a session refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SessionError {
    /// The lent memory is too small.
    Ram {
        /// Elements lent.
        found: usize,
        /// Elements needed.
        needed: usize,
    },
    /// The file has no such program.
    NoProgram(ProgramKind),
    /// Tokens or targets that do not fit the program.
    Tokens(WriteError),
    /// Pixels that do not fit the program.
    Pixels(WriteError),
    /// Labels that do not fit the program.
    Labels(WriteError),
    /// The sequence has reached the model's context length: [`Session::restart`](super::Session::restart) it.
    ContextFull {
        /// The positions.
        context: usize,
    },
    /// Too little scratch for top-p.
    Order {
        /// Elements lent.
        found: usize,
        /// Elements needed: one for each token.
        needed: usize,
    },
    /// There are no logits to sample from: call [`Session::feed`](super::Session::feed) before every [`Session::choose`](super::Session::choose).
    NoLogits,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram { found, needed } => {
                write!(f, "{found} elements of four bytes were lent, {needed} are needed: see Session::ram_len")
            }
            Self::NoProgram(kind) => write!(f, "the file has no program {kind:?}: export it with one"),
            Self::Tokens(error) => write!(f, "tokens: {error}"),
            Self::Pixels(error) => write!(f, "pixels: {error}"),
            Self::Labels(error) => write!(f, "labels: {error}"),
            Self::Order { found, needed } => write!(f, "top-p needs scratch for {needed} tokens, {found} were lent"),
            Self::NoLogits => f.write_str("no logits to sample from: feed a token before every choice"),
            Self::ContextFull { context } => {
                write!(f, "the sequence has {context} tokens, as many as the model has positions: restart it")
            }
        }
    }
}

impl core::error::Error for SessionError {}
