//! The `config.json` of a detector.

use std::path::Path;

use serde_json::{Map, Value};

use super::families::detr::DetrModel;
use super::folder::{labels, name_classes};
use crate::model_folder::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys, described, of_kind};

/// The description of a DETR in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorFolder {
    /// The model.
    pub model: DetrModel,
    /// The names of its classes, as many as it has.
    pub labels: Vec<String>,
    /// Keys without a meaning here.
    pub others: Map<String, Value>,
}

impl DetectorFolder {
    /// Reads the `config.json` of a folder; `None` if it describes another kind of model, or cannot be read as JSON: then its reader says why.
    ///
    /// # Errors
    /// A file that cannot be read, and, by name, keys that select an unsupported variant of the model.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let Some((path, json)) = described(folder)? else { return Ok(None) };
        let keys = Keys::new(&path, &json);
        if keys.get("model_type").and_then(Value::as_str) != Some(DetrModel::TYPE) {
            return Ok(None);
        }
        let model = DetrModel::from_keys(&keys)?;
        let labels = labels(&keys, model.num_labels)?;
        keys.pass_over(&["architectures", "dtype", "torch_dtype", "id2label", "label2id"]);
        Ok(Some(Self { model, labels, others: keys.others() }))
    }

    /// The same of a folder that must be a detector.
    ///
    /// # Errors
    /// As [`Self::read`]; another kind of model.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        of_kind(folder, Self::read(folder)?, "a detector: \"detr\"")
    }

    /// The contents of `config.json`.
    pub fn to_json(&self, dropout: f64) -> Value {
        let mut json = self.others.clone();
        json.insert("model_type".to_owned(), DetrModel::TYPE.into());
        self.model.to_keys(dropout, &mut json);
        name_classes(&self.labels, &mut json);
        json.into()
    }
}
