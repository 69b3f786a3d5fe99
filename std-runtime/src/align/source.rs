//! Rows that an objective keeps, as a source of their numbers.

use crate::data::batches::{Order, Sampler};
use crate::data::dataset::{Dataset, RowNumbers};
use crate::train::config::TrainConfig;
use crate::train::objective::Source;

/// The numbers of `rows` rows in a shuffled order, and of those that are held out; a row counts as `tokens` tokens.
pub fn numbered(rows: usize, held_out: usize, tokens: u64, train: &TrainConfig) -> Vec<Source> {
    let Ok(order) = Sampler::over_rows(Order::Shuffled, train.seed, rows as u64, "rows") else { return Vec::new() };
    let numbers = |len: usize| -> Box<dyn Dataset + Send> { Box::new(RowNumbers::new(len as u64, tokens)) };
    vec![Source {
        train: numbers(rows),
        order,
        rows: train.batch_size,
        micro_batches: train.grad_accumulation,
        validation: (held_out > 0).then(|| numbers(held_out)),
    }]
}
