//! The merges of byte-pair encoding over counted words (Sennrich et al. 2016, algorithm 1), with incremental pair counts.

use crate::stop::{Interrupted, Stop};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Left id, right id in 32 + 32 bits: ordered as the tie-break wants.
type Pair = u64;

/// The words while they are merged.
pub(super) struct Merger {
    words: Vec<(Vec<u32>, i64)>,
    pairs: HashMap<Pair, PairUse, BuildHasherDefault<PairHasher>>,
    /// Count and pair; a count may be out of date, but the highest of a pair is never too low.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

#[derive(Default)]
struct PairUse {
    count: i64,
    /// Words in which the pair has occurred.
    words: Vec<u32>,
}

impl Merger {
    /// Words as their first symbols, with their counts.
    pub(super) fn new(words: Vec<(Vec<u32>, i64)>, stop: &Stop) -> Result<Self, Interrupted> {
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

    /// Merges the pair with the highest count, ties going to the lowest left id and then the lowest right id, while a pair occurs `min_count` times and
    /// `name` gives an id to the token of a left and a right one. A name may be that of an earlier token with the same text.
    pub(super) fn run(
        mut self,
        min_count: u64,
        stop: &Stop,
        mut name: impl FnMut(u32, u32) -> Option<u32>,
    ) -> Result<(), Interrupted> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            stop.check()?;
            let current = self.pairs.get(&pair).map_or(0, |uses| uses.count);
            if count != current {
                self.queue.push((current, Reverse(pair)));
            } else if count < 1 || (count as u64) < min_count {
                break;
            } else {
                let Some(id) = name((pair >> 32) as u32, pair as u32) else { break };
                self.merge(pair, id, stop)?;
            }
        }
        Ok(())
    }

    /// Replaces every occurrence of `pair` by `id` and updates the counts.
    fn merge(&mut self, pair: Pair, id: u32, stop: &Stop) -> Result<(), Interrupted> {
        let uses = self.pairs.remove(&pair).unwrap_or_default();
        let mut fresh = HashSet::<Pair, BuildHasherDefault<PairHasher>>::default();
        for (done, index) in uses.words.into_iter().enumerate() {
            check_at(done, stop)?;
            let (symbols, count) = &mut self.words[index as usize];
            merge_word(symbols, pair, id, |changed, by| {
                if by > 0 {
                    add_pair(&mut self.pairs, changed, *count, index);
                    fresh.insert(changed);
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

/// Adds an occurrence.
fn add_pair(pairs: &mut HashMap<Pair, PairUse, BuildHasherDefault<PairHasher>>, pair: Pair, count: i64, word: u32) {
    let uses = pairs.entry(pair).or_default();
    uses.count += count;
    if uses.words.last() != Some(&word) {
        uses.words.push(word);
    }
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
