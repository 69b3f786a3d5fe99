//! Language models with a scalar score instead of logits: reward models and value functions. The score is the last hidden state times `score.weight`
//! (1, C).

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::{Init, ParamId};
use serde_json::json;

use super::open::OpenError;
use super::register;
use crate::files::IoError;
use crate::model::ModelConfig;
use crate::model::folder::FolderConfig;
use crate::model_folder::map::{NameMap, NameRule};
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{CONFIG_FILE, FolderError, load_weights, save_weights};
use crate::run::durable;
use crate::session::{BuildError, OwnedParams};

/// The weight of the score, in memory and in folders.
pub const SCORE: &str = "score.weight";

/// Whether a folder has a model with a score.
pub fn has_score(folder: &Path) -> bool {
    Weights::open(folder).is_ok_and(|weights| weights.contains(SCORE))
}

/// The initialisation of the score's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreInit {
    /// 0: a value function whose initial values are 0 (lm-human-preferences).
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
    /// An invalid model, or one that a registry cannot hold.
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
        map.rules.insert(0, NameRule::rename(SCORE, SCORE));
        let score = score.get().ok_or_else(|| BuildError::Unsupported("a score without a model".to_owned()))?;
        Ok(Self { config, registry, layers, score, map })
    }

    /// The model of a folder that has a score.
    ///
    /// # Errors
    /// As [`Self::new`]; a folder that cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self, OpenError> {
        Self::new(&FolderConfig::read(folder)?.model, ScoreInit::Zero)
    }

    /// Writes a folder that `transformers` opens as a sequence classification with one label. `transformers` finds the last token of a row by the
    /// padding token `pad`, which must not occur in a text. `values` has the layout of the registry.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, folder: &Path, description: &FolderConfig, pad: Option<u32>, values: &[f32]) -> Result<(), FolderError> {
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder"))?;
        let description = FolderConfig { model: self.config.clone(), ..description.clone() };
        description.write(folder)?;
        let mut json = description.to_json();
        let class = json["architectures"][0].as_str().unwrap_or_default();
        let class = class.replace("LMHeadModel", "ForSequenceClassification").replace("ForCausalLM", "ForSequenceClassification");
        json["architectures"] = json!([class]);
        json["num_labels"] = 1.into();
        json["id2label"] = json!({ "0": "reward" });
        json["label2id"] = json!({ "reward": 0 });
        json["pad_token_id"] = pad.into();
        let path = folder.join(CONFIG_FILE);
        durable::write(&path, format!("{json:#}\n").as_bytes()).map_err(IoError::at(&path, "write"))?;
        save_weights(folder, &self.registry.view(), &self.map, values)
    }

    /// Adds a constant to all scores, exactly: the last norm's bias is shifted along the score's weight. `false` for a model whose last norm has no
    /// bias.
    pub fn shift(&self, values: &mut [f32], by: f64) -> bool {
        let view = self.registry.view();
        let range = |name: &str| view.infos().iter().find(|info| info.name.to_string() == name).map(|info| info.range());
        let (Some(bias), Some(score)) = (range("ln_f.bias"), range(SCORE)) else { return false };
        let score: Vec<f32> = values[score].to_vec();
        let square: f64 = score.iter().map(|&w| f64::from(w).powi(2)).sum();
        if square == 0.0 {
            return false;
        }
        values[bias].iter_mut().zip(&score).for_each(|(to, &w)| *to += (by * f64::from(w) / square) as f32);
        true
    }

    /// Reads the weights of a folder that has a score.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn load(&self, folder: &Path, weights: &mut [f32]) -> Result<(), FolderError> {
        load_weights(folder, &self.registry.view(), &self.map, weights, &mut [])
    }

    /// Reads the weights of a language model's folder below the score, which is unchanged. If this model has more tokens than the folder's, the rows
    /// of the new ones are unchanged, too.
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
