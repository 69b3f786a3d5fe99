//! `config.json` and `generation_config.json`, with the names that `transformers` uses.
//!
//! A family defines the meaning of its keys in its file here (`ConfigJson`). Unknown keys are kept for other tools; a key that would change the
//! model's computation is refused.

mod gpt;
mod llama;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::mem;
use std::path::{Path, PathBuf};

use samara_core::params::Params;
use serde_json::{Map, Value};

use super::ModelConfig;
use crate::files::IoError;
use crate::model_folder::error::FolderError;
use crate::model_folder::keys::Keys;
use crate::model_folder::{CONFIG_FILE, GENERATION_FILE, ParamValues, is_adapter_folder, is_model_folder, save_weights};
use crate::run::durable;
use crate::tokenizer::Tokenizer;

/// The description of a model in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderConfig {
    /// The model; its vocabulary is known.
    pub model: ModelConfig,
    /// Share of activations dropped when `transformers` trains the model.
    pub dropout: f64,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Keys of `config.json` without a meaning here, and aliases of known keys.
    pub others: Map<String, Value>,
    /// The keys of `generation_config.json`; `None`: it is generated from the token ids.
    pub generation: Map<String, Value>,
}

/// Keys that are written anew, or that would be wrong beside f32 weights.
const REPLACED: [&str; 4] = ["model_type", "architectures", "dtype", "torch_dtype"];

impl FolderConfig {
    /// A new folder's description. `dropout` is that of the training.
    pub fn new(model: impl Into<ModelConfig>, dropout: f64) -> Self {
        let (others, generation) = (Map::new(), Map::new());
        Self { model: model.into(), dropout, bos_token_id: None, eos_token_ids: Vec::new(), others, generation }
    }

