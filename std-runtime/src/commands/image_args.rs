//! The tables of image classifiers on a command line.

use std::path::Path;

use super::Error;
use super::task_args::{Task, unread};
use crate::config::Unread;
use crate::train::config::ImageRunConfig;
use crate::vision::families::ImageConfig;
use crate::vision::folder::ImageFolder;

const STEPS: &str = "train.steps ends the run";

impl Task for ImageRunConfig {
    const MODELS: &'static str = "an image model";
    const TYPES: &'static [&'static str] = ImageConfig::TYPES;
    const UNREAD: &'static [(&'static str, &'static str)] = &[
        ("block_size", "an image has no tokens; its size is model.image_size"),
        ("tokens", STEPS),
        ("flops", STEPS),
        ("dropout", "it is not built into image models"),
        ("memory_budget_mib", "set train.recompute"),
        ("sample_every", "a classifier writes no text"),
    ];

    type Model = ImageConfig;

    fn model_in(folder: &Path) -> Result<ImageConfig, Error> {
        Ok(ImageFolder::open(folder)?.model)
    }

    fn take(&mut self, model: ImageConfig) {
        self.model = model;
    }

    fn idle(&self) -> Vec<(&'static str, Unread)> {
        let instead = "shapes.target takes images of the generated world, and its sizes are shapes.train and shapes.val";
        let keys = ["val_fraction", "image_field", "label_field", "on_bad_image"];
        let of_files = unread("data", &keys, instead).filter(|_| self.shapes.target.is_some());
        let anew = "augment changes images in every epoch, so that no features can be kept: leave one of the two out";
        let cached = self.tune.caches() && self.augment.changes();
        of_files.chain(unread("tune", &["cache"], anew).filter(|_| cached)).collect()
    }
}
