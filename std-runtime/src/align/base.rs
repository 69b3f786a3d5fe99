//! The language model that is aligned, and where its first weights come from.

use std::path::PathBuf;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;

use crate::lm::{RunError, register};
use crate::model::architecture::Architecture;
use crate::model_folder::load_weights;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};
use crate::train::error::TrainingError;

/// A language model with its first weights.
pub struct Base {
    /// What it is made by.
    pub architecture: Arc<dyn Architecture>,
    /// The folder with its first weights, which are the reference's as well; none: random ones.
    pub init: Option<PathBuf>,
}

impl Base {
    /// Its registry and layers.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn register(&self) -> Result<(Arc<OwnedParams>, Arc<dyn LanguageModel>), BuildError> {
        register(&*self.architecture, 0, |_, _| ())
    }

    /// Fills a set with the first weights.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn fill<D: Device>(&self, session: &mut Session<D>, set: SetId, seed: u64) -> Result<(), TrainingError> {
        let (set, device) = session.set_mut(set);
        let Some(folder) = &self.init else { return Ok(set.initialise(device, seed).map_err(RunError::from)?) };
        let (registry, map, mut loaded) = (Arc::clone(set.registry()), self.architecture.name_map(), Ok(()));
        let load = &mut |values: &mut [f32]| loaded = load_weights(folder, &registry.view(), &map, values, &mut []);
        device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
        Ok(loaded?)
    }
}
