//! `[ptx]`: pretraining text that is mixed into every update of a policy, and what its loss γ E[−ln π(x)] is divided by.

use std::path::PathBuf;

use crate::config::{Choice, Unread, table};
use crate::data::batches::Sampler;
use crate::data::dataset::HostBatch;
use crate::data::shards::Tokens;

table! {
    /// Pretraining text beside completions (PPO-ptx).
    pub PtxConfig {
        /// A text file, rows of JSON with a "text", either also as .gz or .zst, a folder of them, or a token shard (.bin); absent: no pretraining text.
        data: Option<PathBuf> = None;
        /// γ, by which the loss of the text is multiplied; 0: the text is left out; absent: that of ppo.preset (27.8 in instructgpt).
        coef: Option<f64> = None, 0..=1000000;
        /// What γ multiplies: "tokens", the mean over the tokens of an update's text, or "rows", the mean over its rows of the sum over their tokens.
        normaliser: Normaliser = Normaliser::Tokens;
        /// Rows of text for each completion of an update; absent: that of ppo.preset (8 in instructgpt), else 1.
        rows: Option<usize> = None, 1..=65536;
        /// Tokens of a row, at most the positions of the model; absent: train.block_size, or the positions where they are fewer.
        block_size: Option<usize> = None, 1..=1048576;
    }
    may change: data;
    unread: PtxConfig::unread;
}

impl PtxConfig {
    /// Without text nothing else is read.
    fn unread(&self) -> Vec<Unread> {
        let keys = if self.data.is_none() { &["coef", "normaliser", "rows", "block_size"][..] } else { &[] };
        keys.iter().map(|&key| Unread { key, instead: "there is no pretraining text; name it with ptx.data" }).collect()
    }
}

/// What the loss of pretraining text is divided by. Ouyang et al. 2022 leave it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normaliser {
    /// Its tokens.
    Tokens,
    /// Its rows.
    Rows,
}

impl Choice for Normaliser {
    const WORDS: &'static [(&'static str, Self)] = &[("tokens", Self::Tokens), ("rows", Self::Rows)];
}

/// Pretraining text of a policy.
pub struct Pretraining {
    /// γ.
    pub coefficient: f64,
    /// What γ multiplies.
    pub normaliser: Normaliser,
    /// Rows for each completion of an update.
    pub rows: usize,
    /// Tokens of a row.
    pub block: usize,
    /// The text, and where its rows begin; the trainer takes it.
    pub text: Option<(Box<dyn Tokens + Send>, Sampler)>,
}

impl Pretraining {
    /// What its loss, a sum over all tokens of an update, is multiplied by.
    pub(super) fn scale(&self, batches: &[HostBatch]) -> f64 {
        let sum = |of: fn(&HostBatch) -> u64| batches.iter().map(of).sum::<u64>().max(1) as f64;
        self.coefficient
            / match self.normaliser {
                Normaliser::Tokens => sum(|batch| batch.tokens),
                Normaliser::Rows => sum(|batch| batch.rows() as u64),
            }
    }
}
