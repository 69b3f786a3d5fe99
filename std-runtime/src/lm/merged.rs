//! An adapter merged into its base, in memory.

use std::path::Path;
use std::sync::Arc;

use samara_core::graph::DType;

use super::Model;
use super::open::OpenError;
use super::scored::{ScoreInit, Scored};
use crate::model::ModelConfig;
use crate::model::adapters::{Adapters, BaseFormat};
use crate::model::folder::{FolderConfig, save_folder};
use crate::model::tune::merge::merge;
use crate::model::tune::peft::Source;
use crate::model_folder::{ExtraTensors, FolderError};
use crate::session::Engine;

/// What a person should know of a merged model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Layers with an adapter.
    pub layers: usize,
    /// What was done to the base.
    pub note: Option<String>,
}

impl About {
    fn of(adapters: &Adapters, layers: usize) -> Self {
        let word = adapters.base.word();
        let note = (adapters.base != BaseFormat::F32).then(|| {
            format!(
                "note: the adapter was trained over {word} weights: the base was quantised to {word} and dequantised to f32 before merging"
            )
        });
        Self { layers, note }
    }
}

/// A merged model. Its adapter parameters still exist, and have no readers.
pub struct Merged {
    model: Model,
    /// Notes for the user.
    pub about: About,
}

/// Opens an adapter and its base in f32 and merges them. If the base was quantised during training, its weights are rounded in the same way.
///
/// # Errors
/// As [`Model::open_source`].
pub fn merged(engine: Arc<Engine>, source: &Source) -> Result<Merged, OpenError> {
    let mut model = Model::open_source(engine, source, DType::Real, ExtraTensors::Refuse)?;
    let Some(adapters) = model.architecture().adapters().cloned() else { return Ok(Merged { model, about: About::default() }) };
    let set = model.weights_mut();
    let registry = Arc::clone(set.registry());
    let params = registry.view();
    merge(&params, &adapters, set.weights.get_mut());
    let layers = params.infos().iter().filter(|info| info.adapter).count() / 2;
    Ok(Merged { model, about: About::of(&adapters, layers) })
}

/// A merged model with a score.
pub struct MergedScored {
    model: Scored,
    values: Vec<f32>,
    /// What a person should know.
    pub about: About,
}

impl MergedScored {
    /// Merges an adapter with a score into its base, for a model that may have more token ids than the base.
    ///
    /// # Errors
    /// As [`Scored::load`].
    pub fn new(source: &Source, config: &ModelConfig) -> Result<Self, OpenError> {
        let model = Scored::new(config, ScoreInit::Zero)?;
        let mut values = vec![0.0; model.registry.view().trainable_len()];
        let adapters = model.load(source, &mut values)?;
        let about = adapters.map_or_else(About::default, |(adapters, layers)| About::of(&adapters, layers));
        Ok(Self { model, values, about })
    }

    /// Writes it; `pad` is the token that rows are padded with.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, out: &Path, config: &FolderConfig, pad: Option<u32>) -> Result<(), FolderError> {
        self.model.save(out, config, pad, &self.values[..])
    }
}

impl Merged {
    /// Writes `config.json`, `generation_config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, out: &Path, config: &FolderConfig) -> Result<(), FolderError> {
        let set = self.model.weights();
        save_folder(out, config, &set.params(), set.weights.get())
    }
}
