//! The parts of Hugging Face's tokenizer files that determine ids, as in the JSON.

use super::{AddedToken, Fit};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// GPT-2's split pattern as other tools write it.
pub(super) const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Cuts text into single characters.
pub(super) const CHAR_PATTERN: &str = r"[\s\S]";

/// `tokenizer.json`
#[derive(serde::Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedJson>,
    #[serde(default)]
    pub(super) normalizer: Option<Part>,
    #[serde(default)]
    pub(super) pre_tokenizer: Option<Part>,
    #[serde(default)]
    pub(super) post_processor: serde_json::Value,
    #[serde(default)]
    pub(super) decoder: Option<Part>,
    pub(super) model: ModelJson,
}

/// One of `added_tokens`, or of `added_tokens_decoder` in `tokenizer_config.json`, whose ids are its keys.
#[derive(Clone, serde::Deserialize)]
pub(super) struct AddedJson {
    #[serde(default)]
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

impl From<&AddedJson> for AddedToken {
    fn from(token: &AddedJson) -> Self {
        let AddedJson { id, lstrip, rstrip, single_word, normalized, special, .. } = *token;
        Self { id, text: token.content.clone(), special, fit: Fit { lstrip, rstrip, single_word, normalized } }
    }
}

/// A normalizer, pre-tokenizer or decoder, all kinds in one.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Part {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Those of a `Sequence`.
    #[serde(alias = "normalizers", alias = "pretokenizers", alias = "decoders")]
    pub(super) parts: Vec<Part>,
    pub(super) pattern: Option<Pattern>,
    pub(super) behavior: Option<String>,
    pub(super) invert: bool,
    pub(super) add_prefix_space: Option<bool>,
    pub(super) use_regex: Option<bool>,
    pub(super) individual_digits: bool,
    pub(super) delimiter: Option<char>,
    pub(super) replacement: Option<char>,
    pub(super) prepend_scheme: Option<String>,
    pub(super) split: Option<bool>,
    pub(super) prepend: String,
    pub(super) content: String,
    pub(super) strip_left: bool,
    pub(super) strip_right: bool,
    pub(super) clean_text: bool,
    pub(super) handle_chinese_chars: bool,
    pub(super) strip_accents: Option<bool>,
    pub(super) lowercase: bool,
    pub(super) suffix: String,
    pub(super) start: usize,
    pub(super) cleanup: Option<bool>,
}

impl Part {
    /// The parts of a sequence, in order; a part that is not a sequence, itself.
    pub(super) fn flat(&self) -> Vec<&Self> {
        if self.kind == "Sequence" { self.parts.iter().flat_map(Self::flat).collect() } else { vec![self] }
    }
}

#[derive(serde::Deserialize)]
pub(super) enum Pattern {
    Regex(String),
    String(String),
}

/// `model`, all kinds in one.
#[derive(Default, serde::Deserialize)]
pub(super) struct ModelJson {
    #[serde(rename = "type", default)]
    pub(super) kind: Option<String>,
    pub(super) vocab: Vocab,
    #[serde(default)]
    pub(super) merges: Option<Vec<Merge>>,
    #[serde(default)]
    pub(super) dropout: Option<f64>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    #[serde(default)]
    pub(super) max_input_chars_per_word: Option<usize>,
}

/// Tokens and ids in the order of the file; duplicate keys are kept.
#[derive(Default)]
pub(super) struct Vocab(pub(super) Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and ids (the vocabulary of a BPE, WordPiece or WordLevel model)")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Vocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Left and right token, written as "left right" or as a list of two.
pub(super) struct Merge(pub(super) String, pub(super) String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Two;
        impl<'de> Visitor<'de> for Two {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
                Merge::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let left = list.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let right = list.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
                match list.next_element::<serde::de::IgnoredAny>()? {
                    None => Ok(Merge(left, right)),
                    Some(_) => Err(A::Error::invalid_length(3, &self)),
                }
            }
        }
        deserializer.deserialize_any(Two)
    }
}

impl Merge {
    /// Two tokens with one space between.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (left, right) = text.split_once(' ')?;
        let plain = |part: &str| !part.is_empty() && !part.contains(' ');
        (plain(left) && plain(right)).then(|| Self(left.to_owned(), right.to_owned()))
    }
}
