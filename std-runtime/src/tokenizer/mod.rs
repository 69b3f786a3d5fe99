//! Tokenizers that own their tables: bytes, characters, byte-level BPE; with special tokens; trained, loaded, saved.

mod bpe;
mod bpe_train;
mod byte_chars;
mod json;
mod load;
mod prompt;
mod save;

pub use bpe::{Bpe, BpeError};
pub use bpe_train::{BpeTrainOptions, BpeTrainer, TrainError};
pub use load::FileError;
pub use prompt::{TextError, prompt_ids};

use crate::error::{Failure, Kind};
use samara_core::tokenizer::{CharError, CharTable, Split, Symbol};
use std::collections::{BTreeSet, HashMap};

/// The usual token between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    model: Model,
    added: Vec<AddedToken>,
    end_of_text: Option<u32>,
}

/// How text between special tokens is encoded.
#[derive(Clone, Debug)]
pub enum Model {
    /// The id of a byte is its value.
    Byte,
    /// The id of a character is its place in this list, which is in the order of code points (nanoGPT's `meta.pkl`).
    Character(Vec<char>),
    /// Byte-level BPE.
    Bpe(Bpe),
}

/// A token that is not made from text by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// What it is written as; decoding gives this text.
    pub text: String,
    /// Special tokens are recognised in text only where the caller allows it; others always are.
    pub special: bool,
}

/// Which special tokens are recognised in a text. Text from users should be encoded with `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials<'a> {
    /// None: `<|endoftext|>` is encoded as the characters that it is written with.
    None,
    /// Only those with these texts.
    Only(&'a [&'a str]),
    /// All.
    All,
}

/// Why a text has no ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A character that the vocabulary lacks.
    #[error(
        "character {char:?} (U+{:04X}) at line {line}, column {column} (byte {at_bytes}) is not among the {known} characters of the \
         vocabulary; train the tokenizer on text that has it, or use a byte or BPE tokenizer", *char as u32
    )]
    UnknownChar {
        /// The character.
        char: char,
        /// Its place in bytes.
        at_bytes: usize,
        /// Its line, from 1.
        line: usize,
        /// Its place in the line in characters, from 1.
        column: usize,
        /// Number of characters in the vocabulary.
        known: usize,
    },
    /// A character tokenizer met bytes that are no characters.
    #[error(
        "the text is not UTF-8 at line {line} (byte {at_bytes}), which a character tokenizer cannot encode; use a byte or BPE tokenizer"
    )]
    NotUtf8 {
        /// The place in bytes.
        at_bytes: usize,
        /// Its line, from 1.
        line: usize,
    },
    /// A byte that a BPE vocabulary lacks.
    #[error("byte 0x{byte:02X} at byte {at_bytes} has no token in this BPE vocabulary; use a vocabulary with all 256 bytes")]
    MissingByte {
        /// The byte.
        byte: u8,
        /// The place in bytes.
        at_bytes: usize,
    },
}

/// An id outside the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token id {id} at place {index} is outside the vocabulary of {vocab_size} tokens")]
pub struct DecodeError {
    /// The id.
    pub id: u32,
    /// Its place among the ids to decode.
    pub index: usize,
    /// Number of tokens.
    pub vocab_size: usize,
}

impl Failure for DecodeError {
    fn kind(&self) -> Kind {
        Kind::Data
    }
}

/// Why a model and added tokens make no tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Characters out of order.
    #[error("character {char:?} (id {id}) is not in the order of code points")]
    CharOrder {
        /// The id.
        id: usize,
        /// The character.
        char: char,
    },
    /// No text.
    #[error("added token {id} has no text")]
    Empty {
        /// The id.
        id: u32,
    },
    /// Two with one text or id.
    #[error("added token {text:?} with id {id} repeats the text or the id of another")]
    Repeated {
        /// The id.
        id: u32,
        /// The text.
        text: String,
    },
    /// Text that the files would take for a token of the model.
    #[error("added token {text:?} is what a token of the model is written as; choose another text, such as \"<|{text}|>\"")]
    Taken {
        /// The text.
        text: String,
    },
    /// An id that is neither the next free one nor that of a token of the same text.
    #[error("added token {text:?} has id {id}; expected {expected} (the next free id) or the id of a token with that text")]
    Id {
        /// The id.
        id: u32,
        /// The text.
        text: String,
        /// Next free id.
        expected: u32,
    },
}

impl Tokenizer {
    /// One token per byte: 256 ids, then `specials`.
    pub fn bytes(specials: &[&str]) -> Result<Self, BuildError> {
        Self::with_specials(Model::Byte, specials)
    }

