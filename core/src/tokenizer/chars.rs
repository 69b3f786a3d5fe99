//! One token per character, ids in the order of code points (nanoGPT's character-level data sets).

use core::fmt;

/// The vocabulary of a character tokenizer: the id of a character is its index in the sorted list.
#[derive(Clone, Copy, Debug)]
pub struct CharTable<'a> {
    chars: &'a [char],
}

/// Why a text could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharError {
    /// The vocabulary lacks this character.
    Unknown {
        /// The character.
        char: char,
        /// Its place in the text in bytes.
        at_bytes: usize,
    },
    /// The text is not UTF-8 from this byte on.
    NotUtf8 {
        /// The place in bytes.
        at_bytes: usize,
    },
}

impl fmt::Display for CharError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { char, at_bytes } => {
                write!(f, "character {char:?} (U+{:04X}) at byte {at_bytes} is not in the vocabulary", u32::from(*char))
            }
            Self::NotUtf8 { at_bytes } => write!(f, "the text is not UTF-8 at byte {at_bytes}"),
        }
    }
}

impl core::error::Error for CharError {}

impl<'a> CharTable<'a> {
    /// A table over `chars`; the error is the first index that breaks the order of code points (or repeats one).
    ///
    /// # Errors
    /// The first place that breaks the order.
    pub fn open(chars: &'a [char]) -> Result<Self, usize> {
        match chars.iter().zip(chars.iter().skip(1)).position(|(a, b)| a >= b) {
            Some(place) => Err(place.saturating_add(1)),
            None => Ok(Self { chars }),
        }
    }

    /// The characters by id.
    pub fn chars(&self) -> &'a [char] {
        self.chars
    }

    /// Calls `emit` with the id of every character of `text`.
    ///
    /// # Errors
    /// Bytes that are no UTF-8, or a character that the table lacks.
    pub fn encode(&self, text: &[u8], emit: &mut impl FnMut(u32)) -> Result<(), CharError> {
        let mut at_bytes = 0_usize;
        for chunk in text.utf8_chunks() {
            for char in chunk.valid().chars() {
                let place = self.chars.binary_search(&char).map_err(|_| CharError::Unknown { char, at_bytes })?;
                emit(place as u32);
                at_bytes = at_bytes.saturating_add(char.len_utf8());
            }
            if !chunk.invalid().is_empty() {
                return Err(CharError::NotUtf8 { at_bytes });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn ids_are_places_and_errors_name_the_character() {
        let table = CharTable::open(&['\n', 'a', 'é', '😀']).unwrap();
        let mut ids = Vec::new();
        table.encode("é😀\na".as_bytes(), &mut |id| ids.push(id)).unwrap();
        assert_eq!(ids, [2, 3, 0, 1]);
        let error = table.encode("aéb".as_bytes(), &mut |_| ()).unwrap_err();
        assert_eq!(error, CharError::Unknown { char: 'b', at_bytes: 3 });
        assert_eq!(error.to_string(), "character 'b' (U+0062) at byte 3 is not in the vocabulary");
        assert_eq!(table.encode(b"aa\xff", &mut |_| ()), Err(CharError::NotUtf8 { at_bytes: 2 }));
        assert_eq!(CharTable::open(&['a', 'c', 'c']).unwrap_err(), 2);
    }
}
