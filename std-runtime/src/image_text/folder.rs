//! The `config.json` of a model of images with texts.

use std::path::Path;

use serde_json::{Map, Value};

use super::clip::{ClipModel, DualType};
use crate::config::Choice;
use crate::files::IoError;
use crate::model_folder::keys::{ConfigJson, Keys, described, of_kind};
use crate::model_folder::{CONFIG_FILE, FolderError};
use crate::run::durable;

/// The description of a CLIP or SigLIP in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct DualFolder {
    /// The model.
    pub model: ClipModel,
    /// Keys without a meaning here.
    pub others: Map<String, Value>,
}

impl DualFolder {
    /// Reads the `config.json` of a folder; `None` if it describes another kind of model, or cannot be read as JSON: then its reader says why.
    ///
    /// # Errors
    /// A file that cannot be read, and, by name, keys that select an unsupported variant of the model.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let Some((path, json)) = described(folder)? else { return Ok(None) };
        let keys = Keys::new(&path, &json);
        let model_type = keys.get("model_type").and_then(Value::as_str);
        if !DualType::WORDS.iter().any(|(word, _)| Some(*word) == model_type) {
            return Ok(None);
        }
        let model = ClipModel::from_keys(&keys)?;
        keys.pass_over(&["architectures", "dtype", "torch_dtype", "vision_config", "text_config"]);
        Ok(Some(Self { model, others: keys.others() }))
    }

    /// The same of a folder that must be one of these models.
    ///
    /// # Errors
    /// As [`Self::read`]; another kind of model.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        of_kind(folder, Self::read(folder)?, "a model of images with texts: \"clip\" or \"siglip\"")
    }

    /// The contents of `config.json`.
    pub fn to_json(&self) -> Value {
        let mut json = self.others.clone();
        json.insert("model_type".to_owned(), self.model.model_type.word().into());
        self.model.to_keys(0.0, &mut json);
        json.into()
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), FolderError> {
        let path = folder.join(CONFIG_FILE);
        let text = serde_json::to_string_pretty(&self.to_json()).unwrap_or_default() + "\n";
        Ok(durable::write(&path, text.as_bytes()).map_err(IoError::at(&path, "write"))?)
    }
}
