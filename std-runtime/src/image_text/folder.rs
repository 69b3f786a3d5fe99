//! The `config.json` of a model of images with texts.

use std::path::Path;

use serde_json::{Map, Value};

use super::clip::{ClipModel, DualType};
use crate::config::Choice;
use crate::model_folder::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys, described};

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
}
