//! Text to tokens with the file's tokenizer, of any kind.

use core::fmt;

use super::FileTokenizer;
use crate::tokenizer::{BpeScratch, CharError, EncodeError};

/// Why a text could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// An error of the character tokenizer.
    Char(CharError),
    /// An error of byte-level BPE.
    Bpe(EncodeError),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(error) => error.fmt(f),
            Self::Bpe(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TextError {}

impl FileTokenizer<'_> {
    /// The longest word of a text in bytes, which sizes the scratch of [`FileTokenizer::encode`]: as many symbols, and [`BpeScratch::heap_len`].
    pub fn scratch_word(&self, text: &[u8]) -> usize {
        match self {
            Self::Bytes | Self::Chars(_) => 0,
            Self::Bpe(tables) => tables.split.words_by(tables.classes, text).map(<[u8]>::len).max().unwrap_or(0),
        }
    }

    /// Calls `emit` with the id of every token of a text.
    ///
    /// # Errors
    /// Characters or bytes without a token, and too little scratch.
    pub fn encode(&self, text: &[u8], scratch: &mut BpeScratch<'_>, emit: &mut impl FnMut(u32)) -> Result<(), TextError> {
        match self {
            Self::Bytes => {
                text.iter().for_each(|&byte| emit(byte.into()));
                Ok(())
            }
            Self::Chars(table) => table.encode(text, emit).map_err(TextError::Char),
            Self::Bpe(tables) => tables.encode(text, scratch, emit).map_err(TextError::Bpe),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{BpeTables, CharTable, Classes, Split, Symbol};
    use std::vec;
    use std::vec::Vec;

    fn encode(tokenizer: FileTokenizer<'_>, text: &[u8]) -> Result<Vec<u32>, TextError> {
        let word = tokenizer.scratch_word(text);
        let (mut symbols, mut heap) = (vec![Symbol::default(); word], vec![0; BpeScratch::heap_len(word)]);
        let mut ids = Vec::new();
        let mut scratch = BpeScratch { symbols: &mut symbols, heap: &mut heap };
        tokenizer.encode(text, &mut scratch, &mut |id| ids.push(id)).map(|()| ids)
    }

    #[test]
    fn every_tokenizer_encodes_with_the_scratch_that_it_asks_for() {
        assert_eq!(encode(FileTokenizer::Bytes, b"a\xff").unwrap(), [97, 255]);
        let chars = FileTokenizer::Chars(CharTable::open(&['a', 'b']).unwrap());
        assert_eq!(encode(chars, b"ba").unwrap(), [1, 0]);
        assert!(matches!(encode(chars, b"abc"), Err(TextError::Char(CharError::Unknown { char: 'c', at_bytes: 2 }))));
        let offsets: Vec<u32> = (0..=256).collect();
        let bytes: Vec<u8> = (0..=255).collect();
        let tables = BpeTables {
            split: Split::Gpt2,
            classes: Classes::UNICODE,
            byte_tokens: &offsets[..256],
            token_offsets: &offsets,
            token_bytes: &bytes,
            merged: &[],
            pairs: &[u64::MAX],
            words: &[],
        };
        let bpe = FileTokenizer::Bpe(tables.open().unwrap());
        let text = [b"two words and ", &[b'a'; 50][..]].concat();
        assert_eq!(bpe.scratch_word(&text), 51);
        assert_eq!(encode(bpe, &text).unwrap(), text.iter().map(|&b| u32::from(b)).collect::<Vec<_>>());
    }
}
