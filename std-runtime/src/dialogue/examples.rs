//! The examples of a training on dialogues: rows as token ids, and as batches of rows of equal length.

use std::sync::Arc;

use thiserror::Error;

use super::encode::{EncodeError, Encoded, Encoder};
use super::packing::best_fit;
use super::read::Rows;
use super::row::Row;
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch, IGNORE};
use crate::data::options::BadRow;
use crate::error::{Failure, Kind};

/// Why a row is no example.
#[derive(Debug, Error)]
pub enum ExampleError {
    /// It has no ids.
    #[error("{at}: {source}")]
    Encode {
        /// Its file and line.
        at: String,
        /// Why.
        source: EncodeError,
    },
    /// Nothing of it is to be learnt.
    #[error(
        "{at}: no token to learn is left: the first of them would be token {first} of {tokens}, and {max_length} are kept; raise \
         dialogue.max_length (and train.block_size), shorten the prompt, or leave such rows out with data.on_bad_row=skip"
    )]
    NothingToLearn {
        /// Its file and line.
        at: String,
        /// The place of the first token to learn, from 1.
        first: usize,
        /// Tokens of the row.
        tokens: usize,
        /// Tokens that are kept.
        max_length: usize,
    },
    /// All of its answers say that they are not learnt.
    #[error(
        "{at}: every turn of the assistant is left out of the loss (\"weight\": 0, or \"train\": false), so that nothing is learnt; mend the row, or \
         leave such rows out with data.on_bad_row=skip"
    )]
    LeftOut {
        /// Its file and line.
        at: String,
    },
    /// No row keeps the token that ends its answer.
    #[error(
        "{path}: none of {rows} rows keeps the token that ends its answer within dialogue.max_length = {max_length} tokens, so that the model would \
         never stop; raise it (and train.block_size), or shorten the rows"
    )]
    NoStop {
        /// The file.
        path: String,
        /// Its rows.
        rows: usize,
        /// Tokens that are kept.
        max_length: usize,
    },
    /// Nothing is compared.
    #[error(
        "{path}: in all {rows} comparisons the answers are the same tokens, so that there is nothing to learn: give answers that differ, or raise \
         dialogue.max_length if they were cut before they do"
    )]
    AllEqual {
        /// The file.
        path: String,
        /// Its comparisons.
        rows: usize,
    },
    /// All rows are left out.
    #[error("{path}: no example is left: all {skipped} rows are left out, the first: {first}")]
    None {
        /// The file.
        path: String,
        /// Rows left out.
        skipped: u64,
        /// What is wrong with the first.
        first: String,
    },
}

impl Failure for ExampleError {
    fn kind(&self) -> Kind {
        match self {
            Self::Encode { source, .. } => source.kind(),
            Self::NothingToLearn { .. }
            | Self::LeftOut { .. }
            | Self::AllEqual { .. }
            | Self::NoStop { .. }
            | Self::None { .. } => Kind::Data,
        }
    }
}

/// Dialogues as token ids.
#[derive(Debug, Default)]
pub struct Examples {
    /// One for every row that is used.
    pub encoded: Arc<Vec<Encoded>>,
    /// How many were cut.
    pub truncated: usize,
    /// How many of those lost the token that ends the answer.
    pub endless: usize,
    /// How many have an answer of white space, or of nothing.
    pub empty: usize,
    /// How many rows are left out because nothing of them is to be learnt, or because they have no ids.
    pub skipped: u64,
    /// What is wrong with the first of them.
    pub first_skipped: Option<String>,
}