    /// Reads the `config.json` of a folder, and its `generation_config.json` if there is one. Absent keys have the defaults of `transformers`.
    ///
    /// # Errors
    /// A file that cannot be read, and, by name, keys that select an unsupported variant of the model.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(CONFIG_FILE);
        let text = fs::read(&path).map_err(|source| match (source.kind(), folder_around(folder)) {
            (_, Some(around)) => FolderError::Inside { path: folder.to_path_buf(), folder: around },
            _ if is_adapter_folder(folder) => FolderError::Adapter { path: folder.to_path_buf() },
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => FolderError::NoModel { path: path.clone(), source },
            _ => FolderError::Io(IoError::at(&path, "read")(source)),
        })?;
        let mut config = Self::from_json(&text, &path)?;
        config.read_generation(folder)?;
        Ok(config)
    }

    /// Reads the `generation_config.json` of a folder, if there is one, replacing the one read before: an adapter can have its own in addition to its
    /// base's. End-of-text tokens are added to the known ones.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_generation(&mut self, folder: &Path) -> Result<(), FolderError> {
        let path = folder.join(GENERATION_FILE);
        if !path.exists() {
            return Ok(());
        }
        self.generation = object(&fs::read(&path).map_err(IoError::at(&path, "read"))?, &path)?;
        let keys = Keys::new(&path, &self.generation);
        let (bos, eos) = (keys.token("bos_token_id")?, keys.tokens("eos_token_id")?);
        let own = [("bos_token_id", self.bos_token_id.into()), ("eos_token_id", self.eos())];
        self.bos_token_id = self.bos_token_id.or(bos);
        self.eos_token_ids.extend(eos);
        self.eos_token_ids = once_each(mem::take(&mut self.eos_token_ids));
        // Each file keeps its own values.
        let with = [self.bos_token_id.into(), self.eos()];
        for ((key, own), _) in own.into_iter().zip(with).filter(|((_, own), with)| own != with) {
            self.others.entry(key).or_insert(own);
        }
        Ok(())
    }

    /// Parses the contents of a `config.json`; errors name `path`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_json(text: &[u8], path: &Path) -> Result<Self, FolderError> {
        let json = object(text, path)?;
        let keys = Keys::new(path, &json);
        let model = ModelConfig::from_keys(&keys)?;
        model.check().map_err(|invalid| keys.invalid(invalid))?;
        keys.only("quantization_config", &Value::Null)?;
        keys.pass_over(&REPLACED);
        let (bos_token_id, eos_token_ids) = (keys.token("bos_token_id")?, once_each(keys.tokens("eos_token_id")?));
        let (dropout, others) = (model.dropout(&keys), keys.others());
        let mut config = Self { model, dropout, bos_token_id, eos_token_ids, others, generation: Map::new() };
        // A list of one token stays a list.
        if let Some(eos) = json.get("eos_token_id").filter(|eos| **eos != config.eos()) {
            config.others.insert("eos_token_id".to_owned(), eos.clone());
        }
        Ok(config)
    }

    /// Forgets ids of tokens: the model gets another tokenizer.
    pub fn forget_tokens(&mut self) {
        (self.bos_token_id, self.eos_token_ids) = (None, Vec::new());
        for json in [&mut self.others, &mut self.generation] {
            json.retain(|key, _| !key.ends_with("_token_id"));
        }
    }

    /// The tokens that end a generated text: those of `config.json` and `generation_config.json`, and the tokenizer's end of text.
    pub fn stops(&self, tokenizer: &Tokenizer) -> Vec<i32> {
        let all = self.eos_token_ids.iter().copied().chain(tokenizer.end_of_text()).collect();
        once_each(all).into_iter().map(|id| id as i32).collect()
    }

    /// The contents of `config.json`.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        self.model.to_keys(self.dropout, &mut json);
        json.insert("model_type".to_owned(), self.model.model_type().into());
        json.insert("bos_token_id".to_owned(), self.bos_token_id.into());
        json.insert("eos_token_id".to_owned(), self.eos());
        json.insert("dtype".to_owned(), "float32".into());
        // They include aliases of written keys.
        json.extend(self.others.clone());
        json.into()
    }

    /// No token, one, or a list, as `transformers` has it.
    fn eos(&self) -> Value {
        match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [id] => (*id).into(),
            ids => ids.into(),
        }
    }

    /// The contents of `generation_config.json`: what was read, and the token ids that were absent.
    fn generation_json(&self) -> Value {
        let mut json = self.generation.clone();
        if json.is_empty() {
            json.insert("_from_model_config".to_owned(), true.into());
        }
        for (key, value) in [("bos_token_id", self.bos_token_id.into()), ("eos_token_id", self.eos())] {
            if !value.is_null() {
                json.entry(key).or_insert(value);
            }
        }
        json.into()
    }

    /// Writes `config.json` and `generation_config.json`, synced to disk.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FolderError> {
        write_json(&folder.join(CONFIG_FILE), &self.to_json())?;
        self.write_generation(folder)
    }

    /// Writes `generation_config.json` alone, synced to disk.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_generation(&self, folder: &Path) -> Result<(), FolderError> {
        write_json(&folder.join(GENERATION_FILE), &self.generation_json())
    }
}

/// The model folder that a file is in.
fn folder_around(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    (file.is_file() && (is_model_folder(parent) || is_adapter_folder(parent))).then(|| parent.to_path_buf())
}

fn write_json(path: &Path, json: &Value) -> Result<(), FolderError> {
    Ok(durable::write(path, format!("{json:#}\n").as_bytes()).map_err(IoError::at(path, "write"))?)
}

/// Ids without repetitions, in order: the first may have a meaning for other tools, such as padding.
fn once_each(ids: Vec<u32>) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    ids.into_iter().filter(|&id| seen.insert(id)).collect()
}

