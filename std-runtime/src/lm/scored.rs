//! Language models with a scalar score instead of logits: reward models and value functions. The score is the last hidden state times `score.weight`
//! (1, C).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::{Init, ParamId, Params, Registry, Scope};
use serde_json::json;

use super::open::OpenError;
use super::score_kind::ScoreKind;
use super::set_weights::{SetError, begin, frozen_values};
use super::{RunError, register};
use crate::files::IoError;
use crate::model::ModelConfig;
use crate::model::adapters::{Adapters, SCORE};
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::model::tune::config::TuneConfig;
use crate::model::tune::merge::merge;
use crate::model::tune::peft::{self, AdapterFolder, Base, Source};
use crate::model::tune::tuned::Adapted;
use crate::model_folder::map::{NameMap, NameRule};
use crate::model_folder::{CONFIG_FILE, FolderError, ParamValues, Reading, load_weights_with, save_weights};
use crate::run::durable;
use crate::session::{BuildError, Device, OwnedParams, Session, SetId};

/// The initialisation of the score's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreInit {
    /// 0: a value function whose initial values are 0 (lm-human-preferences).
    Zero,
    /// A normal distribution with the standard deviation 1/√(C + 1) (lm-human-preferences' reward models).
    Normal,
}

/// A model with a score as an architecture: what is tuned of it, and its tensors.
struct WithScore {
    model: Arc<dyn Architecture>,
    init: ScoreInit,
}

impl Architecture for WithScore {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel> {
        let layers = self.model.register(s);
        let width = layers.dims().n_embd;
        let init = match self.init {
            ScoreInit::Zero => Init::Zeros,
            ScoreInit::Normal => Init::Normal { std: 1.0 / (width as f64 + 1.0).sqrt() },
        };
        s.add(SCORE, &[1, width], init);
        layers
    }

    /// A head of the folder that the model begins with is passed over.
    fn name_map(&self) -> NameMap {
        let mut map = self.model.name_map();
        map.rules.retain(|rule| !matches!(rule, NameRule::Tie { .. }));
        map.rules.insert(0, NameRule::rename(SCORE, SCORE));
        map.rules.push(NameRule::ignore("lm_head.weight"));
        map
    }

    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture> {
        Arc::new(Self { model: self.model.with_positions(positions), init: self.init })
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        self.model.lora_targets()
    }

    fn adapters(&self) -> Option<&Adapters> {
        self.model.adapters()
    }

    fn tune(&self, registry: &mut Registry<'_>, layers: &mut dyn LanguageModel) {
        self.model.tune(registry, layers);
    }
}

/// A model with a score, registered.
#[derive(Clone)]
pub struct Scored {
    /// The model; it has no head for logits of its own.
    pub config: ModelConfig,
    /// What it is made by.
    pub architecture: Arc<dyn Architecture>,
    /// The parameters.
    pub registry: Arc<OwnedParams>,
    /// The layers below the score.
    pub layers: Arc<dyn LanguageModel>,
    /// The weight of the score (1, C).
    pub score: ParamId,
    /// What the score is.
    pub kind: ScoreKind,
}

impl Scored {
    /// Registers a model with a score, all of which is trained.
    ///
    /// # Errors
    /// An invalid model, or one that a registry cannot hold.
    pub fn new(config: &ModelConfig, init: ScoreInit) -> Result<Self, OpenError> {
        Self::tuned(config, init, &TuneConfig::default())
    }

    /// The same with a part of the model that is trained, and the score, which always is.
    ///
    /// # Errors
    /// As [`Self::new`]; a part that the model does not have.
    pub fn tuned(config: &ModelConfig, init: ScoreInit, tune: &TuneConfig) -> Result<Self, OpenError> {
        let config = config.clone().without_head();
        let plain: Arc<dyn Architecture> = Arc::new(WithScore { model: config.architecture()?, init });
        let module = SCORE.trim_end_matches(".weight");
        Self::of(config, tune.applied_with(plain, &[module])?)
    }

    fn of(config: ModelConfig, architecture: Arc<dyn Architecture>) -> Result<Self, OpenError> {
        let (registry, layers) = register(&*architecture, 0, |_, _| ())?;
        let place = registry.view().infos().iter().position(|info| info.name.to_string() == SCORE);
        let none = || BuildError::Unsupported("a score without a model".to_owned());
        let score = ParamId::FIRST.plus(place.ok_or_else(none)?);
        Ok(Self { config, architecture, registry, layers, score, kind: ScoreKind::Reward })
    }

    /// The model of a folder that has a score, or of an adapter with one and its base.
    ///
    /// # Errors
    /// As [`Self::new`]; a folder that cannot be read.
    pub fn of_source(source: &Source) -> Result<Self, OpenError> {
        Self::new(&FolderConfig::read(&source.base)?.model, ScoreInit::Zero)
    }

