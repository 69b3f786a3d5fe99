//! Why a measurement failed.

use thiserror::Error;

use crate::data::DataError;
use crate::error::{Failure, Kind};
use crate::lm::RunError;
use crate::lm::open::RowsError;
use crate::memory::OutOfMemory;
use crate::session::BuildError;
use crate::threads::PoolError;
use crate::train::recompute::BudgetError;

/// Why a measurement failed.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Threads.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// A program that cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Memory that cannot be had.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// A memory budget that is too small.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Weights that cannot be quantised.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A program that cannot run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// More tokens than the model has positions.
    #[error(
        "a prompt of {prompt} tokens and {new} more: expected at most {positions} together, the model's positions; lower --prompt-tokens or \
         --new-tokens, or raise model.n_positions (max_position_embeddings of a Llama)"
    )]
    Positions {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens generated after the first.
        new: usize,
        /// Positions of the model.
        positions: usize,
    },
    /// An assignment without an answer, or an answer without a proof.
    #[error("{0}")]
    Assignment(String),
}

impl From<DataError> for BenchError {
    fn from(error: DataError) -> Self {
        Self::Run(error.into())
    }
}

impl Failure for BenchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Threads(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Memory(error) => error.kind(),
            Self::Budget(error) => error.kind(),
            Self::Rows(error) => error.kind(),
            Self::Run(error) => error.kind(),
            Self::Positions { .. } => Kind::Usage,
            Self::Assignment(_) => Kind::Data,
        }
    }
}
