//! Text from any language model, several rows at a time.
//!
//! One program with B slots appends a token to every row; a prompt goes through a program of one row, whose keys and values are copied into a slot.
//! The length of that program follows from the prompt alone, and every kernel computes a row from this row alone, so a row has the same bits
//! alone, in any batch, and in a slot that another row has left.

pub mod prefill;
pub mod slots;
pub mod stream;
pub mod texts;

use samara_core::exec::WriteError;
use samara_core::graph::Tensor;
use samara_core::model::lm::LanguageModel;
use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::session::{BuildError, CpuDevice, Device, DeviceError, OwnedProgram, Session, SetId, StateId};

/// A language model bound to a parameter set of a session, with state sets for its keys and values.
pub struct Lm<'s, D: Device = CpuDevice> {
    /// The model.
    pub model: &'s dyn LanguageModel,
    /// The session.
    pub session: &'s mut Session<D>,
    /// The set with the model's weights.
    pub set: SetId,
    /// Where keys and values are.
    pub caches: Caches,
}

/// The state sets of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Those of all rows that are generated.
    pub rows: StateId,
    /// Those of a prompt, before they are copied into the cache of the rows. Unused when there is one row.
    pub prompt: StateId,
}

impl Caches {
    /// Adds both sets, empty, to a session.
    pub fn new<D: Device>(session: &mut Session<D>) -> Self {
        Self { rows: session.add_state("cache"), prompt: session.add_state("prompt cache") }
    }
}

/// Why text could not be generated.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A program could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A value that a program does not take.
    #[error("{what}: {error}")]
    Input {
        /// Which input.
        what: &'static str,
        /// What is wrong.
        error: WriteError,
    },
    /// A prompt without tokens.
    #[error("prompt {row}, counted from 0, has no tokens, expected at least 1: begin it with the end-of-text token")]
    NoPrompt {
        /// The number of the prompt.
        row: usize,
    },
}

impl Failure for DecodeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Build(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Input { .. } | Self::NoPrompt { .. } => Kind::Data,
        }
    }
}

/// Writes integers and says which input it was when they are out of range.
fn write_ints<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    what: &'static str,
    t: Tensor,
    values: &[i32],
) -> Result<(), DecodeError> {
    session.write_ints(program, t, values).map_err(|error| DecodeError::Input { what, error })
}
