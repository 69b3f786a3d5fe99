//! Language models on this machine: a model of any family in memory, and its programs for training, evaluation, scoring and generation over one
//! registry.

pub mod evaluate;
pub mod folder_generation;
pub mod formats;
pub mod generation;
pub mod merged;
pub mod open;
pub mod peak;
pub mod plan;
pub mod sampling;
pub mod score;
pub mod score_kind;
pub mod scored;
pub mod set_weights;
pub mod step;
pub mod tokenwise;

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::WriteError;
use samara_core::graph::{DType, Graph, Tensor};
use samara_core::model::lm::{LanguageModel, LmDims, LmInputs};
use samara_core::params::{Params, Part, Registry};
use samara_core::quant::quantise_row;
use samara_core::tune::store_as;

use crate::data::DataError;
use crate::data::dataset::HostBatch;
use crate::error::{Failure, Kind};
use crate::model::architecture::Architecture;
use crate::model_folder::{ExtraTensors, FolderError, load_weights_with};
use crate::session::{
    BuildError, CpuDevice, Device, DeviceError, Engine, On, OwnedParams, OwnedProgram, ParamSet, Session, SetId, StateId,
};
use crate::stop::Interrupted;

/// The registry of a tuned model, and its layers with their parameter ids. `adapt` may change what is registered.
///
/// # Errors
/// A registry cannot hold the parameters.
pub fn register(
    architecture: &dyn Architecture,
    added: usize,
    adapt: impl Fn(&mut Registry<'_>, &mut dyn LanguageModel),
) -> Result<(Arc<OwnedParams>, Arc<dyn LanguageModel>), BuildError> {
    let count = added + Registry::count(|s| architecture.register(s));
    let (registry, layers) = OwnedParams::new(count, |registry| {
        let mut layers = architecture.register(&mut registry.scope());
        architecture.tune(registry, &mut *layers);
        adapt(registry, &mut *layers);
        layers
    })?;
    Ok((registry, layers.into()))
}

/// The parameters of a part of a model.
pub fn count_of(params: &Params<'_>, part: Part) -> usize {
    params.infos().iter().filter(|info| info.part == part).map(|info| info.shape.len()).sum()
}

/// A language model with its weights in memory on this machine.
pub struct Model {
    /// Its sizes.
    pub dims: LmDims,
    /// The session that holds its weights and its cache.
    pub session: Session,
    architecture: Arc<dyn Architecture>,
    layers: Arc<dyn LanguageModel>,
    set: SetId,
    caches: Caches,
    ignored: Vec<String>,
}

/// A model bound to a parameter set of a session, from which programs are built and run.
pub struct Bound<'s, D: Device = CpuDevice> {
    /// The model's sizes.
    pub dims: LmDims,
    /// Its layers with their parameter ids.
    pub layers: Arc<dyn LanguageModel>,
    /// The session.
    pub session: &'s mut Session<D>,
    /// The set with the model's weights.
    pub set: SetId,
    /// The state sets of its keys and values.
    pub caches: Caches,
}

/// The state sets of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Those of all rows that are generated.
    pub rows: StateId,
    /// The cache of a prompt, before it is copied into the cache of the rows. Unused when there is one row.
    pub prompt: StateId,
}

impl Caches {
    /// Adds both sets, empty, to a session.
    pub fn new<D: Device>(session: &mut Session<D>) -> Self {
        Self { rows: session.add_state("cache"), prompt: session.add_state("prompt cache") }
    }
}

impl<D: Device> Bound<'_, D> {
    /// The set alone.
    pub(crate) fn on(&self) -> On {
        On::set(self.set)
    }

    /// Builds a program for the set and allocates its memory.
    pub(crate) fn prepare<T>(&mut self, on: On, build: impl Fn(&Graph<'_>) -> T) -> Result<(OwnedProgram, T), BuildError> {
        self.session.prepare(on, build)
    }
}

impl Model {
    /// A model with all weights 0: load or [initialise](Model::initialise) them.
    ///
    /// # Errors
    /// A registry cannot hold its parameters.
    pub fn new(engine: Arc<Engine>, architecture: Arc<dyn Architecture>) -> Result<Self, BuildError> {
        Self::stored_as(engine, architecture, DType::Real)
    }

