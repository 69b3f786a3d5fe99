//! Byte-level BPE: merge the adjacent pair of lowest rank, the leftmost first, until no pair of a word has a rank
//! (Sennrich et al. 2016; over bytes as in openai/gpt-2).

use super::classes::Classes;
use super::hash::{EMPTY, RANK_BITS, hash_bytes, hash_pair, pair_key};
use super::pretokenize::Split;
use super::steps::step;
use core::fmt;

/// No token, no rank, no neighbour.
pub const NONE: u32 = u32::MAX;

/// Words of up to this many bytes are merged by scanning, longer ones with a heap.
const SCAN_BYTES: usize = 32;

/// The tables of a byte-level BPE vocabulary with V tokens and R merges. [`super::tables`] fills them.
///
/// `default()` is a vocabulary without tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct BpeTables<'a> {
    /// How text is cut into words.
    pub split: Split,
    /// Classes of characters, for the split.
    pub classes: Classes<'a>,
    /// The token of each single byte, [`NONE`] if there is none. (256)
    pub byte_tokens: &'a [u32],
    /// The start of each token's bytes in `token_bytes`, and the end of the last. (V + 1)
    pub token_offsets: &'a [u32],
    /// The bytes of all tokens, in order of ids.
    pub token_bytes: &'a [u8],
    /// Token that the merge of each rank makes. (R)
    pub merged: &'a [u32],
    /// Hash table of pairs: left id, right id, rank in 21 + 21 + 22 bits. (a power of two > R)
    pub pairs: &'a [u64],
    /// Hash table of words that are a single token: hash, id in 32 + 32 bits. (a power of two > V, or empty)
    pub words: &'a [u64],
}

/// Scratch for merging one word; its content need not be preserved.
#[derive(Debug)]
pub struct BpeScratch<'s> {
    /// One for each byte of the word.
    pub symbols: &'s mut [Symbol],
    /// [`BpeScratch::heap_len`] for the word.
    pub heap: &'s mut [u64],
}

impl BpeScratch<'_> {
    /// Needed length of `heap` for words of up to `word_bytes`.
    pub const fn heap_len(word_bytes: usize) -> usize {
        if word_bytes > SCAN_BYTES { word_bytes.saturating_mul(2) } else { 0 }
    }
}

/// A symbol of a word during merging.
#[derive(Clone, Copy, Debug, Default)]
pub struct Symbol {
    id: u32,
    /// Rank of the pair of this symbol and the next; [`NONE`] also for symbols that were merged.
    rank: u32,
    previous: u32,
    next: u32,
}

/// Why a text could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The scratch is too small for a word.
    Scratch {
        /// Length of the word.
        word_bytes: usize,
    },
    /// The vocabulary has no token for this byte.
    MissingByte {
        /// The byte.
        byte: u8,
        /// Its place in the text (or word).
        at_bytes: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch { word_bytes } => write!(f, "the scratch is too small for a word of {word_bytes} bytes"),
            Self::MissingByte { byte, at_bytes } => {
                write!(f, "byte 0x{byte:02X} at byte {at_bytes} has no token in the vocabulary")
            }
        }
    }
}

impl core::error::Error for EncodeError {}

