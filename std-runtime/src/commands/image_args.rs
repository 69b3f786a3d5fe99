//! The configuration of a command line that names an image model.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::args::ConfigArgs;
use crate::config::{Layers, Place, Table, Unread};
use crate::model_folder::CONFIG_FILE;
use crate::train::config::ImageRunConfig;
use crate::vision::families::ImageConfig;
use crate::vision::folder::ImageFolder;

/// Keys of `[train]` that images have no use for.
const UNREAD: &[(&str, &str)] = &[
    ("block_size", "an image has no tokens; its size is model.image_size"),
    ("tokens", STEPS),
    ("flops", STEPS),
    ("dropout", "it is not built into image models"),
    ("memory_budget_mib", "set train.recompute"),
    ("sample_every", "a classifier writes no text"),
];
const STEPS: &str = "train.steps ends the run";

impl ConfigArgs {
    /// The configuration of an image model, if `model.model_type` of the command line, of its file or of the initial folder names one. `base` is the file to
    /// use when no file is given.
    pub(super) fn merge_images(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Option<ImageRunConfig>, Error> {
        let file = self.config.as_deref().or(base);
        let toml = file.map(table_of).unwrap_or_default();
        let of = |table: &str, key: &str| self.set_of(table, key).or_else(|| text(&toml, table, key));
        let init = self.init.clone().or_else(|| of("train", "init").map(PathBuf::from));
        let named = of("model", "model_type").or_else(|| init.as_deref().and_then(type_of));
        if !named.is_some_and(|named| ImageConfig::TYPES.contains(&named.as_str())) {
            return Ok(None);
        }
        if let Some(preset) = &self.preset {
            return Err(Error::usage(format!(
                "--preset {preset} is one of language models, and model.model_type names an image model"
            )));
        }
        let mut layers = Layers::<ImageRunConfig>::new();
        if let Some(folder) = &init {
            let model = ImageFolder::open(folder)?.model;
            let keys: Vec<String> = model.keys().iter().map(|key| format!("model.{}", key.name)).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            layers.put(&keys, &Place::Folder(folder.join(CONFIG_FILE)), |config| config.model = model);
        }
        if let Some(file) = file {
            layers.file(file)?;
        }
        self.set.iter().try_for_each(|set| layers.set(set))?;
        self.flags(out).into_iter().for_each(|(flag, key, value)| layers.flag(flag, key, &value));
        let config = layers.finish()?;
        for &(key, instead) in UNREAD {
            layers.refuse_given(&config, "train", Unread { key, instead })?;
        }
        if config.shapes.target.is_some() {
            for key in ["val_fraction", "image_field", "label_field", "on_bad_image"] {
                let instead = "shapes.target takes images of the generated world, and its sizes are shapes.train and shapes.val";
                layers.refuse_given(&config, "data", Unread { key, instead })?;
            }
        }
        Ok(Some(config))
    }

    /// The last value of a key after `--set`.
    pub(super) fn set_of(&self, table: &str, key: &str) -> Option<String> {
        let value = |set: &String| {
            let (name, value) = set.split_once('=')?;
            let is_it = name.trim().split_once('.') == Some((table, key));
            is_it.then(|| value.trim().trim_matches(['"', '\'']).to_owned())
        };
        self.set.iter().rev().find_map(value)
    }
}

/// A file's tables; a file that cannot be read is complained about later.
pub(super) fn table_of(file: &Path) -> toml::Table {
    fs::read_to_string(file).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub(super) fn text(toml: &toml::Table, table: &str, key: &str) -> Option<String> {
    toml.get(table)?.get(key)?.as_str().map(str::to_owned)
}

/// The model's type in a folder, whatever it is.
fn type_of(folder: &Path) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(CONFIG_FILE)).ok()?).ok()?;
    json.get("model_type")?.as_str().map(str::to_owned)
}