    /// One token per character that occurs in `texts`, in the order of code points, then `specials`.
    pub fn characters<'t>(texts: impl IntoIterator<Item = &'t str>, specials: &[&str]) -> Result<Self, BuildError> {
        let chars: BTreeSet<char> = texts.into_iter().flat_map(str::chars).collect();
        Self::with_specials(Model::Character(chars.into_iter().collect()), specials)
    }

    /// A tokenizer from its parts. Added tokens have ids after those of the model, without gaps; those of a BPE model may also be
    /// tokens of the vocabulary. `<|endoftext|>`, where it is added, ends texts.
    pub fn new(model: Model, mut added: Vec<AddedToken>) -> Result<Self, BuildError> {
        if let Model::Character(chars) = &model {
            CharTable::open(chars).map_err(|id| BuildError::CharOrder { id, char: chars[id] })?;
        }
        added.sort_by_key(|token| token.id);
        let mut next = model.len() as u32;
        let mut texts = BTreeSet::new();
        for (place, AddedToken { id, text, .. }) in added.iter().enumerate() {
            let repeated = place.checked_sub(1).is_some_and(|before| added[before].id == *id) || !texts.insert(text);
            if text.is_empty() {
                return Err(BuildError::Empty { id: *id });
            } else if repeated {
                return Err(BuildError::Repeated { id: *id, text: text.clone() });
            } else if *id == next {
                next += 1;
            } else if !matches!(&model, Model::Bpe(bpe) if bpe.tables().token(*id) == Some(text.as_bytes())) {
                return Err(BuildError::Id { id: *id, text: text.clone(), expected: next });
            }
        }
        if let Some(token) = model.written_as(&added) {
            return Err(BuildError::Taken { text: token.text.clone() });
        }
        let end_of_text = added.iter().find(|token| token.text == END_OF_TEXT).map(|token| token.id);
        Ok(Self { model, added, end_of_text })
    }

    /// The model under the added tokens.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The added tokens in order of ids.
    pub fn added(&self) -> &[AddedToken] {
        &self.added
    }

    /// Number of ids.
    pub fn vocab_size(&self) -> usize {
        self.added.last().map_or(0, |token| token.id as usize + 1).max(self.model.len())
    }

    /// Id of an added token.
    pub fn added_id(&self, text: &str) -> Option<u32> {
        self.added.iter().find(|token| token.text == text).map(|token| token.id)
    }

    /// The token that ends a text: `<|endoftext|>`, or what `eos_token` of a loaded `tokenizer_config.json` names.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The ids of `text`, nothing put before or after.
    ///
    /// Text is bytes, UTF-8 or not (a character tokenizer needs UTF-8). BPE cuts broken bytes into words as if each were U+FFFD and
    /// keeps them as they are: decoding gives the same bytes.
    pub fn encode(&self, text: &[u8], specials: Specials<'_>) -> Result<Vec<u32>, EncodeError> {
        let mut ids = Vec::new();
        self.encode_into(text, specials, &mut Scratch::default(), &mut ids)?;
        Ok(ids)
    }

    /// As [`encode`](Self::encode), appending to `ids`, with scratch that is worth keeping between many texts.
    pub fn encode_into(
        &self,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let wanted = self.recognised(specials);
        let mut start = 0;
        while let Some((at, token)) = find_first(&wanted, text, start) {
            self.encode_plain(text, start..at, scratch, ids)?;
            ids.push(token.id);
            start = at + token.text.len();
        }
        self.encode_plain(text, start..text.len(), scratch, ids)
    }

    /// The first place from `at` on where `text` can be cut: its parts, encoded one after the other without special tokens, have the ids of the
    /// whole. The end of the text when there is no such place.
    pub fn cut(&self, text: &str, at: usize) -> usize {
        let from = text.ceil_char_boundary(at);
        match &self.model {
            // An added token could stand across the cut.
            _ if self.added.iter().any(|token| !token.special) => text.len(),
            Model::Byte | Model::Character(_) => from,
            Model::Bpe(bpe) if bpe.tables().split == Split::Whole => text.len(),
            // No word of GPT-2's pattern has white space after something else.
            Model::Bpe(_) => {
                let mut before = text.get(..from).and_then(|head| head.chars().next_back()).unwrap_or(' ');
                let starts_space =
                    |&(_, c): &(usize, char)| c.is_whitespace() && !std::mem::replace(&mut before, c).is_whitespace();
                text.get(from..).unwrap_or("").char_indices().find(starts_space).map_or(text.len(), |(i, _)| from + i)
            }
        }
    }

    /// The bytes of `ids`; special tokens give their text.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, DecodeError> {
        let mut bytes = Vec::new();
        for (index, &id) in ids.iter().enumerate() {
            if !self.push_token(id, &mut bytes) {
                return Err(DecodeError { id, index, vocab_size: self.vocab_size() });
            }
        }
        Ok(bytes)
    }

    /// The bytes of a token; empty if there is no such id.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.push_token(id, &mut bytes);
        bytes
    }

    /// Appends the bytes of a token; false if there is no such id.
    pub fn push_token(&self, id: u32, bytes: &mut Vec<u8>) -> bool {
        let place = id as usize;
        match &self.model {
            Model::Byte if place < 256 => bytes.push(id as u8),
            Model::Character(chars) if place < chars.len() => {
                bytes.extend_from_slice(chars[place].encode_utf8(&mut [0; 4]).as_bytes());
            }
            Model::Bpe(bpe) if place < self.model.len() => bytes.extend_from_slice(bpe.tables().token(id).unwrap_or_default()),
            _ => match self.added.binary_search_by_key(&id, |token| token.id) {
                Ok(place) => bytes.extend_from_slice(self.added[place].text.as_bytes()),
                Err(_) => return false,
            },
        }
        true
    }

    fn with_specials(model: Model, specials: &[&str]) -> Result<Self, BuildError> {
        let ids = model.len() as u32..;
        let added = ids.zip(specials).map(|(id, text)| AddedToken { id, text: (*text).to_owned(), special: true });
        let added = added.collect();
        Self::new(model, added)
    }

    /// The added tokens to look for, the longest first.
    fn recognised(&self, specials: Specials<'_>) -> Vec<&AddedToken> {
        let allowed = |token: &&AddedToken| match specials {
            _ if !token.special => true,
            Specials::None => false,
            Specials::Only(texts) => texts.contains(&token.text.as_str()),
            Specials::All => true,
        };
        let mut tokens: Vec<&AddedToken> = self.added.iter().filter(allowed).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        tokens
    }

    /// Encodes `text[range]`, in which no added token is looked for.
    fn encode_plain(
        &self,
        text: &[u8],
        range: std::ops::Range<usize>,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let (start, part) = (range.start, &text[range]);
        match &self.model {
            Model::Byte => ids.extend(part.iter().map(|&byte| u32::from(byte))),
            Model::Character(chars) => {
                let table = CharTable::open(chars).expect("the characters were in order when the tokenizer was made");
                table.encode(part, &mut |id| ids.push(id)).map_err(|error| char_error(error, text, start, chars.len()))?;
            }
            Model::Bpe(bpe) => bpe
                .encode_into(part, scratch, ids)
                .map_err(|(byte, at)| EncodeError::MissingByte { byte, at_bytes: start + at })?,
        }
        Ok(())
    }
}