    /// Writes a folder that `transformers` opens as a sequence classification with one label. `transformers` finds the last token of a row by the
    /// padding token `pad`, which must not occur in a text. `values` has the layout of the registry.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save<'v>(
        &self,
        folder: &Path,
        description: &FolderConfig,
        pad: Option<u32>,
        values: impl Into<ParamValues<'v>>,
    ) -> Result<(), FolderError> {
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder"))?;
        let description = FolderConfig { model: self.config.clone(), ..description.clone() };
        description.write(folder)?;
        let mut json = description.to_json();
        let class = json["architectures"][0].as_str().unwrap_or_default();
        let class = class.replace("LMHeadModel", "ForSequenceClassification").replace("ForCausalLM", "ForSequenceClassification");
        json["architectures"] = json!([class]);
        json["num_labels"] = 1.into();
        json["id2label"] = json!({ "0": self.kind.label() });
        json["label2id"] = json!({ self.kind.label(): 0 });
        json["pad_token_id"] = pad.into();
        let path = folder.join(CONFIG_FILE);
        durable::write(&path, format!("{json:#}\n").as_bytes()).map_err(IoError::at(&path, "write"))?;
        save_weights(folder, &self.registry.view(), &self.architecture.name_map(), values)
    }

    /// Writes a set: the whole model, or its adapters and the score, which name `base`. All scores are moved by a number where the model can hold that.
    ///
    /// # Errors
    /// Files that cannot be written, or a device that failed.
    pub fn leave<D: Device>(
        &self,
        session: &mut Session<D>,
        (set, shift): (SetId, f64),
        base: Option<&Base>,
        (folder, description, pad): (&Path, &FolderConfig, Option<u32>),
    ) -> Result<(), SetError> {
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder")).map_err(FolderError::from)?;
        let (adapters, mut saved) = (self.architecture.adapters().zip(base), Ok(()));
        let frozen = if adapters.is_none() { frozen_values(session, set)? } else { Vec::new() };
        let (set, device) = session.set_mut(set);
        let mut write = |trainable: &[f32]| {
            let mut moved = trainable.to_vec();
            self.shift(&mut moved, shift);
            let values = ParamValues { trainable: &moved, frozen: bytemuck::cast_slice(&frozen) };
            let model = (&self.architecture.name_map(), &self.registry.view());
            saved = match adapters {
                Some((adapters, base)) => peft::save(folder, model, (adapters, Some(self.kind.label())), base, values),
                None => self.save(folder, description, pad, values),
            };
        };
        device.lend(&set.weights, &mut write).map_err(RunError::from)?;
        Ok(saved?)
    }

    /// Whether [`Self::shift`] can move all scores: the last norm has a bias, and that is trained.
    pub fn can_shift(&self) -> bool {
        let view = self.registry.view();
        view.infos().iter().any(|info| info.name.to_string() == LAST_BIAS && !info.frozen)
    }

    /// Adds a number to all scores, exactly: the last norm's bias moves along the weight of the score. Nothing happens unless [`Self::can_shift`].
    pub fn shift(&self, values: &mut [f32], by: f64) {
        if !self.can_shift() {
            return;
        }
        let view = self.registry.view();
        let range = |name: &str| view.infos().iter().find(|info| info.name.to_string() == name).map(|info| info.range());
        let (Some(bias), Some(score)) = (range(LAST_BIAS), range(SCORE)) else { return };
        let score: Vec<f32> = values[score].to_vec();
        let square: f64 = score.iter().map(|&w| f64::from(w).powi(2)).sum();
        if square > 0.0 {
            values[bias].iter_mut().zip(&score).for_each(|(to, &w)| *to += (by * f64::from(w) / square) as f32);
        }
    }

    /// Reads the weights of a folder that has a score. An adapter is merged into its base; rows of token ids that the base lacks are the mean of the
    /// others. Returns the adapters, and on how many layers they are.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model.
    pub fn load(&self, source: &Source, weights: &mut [f32]) -> Result<Option<(Adapters, usize)>, OpenError> {
        let token_ids = FolderConfig::read(&source.base)?.model.vocab_size();
        let read = |registry: &Params<'_>, optional, values: &mut [f32]| {
            let reading = Reading { token_ids, optional, ..Reading::default() };
            load_weights_with(&source.base, registry, &self.architecture.name_map(), reading, values, &mut []).map(drop)
        };
        let Some(folder) = &source.adapter else {
            read(&self.registry.view(), None, weights)?;
            return Ok(None);
        };
        let adapter = AdapterFolder::open(folder, &source.base, &self.architecture)?;
        let adapted = Adapted { base: Arc::clone(&self.architecture), adapters: adapter.adapters.clone() };
        let (registry, _) = register(&adapted, 0, |_, _| ())?;
        let view = registry.view();
        let mut all = vec![0.0; view.trainable_len()];
        read(&view, Some(SCORE), &mut all)?;
        adapter.load(&self.architecture.name_map(), &view, &mut all, &mut [])?;
        merge(&view, &adapter.adapters, &mut all);
        for info in self.registry.view().infos() {
            let Some(from) = view.infos().iter().find(|from| from.name == info.name) else { continue };
            weights[info.range()].copy_from_slice(&all[from.range()]);
        }
        let layers = view.infos().iter().filter(|info| info.adapter).count() / 2;
        Ok(Some((adapter.adapters, layers)))
    }

    /// Fills a set with initial values and those of a folder, if there is one: of a model with a score, or of a language model below it; with the frozen
    /// ones alone where a checkpoint has the others. Where this model has more token ids than the folder's, the rows of the new ones are the mean of the
    /// others. Returns what frozen weights were read from.
    ///
    /// # Errors
    /// The folder cannot be read, or its tensors are not those of the model; the device failed.
    pub fn fill<D: Device>(
        &self,
        session: &mut Session<D>,
        set: SetId,
        (folder, seed): (Option<&Path>, u64),
        resumed: bool,
    ) -> Result<Option<Base>, SetError> {
        if resumed && self.registry.view().frozen_bytes() == 0 {
            return Ok(None);
        }
        let Some(folder) = folder else {
            let (set, device) = session.set_mut(set);
            set.initialise(device, seed).map_err(RunError::from)?;
            return Ok(None);
        };
        let token_ids = FolderConfig::read(folder)?.model.vocab_size();
        let reading = Reading { token_ids, optional: Some(SCORE), ..Reading::default() };
        Ok(begin(session, set, &*self.architecture, (folder, reading), seed)?.base)
    }
}

/// The bias of the last norm, where it has one.
const LAST_BIAS: &str = "ln_f.bias";