impl Examples {
    /// Encodes the dialogues of a file, of each at most `max_length` tokens from its start.
    ///
    /// # Errors
    /// A row that cannot be used, unless such rows are left out; no row that ends.
    pub fn of(rows: &Rows, encoder: &Encoder, max_length: usize, bad_row: BadRow) -> Result<Self, ExampleError> {
        let mut examples = Self::default();
        for (i, placed) in rows.rows.iter().enumerate() {
            let Row::Dialogue { turns } = &placed.row else { continue };
            let encoded = encoder.encode_dialogue(turns).map_err(|source| ExampleError::Encode { at: rows.at(i), source });
            match encoded.and_then(|encoded| examples.push(encoded, encoder, max_length, || rows.at(i))) {
                Ok(()) => examples.empty += usize::from(placed.row.has_empty_answer()),
                Err(error) if bad_row == BadRow::Skip => {
                    examples.skipped += 1;
                    examples.first_skipped.get_or_insert(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        let path = rows.path.display().to_string();
        if examples.encoded.is_empty() {
            let first = examples.first_skipped.unwrap_or_default();
            return Err(ExampleError::None { path, skipped: examples.skipped, first });
        }
        if examples.endless == examples.encoded.len() {
            return Err(ExampleError::NoStop { path, rows: examples.endless, max_length });
        }
        Ok(examples)
    }

    fn push(
        &mut self,
        mut encoded: Encoded,
        encoder: &Encoder,
        max_length: usize,
        at: impl Fn() -> String,
    ) -> Result<(), ExampleError> {
        let (tokens, first) = (encoded.ids.len(), encoded.completion_start() + 1);
        if first > tokens {
            return Err(ExampleError::LeftOut { at: at() });
        }
        let is_cut = encoded.truncate(max_length);
        if encoded.loss_tokens() == 0 {
            return Err(ExampleError::NothingToLearn { at: at(), first, tokens, max_length });
        }
        self.truncated += usize::from(is_cut);
        self.endless += usize::from(encoded.ids.last().is_none_or(|last| !encoder.stops().contains(last)) && is_cut);
        Arc::make_mut(&mut self.encoded).push(encoded);
        Ok(())
    }

    /// Tokens that are learnt.
    pub fn loss_tokens(&self) -> usize {
        self.encoded.iter().map(Encoded::loss_tokens).sum()
    }

    /// What a person should know of them.
    pub fn lines(&self, name: &str, max_length: usize) -> Vec<String> {
        let tokens: usize = self.encoded.iter().map(|encoded| encoded.ids.len()).sum();
        let mut lines =
            vec![format!("{name}: {} examples, {tokens} tokens, {} to learn", self.encoded.len(), self.loss_tokens())];
        if self.truncated > 0 {
            let endless = format!("{} of them lose the token that ends the answer", self.endless);
            lines.push(format!(
                "warning: {} examples are cut to dialogue.max_length = {max_length} tokens; {endless}",
                self.truncated
            ));
        }
        if self.empty > 0 {
            lines.push(format!("warning: {name}: {} rows have an empty answer: nothing is learnt of it but to stop", self.empty));
        }
        if let Some(first) = &self.first_skipped {
            lines.push(format!("{name}: {} rows left out, the first: {first}", self.skipped));
        }
        lines
    }
}

/// Examples as rows of tokens: `input_ids` and `labels` (B, T), one token later, [`IGNORE`] where nothing is learnt. Packed rows hold several examples,
/// with their `segments` and `position_ids` (B, T).
#[derive(Clone, Debug)]
pub struct ExampleRows {
    examples: Arc<Vec<Encoded>>,
    /// The examples of every row.
    rows: Vec<Vec<usize>>,
    block: usize,
    packed: bool,
}

impl ExampleRows {
    /// Rows of `block` tokens. An example of n tokens takes n − 1 of them: its last one is only predicted.
    pub fn new(examples: Arc<Vec<Encoded>>, block: usize, packed: bool) -> Self {
        let lengths: Vec<usize> = examples.iter().map(|encoded| encoded.ids.len().saturating_sub(1)).collect();
        let rows = if packed { best_fit(&lengths, block) } else { (0..lengths.len()).map(|i| vec![i]).collect() };
        Self { examples, rows, block, packed }
    }

    /// The share of the places of all rows that hold a token.
    pub fn filled(&self) -> f64 {
        let tokens: usize = self.examples.iter().map(|encoded| encoded.ids.len().saturating_sub(1)).sum();
        tokens as f64 / (self.rows.len() * self.block).max(1) as f64
    }

    /// Writes an example into the beginning of a row; how many of its labels count, and how many places it takes.
    fn write(&self, example: usize, inputs: &mut [i32], labels: &mut [i32]) -> (u64, usize) {
        let Some(Encoded { ids, mask }) = self.examples.get(example) else { return (0, 0) };
        let places = ids.len().saturating_sub(1).min(inputs.len());
        let mut counted = 0;
        let next = ids.iter().zip(mask).skip(1);
        for (((input, label), &id), (&target, &learnt)) in inputs.iter_mut().zip(labels).zip(ids).zip(next) {
            *input = id as i32;
            *label = if learnt { target as i32 } else { IGNORE };
            counted += u64::from(learnt);
        }
        (counted, places)
    }

    /// Fills one row of a batch; how many labels count.
    fn fill_row(
        &self,
        row: &[usize],
        inputs: &mut [i32],
        labels: &mut [i32],
        segments: &mut [i32],
        positions: &mut [i32],
    ) -> u64 {
        inputs.fill(0);
        labels.fill(IGNORE);
        segments.fill(-1);
        positions.fill(0);
        let (mut counted, mut at) = (0, 0);
        for (number, &example) in row.iter().enumerate() {
            let (more, places) = self.write(example, &mut inputs[at..], &mut labels[at..]);
            if self.packed {
                segments[at..at + places].fill(number as i32);
                positions[at..at + places].iter_mut().zip(0..).for_each(|(to, position)| *to = position);
            }
            counted += more;
            at += places;
        }
        counted
    }
}

impl Dataset for ExampleRows {
    fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let batch = HostBatch::new(rows).with_ints("input_ids", self.block).with_ints("labels", self.block);
        if !self.packed {
            return batch;
        }
        batch.with_ints("segments", self.block).with_ints("position_ids", self.block)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        let [inputs, labels, segments, positions] = into.ints_mut(["input_ids", "labels", "segments", "position_ids"]);
        let [segment_len, position_len] = [segments.len(), positions.len()].map(|len| if len == 0 { 0 } else { self.block });
        let mut tokens = 0;
        let places = inputs.chunks_exact_mut(self.block).zip(labels.chunks_exact_mut(self.block));
        for (i, (inputs, labels)) in places.enumerate() {
            let row = rows.get(i).and_then(|&row| self.rows.get(row as usize)).map_or(&[][..], Vec::as_slice);
            let segments = &mut segments[i * segment_len..][..segment_len];
            let positions = &mut positions[i * position_len..][..position_len];
            tokens += self.fill_row(row, inputs, labels, segments, positions);
        }
        into.tokens = tokens;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(ids: &[u32], learnt: &[u32]) -> Encoded {
        Encoded { ids: ids.to_vec(), mask: ids.iter().map(|id| learnt.contains(id)).collect() }
    }

    #[test]
    fn a_row_holds_one_example_or_several() {
        let examples = || Arc::new(vec![example(&[1, 2, 3], &[3]), example(&[4, 5, 6, 7], &[5, 7])]);
        let single = ExampleRows::new(examples(), 5, false);
        let mut batch = single.batch(2);
        single.fill(&[1], &mut batch).unwrap();
        assert_eq!(batch.ints("input_ids"), [4, 5, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.ints("labels"), [&[5, IGNORE, 7][..], &[IGNORE; 7]].concat());
        assert_eq!((batch.tokens, single.len(), batch.ints("segments").len()), (2, 2, 0));
        let packed = ExampleRows::new(examples(), 5, true);
        let mut batch = packed.batch(2);
        packed.fill(&[0], &mut batch).unwrap();
        assert_eq!(batch.ints("input_ids")[..5], [4, 5, 6, 1, 2]);
        assert_eq!(batch.ints("labels")[..5], [5, IGNORE, 7, IGNORE, 3]);
        assert_eq!(batch.ints("segments"), [0, 0, 0, 1, 1, -1, -1, -1, -1, -1]);
        assert_eq!(batch.ints("position_ids")[..5], [0, 1, 2, 0, 1]);
        assert_eq!((batch.tokens, packed.len(), packed.filled()), (3, 1, 1.0));
    }
}
