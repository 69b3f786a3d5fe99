//! The tables of ALBEF on a command line.

use std::path::Path;

use super::Error;
use super::contrast_args::{OF_PAIRS, idle_pairs, words_by_default};
use super::task_args::{Task, unread};
use crate::config::{Layers, Unread};
use crate::image_text::albef::AlbefModel;
use crate::image_text::albef_folder::AlbefFolder;
use crate::train::albef_config::AlbefRunConfig;
use crate::train::pair_data::PairTables;

impl Task for AlbefRunConfig {
    const MODELS: &'static str = "an ALBEF";
    const TYPES: &'static [&'static str] = &[AlbefModel::TYPE];
    const UNREAD: &'static [(&'static str, &'static str)] = OF_PAIRS;

    type Model = AlbefModel;

    fn model_in(folder: &Path) -> Result<AlbefModel, Error> {
        Ok(AlbefFolder::open(folder)?.model)
    }

    fn take(&mut self, model: AlbefModel) {
        self.model = model;
    }

    fn follow(layers: &mut Layers<Self>) -> Result<(), Error> {
        words_by_default(layers, |config| &mut config.data);
        Ok(())
    }

    fn idle(&self) -> Vec<(&'static str, Unread)> {
        let terms = &self.albef;
        let queue = unread("albef", &["queue_size", "multi_positive"], "albef.itc = 0 leaves the contrast out");
        let hard = unread("albef", &["hard_negatives"], "albef.itm = 0 leaves the matching out");
        let ramp = unread("albef", &["alpha_steps"], "albef.alpha = 0 distils nothing");
        let masks = unread("mlm", &["probability", "whole_word"], "albef.mlm = 0 hides no token");
        let queue = queue.filter(|_| terms.itc == 0.0);
        let idle = queue.chain(hard.filter(|_| terms.itm == 0.0)).chain(ramp.filter(|_| terms.alpha == 0.0));
        idle.chain(masks.filter(|_| terms.mlm == 0.0)).chain(idle_pairs(&PairTables::from(self))).collect()
    }
}
