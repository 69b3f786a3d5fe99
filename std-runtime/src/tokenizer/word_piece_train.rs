//! Training of a WordPiece vocabulary: merges of byte-pair encoding within words, whose later tokens are written with "##".

use super::bert::{self, Letters, SPECIALS};
use super::load::TOKENIZER_FILE;
use super::merger::Merger;
use super::{EncodeError, Tokenizer, TrainError, steps};
use crate::stop::Stop;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Written before a token within a word.
const PREFIX: &str = "##";
/// The most frequent characters are tokens; words are counted without others.
const MOST_CHARACTERS: usize = 1000;

/// The options of a training.
#[derive(Clone, Copy, Debug)]
pub struct WordPieceOptions {
    /// Vocabulary size: special tokens, characters that begin words, characters within words, merges.
    pub vocab_size: usize,
    /// A pair that occurs less often is not merged.
    pub min_count: u64,
}

impl Default for WordPieceOptions {
    fn default() -> Self {
        Self { vocab_size: 4096, min_count: 2 }
    }
}

/// Counts the words of a corpus, in lower case and without accents as BERT's uncased models read them, then trains on the counts.
///
/// Ids are those of `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, of the characters in the order of code points, of the characters within words in that order, and of
/// the merges, whose order is that of [`BpeTrainer`](super::BpeTrainer). Hugging Face's `WordPieceTrainer` merges by the same rule, but numbers the characters
/// within words by chance.
#[derive(Clone, Debug)]
pub struct WordPieceTrainer {
    options: WordPieceOptions,
    /// The steps before the model, with a vocabulary of special tokens.
    shell: Tokenizer,
    words: HashMap<Box<str>, u64>,
    stop: Stop,
}

impl WordPieceTrainer {
    /// A trainer without counts.
    pub fn new(options: WordPieceOptions) -> Self {
        let shell = made(&SPECIALS.map(str::to_owned));
        Self { options, shell, words: HashMap::new(), stop: Stop::new() }
    }

    /// The same, ended by a signal.
    pub fn until(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Counts the words of one document. A document may come in parts, cut at white space.
    ///
    /// # Errors
    /// A text that cannot be cut into words.
    pub fn add(&mut self, document: &str) -> Result<(), EncodeError> {
        let Self { shell, words, .. } = self;
        let text = shell.text.normalize(document)?;
        steps::run(&shell.text.pieces, &text, true, &mut |word| {
            let word = String::from_utf8_lossy(word);
            match words.get_mut(&*word) {
                Some(count) => *count += 1,
                None => drop(words.insert(word.into(), 1)),
            }
            Ok(())
        })
    }

    /// Trains on the counts.
    ///
    /// # Errors
    /// A signal, or a vocabulary that is too small for the characters of the text.
    pub fn train(self) -> Result<Tokenizer, TrainError> {
        let mut vocabulary = Tokens::default();
        vocabulary.extend(SPECIALS.iter().map(|text| (*text).to_owned()));
        let alphabet = alphabet(&self.words);
        vocabulary.extend(alphabet.keys().map(char::to_string));
        let within = self.words.keys().flat_map(|word| word.chars().filter(|c| alphabet.contains_key(c)).skip(1));
        let within: BTreeSet<char> = within.collect();
        vocabulary.extend(within.iter().map(|c| format!("{PREFIX}{c}")));
        let characters = vocabulary.texts.len() - SPECIALS.len();
        let vocab_size = self.options.vocab_size;
        if vocabulary.texts.len() > vocab_size {
            return Err(TrainError::Alphabet { vocab_size, characters });
        }
        let mut words: Vec<(Vec<u32>, i64)> = Vec::with_capacity(self.words.len());
        for (word, &count) in &self.words {
            let known = word.chars().filter(|c| alphabet.contains_key(c)).enumerate();
            let text = |(place, c): (usize, char)| if place == 0 { c.to_string() } else { format!("{PREFIX}{c}") };
            words.push((known.map(|at| vocabulary.id(text(at))).collect(), count as i64));
        }
        Merger::new(words, &self.stop)?.run(self.options.min_count, &self.stop, |left, right| {
            let merged = vocabulary.merged(left, right);
            (vocabulary.texts.len() < vocab_size).then(|| vocabulary.id(merged))
        })?;
        Ok(made(&vocabulary.texts))
    }
}

/// Tokens while they are found.
#[derive(Default)]
struct Tokens {
    texts: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Tokens {
    /// The id of a token, which is added where it is not there.
    fn id(&mut self, text: String) -> u32 {
        let Self { texts, ids } = self;
        *ids.entry(text).or_insert_with_key(|text| {
            texts.push(text.clone());
            texts.len() as u32 - 1
        })
    }

    fn extend(&mut self, texts: impl Iterator<Item = String>) {
        for text in texts {
            self.id(text);
        }
    }

    /// The text of two tokens that follow each other.
    fn merged(&self, left: u32, right: u32) -> String {
        let text = |id: u32| self.texts.get(id as usize).map_or("", String::as_str);
        format!("{}{}", text(left), text(right).strip_prefix(PREFIX).unwrap_or(text(right)))
    }
}

/// The most frequent characters in the order of code points, with their counts.
fn alphabet(words: &HashMap<Box<str>, u64>) -> BTreeMap<char, u64> {
    let mut counts = BTreeMap::new();
    for (word, &count) in words {
        word.chars().for_each(|c| *counts.entry(c).or_default() += count);
    }
    if counts.len() > MOST_CHARACTERS {
        let mut ordered: Vec<(char, u64)> = counts.into_iter().collect();
        ordered.sort_by_key(|&(c, count)| (Reverse(count), c));
        ordered.truncate(MOST_CHARACTERS);
        counts = ordered.into_iter().collect();
    }
    counts
}

/// BERT's tokenizer of a vocabulary that has its special tokens.
fn made(tokens: &[String]) -> Tokenizer {
    let json = bert::file(tokens, Letters::UNCASED);
    let text = format!("{json:#}\n");
    Tokenizer::from_json(text.as_bytes(), Path::new(TOKENIZER_FILE)).expect("a vocabulary with special tokens")
}
