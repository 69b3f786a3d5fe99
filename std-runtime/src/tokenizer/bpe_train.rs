//! Training of byte-level BPE.

use super::merger::Merger;
use super::{AddedToken, Bpe, BpeError, EncodeError, Model, PartsError, Tokenizer, byte_chars};
use crate::error::{Failure, Kind};
use crate::stop::{Interrupted, Stop};
use samara_core::tokenizer::Split;
use std::collections::HashMap;

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
    /// Fewer ids than special tokens and characters.
    #[error(
        "a vocabulary of {vocab_size} is too small for 5 special tokens and the {characters} characters that begin or continue words; use at least {}",
        5 + characters
    )]
    Alphabet {
        /// The requested size.
        vocab_size: usize,
        /// Characters, counted twice where they begin words and continue others.
        characters: usize,
    },
    /// Text that cannot be cut into words.
    #[error(transparent)]
    Words(#[from] EncodeError),
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
            Self::VocabSize { .. } | Self::Alphabet { .. } => Kind::Usage,
            Self::Interrupted(error) => error.kind(),
            Self::Special(_) | Self::Words(_) | Self::Bpe(_) => Kind::Data,
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
        let (wanted, mut merges) = (self.options.vocab_size - self.options.specials.len(), Vec::new());
        Merger::new(symbols(&self.words, &order), &self.stop)?.run(self.options.min_count, &self.stop, |left, right| {
            let id = tokens.len();
            if id >= wanted {
                return None;
            }
            tokens.push([&tokens[left as usize][..], &tokens[right as usize]].concat());
            merges.push((left, right));
            Some(id as u32)
        })?;
        let first_special = tokens.len() as u32;
        let specials = (first_special..).zip(self.options.specials);
        let added: Vec<AddedToken> = specials.map(|(id, text)| AddedToken::special(id, &text)).collect();
        tokens.extend(added.iter().map(|token| token.text.clone().into_bytes()));
        let bpe = Bpe::new(&tokens, merges, self.options.split, false, |id| id >= first_special)?;
        Ok(Tokenizer::new(Model::Bpe(bpe), added)?)
    }
}

/// Words of more than one byte as ids, with their counts.
fn symbols(words: &HashMap<Box<[u8]>, u64>, order: &[u8]) -> Vec<(Vec<u32>, i64)> {
    let mut ids = [0; 256];
    order.iter().enumerate().for_each(|(id, &byte)| ids[usize::from(byte)] = id as u32);
    let word = |word: &[u8]| word.iter().map(|&byte| ids[usize::from(byte)]).collect();
    words.iter().filter(|(text, _)| text.len() > 1).map(|(text, &count)| (word(text), count as i64)).collect()
}
