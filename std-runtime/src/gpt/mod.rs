//! GPT on this machine: a model in memory, and its programs for training, evaluation, scoring and generation over one registry.

pub mod evaluate;
pub mod formats;
pub mod generate;
pub mod generation;
pub mod open;
pub mod peak;
pub mod plan;
pub mod score;
pub mod step;

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::WriteError;
use samara_core::graph::{DType, Tensor};
use samara_core::model::gpt::{GptConfig, GptParams};
use samara_core::quant::quantise_row;

use crate::data::DataError;
use crate::error::{Failure, Kind};
use crate::model_folder::{FolderError, load_weights};
use crate::session::{BuildError, Engine, OwnedParams, OwnedProgram, Session};

/// A GPT with its weights in memory.
pub struct Gpt {
    /// Its shape.
    pub config: GptConfig,
    /// Where its parameters stand in the registry.
    pub params: GptParams,
    /// Memory and engine.
    pub session: Session,
}

impl Gpt {
    /// A model whose weights are all 0: load or [initialise](samara_core::params::Params::initialise) them.
    pub fn new(engine: Arc<Engine>, config: GptConfig) -> Result<Self, BuildError> {
        Self::stored_as(engine, config, DType::Real)
    }

    /// The same with what every token reads whole in another element type, frozen.
    fn stored_as(engine: Arc<Engine>, config: GptConfig, dtype: DType) -> Result<Self, BuildError> {
        let (owned, params) = OwnedParams::new(config.param_count(), |registry| {
            let params = GptParams::register(&config, registry);
            if dtype != DType::Real {
                params.store_as(dtype, &config, registry);
            }
            params
        })?;
        Ok(Self { config, params, session: Session::new(engine, owned) })
    }

    /// The same model with what every token reads whole in another element type, frozen.
    pub fn quantised(&self, dtype: DType) -> Result<Self, BuildError> {
        let mut quantised = Self::stored_as(Arc::clone(self.session.engine()), self.config, dtype)?;
        let values = self.session.buffers.trainable.get();
        let (to, buffers) = quantised.session.params_and_buffers();
        for (from, to) in self.session.params().infos().iter().zip(to.infos()) {
            let values = &values[from.range()];
            if !to.frozen {
                buffers.trainable.get_mut()[to.range()].copy_from_slice(values);
                continue;
            }
            let cols = to.shape.cols().max(1);
            let bytes = &mut buffers.frozen.get_mut()[to.frozen_bytes(size_of::<f32>())];
            let row_bytes = bytes.len() / to.shape.rows().max(1);
            for (row, bytes) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes.max(1))) {
                quantise_row(dtype, row, bytes);
            }
        }
        Ok(quantised)
    }

    /// Bytes that all weights would take as numbers of 32 bits.
    pub fn f32_bytes(&self) -> usize {
        self.session.params().infos().iter().map(|info| info.shape.len() * size_of::<f32>()).sum()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        let params = self.session.params();
        params.trainable_count() * size_of::<f32>() + params.frozen_bytes()
    }

    /// Reads the weights of a model folder; the model must be the same.
    pub fn load(&mut self, folder: &Path) -> Result<(), FolderError> {
        let (params, buffers) = self.session.params_and_buffers();
        load_weights(folder, &params, &self.config, buffers.trainable.get_mut(), buffers.frozen.get_mut())
    }
}

/// Why a program could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A value that the program does not take.
    #[error("{what}: {error}")]
    Input {
        /// Which input.
        what: &'static str,
        /// What is wrong.
        error: WriteError,
    },
    /// A value is not finite.
    #[error(
        "training diverged in step {step}, not finite: {what}; lower train.lr, raise train.warmup_steps, or set train.grad_clip"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// The first tensor that is not finite.
        what: String,
    },
    /// More tokens than the model has positions.
    #[error("{found} tokens, but the model has {positions} positions: shorten the text")]
    TooLong {
        /// Tokens.
        found: usize,
        /// Positions.
        positions: usize,
    },
    /// Nothing to predict.
    #[error("the text has {found} tokens, expected at least {expected}: give a longer text")]
    TooShort {
        /// Tokens.
        found: usize,
        /// Tokens needed.
        expected: usize,
    },
}

impl Failure for RunError {
    fn kind(&self) -> Kind {
        match self {
            Self::Build(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Diverged { .. } => Kind::Diverged,
            Self::Input { .. } | Self::TooLong { .. } | Self::TooShort { .. } => Kind::Data,
        }
    }
}

/// Writes integers and says which input it was when they are out of range.
fn write_ints(
    session: &mut Session,
    program: &OwnedProgram,
    what: &'static str,
    t: Tensor,
    values: &[i32],
) -> Result<(), RunError> {
    session.write_ints(program, t, values).map_err(|error| RunError::Input { what, error })
}

/// Writes numbers and says which input it was when their count is wrong.
fn write(session: &mut Session, program: &OwnedProgram, what: &'static str, t: Tensor, values: &[f32]) -> Result<(), RunError> {
    session.write(program, t, values).map_err(|error| RunError::Input { what, error })
}

/// 0, 1, …, T − 1 for every one of B sequences.
fn positions(batch: usize, len: usize) -> Vec<i32> {
    (0..batch).flat_map(|_| 0..len as i32).collect()
}
