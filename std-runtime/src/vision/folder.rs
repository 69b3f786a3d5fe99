//! The `config.json` of an image model, and the weights beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::ImageArchitecture;
use super::families::ImageConfig;
use crate::files::IoError;
use crate::model_folder::keys::Keys;
use crate::model_folder::map::NameMap;
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{CONFIG_FILE, FolderError};

/// The description of an image model in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFolder {
    /// The model.
    pub model: ImageConfig,
    /// The names of its classes, as many as it has.
    pub labels: Vec<String>,
    /// Keys without a meaning here.
    pub others: Map<String, Value>,
}

impl ImageFolder {
    /// Reads the `config.json` of a folder; `None` if it describes another kind of model, or cannot be read as JSON: then its reader says why.
    ///
    /// # Errors
    /// A file that cannot be read, and, by name, keys that select an unsupported variant of the model.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let path = folder.join(CONFIG_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(IoError::at(&path, "read"))?;
        let Ok(Value::Object(json)) = serde_json::from_slice(&text) else { return Ok(None) };
        let keys = Keys::new(&path, &json);
        let Some(model_type) = keys.get("model_type").and_then(Value::as_str) else { return Ok(None) };
        let Some(model) = ImageConfig::from_keys(model_type, &keys)? else { return Ok(None) };
        let labels = labels(&keys, model.classes())?;
        keys.pass_over(&["architectures", "dtype", "torch_dtype", "id2label", "label2id"]);
        Ok(Some(Self { model, labels, others: keys.others() }))
    }

    /// The contents of `config.json`.
    pub fn to_json(&self, dropout: f64) -> Value {
        let mut json = self.others.clone();
        json.insert("model_type".to_owned(), self.model.model_type().into());
        self.model.to_keys(dropout, &mut json);
        let numbered = || self.labels.iter().enumerate();
        let by_id: Map<String, Value> = numbered().map(|(id, name)| (id.to_string(), name.clone().into())).collect();
        let by_name: Map<String, Value> = numbered().map(|(id, name)| (name.clone(), id.into())).collect();
        json.insert("id2label".to_owned(), by_id.into());
        json.insert("label2id".to_owned(), by_name.into());
        json.into()
    }
}

/// The names of the classes: those of `id2label`, or LABEL_i, as `transformers` calls them.
fn labels(keys: &Keys<'_>, classes: usize) -> Result<Vec<String>, FolderError> {
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
    let weights = Weights::open(folder)?;
    let mut maps = architecture.name_maps();
    let found = maps.iter().position(|(name, _)| weights.contains(name)).unwrap_or(0);
    maps.swap(0, found);
    Ok(maps.into_iter().map(|(_, map)| map).collect())
}
