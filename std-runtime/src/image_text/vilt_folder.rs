//! The folder of a ViLT: `config.json`, and which heads its weights have.

use std::path::Path;

use samara_core::model::vilt::ViltHeads;
use serde_json::{Map, Value};

use super::vilt::ViltModel;
use crate::files::IoError;
use crate::model_folder::keys::{ConfigJson, Keys, described, of_kind};
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{CONFIG_FILE, FolderError};
use crate::run::durable;

/// The description of a ViLT in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ViltFolder {
    /// The model.
    pub model: ViltModel,
    /// Its heads.
    pub heads: ViltHeads,
    /// Keys without a meaning here.
    pub others: Map<String, Value>,
}

impl ViltFolder {
    /// Reads the `config.json` of a folder; `None` if it describes another kind of model, or cannot be read as JSON: then its reader says why.
    ///
    /// # Errors
    /// A file that cannot be read, and, by name, keys that select an unsupported variant of the model.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let Some((path, json)) = described(folder)? else { return Ok(None) };
        let keys = Keys::new(&path, &json);
        if keys.get("model_type").and_then(Value::as_str) != Some(ViltModel::TYPE) {
            return Ok(None);
        }
        let model = ViltModel::from_keys(&keys)?;
        keys.pass_over(&["architectures", "dtype", "torch_dtype"]);
        let weights = Weights::open(folder)?;
        let has = |head: &str| weights.names().any(|name| name.starts_with(head));
        let heads = ViltHeads { masked_lm: has("mlm_score."), matching: has("itm_score."), rank: has("rank_output.") };
        Ok(Some(Self { model, heads, others: keys.others() }))
    }

    /// The same of a folder that must be one of a ViLT.
    ///
    /// # Errors
    /// As [`Self::read`]; another kind of model.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        of_kind(folder, Self::read(folder)?, "a ViLT: \"vilt\"")
    }

    /// The contents of `config.json`.
    pub fn to_json(&self, dropout: f64) -> Value {
        let mut json = self.others.clone();
        json.insert("model_type".to_owned(), ViltModel::TYPE.into());
        json.insert("architectures".to_owned(), vec![ViltModel::architecture(self.heads)].into());
        self.model.to_keys(dropout, &mut json);
        json.into()
    }

    /// Writes `config.json`. `dropout` is the share of activations that training drops.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&self, folder: &Path, dropout: f64) -> Result<(), FolderError> {
        let path = folder.join(CONFIG_FILE);
        let text = serde_json::to_string_pretty(&self.to_json(dropout)).unwrap_or_default() + "\n";
        Ok(durable::write(&path, text.as_bytes()).map_err(IoError::at(&path, "write"))?)
    }
}
