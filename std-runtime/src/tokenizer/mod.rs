//! Tokenizers with owned tables: bytes, characters, BPE, WordPiece; with special tokens; training, loading, saving.

mod added;
mod bert;
mod beside;
mod bpe;
mod bpe_train;
mod build;
mod byte_chars;
mod chat;
mod error;
mod extend;
mod json;
mod load;
mod matcher;
mod merger;
mod normalize;
mod patterns;
mod pieces;
mod prompt;
mod save;
mod steps;
mod template;
mod vocabulary;
mod word_piece;
mod word_piece_train;

pub use added::{AddedToken, Fit, Specials};
pub use bpe::{Bpe, BpeError};
pub use bpe_train::{BpeTrainOptions, BpeTrainer, TrainError};
pub use error::FileError;
pub use pieces::PieceBpe;
pub use prompt::{TextError, prompt_ids, specials_note, text_ids};
pub use word_piece::WordPiece;
pub use word_piece_train::{WordPieceOptions, WordPieceTrainer};

use crate::error::{Failure, Kind};
use added::{Finder, Section};
use load::Original;
use normalize::Normalizer;
use samara_core::tokenizer::{CharError, CharTable, Split, Symbol};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use steps::Step;
use template::Template;

/// The usual token between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Default end-of-text tokens where no file names one; the first that exists is used.
const ENDS_OF_TEXT: [&str; 6] = [END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]"];

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    model: Model,
    added: Vec<AddedToken>,
    end_of_text: Option<u32>,
    text: TextSteps,
    /// The tokens around a text; `None` if the file's post-processor is not supported.
    template: Option<Template>,
    /// The files that it was loaded from.
    original: Option<Arc<Original>>,
}

/// The steps before the model. Without steps, the model gets the text unchanged.
#[derive(Clone, Debug, Default)]
struct TextSteps {
    normalizer: Vec<Normalizer>,
    pieces: Vec<Step>,
}

/// How text between special tokens is encoded.
#[derive(Clone, Debug)]
pub enum Model {
    /// The id of a byte is its value.
    Byte,
    /// The id of a character is its index in this list, which is in the order of code points (nanoGPT's `meta.pkl`).
    Character(Vec<char>),
    /// Byte-level BPE.
    Bpe(Bpe),
    /// BPE over characters.
    Pieces(PieceBpe),
    /// WordPiece.
    WordPiece(WordPiece),
}

/// Why a text could not be encoded.
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
    /// A tokenizer over characters got bytes that are not UTF-8.
    #[error(
        "the text is not UTF-8 at line {line} (byte {at_bytes}), which this tokenizer cannot encode; convert it with iconv, or use a byte tokenizer"
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
    /// A character without a token in a vocabulary over characters, in normalised text.
    #[error("character {char:?} (U+{:04X}) in {piece:?} has no token in this BPE vocabulary; remove it from the text", *char as u32)]
    NoToken {
        /// The character.
        char: char,
        /// The piece of text that contains it.
        piece: String,
    },
    /// An id beyond the model's vocabulary, such as that of a token added to the tokenizer only.
    #[error("token {token:?} has id {id}, beyond the model's vocabulary of {vocab_size} ids; leave it out of the text")]
    Beyond {
        /// The id.
        id: u32,
        /// The token.
        token: String,
        /// Ids of the model.
        vocab_size: usize,
    },
    /// A pattern of the tokenizer could not be followed to its end.
    #[error("the text cannot be split by the pattern of the tokenizer: {problem}")]
    Pattern {
        /// The reason.
        problem: String,
    },
}

/// An id outside the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token id {id} at position {index} is outside the vocabulary of {vocab_size} tokens")]
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

/// Why a model and added tokens do not form a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
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
    /// A text that files could not distinguish from a token of the model.
    #[error("added token {text:?} is what a token of the model is written as; choose another text, such as \"<|{text}|>\"")]
    Taken {
        /// The text.
        text: String,
    },
    /// An id of the model that is not that of a token of the same text.
    #[error(
        "added token {text:?} has id {id}; expected at least {expected} (the ids of the model) or the id of a token with that text"
    )]
    Id {
        /// The id.
        id: u32,
        /// The text.
        text: String,
        /// The model's vocabulary size.
        expected: u32,
    },
}

impl Tokenizer {
    /// One token per byte: 256 ids, then `specials`.
    ///
    /// # Errors
    /// A special token that is empty, or there twice.
    pub fn bytes(specials: &[&str]) -> Result<Self, PartsError> {
        Self::with_specials(Model::Byte, specials)
    }

