//! Completions as models read them, and what they have in common: a shape that holds all.

use crate::data::dataset::HostBatch;
use crate::data::dataset::RowNumbers;
use crate::lm::tokenwise::{TokenBatch, TokensShape};

/// A prompt and a completion of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Their tokens.
    pub tokens: Vec<i32>,
    /// Positions before the tokens that count: the token that is read when such a token is predicted.
    pub picks: Vec<usize>,
}

impl Completion {
    /// Tokens and which of them count. The first token of a text is never predicted.
    pub fn new(ids: &[u32], mask: &[bool]) -> Self {
        let counted = mask.iter().enumerate().filter(|(_, counts)| **counts);
        Self { tokens: ids.iter().map(|&id| id as i32).collect(), picks: counted.filter_map(|(i, _)| i.checked_sub(1)).collect() }
    }

    /// Puts it into a batch.
    pub fn push_to(&self, batch: &mut TokenBatch) {
        batch.push(&self.tokens, self.picks.iter().copied());
    }
}

/// The shape of `rows` rows that holds all of these completions.
pub fn shape_of<'c>(rows: usize, all: impl Iterator<Item = &'c Completion> + Clone) -> TokensShape {
    let len = all.clone().map(|completion| completion.tokens.len()).max().unwrap_or(0).max(1);
    TokensShape { rows, len, picks: all.map(|completion| completion.picks.len()).max().unwrap_or(0).max(1) }
}

/// Sums over the picks of every row (B) of numbers (B, R).
pub fn sums(batch: &TokenBatch, numbers: &[f32]) -> Vec<f32> {
    let picks = batch.shape().picks;
    let rows = numbers.chunks(picks).zip(batch.mask().chunks(picks)).take(batch.rows());
    rows.map(|(numbers, mask)| {
        let live = numbers.iter().zip(mask).filter(|(_, live)| **live);
        live.map(|(&x, _)| f64::from(x)).sum::<f64>() as f32
    })
    .collect()
}

/// Gives every pick of a row (B, R) the number of its row (B); 0 elsewhere.
pub fn spread(batch: &TokenBatch, of_rows: &[f32], to: &mut [f32]) {
    let picks = batch.shape().picks;
    to.fill(0.0);
    for ((to, mask), &x) in to.chunks_mut(picks).zip(batch.mask().chunks(picks)).zip(of_rows) {
        to.iter_mut().zip(mask).filter(|(_, live)| **live).for_each(|(to, _)| *to = x);
    }
}

/// The rows of a source's micro-batch, from those that an objective keeps: of the training, or those that are held out.
pub fn rows_of<'r, T>(all: &'r [T], batch: &HostBatch) -> Vec<&'r T> {
    RowNumbers::of(batch).filter_map(|row| all.get(row)).collect()
}
