//! The data source of a configuration: `[data]` as a request for preparation.

use std::path::PathBuf;

use super::config::{DataConfig, TokenizerChoice};
use super::options::TextOptions;
use super::shards::IdWidth;
use crate::stop::Stop;

/// The origin of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in corpus of tales.
    Tales {
        /// Its seed.
        seed: u64,
        /// Its size.
        bytes: usize,
    },
    /// A text file, a folder of text files, or JSONL; or a folder with shards named train and val.
    Path(PathBuf),
}

/// A request for preparation.
#[derive(Clone, Debug)]
pub struct DataRequest {
    /// The origin of the text.
    pub source: Source,
    /// The tokenizer, if no other is given.
    pub tokenizer: TokenizerChoice,
    /// Ids of a tokenizer that is trained.
    pub tokenizer_vocab_size: usize,
    /// Texts of special tokens are those tokens.
    pub specials: bool,
    /// Ids of the model, when they are known: a tokenizer can have more.
    pub vocab_size: Option<usize>,
    /// How text is read.
    pub text: TextOptions,
    /// The integer type of token shards, where their content does not decide.
    pub id_width: Option<IdWidth>,
    /// The share of the text that is held out, from its end.
    pub val_fraction: f64,
}

/// The built-in corpus is the same for every run.
const CORPUS_SEED: u64 = 0;

impl DataRequest {
    /// The request of a configuration.
    pub fn new(config: &DataConfig) -> Self {
        let source = match &config.path {
            Some(path) => Source::Path(path.clone()),
            None => Source::Tales { seed: CORPUS_SEED, bytes: config.corpus_bytes },
        };
        Self {
            source,
            tokenizer: config.tokenizer.clone(),
            tokenizer_vocab_size: config.tokenizer_vocab_size,
            specials: config.specials,
            vocab_size: None,
            text: TextOptions { text_key: config.text_field.clone(), bad_row: config.on_bad_row, ..TextOptions::default() },
            id_width: config.id_type.0,
            val_fraction: config.val_fraction,
        }
    }

    /// The same, ended by a signal.
    pub fn until(mut self, stop: &Stop) -> Self {
        self.text.stop = stop.clone();
        self
    }
}
