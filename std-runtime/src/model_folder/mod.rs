//! Model folders in Hugging Face's layout: `config.json`, `model.safetensors`, `generation_config.json`, and a tokenizer's files.

mod checksum;
mod companions;
pub mod error;
pub mod hidden_act;
pub mod keys;
pub mod map;
pub mod maps;
pub mod safetensors;
mod weights;

use std::path::Path;

pub use checksum::{WeightsFile, weights_files};
pub use companions::Companions;
pub use error::FolderError;
pub use weights::{ExtraTensors, ParamValues, Reading, Stored, layout, load_weights, load_weights_with, save_weights};

/// The file of a model folder that describes the model.
pub const CONFIG_FILE: &str = "config.json";
/// The file of a model folder with defaults of text generation.
pub const GENERATION_FILE: &str = "generation_config.json";

/// The file of an adapter folder that describes the adapter, by PEFT's name.
pub const ADAPTER_FILE: &str = "adapter_config.json";

/// Whether a path is a folder with an adapter and without its base model.
pub fn is_adapter_folder(path: &Path) -> bool {
    path.join(ADAPTER_FILE).is_file() && !is_model_folder(path)
}

/// Whether a path is a folder with a `config.json`.
pub fn is_model_folder(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}
