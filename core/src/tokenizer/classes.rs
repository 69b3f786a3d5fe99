//! Classes of characters, from tables that the caller may lend: a device that reads them from its program file links none.

use super::unicode::{BLOCKS, INDEX};

/// What split patterns ask of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// Everything else; unassigned code points too.
    Other,
}

/// The class of every code point from 128 on. `default()` has none: all of them are neither letters nor numbers nor white space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classes<'a> {
    /// Number of the block of every 128 code points.
    pub index: &'a [u8],
    /// Two bits for each of 128 code points, the lowest first: 0 for letters, 1 for numbers, 2 for white space.
    pub blocks: &'a [[u64; 4]],
}

impl Classes<'static> {
    /// Those of Unicode.
    pub const UNICODE: Self = Self { index: &INDEX, blocks: &BLOCKS };
}

impl Classes<'_> {
    /// The class of a code point; what lies beyond the tables is [`Class::Other`].
    pub fn of(&self, code: u32) -> Class {
        let block = self.index.get((code >> 7) as usize).and_then(|&block| self.blocks.get(usize::from(block)));
        let word = block.and_then(|words| words.get((code >> 5 & 3) as usize));
        match word.map(|word| word >> ((code & 31) * 2) & 3) {
            Some(0) => Class::Letter,
            Some(1) => Class::Number,
            Some(2) => Class::Space,
            _ => Class::Other,
        }
    }
}
