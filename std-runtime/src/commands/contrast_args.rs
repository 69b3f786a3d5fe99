//! The tables of CLIP and SigLIP on a command line.

use std::path::Path;

use super::Error;
use super::task_args::{Task, unread};
use crate::config::{Layers, Place, Tables, Unread};
use crate::data::config::TokenizerChoice;
use crate::image_text::clip::{ClipModel, DualType};
use crate::image_text::config::PairDataConfig;
use crate::image_text::folder::DualFolder;
use crate::train::contrast_config::ContrastRunConfig;
use crate::train::pair_data::PairTables;

impl Task for ContrastRunConfig {
    const MODELS: &'static str = "a model of images with texts";
    const TYPES: &'static [&'static str] = &["clip", "siglip"];
    const UNREAD: &'static [(&'static str, &'static str)] = OF_PAIRS;

    type Model = ClipModel;

    fn model_in(folder: &Path) -> Result<ClipModel, Error> {
        Ok(DualFolder::open(folder)?.model)
    }

    fn take(&mut self, model: ClipModel) {
        self.model = model;
    }

    fn idle(&self) -> Vec<(&'static str, Unread)> {
        let is_sigmoid = self.model.model_type == DualType::SigLip;
        let factor = unread("contrast", &["max_logit_scale"], "SigLIP's factor is not limited").filter(|_| is_sigmoid);
        factor.chain(idle_pairs(&PairTables::from(self))).collect()
    }
}

/// Keys of `[train]` that models of images with texts have no use for.
pub(super) const OF_PAIRS: &[(&str, &str)] = &[
    ("block_size", "the longest caption is model.max_position_embeddings"),
    ("sample_every", "the model writes no text"),
    ("memory_budget_mib", "set train.recompute, or a smaller train.batch_size with more train.grad_accumulation"),
];

/// The tokenizer of captions where none is given: that of texts of a BERT, whose masks and tokens around a text are those of WordPiece.
pub(super) fn words_by_default<T: Tables>(layers: &mut Layers<T>, data: impl FnOnce(&mut T) -> &mut PairDataConfig) {
    if matches!(layers.place("data.tokenizer"), None | Some(Place::Default)) {
        layers.put(&["data.tokenizer"], &Place::Default, |config| data(config).tokenizer = TokenizerChoice::WordPiece);
    }
}

/// Keys of pairs that have no effect because of others.
pub(super) fn idle_pairs(tables: &PairTables<'_>) -> Vec<(&'static str, Unread)> {
    let of_files = ["image_root", "image_field", "caption_field", "val_fraction", "on_bad_image"];
    let of_world = ["train", "val", "objects", "synonyms", "noise", "incomplete", "seed"];
    let idle = match tables.data.path {
        Some(_) => unread("captions", &of_world, "data.path names the pairs"),
        None => unread("data", &of_files, "without data.path pairs are those of [captions]"),
    };
    let own = "the model of train.init has its own tokenizer";
    let of_model = unread("data", &["tokenizer", "vocab_size"], own).filter(|_| tables.init.is_some());
    idle.chain(of_model).collect()
}
