//! Encoding of text to token ids for a model: tokenizer, vocabulary check, and notes for the user.

use std::collections::BTreeMap;

use super::DataError;
use crate::tokenizer::{EncodeError, Scratch, Specials, TextError, Tokenizer};

/// Text is encoded in pieces of about this size, because ids take several times the memory of their text.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Encodes documents one after the other.
pub struct Encoding<'t> {
    tokenizer: &'t Tokenizer,
    specials: Specials<'static>,
    vocab_size: usize,
    /// How often the text of each special token was encoded as characters.
    as_characters: BTreeMap<u32, u64>,
    scratch: Scratch,
    ids: Vec<u32>,
}

impl<'t> Encoding<'t> {
    /// For a model with this vocabulary size. `specials`: texts of special tokens become these tokens.
    pub fn new(tokenizer: &'t Tokenizer, specials: bool, vocab_size: Option<usize>) -> Self {
        Self {
            tokenizer,
            specials: Specials::all_if(specials),
            vocab_size: vocab_size.unwrap_or_else(|| tokenizer.vocab_size()),
            as_characters: BTreeMap::new(),
            scratch: Scratch::default(),
            ids: Vec::new(),
        }
    }

    /// The end-of-text token, if the tokenizer and the model have one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.tokenizer.end_of_text().filter(|&id| (id as usize) < self.vocab_size)
    }

    /// Passes the ids of a document of the data `name` to `take`, piece by piece.
    ///
    /// # Errors
    /// Text that cannot be encoded, or ids beyond the model's vocabulary; what `take` returns.
    pub fn document<E: From<TextError> + From<DataError>>(
        &mut self,
        document: &str,
        name: &str,
        take: &mut impl FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), E> {
        let mut start = 0;
        while let Some(rest) = document.get(start..).filter(|rest| !rest.is_empty()) {
            let (piece, _) = rest.split_at(self.tokenizer.cut(rest, PIECE_BYTES, self.specials));
            self.piece(piece, document).map_err(TextError::of(name))?;
            take(&self.ids)?;
            start += piece.len();
        }
        Ok(())
    }

    fn piece(&mut self, piece: &str, document: &str) -> Result<(), EncodeError> {
        let Self { tokenizer, specials, vocab_size, .. } = *self;
        self.ids.clear();
        if let Err(error) = tokenizer.encode_into(piece.as_bytes(), specials, &mut self.scratch, &mut self.ids) {
            // Encoding the whole document gives the position of the error in it.
            return Err(tokenizer.encode(document.as_bytes(), specials).err().unwrap_or(error));
        }
        if specials == Specials::None {
            tokenizer.count_specials(piece.as_bytes(), &mut self.as_characters);
        }
        tokenizer.check_ids(&self.ids, vocab_size)
    }

    /// Warnings about likely mistakes in the text `name`.
    pub fn warnings(&self, name: &str) -> Vec<String> {
        let warning = |(&id, count): (&u32, &u64)| {
            let token = String::from_utf8_lossy(&self.tokenizer.token_bytes(id)).into_owned();
            let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
            format!(
                "warning: {name} has the text of special token {token:?} {times}, encoded as characters; data.specials=true encodes them as tokens"
            )
        };
        self.as_characters.iter().map(warning).collect()
    }
}
