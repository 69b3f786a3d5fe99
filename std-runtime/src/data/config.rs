//! `[data]`: the training data.

use std::fmt;
use std::path::PathBuf;

use super::options::BadRow;
use super::shards::IdWidth;
use crate::config::{Choice, Given, Setting, Unread, table};

table! {
    /// The training data.
    pub DataConfig {
        /// A text file, rows of JSON (.jsonl, or an array in .json), a table (.csv, .tsv), each also as .gz or .zst, a folder of them, a token shard
        /// (.bin, raw or of llm.c), or a folder with train.bin and val.bin; absent: the built-in corpus of tales.
        path: Option<PathBuf> = None;
        /// The key of the text in a row of JSON, or its column in a table.
        text_field: String = "text".to_owned();
        /// Invalid rows: "error" stops, "skip" leaves them out and counts them.
        on_bad_row: BadRow = BadRow::Error;
        /// The share of the text, in characters from its end, that is held out for validation.
        val_fraction: f64 = 0.1, 0..=0.9;
        /// "byte", "char" (the characters of the data), "bpe" or "wordpiece" (trained on the data), or a path to a
        /// tokenizer.json or its folder.
        tokenizer: TokenizerChoice = TokenizerChoice::Byte;
        /// Vocabulary size of a tokenizer that is trained, special tokens included.
        tokenizer_vocab_size: usize = 1024, 16..=1000000;
        /// Integer type of the ids in a token shard: "u16", "u32", "i64", or "auto": from its content and name (*.u32.bin).
        id_type: IdType = IdType::default();
        /// Encode the texts of special tokens, such as <|endoftext|>, as tokens: the data marks their positions.
        specials: bool = false;
        /// Size of the built-in corpus in bytes.
        corpus_bytes: usize = 2000000, 1000..=10000000000_u64;
        /// "random": every row starts at a random token; "shuffled": every window of text once per epoch.
        order: DataOrder = DataOrder::Random;
        /// A .npy file of integers (steps, batch_size): the first training token of each row of each batch.
        batches: Option<PathBuf> = None;
    }
    unread: DataConfig::unread;
}

impl DataConfig {
    /// The keys that this kind of data has no use for.
    fn unread(&self) -> Vec<Unread> {
        let mut unread = Vec::new();
        let mut add = |keys: &[&'static str], instead| unread.extend(keys.iter().map(|&key| Unread { key, instead }));
        let ends = |ends: &[&str]| {
            let extension = self.path.as_ref().and_then(|path| path.extension());
            extension.is_some_and(|found| ends.iter().any(|end| found.eq_ignore_ascii_case(end)))
        };
        let is_shard = ends(&["bin"]);
        match &self.path {
            None => add(&["text_field", "on_bad_row", "id_type"], "the built-in corpus is plain text; give data with --data"),
            Some(_) => add(&["corpus_bytes"], "it applies to the built-in corpus"),
        }
        if is_shard {
            add(&["text_field", "on_bad_row"], "a token shard has no text");
            add(&["val_fraction"], "a token shard is read whole; give a folder with train.bin and val.bin to hold a part out");
            add(&["tokenizer_vocab_size"], "a token shard has its ids already");
            if !matches!(self.tokenizer, TokenizerChoice::Path(_)) {
                add(&["tokenizer"], "a token shard has its ids already; give the tokenizer.json that made them, if there is one");
            }
        } else if !matches!(self.tokenizer, TokenizerChoice::Bpe | TokenizerChoice::WordPiece) {
            add(&["tokenizer_vocab_size"], "only data.tokenizer = \"bpe\" and \"wordpiece\" are trained");
        }
        if ends(&["txt", "text", "md"]) {
            add(&["text_field", "on_bad_row"], "plain text has no rows");
            add(&["id_type"], "it applies to token shards (.bin)");
        }
        if self.batches.is_some() {
            add(&["order"], "data.batches gives the start of every row");
        }
        unread
    }
}

/// How rows of batches are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataOrder {
    /// Every row starts anywhere.
    #[default]
    Random,
    /// Every window once per epoch.
    Shuffled,
}

/// The integer type of ids in a shard; `None`: detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdType(pub Option<IdWidth>);

/// The tokenizer for the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// One id per byte.
    #[default]
    Byte,
    /// One id per character of the data.
    Char,
    /// Byte-level BPE trained on the data.
    Bpe,
    /// WordPiece trained on the data.
    WordPiece,
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
                Some("wordpiece") => Self::WordPiece,
                _ => Self::Path(path),
            }),
            Err(_) => Err("\"byte\", \"char\", \"bpe\", \"wordpiece\" or a path".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Byte | Self::Char | Self::Bpe | Self::WordPiece => Some(format!("\"{self}\"")),
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
            Self::WordPiece => f.write_str("wordpiece"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Choice for BadRow {
    const WORDS: &'static [(&'static str, Self)] = &[("error", Self::Error), ("skip", Self::Skip)];
}

impl Choice for IdType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self(None)),
        (IdWidth::U16.name(), Self(Some(IdWidth::U16))),
        (IdWidth::U32.name(), Self(Some(IdWidth::U32))),
        (IdWidth::I64.name(), Self(Some(IdWidth::I64))),
    ];
}

impl Choice for DataOrder {
    const WORDS: &'static [(&'static str, Self)] = &[("random", Self::Random), ("shuffled", Self::Shuffled)];
}
