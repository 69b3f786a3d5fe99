//! The configuration of a contrastive training.

use super::config::TrainConfig;
use super::pair_data::PairTables;
use crate::config::{Invalid, tables};
use crate::image_text::clip::ClipModel;
use crate::image_text::config::{ContrastConfig, PairDataConfig};
use crate::image_text::world::CaptionsConfig;
use crate::vision::image::CHANNELS;

tables! {
    /// The whole configuration of a contrastive training.
    pub ContrastRunConfig checked by ContrastRunConfig::check_together {
        /// `[model]`
        model: ClipModel;
        /// `[data]`
        data: PairDataConfig;
        /// `[captions]`
        captions: CaptionsConfig;
        /// `[contrast]`
        contrast: ContrastConfig;
        /// `[train]`
        train: TrainConfig;
    }
}

impl<'c> From<&'c ContrastRunConfig> for PairTables<'c> {
    fn from(config: &'c ContrastRunConfig) -> Self {
        let ContrastRunConfig { model, data, captions, train, .. } = config;
        Self { data, captions, init: train.init.as_deref(), longest: model.max_position_embeddings }
    }
}

impl ContrastRunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.model.to_core()?;
        if self.model.num_channels != CHANNELS {
            let expected = format!("{CHANNELS}: images are read as RGB");
            return Err(Invalid::new("model.num_channels", expected, self.model.num_channels));
        }
        let unread = [
            ("train.tokens", self.train.tokens as f64),
            ("train.flops", self.train.flops),
            ("train.dropout", self.train.dropout),
        ];
        for (key, value) in unread {
            if value != 0.0 {
                return Err(Invalid::new(key, "0: a contrastive training does not read it", value));
            }
        }
        if self.train.batch_size * self.train.grad_accumulation < 2 {
            let expected = "at least 2 pairs in a step (train.batch_size times train.grad_accumulation): a single pair has no other to differ from";
            return Err(Invalid::new("train.batch_size", expected, self.train.batch_size));
        }
        self.train.check()
    }
}
