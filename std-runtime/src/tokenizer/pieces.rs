//! BPE over characters: the vocabulary is text, not bytes (GPT-1's words with `</w>` at their ends, SentencePiece's with ▁ before them).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A vocabulary of pieces of text with its merges.
#[derive(Clone, Debug)]
pub struct PieceBpe {
    pub(super) ids: HashMap<Box<str>, u32>,
    /// The decoded text of each token.
    pub(super) texts: Vec<Vec<u8>>,
    /// Rank and result of each pair.
    pub(super) merges: HashMap<(u32, u32), (u32, u32)>,
    pub(super) options: PieceOptions,
}

/// How words become pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct PieceOptions {
    /// The token for characters without one.
    pub(super) unknown: Option<u32>,
    /// Unknown characters that touch are one token.
    pub(super) fuse_unknown: bool,
    /// Tokens of bytes, for characters without a token.
    pub(super) byte_tokens: Option<Vec<Option<u32>>>,
    /// Written before every character but the first of a word.
    pub(super) prefix: String,
    /// Written after the last character of a word.
    pub(super) suffix: String,
    /// A word that is a token is that token.
    pub(super) ignore_merges: bool,
    /// Spaces that decoded text loses at its beginning.
    pub(super) trim_start: usize,
    /// Whether decoded text loses the space at its end.
    pub(super) trim_end: bool,
    /// Whether no token has ▁ after another character: then the text before a ▁ and the word that begins with it are merged separately.
    pub(super) words: bool,
}

/// Pairs that can be merged: rank, place, ids; the lowest first.
type Queue = BinaryHeap<Reverse<(u32, usize, (u32, u32))>>;

/// A symbol of a word during merging.
struct Symbol {
    id: u32,
    previous: Option<usize>,
    next: Option<usize>,
    merged: bool,
}

impl PieceBpe {
    /// Vocabulary size.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Appends the ids of a word; the error is a character without a token.
    pub(super) fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), char> {
        if let Some(&id) = self.ids.get(word).filter(|_| self.options.ignore_merges) {
            ids.push(id);
            return Ok(());
        }
        let mut rest = word;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(if self.options.words { first_word(rest) } else { rest.len() });
            ids.extend(self.merge(self.characters(now)?));
            rest = later;
        }
        Ok(())
    }

    /// The tokens of the characters of a word.
    fn characters(&self, word: &str) -> Result<Vec<u32>, char> {
        let (options, mut ids) = (&self.options, Vec::with_capacity(word.len()));
        let (mut written, mut after_unknown) = (String::new(), false);
        for (at, char) in word.char_indices() {
            written.clear();
            if at > 0 {
                written.push_str(&options.prefix);
            }
            written.push(char);
            if at + char.len_utf8() == word.len() {
                written.push_str(&options.suffix);
            }
            let bytes = || -> Option<Vec<u32>> {
                let tokens = options.byte_tokens.as_ref()?;
                written.bytes().map(|byte| *tokens.get(usize::from(byte))?).collect()
            };
            let is_unknown = if let Some(&id) = self.ids.get(written.as_str()) {
                ids.push(id);
                false
            } else if let Some(bytes) = bytes() {
                ids.extend(bytes);
                false
            } else {
                let unknown = options.unknown.ok_or(char)?;
                if !(after_unknown && options.fuse_unknown) {
                    ids.push(unknown);
                }
                true
            };
            after_unknown = is_unknown;
        }
        Ok(ids)
    }

    /// Merges the pair of lowest rank, leftmost first, until no pair has a rank.
    fn merge(&self, ids: Vec<u32>) -> impl Iterator<Item = u32> {
        let count = ids.len();
        let symbol = |(at, id): (usize, u32)| {
            let next = Some(at + 1).filter(|&next| next < count);
            Symbol { id, previous: at.checked_sub(1), next, merged: false }
        };
        let mut symbols: Vec<Symbol> = ids.into_iter().enumerate().map(symbol).collect();
        let mut queue = Queue::new();
        (0..count).for_each(|at| self.offer(&symbols, at, &mut queue));
        while let Some(Reverse((_, at, pair))) = queue.pop() {
            let Some((next, found)) = pair_at(&symbols, at).filter(|(_, found)| *found == pair) else { continue };
            let Some(&(_, id)) = self.merges.get(&found) else { continue };
            let after = symbols[next].next;
            symbols[next].merged = true;
            symbols[at].id = id;
            symbols[at].next = after;
            if let Some(after) = after {
                symbols[after].previous = Some(at);
            }
            if let Some(previous) = symbols[at].previous {
                self.offer(&symbols, previous, &mut queue);
            }
            self.offer(&symbols, at, &mut queue);
        }
        symbols.into_iter().filter(|symbol| !symbol.merged).map(|symbol| symbol.id)
    }

    /// Queues the pair that begins at `at`, if it can be merged.
    fn offer(&self, symbols: &[Symbol], at: usize, queue: &mut Queue) {
        let pair = pair_at(symbols, at).map(|(_, pair)| pair);
        if let Some((pair, &(rank, _))) = pair.and_then(|pair| Some((pair, self.merges.get(&pair)?))) {
            queue.push(Reverse((rank, at, pair)));
        }
    }
}

/// SentencePiece's representation of a space.
pub(super) const SPACE: char = '\u{2581}';

/// The end of the first run of ▁ with the text after it.
fn first_word(text: &str) -> usize {
    let spaces = text.len() - text.trim_start_matches(SPACE).len();
    text[spaces..].find(SPACE).map_or(text.len(), |at| spaces + at)
}

/// The place of the symbol after that at `at`, and the ids of both.
fn pair_at(symbols: &[Symbol], at: usize) -> Option<(usize, (u32, u32))> {
    let symbol = symbols.get(at).filter(|symbol| !symbol.merged)?;
    let next = symbol.next?;
    Some((next, (symbol.id, symbols.get(next)?.id)))
}
