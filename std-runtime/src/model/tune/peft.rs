//! Adapter folders in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Values without a key in PEFT are in the metadata of the tensors: the checksum of the base's weights and their storage type.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_core::params::Params;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::config::layer_hint;
use super::tuned::{linear_layers, path_in_block};
use crate::config::{Choice, hint};
use crate::data::DataError;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::model::adapters::{Adapters, BaseFormat};
use crate::model::architecture::Architecture;
use crate::model::folder::{FolderConfig, object};
use crate::model_folder::keys::Keys;
use crate::model_folder::map::{ADAPTER_PREFIX, NameMap};
use crate::model_folder::safetensors::{Weights, WeightsError};
use crate::model_folder::{
    ADAPTER_FILE, ExtraTensors, FolderError, GENERATION_FILE, ParamValues, Stored, is_adapter_folder, is_model_folder,
    weights_files,
};
use crate::run::durable;

/// The tensors of an adapter folder.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// Metadata: CRC-32C of the base's weights.
const BASE_CRC32C: &str = "base_crc32c";
/// `task_type` of adapters of a model with a score.
const SCORED: &str = "SEQ_CLS";
/// Metadata: what the score of a model with one is.
const LABEL: &str = "score";
/// Metadata: how the base's weights were stored.
const BASE_FORMAT: &str = "base_quantize";

/// Why an adapter folder cannot be used.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// Its files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Weights of the base.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The base is not where the adapter's description says.
    #[error("{}: base_model_name_or_path is {base}, which is not a model folder: give the base with --base DIR", path.display())]
    NoBase {
        /// The description.
        path: PathBuf,
        /// The base.
        base: String,
    },
    /// A base for a folder that needs none.
    #[error("--base {}: {} is a whole model, not an adapter: leave --base out", base.display(), folder.display())]
    NeedsNoBase {
        /// The model.
        folder: PathBuf,
        /// The value of --base.
        base: PathBuf,
    },
    /// A tensor of a layer that the base does not have.
    #[error("{}: tensor {name:?} belongs to no part of the base{hint}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The nearest names.
        hint: String,
    },
    /// Tensors that do not fit the base.
    #[error(
        "{error}: {} is not the base that the adapter was trained on (give that with --base DIR), or {ADAPTER_FILE} has another r",
        base.display()
    )]
    OtherBase {
        /// The mismatch.
        error: WeightsError,
        /// The base.
        base: PathBuf,
    },
}

impl Failure for AdapterError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::NoBase { .. } | Self::NeedsNoBase { .. } => Kind::Usage,
            Self::Unknown { .. } | Self::OtherBase { .. } => Kind::Data,
        }
    }
}

/// Where a model is: a folder of its own, or an adapter and its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The folder with the whole model.
    pub base: PathBuf,
    /// The folder with the adapter.
    pub adapter: Option<PathBuf>,
}

impl Source {
    /// The model of a folder. The base of an adapter is the given one, or the one that its description names.
    ///
    /// # Errors
    /// A base that does not exist, or that is not needed.
    pub fn of(folder: &Path, base: Option<&Path>) -> Result<Self, AdapterError> {
        if !is_adapter_folder(folder) {
            return match base {
                Some(base) => Err(AdapterError::NeedsNoBase { folder: folder.to_owned(), base: base.to_owned() }),
                None => Ok(Self { base: folder.to_owned(), adapter: None }),
            };
        }
        let adapter = Some(folder.to_owned());
        if let Some(base) = base {
            return Ok(Self { base: base.to_owned(), adapter });
        }
        let path = folder.join(ADAPTER_FILE);
        let json = read_object(&path)?;
        let named = json.get("base_model_name_or_path").unwrap_or(&Value::Null);
        match named.as_str().map(PathBuf::from).filter(|base| is_model_folder(base)) {
            Some(base) => Ok(Self { base, adapter }),
            None => Err(AdapterError::NoBase { path, base: named.to_string() }),
        }
    }