    /// One token per character that occurs in `texts`, in the order of code points, then `specials`.
    ///
    /// # Errors
    /// No character, or a special token that is empty or there twice.
    pub fn characters<'t>(texts: impl IntoIterator<Item = &'t str>, specials: &[&str]) -> Result<Self, PartsError> {
        let chars: BTreeSet<char> = texts.into_iter().flat_map(str::chars).collect();
        Self::with_specials(Model::Character(chars.into_iter().collect()), specials)
    }

    /// A tokenizer from its parts. Added tokens have ids after those of the model; those of a BPE model may also be tokens of the vocabulary.
    /// `<|endoftext|>`, or else another default, ends texts if it is added.
    ///
    /// # Errors
    /// Characters out of order; added tokens that repeat texts or ids of others.
    pub fn new(model: Model, mut added: Vec<AddedToken>) -> Result<Self, PartsError> {
        if let Model::Character(chars) = &model {
            CharTable::open(chars).map_err(|id| PartsError::CharOrder { id, char: chars[id] })?;
        }
        added.sort_by_key(|token| token.id);
        let next = model.len() as u32;
        let mut texts = BTreeSet::new();
        for (place, AddedToken { id, text, .. }) in added.iter().enumerate() {
            let repeated = place.checked_sub(1).is_some_and(|before| added[before].id == *id) || !texts.insert(text);
            if text.is_empty() {
                return Err(PartsError::Empty { id: *id });
            } else if repeated {
                return Err(PartsError::Repeated { id: *id, text: text.clone() });
            } else if *id < next && !model.has(*id, text) {
                return Err(PartsError::Id { id: *id, text: text.clone(), expected: next });
            }
        }
        if let Some(token) = model.written_as(&added) {
            return Err(PartsError::Taken { text: token.text.clone() });
        }
        let id = |text: &&str| added.iter().find(|token| token.text == **text).map(|token| token.id);
        let end_of_text = ENDS_OF_TEXT.iter().find_map(id);
        Ok(Self { model, added, end_of_text, text: TextSteps::default(), template: Some(Template::default()), original: None })
    }

    /// The model under the added tokens.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The added tokens in order of ids.
    pub fn added(&self) -> &[AddedToken] {
        &self.added
    }

    /// Vocabulary size, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.added.last().map_or(0, |token| token.id as usize + 1).max(self.model.len())
    }

    /// Id of an added token.
    pub fn added_id(&self, text: &str) -> Option<u32> {
        self.added.iter().find(|token| token.text == text).map(|token| token.id)
    }

    /// Id of a token that is written as `text`.
    fn id_of(&self, text: &str) -> Option<u32> {
        self.added_id(text).or_else(|| (0..self.model.len() as u32).find(|&id| self.model.has(id, text)))
    }

    /// An upper bound of the ids of text without added tokens.
    pub fn text_vocab_size(&self) -> usize {
        let is_added = |id: &u32| self.added.binary_search_by_key(id, |token| token.id).is_ok();
        (0..self.model.len() as u32).rev().find(|id| !is_added(id)).map_or(0, |id| id as usize + 1)
    }

    /// `ids` of a text with the tokens that the tokenizer's file puts around them (`post_processor`); `None` if it is not supported.
    pub fn with_template(&self, ids: &[u32]) -> Option<Vec<u32>> {
        self.template.as_ref().map(|template| [&template.before[..], ids, &template.after[..]].concat())
    }

    /// The same, whose files put the end-of-text token after every text, and pad with it.
    #[must_use]
    pub fn ending_texts(self) -> Self {
        let after = self.end_of_text.into_iter().collect();
        Self { template: Some(Template { before: Vec::new(), after }), ..self }
    }

    /// The ids that the tokenizer's file puts before a text; `None` if its post-processor is not supported.
    pub fn ids_before(&self) -> &[u32] {
        self.template.as_ref().map_or(&[], |template| &template.before)
    }

    /// The ids that the tokenizer's file puts after a text; none if its post-processor is not supported.
    pub fn ids_after(&self) -> &[u32] {
        self.template.as_ref().map_or(&[], |template| &template.after)
    }

    /// Refuses ids beyond a model's vocabulary of `vocab_size`.
    ///
    /// # Errors
    /// The first of them.
    pub fn check_ids(&self, ids: &[u32], vocab_size: usize) -> Result<(), EncodeError> {
        let beyond = ids.iter().find(|&&id| id as usize >= vocab_size);
        let token = |id: u32| String::from_utf8_lossy(&self.token_bytes(id)).into_owned();
        beyond.map_or(Ok(()), |&id| Err(EncodeError::Beyond { id, token: token(id), vocab_size }))
    }

    /// Counts the texts of special tokens in `text`.
    pub fn count_specials(&self, text: &[u8], counts: &mut BTreeMap<u32, u64>) {
        let specials = self.added.iter().filter(|token| token.special);
        let finder = Finder::new(specials.map(|token| (Cow::Borrowed(token.text.as_str()), token)));
        for section in finder.sections(text) {
            if let Section::Token(id) = section {
                *counts.entry(id).or_default() += 1;
            }
        }
    }

    /// The same without the added tokens beyond a model's vocabulary of `vocab_size`.
    #[must_use]
    pub fn within(mut self, vocab_size: usize) -> Self {
        self.added.retain(|token| (token.id as usize) < vocab_size);
        self.end_of_text = self.end_of_text.filter(|&id| (id as usize) < vocab_size);
        if let Model::Bpe(bpe) = &mut self.model {
            bpe.truncate(vocab_size);
        }
        self
    }

    /// The feature of this tokenizer that devices do not support; their programs have bytes, characters, and byte-level BPE with GPT-2's split.
    pub fn beyond_devices(&self) -> Option<&'static str> {
        match (&self.model, &self.text) {
            (Model::Pieces(_), _) => Some("BPE over characters"),
            (Model::WordPiece(_), _) => Some("WordPiece"),
            (_, TextSteps { normalizer, .. }) if !normalizer.is_empty() => Some("a normalizer"),
            (_, TextSteps { pieces, .. }) if !pieces.is_empty() => Some("another split than GPT-2's"),
            _ => None,
        }
    }

    /// The end-of-text token: the `eos_token` of the files that it was loaded from, or `<|endoftext|>` or another default.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The ids of `text`, without added prefix or suffix.
    ///
    /// Text is bytes, UTF-8 or not (a character tokenizer needs UTF-8). BPE splits invalid bytes into words as if each were U+FFFD and preserves
    /// them: decoding gives the same bytes.
    ///
    /// # Errors
    /// A character or a byte that the vocabulary lacks, or bytes that are no UTF-8 where characters are looked at.
    pub fn encode(&self, text: &[u8], specials: Specials<'_>) -> Result<Vec<u32>, EncodeError> {
        let mut ids = Vec::new();
        self.encode_into(text, specials, &mut Scratch::default(), &mut ids)?;
        Ok(ids)
    }

    /// As [`encode`](Self::encode), appending to `ids`, with scratch that can be reused for many texts.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_into(
        &self,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        self.encode_from(text, specials, true, scratch, ids)
    }

    /// Encodes a part of a text in which special tokens are recognised, except where one would span one of the positions `walls`, in ascending order:
    /// there its characters are encoded. `begins`: the part is at the start of the text.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_part(
        &self,
        part: &[u8],
        walls: &[usize],
        begins: bool,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let specials = self.added.iter().filter(|token| token.special);
        let finder = Finder::new(specials.map(|token| (Cow::Borrowed(token.text.as_str()), token)));
        for section in finder.sections_between(part, walls) {
            match section {
                Section::Token(id) => ids.push(id),
                Section::Text(range) => {
                    let begins = begins && range.start == 0;
                    self.encode_from(&part[range], Specials::None, begins, scratch, ids)?;
                }
            }
        }
        Ok(())
    }

    /// Encodes `text`; `begins`: it is the start of the whole text.
    fn encode_from(
        &self,
        text: &[u8],
        specials: Specials<'_>,
        begins: bool,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let [raw, normalized] = self.finders(specials)?;
        for section in raw.sections(text) {
            match section {
                Section::Token(id) => ids.push(id),
                Section::Text(range) if self.text.normalizer.is_empty() => {
                    let first = begins && range.start == 0;
                    self.encode_section(text, range, first, &normalized, scratch, ids)?;
                }
                Section::Text(range) => {
                    let first = begins && range.start == 0;
                    let text = self.text.normalize(utf8(text, range)?)?;
                    self.encode_section(text.as_bytes(), 0..text.len(), first, &normalized, scratch, ids)?;
                }
            }
        }
        Ok(())
    }

    /// The first position from `at` on where `text` can be cut so that its parts, encoded separately, have the ids of the whole; the end of the text
    /// if there is none.
    pub fn cut(&self, text: &str, at: usize, specials: Specials<'_>) -> usize {
        let from = text.ceil_char_boundary(at);
        let mut tokens = self.added.iter().filter(|token| specials.allow(token)).peekable();
        let across = |token: &AddedToken| token.fit.lstrip || token.fit.rstrip || token.text.contains(char::is_whitespace);
        let anywhere = tokens.peek().is_none() && matches!(self.model, Model::Byte | Model::Character(_));
        let whole = match &self.model {
            Model::Bpe(bpe) => self.text.pieces.is_empty() && bpe.tables().split == Split::Whole,
            Model::Byte | Model::Character(_) => false,
            Model::Pieces(_) | Model::WordPiece(_) => self.text.pieces.is_empty(),
        };
        if anywhere && self.text.normalizer.is_empty() && self.text.pieces.is_empty() {
            return from;
        } else if whole || !self.text.keeps_cuts() || tokens.any(across) {
            return text.len();
        }
        // No word has a space after another character.
        let mut before = text.get(..from).and_then(|head| head.chars().next_back()).unwrap_or(' ');
        let starts_space = |&(_, c): &(usize, char)| !std::mem::replace(&mut before, c).is_whitespace() && c == ' ';
        text.get(from..).unwrap_or("").char_indices().find(starts_space).map_or(text.len(), |(i, _)| from + i)
    }

    /// The bytes of `ids`; special tokens give their text.
    ///
    /// # Errors
    /// An id that no token has.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, DecodeError> {
        let mut bytes = Vec::new();
        for (index, &id) in ids.iter().enumerate() {
            if !self.push_token(id, &mut bytes) {
                return Err(DecodeError { id, index, vocab_size: self.vocab_size() });
            }
        }
        let trimmed = match &self.model {
            Model::Pieces(pieces) => pieces.options.trim_start,
            Model::WordPiece(_) => 1,
            Model::Byte | Model::Character(_) | Model::Bpe(_) => 0,
        };
        let start = bytes.iter().take(trimmed).take_while(|&&byte| byte == b' ').count();
        bytes.drain(..start);
        if let Model::Pieces(_) = &self.model {
            bytes.truncate(bytes.len() - self.gap_after(ids).len().min(bytes.len()));
        }
        Ok(bytes)
    }

    /// The white space after `ids` that [`Self::decode`] drops at the end of a text.
    pub fn gap_after(&self, ids: &[u32]) -> &'static str {
        match (&self.model, ids.last()) {
            (Model::Pieces(pieces), Some(&id)) if pieces.options.trim_end && self.token_bytes(id).ends_with(b" ") => " ",
            _ => "",
        }
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
            Model::Pieces(pieces) if place < self.model.len() => {
                bytes.extend_from_slice(pieces.texts.get(place).map(Vec::as_slice).unwrap_or_default());
            }
            Model::WordPiece(words) if place < self.model.len() => {
                bytes.extend_from_slice(words.texts.get(place).map(Vec::as_slice).unwrap_or_default());
            }
            _ => match self.added.binary_search_by_key(&id, |token| token.id) {
                Ok(place) => bytes.extend_from_slice(self.added[place].text.as_bytes()),
                Err(_) => return false,
            },
        }
        true
    }

    fn with_specials(model: Model, specials: &[&str]) -> Result<Self, PartsError> {
        let ids = model.len() as u32..;
        let added = ids.zip(specials).map(|(id, text)| AddedToken::special(id, text));
        let added = added.collect();
        Self::new(model, added)
    }

    /// The finders of added tokens in original text, and in normalised text.
    fn finders(&self, specials: Specials<'_>) -> Result<[Finder<'_>; 2], EncodeError> {
        let allowed = || self.added.iter().filter(|token| specials.allow(token));
        let raw = allowed().filter(|token| !token.fit.normalized).map(|token| (Cow::Borrowed(token.text.as_str()), token));
        let normalized = allowed().filter(|token| token.fit.normalized);
        let normalized: Vec<_> =
            normalized.map(|token| Ok((self.text.normalize(&token.text)?, token))).collect::<Result<_, EncodeError>>()?;
        Ok([Finder::new(raw), Finder::new(normalized.into_iter())])
    }

    /// Encodes `text[range]`, which is normalised. `first`: it is at the start of the whole text.
    fn encode_section(
        &self,
        text: &[u8],
        range: Range<usize>,
        first: bool,
        tokens: &Finder<'_>,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        for section in tokens.sections(&text[range.clone()]) {
            match section {
                Section::Token(id) => ids.push(id),
                Section::Text(part) => {
                    let first = first && part.start == 0;
                    let range = range.start + part.start..range.start + part.end;
                    self.encode_plain(text, range, first, scratch, ids)?;
                }
            }
        }
        Ok(())
    }

    /// Encodes `text[range]`, in which no added token is looked for.
    fn encode_plain(
        &self,
        text: &[u8],
        range: Range<usize>,
        first: bool,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let start = range.start;
        if self.text.pieces.is_empty() {
            return self.model.encode(text, range, scratch, ids);
        }
        let mut take = |piece: &[u8]| {
            let at = |error| match error {
                EncodeError::MissingByte { byte, .. } => EncodeError::MissingByte { byte, at_bytes: start },
                error => error,
            };
            self.model.encode(piece, 0..piece.len(), scratch, ids).map_err(at)
        };
        steps::run(&self.text.pieces, utf8(text, range)?, first, &mut take)
    }
}

