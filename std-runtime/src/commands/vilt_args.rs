//! The tables of ViLT on a command line.

use std::path::Path;

use super::Error;
use super::contrast_args::{OF_PAIRS, idle_pairs, words_by_default};
use super::task_args::{Task, unread};
use crate::config::{Layers, Unread};
use crate::image_text::config::ViltTerms;
use crate::image_text::vilt::ViltModel;
use crate::image_text::vilt_folder::ViltFolder;
use crate::train::pair_data::PairTables;
use crate::train::vilt_config::ViltRunConfig;

impl Task for ViltRunConfig {
    const MODELS: &'static str = "a model of images with texts";
    const TYPES: &'static [&'static str] = &[ViltModel::TYPE];
    const UNREAD: &'static [(&'static str, &'static str)] = OF_PAIRS;

    type Model = ViltModel;

    fn model_in(folder: &Path) -> Result<ViltModel, Error> {
        Ok(ViltFolder::open(folder)?.model)
    }

    fn take(&mut self, model: ViltModel) {
        self.model = model;
    }

    fn follow(layers: &mut Layers<Self>) -> Result<(), Error> {
        words_by_default(layers, |config| &mut config.data);
        Ok(())
    }

    fn idle(&self) -> Vec<(&'static str, Unread)> {
        let ViltTerms { mlm_weight, itm_weight, wpa_weight, rank_weight, .. } = self.vilt;
        let masks = unread("mlm", &["probability", "whole_word"], "vilt.mlm_weight is 0");
        let images = unread("vilt", &["replaced"], "vilt.itm_weight and vilt.wpa_weight are 0");
        let texts = unread("vilt", &["negatives"], "vilt.rank_weight is 0");
        let masks = masks.filter(|_| mlm_weight == 0.0).chain(images.filter(|_| itm_weight + wpa_weight == 0.0));
        masks.chain(texts.filter(|_| rank_weight == 0.0)).chain(idle_pairs(&PairTables::from(self))).collect()
    }
}
