//! Training of byte-level BPE (Sennrich et al. 2016, algorithm 1), with incremental pair counts.

use super::{AddedToken, Bpe, BpeError, Model, PartsError, Tokenizer, byte_chars};
use crate::error::{Failure, Kind};
use crate::stop::{Interrupted, Stop};
use samara_core::tokenizer::Split;
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// The options of a training.
#[derive(Clone, Debug)]
pub struct BpeTrainOptions {
    /// Vocabulary size: 256 bytes, merges, special tokens. Text with too few different pairs gives fewer.
    pub vocab_size: usize,
    /// A pair that occurs less often is not merged.
    pub min_count: u64,
    /// Special tokens; they get the last ids (as in GPT-2).
    pub specials: Vec<String>,
    /// How text is cut into words.
    pub split: Split,
}

impl Default for BpeTrainOptions {
    fn default() -> Self {
        Self { vocab_size: 4096, min_count: 2, specials: vec![super::END_OF_TEXT.to_owned()], split: Split::Gpt2 }
    }
}

/// Counts the words of a corpus, then trains on the counts.
///
/// Every step merges the pair with the highest count; ties go to the lowest left id, then the lowest right id (the rule of Hugging Face `tokenizers`,
/// whose `BpeTrainer` finds the same merges; only the ids of the special tokens differ). The 256 bytes come first, in the order of the characters by
/// which GPT-2's files represent them.
#[derive(Clone, Debug)]
pub struct BpeTrainer {
    options: BpeTrainOptions,
    words: HashMap<Box<[u8]>, u64>,
    stop: Stop,
}