impl<'a> BpeTables<'a> {
    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.token_offsets.len().saturating_sub(1)
    }

    /// The bytes of a token: what decoding appends for its id.
    #[inline]
    pub fn token(&self, id: u32) -> Option<&'a [u8]> {
        let id = id as usize;
        let start = *self.token_offsets.get(id)?;
        let end = *self.token_offsets.get(id.checked_add(1)?)?;
        self.token_bytes.get(start as usize..end as usize)
    }

    /// Calls `emit` with every id of `text`.
    ///
    /// Scratch for the length of `text` always suffices; [`Split::words`] tells the size that its words need.
    ///
    /// # Errors
    /// Scratch that is too small for a word, or a byte that the vocabulary lacks.
    pub fn encode(&self, text: &[u8], scratch: &mut BpeScratch<'_>, emit: &mut impl FnMut(u32)) -> Result<(), EncodeError> {
        let mut at = 0_usize;
        for word in self.split.words_by(self.classes, text) {
            self.encode_word(word, scratch, emit).map_err(|error| error.shifted(at))?;
            at = at.saturating_add(word.len());
        }
        Ok(())
    }

    /// Calls `emit` with every id of one word of the split.
    ///
    /// # Errors
    /// Scratch that is too small for it, or a byte that the vocabulary lacks.
    #[inline]
    pub fn encode_word(&self, word: &[u8], scratch: &mut BpeScratch<'_>, emit: &mut impl FnMut(u32)) -> Result<(), EncodeError> {
        if let Some(id) = self.whole_word(word) {
            emit(id);
            return Ok(());
        }
        self.merge_word(word, scratch)?;
        let mut at = if word.is_empty() { NONE } else { 0 };
        while let Some(symbol) = scratch.symbols.get(at as usize) {
            emit(symbol.id);
            at = symbol.next;
        }
        Ok(())
    }

    /// Leaves the tokens of `word` as a linked list from the first symbol on.
    fn merge_word(&self, word: &[u8], scratch: &mut BpeScratch<'_>) -> Result<(), EncodeError> {
        let too_small = EncodeError::Scratch { word_bytes: word.len() };
        let symbols = scratch.symbols.get_mut(..word.len()).ok_or(too_small)?;
        let heap = scratch.heap.get_mut(..BpeScratch::heap_len(word.len())).ok_or(too_small)?;
        if word.len() >= NONE as usize {
            return Err(too_small);
        }
        self.fill_symbols(word, symbols)?;
        if word.len() > SCAN_BYTES {
            self.merge_by_heap(symbols, heap);
        } else {
            self.merge_by_scan(symbols);
        }
        Ok(())
    }

    /// The token that a whole word is.
    #[inline]
    fn whole_word(&self, word: &[u8]) -> Option<u32> {
        let mask = self.words.len().checked_sub(1)?;
        let hash = hash_bytes(word);
        let mut slot = hash as usize & mask;
        for _ in 0..self.words.len() {
            step();
            let entry = *self.words.get(slot)?;
            if entry >> 32 == hash >> 32 && self.token(entry as u32) == Some(word) {
                return Some(entry as u32);
            }
            if entry == EMPTY {
                return None;
            }
            slot = slot.wrapping_add(1) & mask;
        }
        None
    }

    /// Rank of the merge of two tokens.
    #[cfg_attr(target_os = "none", inline(never))]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let key = pair_key(left, right);
        let mask = self.pairs.len().wrapping_sub(1);
        let mut slot = hash_pair(key) as usize & mask;
        for _ in 0..self.pairs.len() {
            step();
            match self.pairs.get(slot) {
                Some(&entry) if entry >> RANK_BITS == key && entry != EMPTY => return entry as u32 & ((1 << RANK_BITS) - 1),
                Some(&entry) if entry != EMPTY => slot = slot.wrapping_add(1) & mask,
                _ => return NONE,
            }
        }
        NONE
    }

    /// One symbol for each byte, with the ranks of all pairs.
    fn fill_symbols(&self, word: &[u8], symbols: &mut [Symbol]) -> Result<(), EncodeError> {
        let mut next_id = NONE;
        let mut next = NONE;
        for ((at, &byte), symbol) in word.iter().enumerate().zip(symbols).rev() {
            let id = self.byte_tokens.get(usize::from(byte)).copied().unwrap_or(NONE);
            if id == NONE {
                return Err(EncodeError::MissingByte { byte, at_bytes: at });
            }
            let rank = if next == NONE { NONE } else { self.rank(id, next_id) };
            *symbol = Symbol { id, rank, previous: (at as u32).wrapping_sub(1), next };
            (next, next_id) = (at as u32, id);
        }
        Ok(())
    }

    fn merge_by_scan(&self, symbols: &mut [Symbol]) {
        loop {
            let (mut best, mut lowest) = (0, NONE);
            let mut at = 0;
            while let Some(symbol) = symbols.get(at as usize) {
                step();
                if symbol.rank < lowest {
                    (best, lowest) = (at, symbol.rank);
                }
                at = symbol.next;
            }
            if lowest == NONE || self.merge_at(symbols, best).is_none() {
                return;
            }
        }
    }

    /// As [`merge_by_scan`](Self::merge_by_scan) in O(n log n) steps. A heap entry is rank, position in 32 + 32 bits; it is stale unless its symbol
    /// still has that rank. A merge removes one entry and adds at most two: 2n entries suffice.
    fn merge_by_heap(&self, symbols: &mut [Symbol], storage: &mut [u64]) {
        let mut heap = Heap { entries: storage, len: 0 };
        for (at, symbol) in symbols.iter().enumerate() {
            heap.push_ranked(symbol.rank, at as u32);
        }
        while let Some(entry) = heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            if symbols.get(at as usize).is_some_and(|symbol| symbol.rank == rank)
                && let Some((own, previous)) = self.merge_at(symbols, at)
            {
                heap.push_ranked(own, at);
                if let Some((rank, previous)) = previous {
                    heap.push_ranked(rank, previous);
                }
            }
        }
    }

    /// Merges the symbol at `at` with its successor; returns its new rank, and the new rank and position of the predecessor.
    #[inline]
    fn merge_at(&self, symbols: &mut [Symbol], at: u32) -> Option<(u32, Option<(u32, u32)>)> {
        let left = *symbols.get(at as usize)?;
        let right = symbols.get_mut(left.next as usize)?;
        let id = *self.merged.get(left.rank as usize)?;
        let after = right.next;
        right.rank = NONE;
        let mut rank = NONE;
        if let Some(next) = symbols.get_mut(after as usize) {
            next.previous = at;
            rank = self.rank(id, next.id);
        }
        *symbols.get_mut(at as usize)? = Symbol { id, rank, previous: left.previous, next: after };
        let previous = symbols.get_mut(left.previous as usize).map(|previous| {
            previous.rank = self.rank(previous.id, id);
            (previous.rank, left.previous)
        });
        Some((rank, previous))
    }
}

