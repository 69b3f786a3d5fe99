//! The configuration of a ViLT's training.

use super::config::TrainConfig;
use super::pair_data::PairTables;
use crate::config::{Invalid, tables};
use crate::encoder::masking::MaskingConfig;
use crate::image_text::config::{PairDataConfig, ViltTerms};
use crate::image_text::vilt::ViltModel;
use crate::image_text::world::CaptionsConfig;
use crate::vision::image::CHANNELS;

tables! {
    /// The whole configuration of a ViLT's training.
    pub ViltRunConfig checked by ViltRunConfig::check_together {
        /// `[model]`
        model: ViltModel;
        /// `[data]`
        data: PairDataConfig;
        /// `[captions]`
        captions: CaptionsConfig;
        /// `[vilt]`
        vilt: ViltTerms;
        /// `[mlm]`
        mlm: MaskingConfig;
        /// `[train]`
        train: TrainConfig;
    }
}

impl<'c> From<&'c ViltRunConfig> for PairTables<'c> {
    fn from(config: &'c ViltRunConfig) -> Self {
        let ViltRunConfig { model, data, captions, train, .. } = config;
        Self { data, captions, init: train.init.as_deref(), longest: model.max_position_embeddings }
    }
}

impl ViltRunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.model.to_core()?;
        if self.model.num_channels != CHANNELS {
            let expected = format!("{CHANNELS}: images are read as RGB");
            return Err(Invalid::new("model.num_channels", expected, self.model.num_channels));
        }
        for (key, value) in [("train.tokens", self.train.tokens as f64), ("train.flops", self.train.flops)] {
            if value != 0.0 {
                return Err(Invalid::new(key, "0: the training of a ViLT does not read it", value));
            }
        }
        let ViltTerms { mlm_weight, itm_weight, wpa_weight, rank_weight, negatives, .. } = self.vilt;
        if [mlm_weight, itm_weight, wpa_weight, rank_weight].iter().all(|&weight| weight == 0.0) {
            let expected = "above 0, or another weight of [vilt] that is: nothing would be learnt";
            return Err(Invalid::new("vilt.mlm_weight", expected, mlm_weight));
        }
        let pairs = self.train.batch_size * self.train.grad_accumulation;
        if itm_weight + wpa_weight > 0.0 && pairs < 2 {
            let expected = "at least 2 pairs in a step (train.batch_size times train.grad_accumulation): images are replaced by those of others";
            return Err(Invalid::new("train.batch_size", expected, self.train.batch_size));
        }
        if rank_weight > 0.0 && negatives >= pairs {
            let expected = format!(
                "fewer than the {pairs} pairs of a step (train.batch_size times train.grad_accumulation), whose texts they are"
            );
            return Err(Invalid::new("vilt.negatives", expected, negatives));
        }
        self.train.check()
    }
}
