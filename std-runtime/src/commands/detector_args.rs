//! The configuration of a command line that names a detector.

use std::path::Path;

use super::Error;
use super::args::ConfigArgs;
use super::image_args::{table_of, text};
use crate::config::{Layers, Place, Table};
use crate::model_folder::CONFIG_FILE;
use crate::train::detection::DetectRunConfig;
use crate::vision::detector::DetectorFolder;
use crate::vision::families::detr::DetrModel;

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
        if let Some(data) = &self.data {
            let data = data.display();
            return Err(Error::usage(format!(
                "--data {data}: detectors are trained on the generated world of shapes; leave it out"
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
        Ok(Some(layers.finish()?))
    }
}