impl Model {
    /// Number of ids without added tokens (those of a BPE vocabulary count).
    fn len(&self) -> usize {
        match self {
            Self::Byte => 256,
            Self::Character(chars) => chars.len(),
            Self::Bpe(bpe) => bpe.tables().vocab_size(),
        }
    }

    /// The first of `added` that files cannot tell from a token of the model.
    fn written_as<'t>(&self, added: &'t [AddedToken]) -> Option<&'t AddedToken> {
        match self {
            Self::Byte => added.iter().find(|token| byte_chars::read(&token.text).is_some_and(|bytes| bytes.len() == 1)),
            Self::Character(chars) => added.iter().find(|token| {
                let mut text = token.text.chars();
                text.next().is_some_and(|char| text.next().is_none() && chars.binary_search(&char).is_ok())
            }),
            Self::Bpe(bpe) => {
                let tables = bpe.tables();
                let texts: HashMap<Vec<u8>, &AddedToken> =
                    added.iter().filter_map(|token| Some((byte_chars::read(&token.text)?, token))).collect();
                let is_added = |id: &u32| added.binary_search_by_key(id, |token| token.id).is_ok();
                let others = (0..self.len() as u32).filter(|id| !texts.is_empty() && !is_added(id));
                others.filter_map(|id| tables.token(id)).find_map(|token| texts.get(token).copied())
            }
        }
    }
}

/// Memory that encoding reuses.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    symbols: Vec<Symbol>,
    heap: Vec<u64>,
}

/// The first of `tokens` (longest first) in `text` from `start` on.
fn find_first<'t>(tokens: &[&'t AddedToken], text: &[u8], start: usize) -> Option<(usize, &'t AddedToken)> {
    if tokens.is_empty() {
        return None;
    }
    let mut begins = [false; 256];
    tokens.iter().for_each(|token| begins[usize::from(token.text.as_bytes()[0])] = true);
    let places = (start..text.len()).filter(|&at| begins[usize::from(text[at])]);
    places
        .flat_map(|at| tokens.iter().map(move |token| (at, *token)))
        .find(|(at, token)| text[*at..].starts_with(token.text.as_bytes()))
}

fn char_error(error: CharError, text: &[u8], start: usize, known: usize) -> EncodeError {
    let line_column = |at: usize| {
        let before = &text[..at];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        (line, 1 + String::from_utf8_lossy(&before[line_start..]).chars().count())
    };
    match error {
        CharError::Unknown { char, at_bytes } => {
            let (line, column) = line_column(start + at_bytes);
            EncodeError::UnknownChar { char, at_bytes: start + at_bytes, line, column, known }
        }
        CharError::NotUtf8 { at_bytes } => {
            EncodeError::NotUtf8 { at_bytes: start + at_bytes, line: line_column(start + at_bytes).0 }
        }
    }
}
