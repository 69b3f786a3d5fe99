//! GPT on this machine: a model in memory, and its programs for training, evaluation, scoring and generation over one registry.

pub mod evaluate;
pub mod generate;
pub mod plan;
pub mod recompute;
pub mod score;
pub mod step;

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::WriteError;
use samara_core::graph::Tensor;
use samara_core::model::gpt::{GptConfig, GptParams};

use crate::data::DataError;
use crate::error::Error;
use crate::model_folder::{FolderConfig, FolderError, load_weights};
use crate::session::{BuildError, Engine, OwnedParams, OwnedProgram, Session};
use crate::tokenizer::Tokenizer;

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
        let (owned, params) = OwnedParams::new(config.param_count(), |registry| GptParams::register(&config, registry))?;
        Ok(Self { config, params, session: Session::new(engine, owned) })
    }

    /// The model of a folder, and its tokenizer if the folder has one.
    pub fn open(engine: Arc<Engine>, folder: &Path) -> Result<(Self, Option<Tokenizer>), Error> {
        let config = FolderConfig::read(folder)?.model.to_core()?;
        let mut gpt = Self::new(engine, config)?;
        gpt.load(folder)?;
        let path = folder.join("tokenizer.json");
        let tokenizer = if path.is_file() { Some(Tokenizer::load(&path)?) } else { None };
        Ok((gpt, tokenizer))
    }

    /// Reads the weights of a model folder; the model must be the same.
    pub fn load(&mut self, folder: &Path) -> Result<(), FolderError> {
        let (params, buffers) = self.session.params_and_buffers();
        load_weights(folder, &params, &self.config, buffers.trainable.get_mut())
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
    #[error("training diverged at step {step}: {what}. Lower train.lr, raise train.warmup_steps, or set train.grad_clip")]
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
    #[error("{found} tokens: at least {expected} are needed")]
    TooShort {
        /// Tokens.
        found: usize,
        /// Tokens needed.
        expected: usize,
    },
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
