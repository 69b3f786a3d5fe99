//! The configuration of a command line that names a detector.

use std::path::Path;

use super::Error;
use super::args::ConfigArgs;
use super::image_args::{table_of, text};
use crate::config::{Layers, Place, Table, Unread};
use crate::model_folder::CONFIG_FILE;
use crate::train::detection::DetectRunConfig;
use crate::vision::detector::DetectorFolder;
use crate::vision::families::detr::DetrModel;
use crate::vision::shapes::SHAPES;

/// Keys of `[train]` that detectors have no use for.
const UNREAD: &[(&str, &str)] = &[
    ("block_size", "an image has no tokens; its size is model.image_size"),
    ("memory_budget_mib", "set train.recompute"),
    ("sample_every", "a detector writes no text"),
];

impl ConfigArgs {
    /// The configuration of a detector, if `model.model_type` of the command line, of its file or of the initial folder names one. `base` is the file to use
    /// when no file is given.
    pub(super) fn merge_detector(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Option<DetectRunConfig>, Error> {
        let file = self.config.as_deref().or(base);
        let described = self.init.as_deref().filter(|init| init.is_dir()).map(DetectorFolder::read).transpose()?.flatten();
        let named =
            self.set_of("model", "model_type").or_else(|| text(&file.map(table_of).unwrap_or_default(), "model", "model_type"));
        if named.map_or(described.is_none(), |named| named != DetrModel::TYPE) {
            return Ok(None);
        }
        if let Some(preset) = &self.preset {
            return Err(Error::usage(format!(
                "--preset {preset} is one of language models, and model.model_type names a detector"
            )));
        }
        let mut layers = Layers::<DetectRunConfig>::new();
        if let (Some(folder), Some(described)) = (&self.init, described) {
            let keys: Vec<String> = described.model.keys().iter().map(|key| format!("model.{}", key.name)).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            layers.put(&keys, &Place::Folder(folder.join(CONFIG_FILE)), |config| config.model = described.model);
        }
        if let Some(file) = file {
            layers.file(file)?;
        }
        self.set.iter().try_for_each(|set| layers.set(set))?;
        self.flags(out).into_iter().for_each(|(flag, key, value)| layers.flag(flag, key, &value));
        // The number of classes is that of the data.
        let classes = if layers.values_of("data")?.data.path.is_some() { None } else { Some(SHAPES.len()) };
        if let Some(classes) =
            classes.filter(|_| matches!(layers.place("model.num_labels"), None | Some(Place::Default | Place::Folder(_))))
        {
            layers.put(&["model.num_labels"], &Place::Default, |config| config.model.num_labels = classes);
        }
        let config = layers.finish()?;
        for (table, unread) in config.unread() {
            layers.refuse_given(&config, table, unread)?;
        }
        for &(key, instead) in UNREAD {
            layers.refuse_given(&config, "train", Unread { key, instead })?;
        }
        Ok(Some(config))
    }
}