/// Why training failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// Fewer ids than bytes and special tokens.
    #[error("a vocabulary of {vocab_size} is too small for 256 bytes and {specials} special tokens; use at least {}", 256 + specials)]
    VocabSize {
        /// The requested size.
        vocab_size: usize,
        /// Number of special tokens.
        specials: usize,
    },
    /// Special tokens that cannot be.
    #[error(transparent)]
    Special(#[from] PartsError),
    /// A signal came before all merges were found.
    #[error("{0} while the tokenizer was trained: nothing was written; repeat the command to start again")]
    Interrupted(#[from] Interrupted),
    /// Too much for the tables.
    #[error(transparent)]
    Bpe(#[from] BpeError),
}

impl Failure for TrainError {
    fn kind(&self) -> Kind {
        match self {
            Self::VocabSize { .. } => Kind::Usage,
            Self::Interrupted(error) => error.kind(),
            Self::Special(_) | Self::Bpe(_) => Kind::Data,
        }
    }
}

impl BpeTrainer {
    /// A trainer without counts.
    ///
    /// # Errors
    /// A vocabulary that is too small for all bytes and the special tokens.
    pub fn new(options: BpeTrainOptions) -> Result<Self, TrainError> {
        let specials = options.specials.len();
        if options.vocab_size < 256 + specials {
            return Err(TrainError::VocabSize { vocab_size: options.vocab_size, specials });
        }
        Ok(Self { options, words: HashMap::new(), stop: Stop::new() })
    }

    /// The same, ended by a signal.
    pub fn until(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Counts the words of one document. A document may come in parts, cut at [`samara_core::tokenizer::pretokenize::last_cut`].
    pub fn add(&mut self, document: &[u8]) {
        for word in self.options.split.words(document) {
            match self.words.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.words.insert(word.into(), 1)),
            }
        }
    }

    /// Trains on the counts.
    ///
    /// # Errors
    /// A signal, special tokens that are empty or there twice, or more than the tables hold.
    pub fn train(self) -> Result<Tokenizer, TrainError> {
        let order = byte_chars::in_order();
        let mut tokens: Vec<Vec<u8>> = order.iter().map(|&byte| vec![byte]).collect();
        let merges_wanted = self.options.vocab_size - self.options.specials.len() - tokens.len();
        let merges = Merger::new(self.words, &order, &self.stop)?.run(merges_wanted, self.options.min_count, &self.stop)?;
        for &(left, right) in &merges {
            let merged = [&tokens[left as usize][..], &tokens[right as usize]].concat();
            tokens.push(merged);
        }
        let first_special = tokens.len() as u32;
        let specials = (first_special..).zip(self.options.specials);
        let added: Vec<AddedToken> = specials.map(|(id, text)| AddedToken::special(id, &text)).collect();
        tokens.extend(added.iter().map(|token| token.text.clone().into_bytes()));
        let bpe = Bpe::new(&tokens, merges, self.options.split, false, |id| id >= first_special)?;
        Ok(Tokenizer::new(Model::Bpe(bpe), added)?)
    }
}

/// Left id, right id in 32 + 32 bits: ordered as the tie-break wants.
type Pair = u64;

/// The words while they are merged.
struct Merger {
    words: Vec<(Vec<u32>, i64)>,
    pairs: HashMap<Pair, PairUse, BuildHasherDefault<PairHasher>>,
    /// Count and pair; a count may be out of date, but only too high.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

#[derive(Default)]
struct PairUse {
    count: i64,
    /// Words in which the pair has occurred. All occurrences of a pair arise in one step: the one that creates its newer token.
    words: Vec<u32>,
}

impl Merger {
    fn new(counts: HashMap<Box<[u8]>, u64>, order: &[u8], stop: &Stop) -> Result<Self, Interrupted> {
        let mut ids = [0; 256];
        order.iter().enumerate().for_each(|(id, &byte)| ids[usize::from(byte)] = id as u32);
        let symbols = |word: &[u8]| word.iter().map(|&byte| ids[usize::from(byte)]).collect();
        let words =
            counts.iter().filter(|(word, _)| word.len() > 1).map(|(word, &count)| (symbols(word), count as i64)).collect();
        let mut merger = Self { words, pairs: HashMap::default(), queue: BinaryHeap::new() };
        for (index, (symbols, count)) in merger.words.iter().enumerate() {
            check_at(index, stop)?;
            for two in symbols.windows(2) {
                add_pair(&mut merger.pairs, pair_of(two[0], two[1]), *count, index as u32);
            }
        }
        merger.queue = merger.pairs.iter().map(|(&pair, uses)| (uses.count, Reverse(pair))).collect();
        Ok(merger)
    }

    fn run(mut self, merges_wanted: usize, min_count: u64, stop: &Stop) -> Result<Vec<(u32, u32)>, Interrupted> {
        let mut merges = Vec::new();
        while merges.len() < merges_wanted
            && let Some((count, Reverse(pair))) = self.queue.pop()
        {
            stop.check()?;
            let current = self.pairs.get(&pair).map_or(0, |uses| uses.count);
            if count != current {
                self.queue.push((current, Reverse(pair)));
            } else if count < 1 || (count as u64) < min_count {
                break;
            } else {
                self.merge(pair, 256 + merges.len() as u32, stop)?;
                merges.push(((pair >> 32) as u32, pair as u32));
            }
        }
        Ok(merges)
    }

    /// Replaces every occurrence of `pair` by `id` and updates the counts.
    fn merge(&mut self, pair: Pair, id: u32, stop: &Stop) -> Result<(), Interrupted> {
        let uses = self.pairs.remove(&pair).unwrap_or_default();
        let mut fresh = Vec::new();
        for (done, index) in uses.words.into_iter().enumerate() {
            check_at(done, stop)?;
            let (symbols, count) = &mut self.words[index as usize];
            merge_word(symbols, pair, id, |changed, by| {
                if by > 0 {
                    if add_pair(&mut self.pairs, changed, *count, index) {
                        fresh.push(changed);
                    }
                } else if let Some(uses) = self.pairs.get_mut(&changed) {
                    uses.count -= *count;
                }
            });
        }
        let pairs = &self.pairs;
        self.queue.extend(fresh.into_iter().filter_map(|pair| Some((pairs.get(&pair)?.count, Reverse(pair)))));
        Ok(())
    }
}

/// Asks for a stop once in so many words.
fn check_at(word: usize, stop: &Stop) -> Result<(), Interrupted> {
    const EVERY: usize = 4096;
    if word.is_multiple_of(EVERY) { stop.check() } else { Ok(()) }
}

/// Merges a word from left to right in place and reports how its pairs change, except for `pair` itself.
fn merge_word(symbols: &mut Vec<u32>, pair: Pair, id: u32, mut change: impl FnMut(Pair, i32)) {
    let (mut read, mut written) = (0, 0);
    while read < symbols.len() {
        if read + 1 < symbols.len() && pair_of(symbols[read], symbols[read + 1]) == pair {
            if written > 0 {
                change(pair_of(symbols[written - 1], symbols[read]), -1);
                change(pair_of(symbols[written - 1], id), 1);
            }
            if read + 2 < symbols.len() {
                change(pair_of(symbols[read + 1], symbols[read + 2]), -1);
                change(pair_of(id, symbols[read + 2]), 1);
            }
            symbols[written] = id;
            read += 2;
        } else {
            symbols[written] = symbols[read];
            read += 1;
        }
        written += 1;
    }
    symbols.truncate(written);
}

/// Adds an occurrence; true if the pair is new.
fn add_pair(pairs: &mut HashMap<Pair, PairUse, BuildHasherDefault<PairHasher>>, pair: Pair, count: i64, word: u32) -> bool {
    let entry = pairs.entry(pair);
    let is_new = matches!(entry, Entry::Vacant(_));
    let uses = entry.or_default();
    uses.count += count;
    if uses.words.last() != Some(&word) {
        uses.words.push(word);
    }
    is_new
}

fn pair_of(left: u32, right: u32) -> Pair {
    u64::from(left) << 32 | u64::from(right)
}

/// One multiplication per pair: the keys are not adversarial.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, value: u64) {
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}