    /// The folder whose `generation_config.json` applies: the adapter's, or the base's if the adapter has none.
    pub fn generation(&self) -> &Path {
        self.adapter.as_deref().filter(|folder| folder.join(GENERATION_FILE).exists()).unwrap_or(&self.base)
    }

    /// The model's description in the base's folder, with the `generation_config.json` of the adapter if it has one.
    ///
    /// # Errors
    /// As [`FolderConfig::read`].
    pub fn config(&self) -> Result<FolderConfig, FolderError> {
        let mut config = FolderConfig::read(&self.base)?;
        if let Some(adapter) = &self.adapter {
            config.read_generation(adapter)?;
        }
        Ok(config)
    }

    /// The folder of the tokenizer: the adapter's, or the base's if `is_in` finds none there.
    pub fn tokenizer(&self, is_in: impl Fn(&Path) -> bool) -> &Path {
        self.adapter.as_deref().filter(|folder| is_in(folder)).unwrap_or(&self.base)
    }
}

/// An adapter folder that was opened.
#[derive(Debug)]
pub struct AdapterFolder {
    /// Its adapters.
    pub adapters: Adapters,
    weights: PathBuf,
    base: PathBuf,
    base_crc32c: Option<String>,
}

impl AdapterFolder {
    /// Whether a folder has adapters of a model with a score in the place of logits.
    ///
    /// # Errors
    /// A description that cannot be read.
    pub fn has_score(folder: &Path) -> Result<bool, FolderError> {
        Ok(read_object(&folder.join(ADAPTER_FILE))?.get("task_type").is_some_and(|kind| kind == SCORED))
    }

    /// Reads the description of an adapter for the model in the folder `base`.
    ///
    /// # Errors
    /// A file that cannot be read; an unsupported kind of adapter, by its key; layers that the model does not have.
    pub fn open(folder: &Path, base: &Path, model: &Arc<dyn Architecture>) -> Result<Self, AdapterError> {
        let path = folder.join(ADAPTER_FILE);
        let json = read_object(&path)?;
        let mut adapters = described(&Keys::new(&path, &json))?;
        let path = folder.join(ADAPTER_WEIGHTS);
        let weights = Weights::open(&path).map_err(FolderError::from)?;
        adapters.targets = targets(&weights);
        let word = weights.metadata().get(BASE_FORMAT).map_or("", String::as_str);
        adapters.base = BaseFormat::WORDS.iter().find(|(known, _)| *known == word).map_or(BaseFormat::F32, |(_, format)| *format);
        let layers = linear_layers(model);
        let is_there = |target: &String| layers.iter().any(|layer| layer.path_in_block() == target);
        if let Some(target) = adapters.targets.iter().find(|target| !is_there(target)) {
            let name = weights.names().find(|name| name.contains(&format!("{target}.lora_"))).unwrap_or(target).to_owned();
            return Err(AdapterError::Unknown { path, name, hint: layer_hint(target, &layers) });
        }
        let base_crc32c = weights.metadata().get(BASE_CRC32C).cloned();
        Ok(Self { adapters, weights: path, base: base.to_owned(), base_crc32c })
    }

    /// Reads the adapters and the parts that are stored whole into `trainable`, which has the layout of a registry with these adapters.
    ///
    /// # Errors
    /// Tensors of another base, or of no part of it.
    pub fn load(&self, map: &NameMap, params: &Params<'_>, trainable: &mut [f32], frozen: &mut [u8]) -> Result<(), AdapterError> {
        let stored = stored(map, params, &self.adapters)?;
        let weights = Weights::open(&self.weights).map_err(FolderError::from)?;
        let known: BTreeSet<&str> = stored.layout().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        if let Some(name) = weights.names().find(|name| !known.contains(name)) {
            let hint = hint(name, known.iter().copied());
            return Err(AdapterError::Unknown { path: self.weights.clone(), name: name.to_owned(), hint });
        }
        let loaded = stored.load(&self.weights, ExtraTensors::Refuse, trainable, frozen);
        loaded.map(drop).map_err(|error| match error {
            FolderError::Weights(error @ (WeightsError::Shape { .. } | WeightsError::Missing { .. })) => {
                AdapterError::OtherBase { error, base: self.base.clone() }
            }
            error => error.into(),
        })
    }

