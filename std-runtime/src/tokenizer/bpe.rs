//! A byte-level BPE vocabulary that owns its tables.

use super::Scratch;
use samara_core::tokenizer::bpe::NONE;
use samara_core::tokenizer::tables::{MAX_MERGES, MAX_TOKENS, TableError, fill_pairs, fill_words, hash_len};
use samara_core::tokenizer::{BpeScratch, BpeTables, Classes, EncodeError, Split, Symbol};
use std::collections::HashMap;

/// The tables of a vocabulary; see [`BpeTables`].
#[derive(Clone, Debug)]
pub struct Bpe {
    split: Split,
    ignore_merges: bool,
    byte_tokens: Vec<u32>,
    token_offsets: Vec<u32>,
    token_bytes: Vec<u8>,
    merges: Vec<(u32, u32)>,
    merged: Vec<u32>,
    pairs: Vec<u64>,
    words: Vec<u64>,
}

/// Why tokens and merges do not form a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BpeError {
    /// More than fits the tables.
    #[error("{tokens} tokens of {bytes} bytes in all and {merges} merges; at most {MAX_TOKENS}, 2^32 - 1 and {MAX_MERGES} fit")]
    TooLarge {
        /// Number of tokens.
        tokens: usize,
        /// Bytes of all tokens.
        bytes: usize,
        /// Number of merges.
        merges: usize,
    },
    /// Two ids for the same bytes.
    #[error("tokens {first} and {second} are the same bytes")]
    SameBytes {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// A merge of an id that does not exist.
    #[error("merge {rank} uses token id {id}, which is outside the vocabulary")]
    MergeId {
        /// Its place in the list.
        rank: usize,
        /// The id.
        id: u32,
    },
    /// A merge whose result is no token.
    #[error("merge {rank} makes a token that is not in the vocabulary")]
    NoResult {
        /// Its place in the list.
        rank: usize,
    },
    /// Entries chosen to collide.
    #[error(
        "entry {index} finds no free slot in the hash table `{table}`: too many collisions, which do not occur in trained vocabularies"
    )]
    Crowded {
        /// Which table.
        table: &'static str,
        /// Rank of the merge or id of the token.
        index: usize,
    },
    /// A pair that is merged twice.
    #[error("merge {rank} repeats an earlier one")]
    DuplicateMerge {
        /// Its place in the list.
        rank: usize,
    },
}

impl Bpe {
    /// A vocabulary from its tokens by id and its merges (left id, right id) by rank.
    ///
    /// `is_added` marks the tokens that merges never produce (special tokens); they may have the bytes of another token. `ignore_merges`: a word that
    /// is a token is encoded as that token, whatever the merges give (Hugging Face's name).
    ///
    /// # Errors
    /// Tokens or merges that do not fit each other.
    pub fn new(
        tokens: &[impl AsRef<[u8]>],
        merges: Vec<(u32, u32)>,
        split: Split,
        ignore_merges: bool,
        is_added: impl Fn(u32) -> bool,
    ) -> Result<Self, BpeError> {
        let bytes: usize = tokens.iter().map(|token| token.as_ref().len()).sum();
        if tokens.len() >= MAX_TOKENS || merges.len() > MAX_MERGES || bytes >= NONE as usize {
            return Err(BpeError::TooLarge { tokens: tokens.len(), bytes, merges: merges.len() });
        }
        let ids = ids_by_bytes(tokens, &is_added)?;
        let mut bpe = Self {
            split,
            ignore_merges,
            byte_tokens: (0..=255).map(|byte: u8| ids.get(&[byte][..]).copied().unwrap_or(NONE)).collect(),
            token_offsets: Vec::with_capacity(tokens.len() + 1),
            token_bytes: Vec::with_capacity(bytes),
            merged: results_of(tokens, &merges, &ids)?,
            merges,
            pairs: Vec::new(),
            words: Vec::new(),
        };
        bpe.token_offsets.push(0);
        for token in tokens {
            bpe.token_bytes.extend_from_slice(token.as_ref());
            bpe.token_offsets.push(bpe.token_bytes.len() as u32);
        }
        bpe.fill_hash_tables(&is_added)?;
        Ok(bpe)
    }