    /// The same with the matrices that every token reads whole frozen in another element type.
    fn stored_as(engine: Arc<Engine>, architecture: Arc<dyn Architecture>, dtype: DType) -> Result<Self, BuildError> {
        let (registry, layers) = register(&*architecture, 0, |registry, _| {
            if dtype != DType::Real {
                store_as(dtype, registry);
            }
        })?;
        let mut session = Session::new(CpuDevice::new(engine));
        let (set, caches) = (session.add_set("model", &registry)?, Caches::new(&mut session));
        Ok(Self { dims: layers.dims(), architecture, layers, session, set, caches, ignored: Vec::new() })
    }

    /// Its architecture.
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// The model for programs to run on.
    pub fn bound(&mut self) -> Bound<'_> {
        let layers = Arc::clone(&self.layers);
        Bound { dims: self.dims, layers, session: &mut self.session, set: self.set, caches: self.caches }
    }

    /// The parameter binding of its programs, without states.
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

    /// The same model with the matrices that every token reads whole frozen in another element type.
    ///
    /// # Errors
    /// The rows of a weight are not whole quantisation blocks.
    pub fn quantised(&self, dtype: DType) -> Result<Self, BuildError> {
        let mut quantised = Self::stored_as(Arc::clone(self.session.engine()), Arc::clone(&self.architecture), dtype)?;
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

    /// Bytes of all weights as f32.
    pub fn f32_bytes(&self) -> usize {
        self.weights().params().infos().iter().map(|info| info.shape.len() * size_of::<f32>()).sum()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        let params = self.weights().params();
        params.trainable_count() * size_of::<f32>() + params.frozen_bytes()
    }

    /// The tensors of the folder that the model does not have and that were ignored.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Reads the weights of a model folder, which must be of the same model.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn load(&mut self, folder: &Path, extra: ExtraTensors) -> Result<(), FolderError> {
        let map = self.architecture.name_map();
        let set = self.weights_mut();
        let registry = Arc::clone(set.registry());
        self.ignored = load_weights_with(folder, &registry.view(), &map, extra, set.weights.get_mut(), set.frozen.get_mut())?;
        Ok(())
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
    /// A signal came between two batches.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A value that the program does not accept.
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
    /// An objective found something that makes its steps worthless, in words.
    #[error("{0}")]
    Guard(String),
    /// A prompt without tokens.
    #[error("prompt {row} (from 0) has no tokens, expected at least 1: begin it with the end-of-text token")]
    NoPrompt {
        /// The index of the prompt.
        row: usize,
    },
    /// More tokens than the model has positions.
    #[error("{found} tokens, but the model has {positions} positions: shorten the text")]
    TooLong {
        /// Tokens.
        found: usize,
        /// Positions.
        positions: usize,
    },
    /// There is nothing to predict.
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
            Self::Device(error) => error.kind(),
            Self::Interrupted(error) => error.kind(),
            Self::Diverged { .. } => Kind::Diverged,
            Self::Guard(_) => Kind::Failed,
            Self::Input { .. } | Self::NoPrompt { .. } | Self::TooLong { .. } | Self::TooShort { .. } => Kind::Data,
        }
    }
}

/// Writes integers; an error names the input.
pub(crate) fn write_ints<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    what: &'static str,
    t: Tensor,
    values: &[i32],
) -> Result<(), RunError> {
    session.write_ints(program, t, values).map_err(|error| RunError::Input { what, error })
}

/// Writes f32 values; an error names the input.
fn write<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    what: &'static str,
    t: Tensor,
    values: &[f32],
) -> Result<(), RunError> {
    session.write(program, t, values).map_err(|error| RunError::Input { what, error })
}

/// The inputs of a program over `batch` sequences of `len` tokens; with segments if a sequence may contain several texts.
fn inputs_of(g: &Graph<'_>, model: &dyn LanguageModel, batch: usize, len: usize, packed: bool) -> LmInputs {
    let segments = packed.then(|| g.ints(&[batch, len], -1, i32::MAX)); // (B, T)
    LmInputs { segments, ..LmInputs::new(g, model, batch, len) }
}

/// Writes the positions of the tokens of a batch: packed batches contain them, others have `positions`.
fn write_places<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    inputs: &LmInputs,
    batch: &HostBatch,
    positions: &[i32],
) -> Result<(), RunError> {
    let Some(segments) = inputs.segments else {
        return write_ints(session, program, "position", inputs.positions, positions);
    };
    write_ints(session, program, "segment", segments, batch.ints("segments"))?;
    write_ints(session, program, "position", inputs.positions, batch.ints("position_ids"))
}

/// 0, 1, …, T − 1 for every one of B sequences.
fn positions(batch: usize, len: usize) -> Vec<i32> {
    (0..batch).flat_map(|_| 0..len as i32).collect()
}
