//! What the score of a model is, as its folder says: a reward, or the values of a policy's training.

use std::path::Path;

use super::open::OpenError;
use crate::model::adapters::SCORE;
use crate::model::tune::peft::{AdapterFolder, Source, label_of, read_object};
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{CONFIG_FILE, FolderError};

/// What the score of a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScoreKind {
    /// What a completion is worth.
    #[default]
    Reward,
    /// What is expected of a completion at each of its tokens: a value function.
    Value,
}

impl ScoreKind {
    /// The name of the only label in the folder's description.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Value => "value",
        }
    }

    /// What a folder says of its score; a reward where it says nothing.
    ///
    /// # Errors
    /// A description that cannot be read.
    pub fn of(source: &Source) -> Result<Self, OpenError> {
        let label = match &source.adapter {
            Some(adapter) => label_of(adapter)?,
            None => described(&source.base)?,
        };
        Ok(if label.as_deref() == Some(Self::Value.label()) { Self::Value } else { Self::Reward })
    }
}

/// The only label in the description of a whole model.
fn described(folder: &Path) -> Result<Option<String>, FolderError> {
    Ok(read_object(&folder.join(CONFIG_FILE))?.get("id2label").and_then(|labels| labels["0"].as_str()).map(str::to_owned))
}

/// Whether a model has a score in the place of logits.
///
/// # Errors
/// The description of an adapter that cannot be read.
pub fn has_score(source: &Source) -> Result<bool, FolderError> {
    match &source.adapter {
        Some(adapter) => AdapterFolder::has_score(adapter),
        None => Ok(Weights::open(&source.base).is_ok_and(|weights| weights.contains(SCORE))),
    }
}