/// The keys of a JSON file.
pub(super) fn object(text: &[u8], path: &Path) -> Result<Map<String, Value>, FolderError> {
    let json: Value = serde_json::from_slice(text).map_err(|error| FolderError::Json {
        path: path.to_path_buf(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })?;
    match json {
        Value::Object(keys) => Ok(keys),
        _ => Err(Keys::new(path, &Map::new()).wrong("the file", "an object", "another value")),
    }
}

/// Writes `config.json`, `generation_config.json` and `model.safetensors`, each synced to disk; the folder is created if necessary. `values` has the
/// layout of the registry.
///
/// # Errors
/// Files that cannot be written; parameters that are frozen in another element type than f32.
pub fn save_folder<'v>(
    folder: &Path,
    config: &FolderConfig,
    params: &Params<'_>,
    values: impl Into<ParamValues<'v>>,
) -> Result<(), FolderError> {
    fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder"))?;
    config.write(folder)?;
    save_weights(folder, params, &config.model.architecture()?.name_map(), values)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn read(json: Value) -> Result<FolderConfig, String> {
        FolderConfig::from_json(json.to_string().as_bytes(), Path::new("c.json")).map_err(|error| error.to_string())
    }

    /// A description with keys of other tools is preserved when read and written.
    pub(super) fn read_again(model: ModelConfig, dropout: f64) {
        let mut config = FolderConfig { eos_token_ids: vec![60], ..FolderConfig::new(model, dropout) };
        config.others.insert("task_specific_params".to_owned(), json!({"a": [1, null]}));
        assert_eq!(read(config.to_json()).unwrap(), config);
    }

    #[test]
    fn weights_are_f32_whatever_they_were() {
        let config =
            read(json!({"model_type": "gpt2", "torch_dtype": "bfloat16", "dtype": "bfloat16", "summary_type": "x"})).unwrap();
        let json = config.to_json();
        assert_eq!(
            (json.get("torch_dtype"), json["dtype"].as_str(), json["summary_type"].as_str()),
            (None, Some("float32"), Some("x"))
        );
    }

    #[test]
    fn errors_name_the_key() {
        let all = "expected one of \"gpt2\", \"openai-gpt\", \"llama\", \"mistral\", \"qwen2\"";
        for (json, expected) in [
            (json!({}), format!("c.json: model_type: {all}, found null")),
            (json!({"model_type": "bert"}), format!("model_type: {all}, found \"bert\"")),
            (json!({"model_type": "gpt2", "quantization_config": {"bits": 4}}), "quantization_config: expected null".to_owned()),
            (json!({"model_type": "gpt2", "bos_token_id": -1}), "bos_token_id: expected a token id or null, found -1".to_owned()),
            (json!({"model_type": "gpt2", "eos_token_id": [1, "x"]}), "eos_token_id: expected a token id or null".to_owned()),
            (json!([1]), "the file: expected an object".to_owned()),
        ] {
            let error = read(json.clone()).expect_err(&json.to_string());
            assert!(error.contains(&expected), "{json}\n got {error}\nwant {expected}");
        }
        let error = FolderConfig::from_json(b"{\n  \"a\": }", Path::new("c.json")).unwrap_err().to_string();
        assert!(error.starts_with("c.json:2:8: not JSON"), "{error}");
    }

    #[test]
    fn generation_keeps_its_settings_and_adds_stop_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, json: Value| fs::write(folder.path().join(name), json.to_string()).unwrap();
        write(CONFIG_FILE, json!({"model_type": "gpt2", "eos_token_id": 5}));
        write(GENERATION_FILE, json!({"eos_token_id": [7, 5, 2], "temperature": 0.6}));
        let config = FolderConfig::read(folder.path()).unwrap();
        assert_eq!(config.eos_token_ids, [5, 7, 2]);
        let tokenizer = Tokenizer::bytes(&["<|endoftext|>"]).unwrap();
        let end = tokenizer.end_of_text().unwrap() as i32;
        assert_eq!(config.stops(&tokenizer), [5, 7, 2, end]);
        let named = FolderConfig { eos_token_ids: vec![end as u32, 7], ..config.clone() };
        assert_eq!(named.stops(&tokenizer), [end, 7]);
        assert_eq!(config.to_json()["eos_token_id"], 5);
        assert_eq!(config.generation_json(), json!({"eos_token_id": [7, 5, 2], "temperature": 0.6}));
        config.write(folder.path()).unwrap();
        assert_eq!(FolderConfig::read(folder.path()).unwrap(), config);
        let new = FolderConfig { eos_token_ids: vec![3], generation: Map::new(), ..config };
        assert_eq!(new.generation_json(), json!({"_from_model_config": true, "eos_token_id": 3}));
        write(CONFIG_FILE, json!({"model_type": "gpt2", "eos_token_id": [5]}));
        write(GENERATION_FILE, json!({"eos_token_id": 5, "bos_token_id": 1}));
        let config = FolderConfig::read(folder.path()).unwrap();
        assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), &[5][..]));
        assert_eq!((&config.to_json()["eos_token_id"], &config.to_json()["bos_token_id"]), (&json!([5]), &Value::Null));
        write(GENERATION_FILE, json!({"eos_token_id": "x"}));
        let error = FolderConfig::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("generation_config.json: eos_token_id: expected a token id"), "{error}");
    }
}