impl TextSteps {
    fn normalize<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, EncodeError> {
        self.normalizer.iter().try_fold(Cow::Borrowed(text), |text, step| Ok(Cow::Owned(step.apply(&text)?)))
    }

    /// Whether parts of a text that begin with a space can be encoded separately.
    fn keeps_cuts(&self) -> bool {
        self.normalizer.iter().all(Normalizer::keeps_cuts) && steps::keep_cuts(&self.pieces)
    }
}

/// `text[range]` as characters.
fn utf8(text: &[u8], range: Range<usize>) -> Result<&str, EncodeError> {
    let start = range.start;
    std::str::from_utf8(&text[range]).map_err(|error| {
        let at_bytes = start + error.valid_up_to();
        EncodeError::NotUtf8 { at_bytes, line: line_column(text, at_bytes).0 }
    })
}

impl Model {
    /// Number of ids without added tokens (except those in a BPE vocabulary).
    fn len(&self) -> usize {
        match self {
            Self::Byte => 256,
            Self::Character(chars) => chars.len(),
            Self::Bpe(bpe) => bpe.tables().vocab_size(),
            Self::Pieces(pieces) => pieces.len(),
            Self::WordPiece(words) => words.texts.len(),
        }
    }

    /// Whether a token of a BPE vocabulary is written as `text`.
    fn has(&self, id: u32, text: &str) -> bool {
        match self {
            Self::Byte | Self::Character(_) => false,
            Self::Bpe(bpe) => bpe.tables().token(id) == Some(text.as_bytes()),
            Self::Pieces(pieces) => pieces.ids.get(text) == Some(&id),
            Self::WordPiece(words) => words.ids.get(text) == Some(&id),
        }
    }

