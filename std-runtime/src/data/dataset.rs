//! Datasets of rows with random access by index.

use super::DataError;
use super::batches::{fill_sweep, sweep_rows};
use super::shards::Tokens;

/// Labels with this value do not count, as in PyTorch.
pub const IGNORE: i32 = -100;

/// Values of one input for all rows of a batch.
#[derive(Clone, Debug)]
struct Field<T> {
    name: &'static str,
    values: Vec<T>, // (B, …)
}

/// A batch on the host: inputs by name, as `transformers` names them.
#[derive(Clone, Debug)]
pub struct HostBatch {
    rows: usize,
    /// Tokens with a label: the divisor of the mean loss, and the unit of throughput.
    pub tokens: u64,
    ints: Vec<Field<i32>>,
    reals: Vec<Field<f32>>,
}

impl HostBatch {
    /// A batch of this capacity in rows, without inputs.
    pub fn new(rows: usize) -> Self {
        Self { rows, tokens: 0, ints: Vec::new(), reals: Vec::new() }
    }

    /// The same with an input of integers, `row_len` for each row.
    pub fn with_ints(mut self, name: &'static str, row_len: usize) -> Self {
        self.ints.push(Field { name, values: vec![0; self.rows * row_len] });
        self
    }

    /// The same with an input of f32 values, `row_len` for each row.
    pub fn with_reals(mut self, name: &'static str, row_len: usize) -> Self {
        self.reals.push(Field { name, values: vec![0.0; self.rows * row_len] });
        self
    }

    /// The capacity in rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All inputs by name, with their lengths.
    pub fn inputs(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.ints.iter().map(|f| (f.name, f.values.len())).chain(self.reals.iter().map(|f| (f.name, f.values.len())))
    }

    /// An integer input; empty if there is none of that name.
    pub fn ints(&self, name: &str) -> &[i32] {
        self.ints.iter().find(|f| f.name == name).map_or(&[], |f| &f.values)
    }

    /// An f32 input; empty if there is none of that name.
    pub fn reals(&self, name: &str) -> &[f32] {
        self.reals.iter().find(|f| f.name == name).map_or(&[], |f| &f.values)
    }

    /// Several integer inputs for filling; missing ones are empty. Names must differ.
    pub fn ints_mut<const N: usize>(&mut self, names: [&str; N]) -> [&mut [i32]; N] {
        fields_mut(&mut self.ints, names)
    }

    /// Several inputs of both kinds for filling.
    pub fn all_mut<const N: usize, const M: usize>(
        &mut self,
        ints: [&str; N],
        reals: [&str; M],
    ) -> ([&mut [i32]; N], [&mut [f32]; M]) {
        (fields_mut(&mut self.ints, ints), fields_mut(&mut self.reals, reals))
    }

    /// Several f32 inputs for filling.
    pub fn reals_mut<const N: usize>(&mut self, names: [&str; N]) -> [&mut [f32]; N] {
        fields_mut(&mut self.reals, names)
    }
}

fn fields_mut<'f, T, const N: usize>(fields: &'f mut [Field<T>], names: [&str; N]) -> [&'f mut [T]; N] {
    let mut found = [const { None }; N];
    for field in fields {
        if let Some(i) = names.iter().position(|name| *name == field.name) {
            found[i] = Some(field.values.as_mut_slice());
        }
    }
    found.map(Option::unwrap_or_default)
}

/// Rows of data by index. A row is a function of its index alone, so a run resumes without replaying anything.
pub trait Dataset {
    /// How many rows there are.
    fn len(&self) -> u64;

    /// Whether it is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A batch of this dataset's inputs with this capacity in rows.
    fn batch(&self, rows: usize) -> HostBatch;

    /// Fills a batch with rows, and the rest of its capacity with padding that does not count. Does not allocate.
    ///
    /// # Errors
    /// The data cannot be read, or a row does not exist.
    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError>;
}

/// Windows of `block` tokens, one per possible start: `input_ids` (B, T), and `labels` (B, T), one token later.
pub struct TokenWindows<T> {
    tokens: T,
    block: usize,
}

impl<T: Tokens> TokenWindows<T> {
    /// Windows over tokens.
    pub fn new(tokens: T, block: usize) -> Self {
        Self { tokens, block: block.max(1) }
    }
}

impl<T: Tokens> Dataset for TokenWindows<T> {
    fn len(&self) -> u64 {
        self.tokens.len().saturating_sub(self.block as u64)
    }

    fn batch(&self, rows: usize) -> HostBatch {
        token_batch(rows, self.block)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        each_row(into, self.block, rows, |start, inputs, labels| {
            self.tokens.read(start, inputs)?;
            self.tokens.read(start + 1, labels)?;
            Ok(labels.len() as u64)
        })
    }
}

/// Non-overlapping windows of `block` tokens that cover all tokens, the last one possibly shorter: the inputs of [`TokenWindows`].
pub struct TokenBlocks<T> {
    tokens: T,
    block: usize,
}

impl<T: Tokens> TokenBlocks<T> {
    /// Windows over tokens.
    pub fn new(tokens: T, block: usize) -> Self {
        Self { tokens, block: block.max(1) }
    }
}

impl<T: Tokens> Dataset for TokenBlocks<T> {
    fn len(&self) -> u64 {
        sweep_rows(self.tokens.len(), self.block)
    }

    fn batch(&self, rows: usize) -> HostBatch {
        token_batch(rows, self.block)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        each_row(into, self.block, rows, |row, inputs, labels| fill_sweep(&self.tokens, self.block, row, IGNORE, inputs, labels))
    }
}

