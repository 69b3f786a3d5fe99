//! Character classes from tables that the caller lends: a device that reads them from its program file links none.

use super::unicode::{BLOCKS, INDEX};

/// The character classes of split patterns.
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

/// The class of every code point from 128 on. `default()` is empty: every such code point is [`Class::Other`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Classes<'a> {
    /// The block index of every 128 code points.
    pub index: &'a [u8],
    /// Two bits per code point in blocks of 128, the lowest first: 0 letter, 1 number, 2 white space.
    pub blocks: &'a [[u64; 4]],
}

impl Classes<'static> {
    /// Those of Unicode.
    pub const UNICODE: Self = Self { index: &INDEX, blocks: &BLOCKS };
}

impl Classes<'_> {
    /// The class of a code point; [`Class::Other`] beyond the tables.
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
