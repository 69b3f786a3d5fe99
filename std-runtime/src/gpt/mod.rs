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
use samara_core::graph::{DType, Graph, Tensor};
use samara_core::model::gpt::{self, GptConfig};
use samara_core::quant::quantise_row;
use samara_core::tune::store_as;

use crate::data::DataError;
use crate::decoding::{Caches, DecodeError};
use crate::error::{Failure, Kind};
use crate::model_folder::{FolderError, load_weights, maps};
use crate::session::{
    BuildError, CpuDevice, Device, DeviceError, Engine, On, OwnedParams, OwnedProgram, ParamSet, Session, SetId,
};

/// A GPT with its weights in memory on this machine.
pub struct Gpt {
    /// Its shape.
    pub config: GptConfig,
    /// Its layers, which know where their parameters stand in the registry.
    pub model: gpt::Gpt,
    /// The session that holds its weights and its cache.
    pub session: Session,
    set: SetId,
    caches: Caches,
}

/// A model bound to a parameter set of a session: what programs are built from and run on.
pub struct Bound<'s, D: Device = CpuDevice> {
    /// The model's shape.
    pub config: GptConfig,
    /// Its layers, which know where their parameters stand in the registry.
    pub model: gpt::Gpt,
    /// The session.
    pub session: &'s mut Session<D>,
    /// The set with the model's weights.
    pub set: SetId,
    /// The state sets of its keys and values.
    pub caches: Caches,
}

impl<D: Device> Bound<'_, D> {
    /// The set alone.
    fn on(&self) -> On {
        On::set(self.set)
    }

    /// Builds a program for the set and makes room for it.
    fn prepare<T>(&mut self, on: On, build: impl Fn(&Graph<'_>) -> T) -> Result<(OwnedProgram, T), BuildError> {
        self.session.prepare(on, build)
    }
}

impl Gpt {
    /// A model whose weights are all 0: load or [initialise](Gpt::initialise) them.
    ///
    /// # Errors
    /// A registry cannot hold its parameters.
    pub fn new(engine: Arc<Engine>, config: GptConfig) -> Result<Self, BuildError> {
        Self::stored_as(engine, config, DType::Real)
    }

    /// The same with what every token reads whole in another element type, frozen.
    fn stored_as(engine: Arc<Engine>, config: GptConfig, dtype: DType) -> Result<Self, BuildError> {
        let (registry, model) = OwnedParams::new(config.param_count(), |registry| {
            let model = gpt::Gpt::register(&config, &mut registry.scope());
            if dtype != DType::Real {
                store_as(dtype, registry);
            }
            model
        })?;
        let mut session = Session::new(CpuDevice::new(engine));
        let (set, caches) = (session.add_set("model", &registry), Caches::new(&mut session));
        Ok(Self { config, model, session, set, caches })
    }

    /// The model for programs to run on.
    pub fn bound(&mut self) -> Bound<'_> {
        Bound { config: self.config, model: self.model, session: &mut self.session, set: self.set, caches: self.caches }
    }

    /// What its programs run on: its weights, without states.
    pub fn on(&self) -> On {
        On::set(self.set)
    }

    /// Its weights.
    pub fn weights(&self) -> &ParamSet {
        self.session.set(self.set)
    }

    /// Its weights, to change them.
    pub fn weights_mut(&mut self) -> &mut ParamSet {
        self.session.set_mut(self.set).0
    }

    /// Fills the trainable parameters with initial values.
    pub fn initialise(&mut self, seed: u64) {
        let set = self.weights_mut();
        let registry = Arc::clone(set.registry());
        registry.view().initialise(seed, set.weights.get_mut());
    }

    /// The same model with what every token reads whole in another element type, frozen.
    ///
    /// # Errors
    /// Rows do not fall into blocks.
    pub fn quantised(&self, dtype: DType) -> Result<Self, BuildError> {
        let mut quantised = Self::stored_as(Arc::clone(self.session.engine()), self.config, dtype)?;
        let from = self.weights();
        let to = quantised.weights_mut();
        let registry = Arc::clone(to.registry());
        for (info, to_info) in from.params().infos().iter().zip(registry.view().infos()) {
            let values = &from.weights.get()[info.range()];
            if !to_info.frozen {
                to.weights.get_mut()[to_info.range()].copy_from_slice(values);
                continue;
            }
            let cols = to_info.shape.cols().max(1);
            let bytes = &mut to.frozen.get_mut()[to_info.frozen_bytes(size_of::<f32>())];
            let row_bytes = bytes.len() / to_info.shape.rows().max(1);
            for (row, bytes) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes.max(1))) {
                quantise_row(dtype, row, bytes);
            }
        }
        Ok(quantised)
    }

    /// Bytes that all weights would take as f32 values.
    pub fn f32_bytes(&self) -> usize {
        self.weights().params().infos().iter().map(|info| info.shape.len() * size_of::<f32>()).sum()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        let params = self.weights().params();
        params.trainable_count() * size_of::<f32>() + params.frozen_bytes()
    }

    /// Reads the weights of a model folder; the model must be the same.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn load(&mut self, folder: &Path) -> Result<(), FolderError> {
        let map = maps::gpt::name_map(&self.config);
        let set = self.weights_mut();
        let registry = Arc::clone(set.registry());
        load_weights(folder, &registry.view(), &map, set.weights.get_mut(), set.frozen.get_mut())
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
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
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

impl From<DecodeError> for RunError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Build(error) => Self::Build(error),
            DecodeError::Device(error) => Self::Device(error),
            DecodeError::Input { what, error } => Self::Input { what, error },
            DecodeError::NoPrompt { .. } => Self::TooShort { found: 0, expected: 1 },
        }
    }
}

impl Failure for RunError {
    fn kind(&self) -> Kind {
        match self {
            Self::Build(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Diverged { .. } => Kind::Diverged,
            Self::Input { .. } | Self::TooLong { .. } | Self::TooShort { .. } => Kind::Data,
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
) -> Result<(), RunError> {
    session.write_ints(program, t, values).map_err(|error| RunError::Input { what, error })
}

/// Writes numbers and says which input it was when their count is wrong.
fn write<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    what: &'static str,
    t: Tensor,
    values: &[f32],
) -> Result<(), RunError> {
    session.write(program, t, values).map_err(|error| RunError::Input { what, error })
}

/// 0, 1, …, T − 1 for every one of B sequences.
fn positions(batch: usize, len: usize) -> Vec<i32> {
    (0..batch).flat_map(|_| 0..len as i32).collect()
}
