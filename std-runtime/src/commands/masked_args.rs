//! The tables of encoders of text on a command line.

use std::path::Path;

use super::Error;
use super::task_args::{Task, unread};
use crate::config::{Layers, Place, Unread};
use crate::data::config::TokenizerChoice;
use crate::encoder::bert::BertModel;
use crate::encoder::folder::EncoderFolder;
use crate::train::masked_config::MaskedRunConfig;

impl Task for MaskedRunConfig {
    const MODELS: &'static str = "an encoder of text";
    const TYPES: &'static [&'static str] = &[BertModel::TYPE];
    const UNREAD: &'static [(&'static str, &'static str)] = &[
        ("memory_budget_mib", "set train.recompute, or a smaller train.batch_size with more train.grad_accumulation"),
        ("sample_every", "the model restores tokens, and writes no text"),
    ];

    type Model = BertModel;

    fn model_in(folder: &Path) -> Result<BertModel, Error> {
        Ok(EncoderFolder::open(folder)?.model)
    }

    fn take(&mut self, model: BertModel) {
        self.model = model;
    }

    /// The tokenizer is that of the initial folder, or WordPiece.
    fn follow(layers: &mut Layers<Self>) -> Result<(), Error> {
        if matches!(layers.place("data.tokenizer"), None | Some(Place::Default)) {
            let init = layers.values_of("train")?.train.init;
            let tokenizer = init.map_or(TokenizerChoice::WordPiece, TokenizerChoice::Path);
            layers.put(&["data.tokenizer"], &Place::Default, |config| config.data.tokenizer = tokenizer);
        }
        Ok(())
    }

    fn idle(&self) -> Vec<(&'static str, Unread)> {
        let order = unread("data", &["order", "batches"], "every window of text comes once per epoch, in another order");
        let size = unread("data", &["tokenizer_vocab_size"], "the model of train.init has its own tokenizer");
        let has_init = self.train.init.is_some();
        order.chain(size.filter(|_| has_init)).collect()
    }
}