    /// A warning if the base's weights are not those that the adapter was trained on, as far as the adapter's metadata tells.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn doubt(&self) -> Result<Option<String>, DataError> {
        let Some(expected) = &self.base_crc32c else { return Ok(None) };
        let found = checksum(&self.base)?;
        Ok((found != *expected).then(|| {
            let (weights, base) = (self.weights.display(), self.base.display());
            format!("warning: {weights} was trained on weights with crc32c {expected}, and those of {base} have {found}")
        }))
    }
}

/// A checksum of the weights of a folder: that of its file, or one of all files' checksums.
///
/// # Errors
/// The folder cannot be read.
pub fn checksum(folder: &Path) -> Result<String, DataError> {
    let files = weights_files(folder)?;
    let sum = match files.as_slice() {
        [file] => file.crc32c,
        files => crc32c::crc32c(&files.iter().flat_map(|file| file.crc32c.to_le_bytes()).collect::<Vec<u8>>()),
    };
    Ok(format!("{sum:08x}"))
}

/// The base of adapters that are written.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its folder.
    pub folder: PathBuf,
    /// The [`checksum`] of its weights.
    pub crc32c: String,
}

impl Base {
    /// What a run remembers of it: frozen weights are not in checkpoints.
    pub fn to_state(&self) -> Value {
        json!({ BASE_CRC32C: self.crc32c })
    }

    /// Refuses to go on with another base than the one that a run remembers.
    ///
    /// # Errors
    /// What is there and what should be, in words.
    pub fn check_state(&self, state: &Value) -> Result<(), String> {
        match state.get(BASE_CRC32C).and_then(Value::as_str) {
            Some(expected) if *expected != self.crc32c => Err(format!(
                "weights of {} with crc32c {}, but the run started from weights with crc32c {expected}: give those with --init",
                self.folder.display(),
                self.crc32c
            )),
            _ => Ok(()),
        }
    }
}

/// What an adapter folder says of the score of its model; `None` where it says nothing.
///
/// # Errors
/// Weights that cannot be read.
pub fn label_of(folder: &Path) -> Result<Option<String>, FolderError> {
    Ok(Weights::open(&folder.join(ADAPTER_WEIGHTS))?.metadata().get(LABEL).cloned())
}

/// Writes the adapters of a model, and the parts that are stored whole, into a folder, synced to disk. A model with a score has the name of it.
///
/// # Errors
/// Files that cannot be written.
pub fn save<'v>(
    folder: &Path,
    model: (&NameMap, &Params<'_>),
    (adapters, label): (&Adapters, Option<&str>),
    base: &Base,
    values: impl Into<ParamValues<'v>>,
) -> Result<(), FolderError> {
    let (map, params) = model;
    let path = folder.join(ADAPTER_FILE);
    let text = format!("{:#}\n", description(map, adapters, base));
    durable::write(&path, text.as_bytes()).map_err(IoError::at(&path, "write"))?;
    let mut metadata = vec![(BASE_CRC32C, base.crc32c.clone()), (BASE_FORMAT, adapters.base.word().to_owned())];
    metadata.extend(label.map(|label| (LABEL, label.to_owned())));
    stored(map, params, adapters)?.save(&folder.join(ADAPTER_WEIGHTS), &metadata, values.into())
}

/// The parameters that an adapter folder contains.
fn stored<'p>(map: &NameMap, params: &Params<'p>, adapters: &Adapters) -> Result<Stored<'p>, FolderError> {
    Stored::of(&map.of_adapter(), params, |info| info.adapter || adapters.saves(&info.name.to_string()))
}

