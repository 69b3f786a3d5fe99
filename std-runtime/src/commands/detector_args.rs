//! The tables of detectors on a command line.

use std::path::Path;

use super::Error;
use super::task_args::Task;
use crate::config::{Layers, Place, Unread};
use crate::train::detection::DetectRunConfig;
use crate::vision::detector::DetectorFolder;
use crate::vision::families::detr::DetrModel;
use crate::vision::shapes::SHAPES;

impl Task for DetectRunConfig {
    const MODELS: &'static str = "a detector";
    const TYPES: &'static [&'static str] = &[DetrModel::TYPE];
    const UNREAD: &'static [(&'static str, &'static str)] = &[
        ("block_size", "an image has no tokens; its size is model.image_size"),
        ("memory_budget_mib", "set train.recompute"),
        ("sample_every", "a detector writes no text"),
    ];

    type Model = DetrModel;

    fn model_in(folder: &Path) -> Result<DetrModel, Error> {
        Ok(DetectorFolder::open(folder)?.model)
    }

    fn take(&mut self, model: DetrModel) {
        self.model = model;
    }

    /// The number of classes is that of the data.
    fn follow(layers: &mut Layers<Self>) -> Result<(), Error> {
        let is_open = matches!(layers.place("model.num_labels"), None | Some(Place::Default | Place::Folder(_)));
        if is_open && layers.values_of("data")?.data.path.is_none() {
            layers.put(&["model.num_labels"], &Place::Default, |config| config.model.num_labels = SHAPES.len());
        }
        Ok(())
    }

    fn idle(&self) -> Vec<(&'static str, Unread)> {
        self.unread()
    }
}