/// Row indices, for an objective that stores the rows itself.
pub struct RowNumbers {
    len: u64,
    tokens: u64,
}

impl RowNumbers {
    /// Indices below `len`; a row counts as `tokens` tokens.
    pub fn new(len: u64, tokens: u64) -> Self {
        Self { len, tokens }
    }

    /// The indices of a batch, without padding.
    pub fn of(batch: &HostBatch) -> impl Iterator<Item = usize> + '_ {
        batch.ints("row").iter().filter_map(|&row| usize::try_from(row).ok())
    }
}

impl Dataset for RowNumbers {
    fn len(&self) -> u64 {
        self.len
    }

    fn batch(&self, rows: usize) -> HostBatch {
        HostBatch::new(rows).with_ints("row", 1)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64 * self.tokens;
        let [numbers] = into.ints_mut(["row"]);
        numbers.fill(-1);
        numbers.iter_mut().zip(rows).for_each(|(to, &row)| *to = row as i32);
        Ok(())
    }
}

/// Rows of f32 values computed from their index.
pub struct MadeRows<const N: usize, F> {
    len: u64,
    fields: [(&'static str, usize); N],
    make: F,
}

impl<const N: usize, F: Fn(u64, [&mut [f32]; N])> MadeRows<N, F> {
    /// `len` rows with inputs by name, each with a number of values per row. `make` fills the inputs of a row, which are zeroed before; padding stays
    /// 0.
    pub fn new(len: u64, fields: [(&'static str, usize); N], make: F) -> Self {
        Self { len, fields, make }
    }
}

impl<const N: usize, F: Fn(u64, [&mut [f32]; N])> Dataset for MadeRows<N, F> {
    fn len(&self) -> u64 {
        self.len
    }

    fn batch(&self, rows: usize) -> HostBatch {
        self.fields.iter().fold(HostBatch::new(rows), |batch, &(name, row_len)| batch.with_reals(name, row_len))
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let mut rest = into.reals_mut(self.fields.map(|(name, _)| name));
        rest.iter_mut().for_each(|values| values.fill(0.0));
        for &row in rows {
            let mut of_row = rest.iter_mut().zip(self.fields).map(|(values, (_, row_len))| {
                let (first, others) = std::mem::take(values).split_at_mut(row_len);
                *values = others;
                first
            });
            (self.make)(row, [(); N].map(|()| of_row.next().unwrap_or_default()));
        }
        Ok(())
    }
}

fn token_batch(rows: usize, block: usize) -> HostBatch {
    HostBatch::new(rows).with_ints("input_ids", block).with_ints("labels", block)
}

/// Fills the rows of a batch of tokens one by one; `fill` returns the number of valid labels of a row.
fn each_row(
    into: &mut HostBatch,
    block: usize,
    rows: &[u64],
    fill: impl Fn(u64, &mut [i32], &mut [i32]) -> Result<u64, DataError>,
) -> Result<(), DataError> {
    let [inputs, labels] = into.ints_mut(["input_ids", "labels"]);
    let mut rows = rows.iter();
    let mut tokens = 0;
    for (inputs, labels) in inputs.chunks_exact_mut(block).zip(labels.chunks_exact_mut(block)) {
        match rows.next() {
            Some(&row) => tokens += fill(row, inputs, labels)?,
            None => {
                inputs.fill(0);
                labels.fill(IGNORE);
            }
        }
    }
    into.tokens = tokens;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shards::TokenList;

    #[test]
    fn windows_start_at_any_token_and_blocks_cover_all() {
        let tokens = || TokenList::new("counting", (0..10).collect());
        let windows = TokenWindows::new(tokens(), 4);
        assert_eq!(windows.len(), 6);
        let mut batch = windows.batch(3);
        windows.fill(&[5, 0], &mut batch).unwrap();
        assert_eq!(batch.ints("input_ids"), [5, 6, 7, 8, 0, 1, 2, 3, 0, 0, 0, 0]);
        assert_eq!(batch.ints("labels"), [6, 7, 8, 9, 1, 2, 3, 4, IGNORE, IGNORE, IGNORE, IGNORE]);
        assert_eq!((batch.tokens, batch.rows()), (8, 3));
        assert!(windows.fill(&[6], &mut batch).is_err());
        let blocks = TokenBlocks::new(tokens(), 4);
        assert_eq!(blocks.len(), 3);
        blocks.fill(&[2, 1], &mut batch).unwrap();
        assert_eq!(batch.ints("input_ids"), [8, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0]);
        assert_eq!(batch.ints("labels")[..5], [9, IGNORE, IGNORE, IGNORE, 5]);
        assert_eq!(batch.tokens, 5);
        assert!(batch.ints("pixel_values").is_empty() && batch.reals("pixel_values").is_empty());
    }

    #[test]
    fn made_rows_are_where_their_numbers_say_and_padding_is_zero() {
        let made = MadeRows::new(9, [("a", 2), ("b", 1)], |row, [a, b]: [&mut [f32]; 2]| {
            a.copy_from_slice(&[row as f32, -(row as f32)]);
            b.fill(10.0 * row as f32);
        });
        let mut batch = made.batch(3);
        made.fill(&[4, 2, 8], &mut batch).unwrap();
        made.fill(&[3, 1], &mut batch).unwrap();
        assert_eq!((batch.reals("a"), batch.reals("b")), (&[3.0, -3.0, 1.0, -1.0, 0.0, 0.0][..], &[30.0, 10.0, 0.0][..]));
        assert_eq!((batch.tokens, made.len()), (2, 9));
    }
}