    /// The tables, lent.
    pub fn tables(&self) -> BpeTables<'_> {
        BpeTables {
            split: self.split,
            classes: Classes::UNICODE,
            byte_tokens: &self.byte_tokens,
            token_offsets: &self.token_offsets,
            token_bytes: &self.token_bytes,
            merged: &self.merged,
            pairs: &self.pairs,
            words: &self.words,
        }
    }

    /// Forgets the tokens from id `len` on, which no merge makes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.token_offsets.truncate(len + 1);
        self.token_bytes.truncate(self.token_offsets.last().map_or(0, |&end| end as usize));
    }

    /// Left and right id of each merge by rank.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// Whether a word that is a token is encoded as that token, whatever the merges give.
    pub fn ignore_merges(&self) -> bool {
        self.ignore_merges
    }

    /// Appends the ids of `text`; the error is a byte without a token, with its position.
    pub(super) fn encode_into(&self, text: &[u8], scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<(), (u8, usize)> {
        let tables = self.tables();
        let mut at = 0;
        for word in self.split.words(text) {
            let mut lent = scratch.lend(word.len());
            match tables.encode_word(word, &mut lent, &mut |id| ids.push(id)) {
                Err(EncodeError::MissingByte { byte, at_bytes }) => return Err((byte, at + at_bytes)),
                Err(EncodeError::Scratch { .. }) => unreachable!("the scratch was lent for this word"),
                Ok(()) => at += word.len(),
            }
        }
        Ok(())
    }

    fn fill_hash_tables(&mut self, is_added: &impl Fn(u32) -> bool) -> Result<(), BpeError> {
        let mut pairs = vec![0; hash_len(self.merges.len())];
        fill_pairs(self.merges.iter().copied(), &mut pairs).map_err(table_error)?;
        self.pairs = pairs;
        let longest = self.token_offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0);
        let mut scratch = Scratch::default();
        let mut words = vec![0; hash_len(self.tables().vocab_size())];
        let unmerged = |id| self.ignore_merges && !is_added(id);
        fill_words(&self.tables(), unmerged, &mut scratch.lend(longest), &mut words).map_err(table_error)?;
        self.words = words;
        Ok(())
    }
}

fn table_error(error: TableError) -> BpeError {
    match error {
        TableError::DuplicateMerge { rank } => BpeError::DuplicateMerge { rank },
        TableError::Crowded { table, index } => BpeError::Crowded { table, index },
        other => unreachable!("ids, lengths and scratch were made to fit: {other}"),
    }
}

impl Scratch {
    fn lend(&mut self, word_bytes: usize) -> BpeScratch<'_> {
        let heap_len = BpeScratch::heap_len(word_bytes);
        if self.symbols.len() < word_bytes {
            self.symbols.resize(word_bytes.next_power_of_two(), Symbol::default());
        }
        if self.heap.len() < heap_len {
            self.heap.resize(heap_len.next_power_of_two(), 0);
        }
        BpeScratch { symbols: &mut self.symbols, heap: &mut self.heap }
    }
}

/// Ids of the tokens; of tokens with equal bytes, one of the model has precedence over an added one.
fn ids_by_bytes<T: AsRef<[u8]>>(tokens: &[T], is_added: impl Fn(u32) -> bool) -> Result<HashMap<&[u8], u32>, BpeError> {
    let mut found: HashMap<&[u8], u32> = HashMap::with_capacity(tokens.len());
    let (added, plain): (Vec<u32>, Vec<u32>) = (0..tokens.len() as u32).partition(|&id| is_added(id));
    for second in plain {
        if let Some(first) = found.insert(tokens[second as usize].as_ref(), second) {
            return Err(BpeError::SameBytes { first, second });
        }
    }
    for id in added {
        found.entry(tokens[id as usize].as_ref()).or_insert(id);
    }
    Ok(found)
}

/// The token that each merge makes.
fn results_of(tokens: &[impl AsRef<[u8]>], merges: &[(u32, u32)], ids: &HashMap<&[u8], u32>) -> Result<Vec<u32>, BpeError> {
    let token = |rank, id: u32| tokens.get(id as usize).map(AsRef::as_ref).ok_or(BpeError::MergeId { rank, id });
    let result = |(rank, &(left, right)): (usize, &(u32, u32))| {
        let bytes: Vec<u8> = [token(rank, left)?, token(rank, right)?].concat();
        ids.get(&bytes[..]).copied().ok_or(BpeError::NoResult { rank })
    };
    merges.iter().enumerate().map(result).collect()
}