    /// Encodes `text[range]`; a BPE model with a split of its own cuts it.
    fn encode(&self, text: &[u8], range: Range<usize>, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        let (start, part) = (range.start, &text[range.clone()]);
        match self {
            Self::Byte => ids.extend(part.iter().map(|&byte| u32::from(byte))),
            Self::Character(chars) => {
                let table = CharTable::open(chars).expect("the characters were in order when the tokenizer was made");
                table.encode(part, &mut |id| ids.push(id)).map_err(|error| char_error(error, text, start, chars.len()))?;
            }
            Self::Bpe(bpe) => bpe
                .encode_into(part, scratch, ids)
                .map_err(|(byte, at)| EncodeError::MissingByte { byte, at_bytes: start + at })?,
            Self::Pieces(pieces) => {
                let word = utf8(text, range)?;
                let piece = || word.chars().take(40).collect();
                pieces.encode_word(word, ids).map_err(|char| EncodeError::NoToken { char, piece: piece() })?;
            }
            Self::WordPiece(words) => words.encode_word(utf8(text, range)?, ids),
        }
        Ok(())
    }

    /// The first of `added` whose text files could not distinguish from a token of the model.
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
            // Their added tokens are those of the file, by text.
            Self::Pieces(_) | Self::WordPiece(_) => None,
        }
    }
}

/// Memory that encoding reuses.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    symbols: Vec<Symbol>,
    heap: Vec<u64>,
}

/// Line and column, from 1, of a place in bytes.
fn line_column(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    (line, 1 + String::from_utf8_lossy(&before[line_start..]).chars().count())
}

fn char_error(error: CharError, text: &[u8], start: usize, known: usize) -> EncodeError {
    match error {
        CharError::Unknown { char, at_bytes } => {
            let (line, column) = line_column(text, start + at_bytes);
            EncodeError::UnknownChar { char, at_bytes: start + at_bytes, line, column, known }
        }
        CharError::NotUtf8 { at_bytes } => {
            EncodeError::NotUtf8 { at_bytes: start + at_bytes, line: line_column(text, start + at_bytes).0 }
        }
    }
}
