//! The configuration of ALBEF's training.

use super::config::TrainConfig;
use super::pair_data::PairTables;
use crate::config::{Invalid, tables};
use crate::encoder::masking::MaskingConfig;
use crate::image_text::albef::AlbefModel;
use crate::image_text::config::{AlbefTermsConfig, PairDataConfig};
use crate::image_text::world::CaptionsConfig;
use crate::train::objectives::albef::Terms;
use crate::vision::image::CHANNELS;

tables! {
    /// The whole configuration of ALBEF's training.
    pub AlbefRunConfig checked by AlbefRunConfig::check_together {
        /// `[model]`
        model: AlbefModel;
        /// `[data]`
        data: PairDataConfig;
        /// `[captions]`
        captions: CaptionsConfig;
        /// `[albef]`
        albef: AlbefTermsConfig;
        /// `[mlm]`
        mlm: MaskingConfig;
        /// `[train]`
        train: TrainConfig;
    }
}

impl<'c> From<&'c AlbefRunConfig> for PairTables<'c> {
    fn from(config: &'c AlbefRunConfig) -> Self {
        let AlbefRunConfig { model, data, captions, train, .. } = config;
        Self { data, captions, init: train.init.as_deref(), longest: model.max_position_embeddings }
    }
}

impl AlbefRunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.model.to_core()?;
        Terms::new(&self.albef, 1)?;
        if self.model.num_channels != CHANNELS {
            let expected = format!("{CHANNELS}: images are read as RGB");
            return Err(Invalid::new("model.num_channels", expected, self.model.num_channels));
        }
        let unread = [
            ("train.tokens", self.train.tokens as f64),
            ("train.flops", self.train.flops),
            ("train.dropout", self.train.dropout),
            ("train.ema_decay", self.train.ema_decay),
        ];
        for (key, value) in unread {
            if value != 0.0 {
                return Err(Invalid::new(key, "0: ALBEF's training does not read it", value));
            }
        }
        if self.train.grad_accumulation != 1 {
            let expected = "1: a step compares one batch; a larger albef.queue_size stands in for larger batches";
            return Err(Invalid::new("train.grad_accumulation", expected, self.train.grad_accumulation));
        }
        if self.train.batch_size < 2 {
            let expected = "at least 2: a single pair has no other to differ from";
            return Err(Invalid::new("train.batch_size", expected, self.train.batch_size));
        }
        self.train.check()
    }
}
