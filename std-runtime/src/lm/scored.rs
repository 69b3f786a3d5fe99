//! Language models with a score in the place of logits: reward models and value functions. A score is the last hidden state times `score.weight` (1, C).

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::{Init, ParamId};

use super::open::OpenError;
use super::register;
use crate::model::ModelConfig;
use crate::model_folder::map::{NameMap, Rule};
use crate::model_folder::{FolderError, load_weights};
use crate::session::{BuildError, OwnedParams};

/// The weight of the score, in memory and in folders.
pub const SCORE: &str = "score.weight";

/// How the weight of the score begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreInit {
    /// 0: a value function that says nothing at first (lm-human-preferences).
    Zero,
    /// A normal distribution with the standard deviation 1/√(C + 1) (lm-human-preferences' reward models).
    Normal,
}

/// A model with a score, registered.
#[derive(Clone)]
pub struct Scored {
    /// The model; it has no head for logits of its own.
    pub config: ModelConfig,
    /// The parameters.
    pub registry: Arc<OwnedParams>,
    /// The layers below the score.
    pub layers: Arc<dyn LanguageModel>,
    /// The weight of the score (1, C).
    pub score: ParamId,
    /// Its names in a folder.
    pub map: NameMap,
}

impl Scored {
    /// Registers a model with a score.
    ///
    /// # Errors
    /// A model that does not exist, or that a registry cannot hold.
    pub fn new(config: &ModelConfig, init: ScoreInit) -> Result<Self, OpenError> {
        let config = config.clone().without_head();
        let architecture = config.architecture()?;
        let score = Cell::new(None);
        let (registry, layers) = register(&*architecture, 1, |registry, layers| {
            let width = layers.dims().n_embd;
            let init = match init {
                ScoreInit::Zero => Init::Zeros,
                ScoreInit::Normal => Init::Normal { std: 1.0 / (width as f64 + 1.0).sqrt() },
            };
            score.set(Some(registry.scope().add(SCORE, &[1, width], init)));
        })?;
        let mut map = architecture.name_map();
        map.rules.insert(0, Rule::rename(SCORE, SCORE));
        let score = score.get().ok_or_else(|| BuildError::Unsupported("a score without a model".to_owned()))?;
        Ok(Self { config, registry, layers, score, map })
    }

    /// Reads the weights of a folder that has a score.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn load(&self, folder: &Path, weights: &mut [f32]) -> Result<(), FolderError> {
        load_weights(folder, &self.registry.view(), &self.map, weights, &mut [])
    }

    /// Reads the weights of a folder of a language model below the score, which stays as it is. Where this model has more tokens than the folder's,
    /// the rows of the new ones stay as well.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of `base`.
    pub fn load_below(&self, folder: &Path, base: &ModelConfig, weights: &mut [f32]) -> Result<(), OpenError> {
        let architecture = base.architecture()?;
        let (registry, _) = register(&*architecture, 0, |_, _| ())?;
        let view = registry.view();
        let mut all = vec![0.0; view.trainable_len()];
        load_weights(folder, &view, &architecture.name_map(), &mut all, &mut [])?;
        for info in self.registry.view().infos() {
            let Some(from) = view.infos().iter().find(|from| from.name == info.name) else { continue };
            let (Some(to), Some(from)) = (weights.get_mut(info.range()), all.get(from.range())) else { continue };
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = x);
        }
        Ok(())
    }
}
