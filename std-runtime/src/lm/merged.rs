//! An adapter merged into its base, in memory.

use std::path::Path;
use std::sync::Arc;

use samara_core::graph::DType;

use super::Model;
use super::open::OpenError;
use crate::model::adapters::BaseFormat;
use crate::model::folder::{FolderConfig, save_folder};
use crate::model::tune::merge::merge;
use crate::model::tune::peft::Source;
use crate::model_folder::{ExtraTensors, FolderError};
use crate::session::Engine;

/// A merged model. Its adapter parameters still exist, and have no readers.
pub struct Merged {
    model: Model,
    /// Layers with an adapter.
    pub layers: usize,
    /// A note for the user.
    pub note: Option<String>,
}

/// Opens an adapter and its base in f32 and merges them. If the base was quantised during training, its weights are rounded in the same way.
///
/// # Errors
/// As [`Model::open_source`].
pub fn merged(engine: Arc<Engine>, source: &Source) -> Result<Merged, OpenError> {
    let mut model = Model::open_source(engine, source, DType::Real, ExtraTensors::Refuse)?;
    let Some(adapters) = model.architecture().adapters().cloned() else { return Ok(Merged { model, layers: 0, note: None }) };
    let set = model.weights_mut();
    let registry = Arc::clone(set.registry());
    let params = registry.view();
    merge(&params, &adapters, set.weights.get_mut());
    let layers = params.infos().iter().filter(|info| info.adapter).count() / 2;
    let word = adapters.base.word();
    let note = (adapters.base != BaseFormat::F32).then(|| {
        format!(
            "note: the adapter was trained over {word} weights: the base was quantised to {word} and dequantised to f32 before merging"
        )
    });
    Ok(Merged { model, layers, note })
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
