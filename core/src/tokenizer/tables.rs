//! Construction of [`BpeTables`].
//!
//! Steps: lay out `token_offsets`, `token_bytes`, `byte_tokens` and `merged`; [`fill_pairs`]; then, with `words` still empty, [`fill_words`].

use super::bpe::{BpeScratch, BpeTables, NONE};
use super::hash::{EMPTY, ID_BITS, RANK_BITS, hash_bytes, hash_pair, pair_key};
use core::fmt;

/// Token ids are below this.
pub const MAX_TOKENS: usize = (1 << ID_BITS) - 1;
/// Ranks are below this.
pub const MAX_MERGES: usize = (1 << RANK_BITS) - 1;

/// The longest probe sequence when a table is filled.
const MAX_PROBES: usize = 4096;

/// What is wrong with tables or with their sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TableError {
    /// More than [`MAX_TOKENS`] tokens or [`MAX_MERGES`] merges, or a table of the wrong length.
    Length {
        /// Which table.
        table: &'static str,
        /// Its length.
        found: usize,
    },
    /// An invalid entry: an id or rank out of range, decreasing offsets, no free slot.
    Entry {
        /// Which table.
        table: &'static str,
        /// Its index.
        index: usize,
    },
    /// A merge of a pair that an earlier one merges.
    DuplicateMerge {
        /// Rank of the later merge.
        rank: usize,
    },
    /// More than 4096 entries collide in a hash table: made to be slow.
    Crowded {
        /// Which table.
        table: &'static str,
        /// Rank or id of the entry that found no slot.
        index: usize,
    },
    /// The scratch is shorter than the longest token.
    Scratch {
        /// Length of the token.
        token_bytes: usize,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { table, found } => write!(f, "table `{table}` has an invalid length of {found}"),
            Self::Entry { table, index } => {
                write!(f, "entry {index} of table `{table}` is invalid: an id or rank out of range, or offsets that decrease")
            }
            Self::DuplicateMerge { rank } => write!(f, "merge {rank} merges a pair that an earlier one merges"),
            Self::Crowded { table, index } => {
                write!(f, "entry {index} finds no free slot within the probe limit of the hash table `{table}`")
            }
            Self::Scratch { token_bytes } => write!(f, "the scratch is too small for a token of {token_bytes} bytes"),
        }
    }
}

impl core::error::Error for TableError {}

/// Length of a hash table for `entries`: it is at most half full.
pub const fn hash_len(entries: usize) -> usize {
    let entries = if entries > MAX_MERGES { MAX_MERGES } else { entries };
    (2 * entries + 1).next_power_of_two()
}

/// Fills `slots`, of [`hash_len`] of the number of merges, with the pairs (left id, right id) in order of ranks.
///
/// # Errors
/// Slots of another length, ids beyond the tables, a merge that is there twice, or slots that are too crowded for a short search.
pub fn fill_pairs(merges: impl ExactSizeIterator<Item = (u32, u32)>, slots: &mut [u64]) -> Result<(), TableError> {
    if slots.len() != hash_len(merges.len()) || merges.len() > MAX_MERGES {
        return Err(TableError::Length { table: "pairs", found: slots.len() });
    }
    slots.fill(EMPTY);
    for (rank, (left, right)) in merges.enumerate() {
        if left as usize >= MAX_TOKENS || right as usize >= MAX_TOKENS {
            return Err(TableError::Entry { table: "merges", index: rank });
        }
        let key = pair_key(left, right);
        let (place, taken) = find(slots, hash_pair(key), |entry| entry >> RANK_BITS == key);
        match place {
            Some(place) if !taken => *place = key << RANK_BITS | rank as u64,
            Some(_) => return Err(TableError::DuplicateMerge { rank }),
            None => return Err(TableError::Crowded { table: "pairs", index: rank }),
        }
    }
    Ok(())
}

/// Fills `slots`, of [`hash_len`] of the number of tokens, with the words that are encoded as a single token: those that the merges produce from
/// their bytes, and those listed in `unmerged` (all of them with Hugging Face's `ignore_merges`).
///
/// # Errors
/// Slots of another length, scratch that is too small for a word, or slots that are too crowded for a short search.
pub fn fill_words(
    tables: &BpeTables<'_>,
    unmerged: impl Fn(u32) -> bool,
    scratch: &mut BpeScratch<'_>,
    slots: &mut [u64],
) -> Result<(), TableError> {
    if slots.len() != hash_len(tables.vocab_size()) {
        return Err(TableError::Length { table: "words", found: slots.len() });
    }
    slots.fill(EMPTY);
    for id in 0..tables.vocab_size().min(MAX_TOKENS) as u32 {
        let word = tables.token(id).unwrap_or(&[]);
        if word.is_empty() || (!unmerged(id) && !is_made(tables, id, word, scratch)?) {
            continue;
        }
        let hash = hash_bytes(word);
        let same = |entry: u64| entry >> 32 == hash >> 32 && tables.token(entry as u32) == Some(word);
        match find(slots, hash, same) {
            (Some(place), false) => *place = hash >> 32 << 32 | u64::from(id),
            (Some(_), true) => {}
            (None, _) => return Err(TableError::Crowded { table: "words", index: id as usize }),
        }
    }
    Ok(())
}