impl EncodeError {
    fn shifted(self, by: usize) -> Self {
        match self {
            Self::MissingByte { byte, at_bytes } => Self::MissingByte { byte, at_bytes: at_bytes.saturating_add(by) },
            Self::Scratch { .. } => self,
        }
    }
}

/// A binary heap, the lowest entry first, in lent memory.
struct Heap<'h> {
    entries: &'h mut [u64],
    len: usize,
}

impl Heap<'_> {
    fn push_ranked(&mut self, rank: u32, at: u32) {
        if rank != NONE {
            self.push(u64::from(rank) << 32 | u64::from(at));
        }
    }

    fn get(&self, at: usize) -> u64 {
        self.entries.get(at).copied().unwrap_or(u64::MAX)
    }

    fn set(&mut self, at: usize, entry: u64) {
        if let Some(place) = self.entries.get_mut(at) {
            *place = entry;
        }
    }

    fn push(&mut self, entry: u64) {
        let mut at = self.len;
        self.len = self.len.saturating_add(1);
        while at > 0 {
            step();
            let parent = at.wrapping_sub(1) / 2;
            let above = self.get(parent);
            if above <= entry {
                break;
            }
            self.set(at, above);
            at = parent;
        }
        self.set(at, entry);
    }

    fn pop(&mut self) -> Option<u64> {
        self.len = self.len.checked_sub(1)?;
        let (lowest, entry) = (self.get(0), self.get(self.len));
        let mut at = 0_usize;
        loop {
            step();
            let left = at.wrapping_mul(2).wrapping_add(1);
            let right = left.wrapping_add(1);
            let child = if right < self.len && self.get(right) < self.get(left) { right } else { left };
            if child >= self.len || self.get(child) >= entry {
                break;
            }
            self.set(at, self.get(child));
            at = child;
        }
        self.set(at, entry);
        Some(lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn heap_sorts(mut entries: Vec<u64>) {
            let mut storage = vec![0; entries.len()];
            let mut heap = Heap { entries: &mut storage, len: 0 };
            entries.iter().for_each(|&entry| heap.push(entry));
            let popped: Vec<u64> = std::iter::from_fn(|| heap.pop()).collect();
            entries.sort_unstable();
            prop_assert_eq!(popped, entries);
        }
    }
}
