//! The configuration of a command line that names a model of images with texts.

use std::path::Path;

use super::Error;
use super::args::ConfigArgs;
use super::image_args::{table_of, text};
use crate::config::{Choice, Layers, Place, Table, Unread};
use crate::image_text::clip::DualType;
use crate::image_text::folder::DualFolder;
use crate::model_folder::CONFIG_FILE;
use crate::train::contrast_config::ContrastRunConfig;

impl ConfigArgs {
    /// The configuration of a contrastive training, if `model.model_type` of the command line, of its file or of the initial folder names its models. `base` is the
    /// file to use when no file is given.
    pub(super) fn merge_contrast(&self, base: Option<&Path>, out: Option<&Path>) -> Result<Option<ContrastRunConfig>, Error> {
        let file = self.config.as_deref().or(base);
        let described = self.init.as_deref().filter(|init| init.is_dir()).map(DualFolder::read).transpose()?.flatten();
        let named =
            self.set_of("model", "model_type").or_else(|| text(&file.map(table_of).unwrap_or_default(), "model", "model_type"));
        let is_ours = |named: String| DualType::WORDS.iter().any(|(word, _)| *word == named);
        if !named.map_or(described.is_some(), is_ours) {
            return Ok(None);
        }
        if let Some(preset) = &self.preset {
            return Err(Error::usage(format!(
                "--preset {preset} is one of language models, and model.model_type names a model of images with texts"
            )));
        }
        let mut layers = Layers::<ContrastRunConfig>::new();
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
        let config = layers.finish()?;
        let refuse = |table: &str, keys: &[&'static str], instead: &'static str| {
            keys.iter().try_for_each(|&key| layers.refuse_given(&config, table, Unread { key, instead }))
        };
        refuse("train", &["block_size"], "the longest caption is model.max_position_embeddings")?;
        refuse("train", &["sample_every"], "the model writes no text")?;
        refuse(
            "train",
            &["memory_budget_mib"],
            "set train.recompute, or a smaller train.batch_size with more train.grad_accumulation",
        )?;
        if config.model.model_type == DualType::SigLip {
            refuse("contrast", &["max_logit_scale"], "SigLIP's factor is not limited")?;
        }
        match config.data.path {
            Some(_) => refuse("captions", &["train", "val", "objects", "noise", "seed"], "data.path names the pairs")?,
            None => refuse("data", &OF_FILES, "without data.path pairs are those of [captions]")?,
        }
        if config.train.init.is_some() {
            refuse("data", &["tokenizer", "vocab_size"], "the model of train.init has its own tokenizer")?;
        }
        Ok(Some(config))
    }
}

/// Keys of pairs in files.
const OF_FILES: [&str; 5] = ["image_root", "image_field", "caption_field", "val_fraction", "on_bad_image"];
