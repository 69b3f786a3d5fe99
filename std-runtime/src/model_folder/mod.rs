//! Model folders as Hugging Face lays them out: `config.json`, `model.safetensors`, `generation_config.json`, and a tokenizer's files.

mod companions;
pub mod error;
pub mod keys;
pub mod map;
pub mod maps;
pub mod safetensors;
mod weights;

use std::path::Path;

pub use companions::Companions;
pub use error::FolderError;
pub use weights::{ExtraTensors, layout, load_weights, load_weights_with, save_weights, tensors, write_weights};

/// The file of a model folder that describes the model.
pub const CONFIG_FILE: &str = "config.json";
/// The file of a model folder that holds defaults of text generation.
pub const GENERATION_FILE: &str = "generation_config.json";

/// Whether a path is a folder with a `config.json`.
pub fn is_model_folder(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}