/// The contents of `adapter_config.json`.
fn description(map: &NameMap, adapters: &Adapters, base: &Base) -> Value {
    let absolute = fs::canonicalize(&base.folder).unwrap_or_else(|_| base.folder.clone()).to_string_lossy().into_owned();
    let modules = &adapters.modules_to_save;
    json!({
        "peft_type": "LORA",
        "task_type": if adapters.has_score() { SCORED } else { "CAUSAL_LM" },
        "base_model_name_or_path": absolute,
        "r": adapters.rank,
        "lora_alpha": adapters.alpha,
        "lora_dropout": adapters.dropout,
        "target_modules": adapters.targets,
        "modules_to_save": if modules.is_empty() { Value::Null } else { json!(modules) },
        "fan_in_fan_out": map.transposes(),
        "use_rslora": adapters.by_root,
        "bias": "none",
        "inference_mode": true,
    })
}

/// Keys of unsupported kinds of adapters, with the value that is supported.
fn refused() -> [(&'static str, Value); 15] {
    [
        ("bias", json!("none")),
        ("lora_bias", json!(false)),
        ("use_dora", json!(false)),
        ("use_qalora", json!(false)),
        ("use_bdlora", json!(false)),
        ("rank_pattern", json!({})),
        ("alpha_pattern", json!({})),
        ("layers_to_transform", Value::Null),
        ("layer_replication", Value::Null),
        ("target_parameters", Value::Null),
        ("trainable_token_indices", Value::Null),
        ("alora_invocation_tokens", Value::Null),
        ("arrow_config", Value::Null),
        ("velora_config", Value::Null),
        ("kasa_config", Value::Null),
    ]
}

/// The adapters of a description; the tensors determine which layers have them.
fn described(keys: &Keys<'_>) -> Result<Adapters, FolderError> {
    let kind = keys.get("peft_type").unwrap_or(&Value::Null);
    if kind != "LORA" {
        return Err(keys.wrong("peft_type", "\"LORA\" (no other adapters are computed)", kind));
    }
    for (key, value) in refused() {
        keys.only(key, &value)?;
    }
    let number = |key: &str, usual: f64| match keys.not_null(key) {
        None => Ok(usual),
        Some(value) => value.as_f64().ok_or_else(|| keys.wrong(key, "a number", value)),
    };
    let rank = keys.get("r").unwrap_or(&Value::Null);
    let is_rank = |rank: &u64| (1..=65536).contains(rank);
    let rank = rank.as_u64().filter(is_rank).ok_or_else(|| keys.wrong("r", "a rank from 1 to 65536", rank))?;
    let modules = match keys.not_null("modules_to_save") {
        None => Some(Vec::new()),
        Some(value) => value.as_array().and_then(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect()),
    };
    let modules_to_save = modules.ok_or_else(|| {
        keys.wrong("modules_to_save", "a list of names, or null", keys.peek("modules_to_save").unwrap_or(&Value::Null))
    })?;
    Ok(Adapters {
        rank: rank as usize,
        alpha: number("lora_alpha", 8.0)?,
        by_root: keys.get("use_rslora") == Some(&Value::Bool(true)),
        dropout: number("lora_dropout", 0.0)?,
        targets: Vec::new(),
        modules_to_save,
        base: BaseFormat::F32,
    })
}

/// The layers with an adapter in a file, by their paths within a block.
fn targets(weights: &Weights) -> Vec<String> {
    let layer = |name: &str| {
        let path = name.strip_prefix(ADAPTER_PREFIX).unwrap_or(name);
        path.split_once(".lora_").map(|(layer, _)| path_in_block(layer).to_owned())
    };
    let layers: BTreeSet<String> = weights.names().filter_map(layer).collect();
    layers.into_iter().collect()
}

/// The keys of an `adapter_config.json`.
///
/// # Errors
/// A file that cannot be read, or that is not an object.
pub fn read_object(path: &Path) -> Result<Map<String, Value>, FolderError> {
    object(&fs::read(path).map_err(IoError::at(path, "read"))?, path)
}