/// Whether merging `word` yields the single token `id`.
fn is_made(tables: &BpeTables<'_>, id: u32, word: &[u8], scratch: &mut BpeScratch<'_>) -> Result<bool, TableError> {
    let plain = BpeTables { words: &[], ..*tables };
    let (mut found, mut count) = (NONE, 0_usize);
    let result = plain.encode_word(word, scratch, &mut |token| {
        found = token;
        count = count.saturating_add(1);
    });
    match result {
        Err(super::EncodeError::Scratch { word_bytes }) => Err(TableError::Scratch { token_bytes: word_bytes }),
        Err(super::EncodeError::MissingByte { .. }) => Ok(false),
        Ok(()) => Ok(count == 1 && found == id),
    }
}

/// The slot of the entry `wanted`, or the free one where it belongs; and whether it was found.
fn find(slots: &mut [u64], hash: u64, wanted: impl Fn(u64) -> bool) -> (Option<&mut u64>, bool) {
    let mask = slots.len().wrapping_sub(1);
    let mut slot = hash as usize & mask;
    for _ in 0..slots.len().min(MAX_PROBES) {
        match slots.get(slot) {
            Some(&entry) if entry == EMPTY => return (slots.get_mut(slot), false),
            Some(&entry) if wanted(entry) => return (slots.get_mut(slot), true),
            _ => slot = slot.wrapping_add(1) & mask,
        }
    }
    (None, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Classes, EncodeError, Split, Symbol};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// Tokens: the bytes of "ab c", then one for each merge.
    const MERGES: [(u32, u32); 4] = [(0, 1), (2, 0), (4, 4), (5, 1)]; // "ab" = 4, " a" = 5, "abab" = 6, " ab" = 7 (never made)

    struct Owned {
        byte_tokens: Vec<u32>,
        offsets: Vec<u32>,
        bytes: Vec<u8>,
        merged: Vec<u32>,
        pairs: Vec<u64>,
        words: Vec<u64>,
    }

    impl Owned {
        fn new(merges: &[(u32, u32)], unmerged: bool) -> Self {
            let mut tokens: Vec<Vec<u8>> = [b"a", b"b", b" ", b"c"].map(|byte| byte.to_vec()).to_vec();
            let mut byte_tokens = vec![NONE; 256];
            for (id, token) in tokens.iter().enumerate() {
                byte_tokens[usize::from(token[0])] = id as u32;
            }
            for &(left, right) in merges {
                tokens.push([&tokens[left as usize][..], &tokens[right as usize]].concat());
            }
            let mut offsets = vec![0];
            tokens.iter().for_each(|token| offsets.push(offsets.last().unwrap() + token.len() as u32));
            let merged = (4..tokens.len() as u32).collect();
            let mut pairs = vec![0; hash_len(merges.len())];
            fill_pairs(merges.iter().copied(), &mut pairs).unwrap();
            let mut owned = Self { byte_tokens, offsets, bytes: tokens.concat(), merged, pairs, words: vec![] };
            let mut words = vec![0; hash_len(tokens.len())];
            let (mut symbols, mut heap) = (vec![Symbol::default(); 4000], vec![0; 8000]);
            let mut scratch = BpeScratch { symbols: &mut symbols, heap: &mut heap };
            fill_words(&owned.tables(), |_| unmerged, &mut scratch, &mut words).unwrap();
            owned.words = words;
            owned
        }

        fn tables(&self) -> BpeTables<'_> {
            BpeTables {
                split: Split::Gpt2,
                classes: Classes::UNICODE,
                byte_tokens: &self.byte_tokens,
                token_offsets: &self.offsets,
                token_bytes: &self.bytes,
                merged: &self.merged,
                pairs: &self.pairs,
                words: &self.words,
            }
        }
    }

    fn encode(tables: &BpeTables<'_>, text: &[u8]) -> Result<Vec<u32>, EncodeError> {
        let (mut symbols, mut heap) = (vec![Symbol::default(); text.len()], vec![0; 2 * text.len()]);
        let mut ids = Vec::new();
        let mut scratch = BpeScratch { symbols: &mut symbols, heap: &mut heap };
        tables.encode(text, &mut scratch, &mut |id| ids.push(id)).map(|()| ids)
    }

    /// The definition, word by word: the leftmost pair of lowest rank until none is left.
    fn naive(merges: &[(u32, u32)], text: &[u8]) -> Vec<u32> {
        let mut all = Vec::new();
        for word in Split::Gpt2.words(text) {
            let mut ids: Vec<u32> = word.iter().map(|byte| b"ab c".iter().position(|b| b == byte).unwrap() as u32).collect();
            let rank = |pair: &[u32]| merges.iter().position(|&merge| merge == (pair[0], pair[1]));
            while let Some((rank, at)) = ids.windows(2).enumerate().filter_map(|(at, pair)| Some((rank(pair)?, at))).min() {
                ids.splice(at..at + 2, [4 + rank as u32]);
            }
            all.extend(ids);
        }
        all
    }

    #[test]
    fn merges_in_order_of_rank() {
        let owned = Owned::new(&MERGES, false);
        let tables = owned.tables().open().unwrap();
        assert_eq!(encode(&tables, b"ab abab ac ab").unwrap(), [4, 2, 6, 5, 3, 2, 4]);
        let every_token = Owned::new(&MERGES, true);
        assert_eq!(encode(&every_token.tables(), b"ab abab ac ab").unwrap(), [4, 2, 6, 5, 3, 7]);
        assert_eq!(encode(&tables, b"abaXb"), Err(EncodeError::MissingByte { byte: b'X', at_bytes: 3 }));
        let none = &mut BpeScratch { symbols: &mut [], heap: &mut [] };
        assert_eq!(tables.encode(b"ab bb", none, &mut |_| ()), Err(EncodeError::Scratch { word_bytes: 3 }));
    }

    #[test]
    fn a_rank_that_no_longer_holds_merges_nothing() {
        // In "abca", "bc" takes away the "b" of "ab" (rank 1); "bca" (rank 2) then goes before "abc" (rank 3).
        let owned = Owned::new(&[(1, 3), (0, 1), (4, 0), (0, 4)], false);
        for times in [1, 100] {
            assert_eq!(encode(&owned.tables(), &b"abca".repeat(times)).unwrap(), [0, 6].repeat(times));
        }
    }

    #[test]
    fn broken_tables_are_errors() {
        let owned = Owned::new(&MERGES, false);
        let tables = owned.tables();
        let entry = |table, index| TableError::Entry { table, index };
        let open = |tables: BpeTables<'_>| tables.open().unwrap_err();
        assert_eq!(open(BpeTables { byte_tokens: &[], ..tables }), TableError::Length { table: "byte_tokens", found: 0 });
        assert_eq!(open(BpeTables { token_offsets: &[0, 2, 1], ..tables }), entry("byte_tokens", usize::from(b' ')));
        assert_eq!(open(BpeTables { merged: &[4, 5, 8], ..tables }), entry("merged", 2));
        assert_eq!(open(BpeTables { words: &[8], ..tables }), entry("words", 0));
        assert_eq!(open(BpeTables { pairs: &[EMPTY, 4], ..tables }), entry("pairs", 1));
        assert_eq!(open(BpeTables { pairs: &[], ..tables }), TableError::Length { table: "pairs", found: 0 });
        assert_eq!(open(BpeTables { token_bytes: b"abc", ..tables }), entry("token_offsets", 4));
        assert_eq!(open(BpeTables::default()), TableError::Length { table: "byte_tokens", found: 0 });
        let mut slots = [0; 8];
        let twice = [(0, 1), (1, 0), (0, 1)];
        assert_eq!(fill_pairs(twice.into_iter(), &mut slots), Err(TableError::DuplicateMerge { rank: 2 }));
    }

    #[test]
    fn crowded_slots_are_refused() {
        let mut slots = vec![EMPTY; 8192];
        slots[..5000].fill(0);
        assert!(matches!(find(&mut slots, 0, |_| false), (None, false)));
        assert!(matches!(find(&mut slots, 4999, |_| false), (Some(&mut EMPTY), false)));
        assert!(matches!(find(&mut slots, 0, |entry| entry == 0), (Some(&mut 0), true)));
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            text in "([ab c]{0,12}|a{0,90}|[abc]{33,90}){0,3}",
            picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        ) {
            // Merges in any order, made from tokens that exist; a pair only once.
            let mut merges: Vec<(u32, u32)> = Vec::new();
            for (left, right) in picks {
                let pair = (left.index(4 + merges.len()) as u32, right.index(4 + merges.len()) as u32);
                if !merges.contains(&pair) {
                    merges.push(pair);
                }
            }
            let owned = Owned::new(&merges, false);
            let tables = owned.tables().open().unwrap();
            let ids = encode(&tables, text.as_bytes()).unwrap();
            prop_assert_eq!(&ids, &naive(&merges, text.as_bytes()));
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| tables.token(id).unwrap()).copied().collect();
            prop_assert_eq!(bytes, text.as_bytes());
        }
    }
}
