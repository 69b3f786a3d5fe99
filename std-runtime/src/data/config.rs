//! `[data]`: what a model is trained on.

use std::fmt;
use std::path::PathBuf;

use super::text::BadRow;
use crate::config::{Choice, Given, Setting, table};

table! {
    /// What a model is trained on.
    pub DataConfig {
        /// A text file, a JSONL file, a folder of them, a token shard (.bin), or a folder with train.bin and val.bin;
        /// absent: the built-in corpus of tales.
        path: Option<PathBuf> = None;
        /// The key of the text in a row of JSONL.
        text_field: String = "text".to_owned();
        /// A JSONL row that is not as it should be: "error" stops, "skip" leaves it out and counts it.
        on_bad_row: BadRow = BadRow::Error;
        /// The last part of the text, held out for validation.
        val_fraction: f64 = 0.1, 0..=0.9;
        /// "byte", "char" (the characters of the data), "bpe" (trained on the data), or a path to a tokenizer.json or its folder.
        tokenizer: TokenizerChoice = TokenizerChoice::Byte;
        /// Ids of a tokenizer that is trained: bytes, merges and the end-of-text token.
        tokenizer_vocab_size: usize = 1024, 257..=1000000;
        /// Take the texts of special tokens, such as <|endoftext|>, for the tokens: the data says where they stand.
        specials: bool = false;
        /// Size of the built-in corpus in bytes.
        corpus_bytes: usize = 2000000, 1000..=10000000000_u64;
        /// "random": every row starts anywhere; "shuffled": every block of text once per epoch.
        order: DataOrder = DataOrder::Random;
        /// A .npy file of integers (steps, batch_size): where each row of each batch starts in the training tokens.
        batches: Option<PathBuf> = None;
    }
}

/// How rows of batches are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataOrder {
    /// Every row starts anywhere.
    #[default]
    Random,
    /// Every block once per epoch.
    Shuffled,
}

/// Which tokenizer the text goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// One id per byte.
    #[default]
    Byte,
    /// One id per character of the data.
    Char,
    /// Byte-level BPE trained on the data.
    Bpe,
    /// A `tokenizer.json`, or a folder with one.
    Path(PathBuf),
}

impl Setting for TokenizerChoice {
    fn read(given: Given<'_>) -> Result<Self, String> {
        match PathBuf::read(given) {
            Ok(path) => Ok(match path.to_str() {
                Some("byte") => Self::Byte,
                Some("char") => Self::Char,
                Some("bpe") => Self::Bpe,
                _ => Self::Path(path),
            }),
            Err(_) => Err("\"byte\", \"char\", \"bpe\" or a path".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Byte | Self::Char | Self::Bpe => Some(format!("\"{self}\"")),
            Self::Path(path) => path.show(),
        }
    }
}

impl fmt::Display for TokenizerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte => f.write_str("byte"),
            Self::Char => f.write_str("char"),
            Self::Bpe => f.write_str("bpe"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Choice for BadRow {
    const WORDS: &'static [(&'static str, Self)] = &[("error", Self::Error), ("skip", Self::Skip)];
}

impl Choice for DataOrder {
    const WORDS: &'static [(&'static str, Self)] = &[("random", Self::Random), ("shuffled", Self::Shuffled)];
}
