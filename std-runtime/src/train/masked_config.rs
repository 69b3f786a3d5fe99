//! The configuration of a training of an encoder of text.

use super::config::TrainConfig;
use crate::config::{Invalid, tables};
use crate::data::config::DataConfig;
use crate::encoder::bert::BertModel;
use crate::encoder::masking::MaskingConfig;

tables! {
    /// The whole configuration of a training of a BERT.
    pub MaskedRunConfig checked by MaskedRunConfig::check_together {
        /// `[model]`
        model: BertModel;
        /// `[data]`
        data: DataConfig;
        /// `[mlm]`
        mlm: MaskingConfig;
        /// `[train]`
        train: TrainConfig;
    }
}

impl MaskedRunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        self.model.to_core()?;
        let (block, positions) = (self.train.block_size, self.model.max_position_embeddings);
        if block > positions {
            let expected = format!("at most model.max_position_embeddings = {positions}");
            return Err(Invalid::new("train.block_size", expected, block));
        }
        let unread = [
            ("train.tokens", self.train.tokens as f64),
            ("train.flops", self.train.flops),
            ("train.dropout", self.train.dropout),
        ];
        for (key, value) in unread {
            if value != 0.0 {
                return Err(Invalid::new(key, "0: a masked training does not read it", value));
            }
        }
        self.train.check()
    }
}
