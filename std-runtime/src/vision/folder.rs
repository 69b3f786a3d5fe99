//! The `config.json` of an image model, and the weights beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ImageArchitecture;
use super::families::ImageConfig;
use super::tune::Added;
use crate::files::IoError;
use crate::model_folder::keys::{Keys, described, of_kind};
use crate::model_folder::map::NameMap;
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{CONFIG_FILE, FolderError};
use crate::run::durable;

/// The description of an image model in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFolder {
    /// The model.
    pub model: ImageConfig,
    /// The names of its classes, as many as it has.
    pub labels: Vec<String>,
    /// What a tuning has added to it, which other programs do not know.
    pub added: Added,
    /// Keys without a meaning here.
    pub others: Map<String, Value>,
}

impl ImageFolder {
    /// Reads the `config.json` of a folder; `None` if it describes another kind of model, or cannot be read as JSON: then its reader says why.
    ///
    /// # Errors
    /// A file that cannot be read, and, by name, keys that select an unsupported variant of the model.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let Some((path, json)) = described(folder)? else { return Ok(None) };
        let keys = Keys::new(&path, &json);
        let Some(model_type) = keys.get("model_type").and_then(Value::as_str) else { return Ok(None) };
        let Some(model) = ImageConfig::from_keys(model_type, &keys)? else { return Ok(None) };
        let labels = labels(&keys, model.classes())?;
        keys.pass_over(&["architectures", "dtype", "torch_dtype", "id2label", "label2id"]);
        let added = match keys.not_null(ADDED) {
            None => Added::default(),
            Some(value) => {
                Added::deserialize(value).map_err(|error| keys.wrong(ADDED, "what a tuning adds to a model", error))?
            }
        };
        Ok(Some(Self { model, labels, added, others: keys.others() }))
    }

    /// The same of a folder that must be one of an image model.
    ///
    /// # Errors
    /// As [`Self::read`]; another kind of model.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        of_kind(folder, Self::read(folder)?, &format!("an image classifier: {}", ImageConfig::TYPES.join(", ")))
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), FolderError> {
        let path = folder.join(CONFIG_FILE);
        let text = serde_json::to_string_pretty(&self.to_json(0.0)).unwrap_or_default() + "\n";
        Ok(durable::write(&path, text.as_bytes()).map_err(IoError::at(&path, "write"))?)
    }

    /// The contents of `config.json`.
    pub fn to_json(&self, dropout: f64) -> Value {
        let mut json = self.others.clone();
        json.insert("model_type".to_owned(), self.model.model_type().into());
        self.model.to_keys(dropout, &mut json);
        name_classes(&self.labels, &mut json);
        if !self.added.is_empty() {
            json.insert(ADDED.to_owned(), serde_json::to_value(self.added).unwrap_or_default());
        }
        json.into()
    }
}

/// The key of [`ImageFolder::added`].
const ADDED: &str = "samara_added";

/// Writes the names of the classes.
pub(super) fn name_classes(labels: &[String], json: &mut Map<String, Value>) {
    let numbered = || labels.iter().enumerate();
    let by_id: Map<String, Value> = numbered().map(|(id, name)| (id.to_string(), name.clone().into())).collect();
    let by_name: Map<String, Value> = numbered().map(|(id, name)| (name.clone(), id.into())).collect();
    json.insert("id2label".to_owned(), by_id.into());
    json.insert("label2id".to_owned(), by_name.into());
}

/// The names of the classes: those of `id2label`, or LABEL_i, as `transformers` calls them.
pub(super) fn labels(keys: &Keys<'_>, classes: usize) -> Result<Vec<String>, FolderError> {
    let mut names: Vec<String> = (0..classes).map(|i| format!("LABEL_{i}")).collect();
    let Some(Value::Object(given)) = keys.peek("id2label") else { return Ok(names) };
    let given: BTreeMap<&str, &Value> = given.iter().map(|(id, name)| (id.as_str(), name)).collect();
    for (id, name) in given {
        let place = id.parse().ok().and_then(|id: usize| names.get_mut(id));
        let (Some(place), Some(name)) = (place, name.as_str()) else {
            let expected = format!("names of the classes 0 to {}", classes.saturating_sub(1));
            return Err(keys.wrong("id2label", expected, format!("{id:?}: {name}")));
        };
        *place = name.to_owned();
    }
    Ok(names)
}

/// The name maps of a family, first that of a folder: the one whose own tensor is in it.
///
/// # Errors
/// Weights that cannot be read.
pub fn name_maps(folder: &Path, architecture: &dyn ImageArchitecture) -> Result<Vec<NameMap>, FolderError> {
    own_first(folder, architecture.name_maps())
}

/// Name maps, each with a tensor that only folders of its kind have; that of a folder first.
///
/// # Errors
/// Weights that cannot be read.
pub fn own_first(folder: &Path, mut maps: Vec<(&'static str, NameMap)>) -> Result<Vec<NameMap>, FolderError> {
    let weights = Weights::open(folder)?;
    let found = maps.iter().position(|(name, _)| weights.contains(name)).unwrap_or(0);
    maps.swap(0, found);
    Ok(maps.into_iter().map(|(_, map)| map).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Result<Option<ImageFolder>, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG_FILE), json.to_string()).unwrap();
        ImageFolder::read(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let json = json!({
            "model_type": "vit", "image_size": 32, "patch_size": 8, "hidden_size": 24, "num_attention_heads": 3, "qkv_bias": false,
            "hidden_act": "quick_gelu", "id2label": {"0": "cat", "1": "dog", "2": "bird"}, "someone": "else's",
        });
        let config = read(&json).unwrap().unwrap();
        assert_eq!(config.labels, ["cat", "dog", "bird"]);
        assert_eq!((config.model.classes(), config.others.len()), (3, 1));
        assert_eq!(read(&config.to_json(0.0)).unwrap().unwrap().model, config.model);
        assert_eq!(read(&json!({"model_type": "gpt2"})), Ok(None));
    }

    #[test]
    fn what_makes_no_model_is_named() {
        for (key, value, expected) in [
            ("image_size", json!(33), "image_size: expected a multiple of patch_size = 16, found 33"),
            ("hidden_act", json!("swish"), "hidden_act: expected"),
            ("hidden_size", json!(770), "hidden_size: expected a multiple of num_attention_heads = 12, found 770"),
            ("id2label", json!({"7": "cat"}), "id2label: expected names of the classes 0 to 0, found \"7\": \"cat\""),
        ] {
            let error = read(&json!({"model_type": "vit", key: value})).unwrap_err();
            assert!(error.contains(expected), "got {error}\nwant {expected}");
        }
    }
}
