//! The assignment of tokens to batches.
//!
//! Training rows are numbered from 0 through the whole run, and the start of a row is a pure function of (seed, row): a resumed run needs no replay,
//! and the rows come in the same order for any batch size. The cursor of a run is the number of rows used so far.

use std::path::{Path, PathBuf};

use samara_core::math::rng::{Purpose, Rng, philox4x32};

use super::DataError;
use super::shards::Tokens;
use crate::npy;

/// How training rows are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Every row starts at a uniformly random token, as in nanoGPT.
    Random,
    /// The data is cut into windows; every window is used once per epoch, in an order that differs between epochs.
    Shuffled,
    /// As [`Order::Shuffled`], and starts of later epochs continue those of the first: start e · n + i is row i of n in epoch e. For data that is
    /// changed anew in every epoch.
    Counted,
    /// Row starts come from a file.
    Given(Offsets),
}

/// Start offsets from a `.npy` file of integers with shape (steps, batch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    path: PathBuf,
    starts: Vec<u64>, // (steps, batch)
    batch: usize,
}

impl Offsets {
    /// Reads the file; negative offsets are errors.
    ///
    /// # Errors
    /// A file that cannot be read, another shape, a negative offset, or no step.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let array = npy::read(path)?;
        let &[_, batch] = array.shape.as_slice() else {
            return Err(DataError::format(path, "shape (steps, batch)", format!("shape {:?}", array.shape)));
        };
        let values = array.into_i32(path)?;
        let starts: Result<Vec<u64>, _> = values.iter().map(|&v| u64::try_from(v)).collect();
        match (starts, values.iter().position(|&v| v < 0)) {
            (Ok(starts), _) if !starts.is_empty() => Ok(Self { path: path.to_path_buf(), starts, batch }),
            (_, Some(at)) => {
                Err(DataError::format(path, "offsets from 0", format!("{} at index {at}", values.get(at).unwrap_or(&0))))
            }
            _ => Err(DataError::format(path, "at least one step", "none")),
        }
    }

    /// Rows per step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.starts.len() / self.batch.max(1)
    }
}

/// Chooses the rows of training batches.
#[derive(Clone, Debug)]
pub struct Sampler {
    order: Order,
    seed: u64,
    block: u64,
    tokens: u64,
}

impl Sampler {
    /// A sampler over `tokens` tokens in rows of `block` inputs (and `block` targets, one token later). At least `block + 1` tokens are required;
    /// `name` is the name of the data in errors.
    ///
    /// # Errors
    /// Too few tokens, or offsets beyond their end.
    pub fn new(order: Order, seed: u64, block: usize, tokens: u64, name: &str) -> Result<Self, DataError> {
        let block = block.max(1) as u64;
        if tokens <= block {
            return Err(DataError::TooSmall { what: name.to_owned(), found: tokens, expected: block.saturating_add(1) });
        }
        let sampler = Self { order, seed, block, tokens };
        if let Order::Given(offsets) = &sampler.order {
            for &start in &offsets.starts {
                if start >= sampler.starts() {
                    let expected = format!("offsets below {} ({tokens} tokens in windows of {block})", sampler.starts());
                    return Err(DataError::format(&offsets.path, expected, start.to_string()));
                }
            }
        }
        Ok(sampler)
    }

    /// An order over the rows of a dataset: random rows, or every row once per epoch.
    ///
    /// # Errors
    /// There are no rows; `name` is the name of the data in errors.
    pub fn over_rows(order: Order, seed: u64, rows: u64, name: &str) -> Result<Self, DataError> {
        Self::new(order, seed, 1, rows.saturating_add(1), name)
    }

    /// Rows of one epoch: all windows ([`Order::Shuffled`]), all offsets of the file ([`Order::Given`]), or as many rows as contain the number of
    /// tokens in the data ([`Order::Random`]).
    pub fn rows_per_epoch(&self) -> u64 {
        match &self.order {
            Order::Given(offsets) => offsets.starts.len() as u64,
            Order::Random | Order::Shuffled | Order::Counted => (self.tokens - 1) / self.block,
        }
    }

    /// The first token of row `row` of the run. Only [`Order::Given`] can run out of rows.
    ///
    /// # Errors
    /// No row is left of those that a file gives.
    pub fn start(&self, row: u64) -> Result<u64, DataError> {
        let rows = self.rows_per_epoch().max(1);
        match &self.order {
            Order::Random => Ok(Rng::new(self.seed, Purpose::Data, row).below(self.starts())),
            Order::Shuffled => Ok(permute(self.seed, row / rows, row % rows, rows) * self.block),
            Order::Counted => {
                let (epoch, row) = (row / rows, row % rows);
                Ok((epoch * rows + permute(self.seed, epoch, row, rows)) * self.block)
            }
            Order::Given(offsets) => {
                let start = usize::try_from(row).ok().and_then(|row| offsets.starts.get(row));
                start.copied().ok_or_else(|| {
                    let batch = offsets.batch.max(1) as u64;
                    let (step, len) = (row / batch, offsets.steps() as u64);
                    DataError::Range { path: offsets.path.clone(), unit: "steps", start: step, end: step + 1, len }
                })
            }
        }
    }

    /// Number of possible row starts.
    fn starts(&self) -> u64 {
        self.tokens - self.block
    }
}

/// Number of rows that cover all `tokens` tokens once without overlap, the last one possibly shorter: ⌈(tokens − 1) / block⌉.
pub fn sweep_rows(tokens: u64, block: usize) -> u64 {
    tokens.saturating_sub(1).div_ceil(block.max(1) as u64)
}

/// Fills a batch for an evaluation that reads every token once: the inputs of row r start at token r · T. Beyond the end of the data inputs are 0 and
/// targets `ignore`. Returns the number of valid targets. `inputs` and `targets` are (B, T). Does not allocate.
///
/// # Errors
/// Tokens that cannot be read.
pub fn fill_sweep(
    source: &(impl Tokens + ?Sized),
    block: usize,
    first_row: u64,
    ignore: i32,
    inputs: &mut [i32],
    targets: &mut [i32],
) -> Result<u64, DataError> {
    let block = block.max(1);
    let mut counted = 0;
    for (row, (inputs, targets)) in (first_row..).zip(inputs.chunks_exact_mut(block).zip(targets.chunks_exact_mut(block))) {
        let start = row.saturating_mul(block as u64);
        let rest = source.len().saturating_sub(1).saturating_sub(start);
        let here = usize::try_from(rest).unwrap_or(usize::MAX).min(block);
        let (real_inputs, no_inputs) = inputs.split_at_mut(here);
        let (real_targets, no_targets) = targets.split_at_mut(here);
        no_inputs.fill(0);
        no_targets.fill(ignore);
        if here > 0 {
            source.read(start, real_inputs)?;
            source.read(start + 1, real_targets)?;
        }
        counted += here as u64;
    }
    Ok(counted)
}

/// Element `index` of the permutation of `0..len` for (seed, epoch), in constant time and memory.
///
/// A balanced Feistel network of eight rounds over the next even number of bits, with Philox as round function, is a permutation of a power of four
/// below 4·len; cycle walking from `index` to a value below `len` restricts it to `0..len` (Black and Rogaway, "Ciphers with arbitrary finite
/// domains", 2002).
pub fn permute(seed: u64, epoch: u64, index: u64, len: u64) -> u64 {
    if len <= 1 || index >= len {
        return 0;
    }
    let half_bits = (64 - (len - 1).leading_zeros()).div_ceil(2);
    let mask = (1_u64 << half_bits) - 1;
    let key = [seed as u32, (seed >> 32) as u32];
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 1..=8_u32 {
            let counter = [right as u32, Purpose::Data as u32 | round << 16, epoch as u32, (epoch >> 32) as u32];
            let [mixed, ..] = philox4x32(counter, key);
            (left, right) = (right, left ^ u64::from(mixed) & mask);
        }
        value = left << half_bits | right;
        if value < len {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shards::TokenList;
    use proptest::prelude::*;

    fn counting(n: u32) -> TokenList {
        TokenList::new("counting", (0..n).collect())
    }

    /// Rows `first..` of a run, as many as fit: inputs and targets (B, 4).
    fn fill(sampler: &Sampler, source: &TokenList, first: u64, inputs: &mut [i32], targets: &mut [i32]) {
        for (row, (inputs, targets)) in (first..).zip(inputs.chunks_exact_mut(4).zip(targets.chunks_exact_mut(4))) {
            let start = sampler.start(row).unwrap();
            source.read(start, inputs).unwrap();
            source.read(start + 1, targets).unwrap();
        }
    }

    proptest! {
        #[test]
        fn permute_is_a_permutation(seed: u64, epoch: u64, len in 1_u64..3000) {
            let mut seen = vec![false; len as usize];
            for index in 0..len {
                let value = permute(seed, epoch, index, len) as usize;
                prop_assert!(!seen[value]);
                seen[value] = true;
            }
        }

        #[test]
        fn rows_do_not_depend_on_the_batch_size(seed: u64, first in 0_u64..1000, tokens in 12_u32..200, shuffled: bool) {
            let source = counting(tokens);
            let order = if shuffled { Order::Shuffled } else { Order::Random };
            let sampler = Sampler::new(order, seed, 4, u64::from(tokens), "x").unwrap();
            let (mut x, mut y) = ([0; 24], [0; 24]);
            fill(&sampler, &source, first, &mut x, &mut y);
            for row in 0..6 {
                let (mut x1, mut y1) = ([0; 4], [0; 4]);
                fill(&sampler, &source, first + row as u64, &mut x1, &mut y1);
                prop_assert_eq!(&x[row * 4..][..4], &x1);
                prop_assert_eq!(&y[row * 4..][..4], &y1);
                prop_assert!(x1.iter().zip(y1).all(|(&a, b)| b == a + 1));
            }
        }
    }

    #[test]
    fn large_domains_and_the_edges_of_sizes() {
        for len in [1 << 20, (1 << 20) + 1, 1 << 40, u64::MAX] {
            for index in [0, 1, len / 2, len - 1] {
                assert!(permute(1, 2, index, len) < len);
            }
        }
        assert_eq!((permute(1, 2, 0, 0), permute(1, 2, 5, 5)), (0, 0));
    }

    /// Over many epochs every window is equally frequent at every position (chi-squared with 9 degrees of freedom, 99.99 %: 33.7).
    #[test]
    fn permutations_are_even() {
        let epochs = 5000;
        for index in [0, 4, 9] {
            let mut counts = [0_u32; 10];
            for epoch in 0..epochs {
                counts[permute(7, epoch, index, 10) as usize] += 1;
            }
            let expected = epochs as f64 / 10.0;
            let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
            assert!(chi2 < 33.7, "{counts:?}");
        }
    }

    #[test]
    fn shuffled_uses_every_block_once_per_epoch() {
        let sampler = Sampler::new(Order::Shuffled, 3, 4, 103, "x").unwrap();
        assert_eq!(sampler.rows_per_epoch(), 25);
        let epoch = |e: u64| (0..25).map(|i| sampler.start(e * 25 + i).unwrap()).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        for mut starts in [first, second] {
            starts.sort_unstable();
            assert_eq!(starts, (0..25).map(|i| i * 4).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_of_a_dataset_come_once_per_epoch() {
        let sampler = Sampler::over_rows(Order::Shuffled, 3, 7, "pairs").unwrap();
        let mut rows: Vec<u64> = (7..14).map(|i| sampler.start(i).unwrap()).collect();
        rows.sort_unstable();
        assert_eq!(rows, [0, 1, 2, 3, 4, 5, 6]);
        let counted = Sampler::over_rows(Order::Counted, 3, 7, "pairs").unwrap();
        for row in 0..21 {
            let (start, epoch) = (counted.start(row).unwrap(), row / 7);
            assert_eq!((start / 7, start % 7), (epoch, sampler.start(row).unwrap()));
        }
        let message = Sampler::over_rows(Order::Random, 3, 0, "pairs").unwrap_err().to_string();
        assert!(message.contains("pairs"), "{message}");
    }

    #[test]
    fn random_reaches_the_first_and_the_last_start() {
        let sampler = Sampler::new(Order::Random, 1, 4, 7, "x").unwrap();
        let mut counts = [0; 3];
        (0..300).for_each(|row| counts[sampler.start(row).unwrap() as usize] += 1);
        assert!(counts.iter().all(|&c| c > 60), "{counts:?}");
        let message = Sampler::new(Order::Random, 1, 7, 7, "val.bin").unwrap_err().to_string();
        assert!(message.contains("val.bin has 7 tokens, expected at least 8"), "{message}");
    }

    #[test]
    fn offsets_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batches.npy");
        npy::write_i32(&path, &[2, 3], &[5, 0, 1, 2, 3, 4]).unwrap();
        let offsets = Offsets::read(&path).unwrap();
        assert_eq!((offsets.steps(), offsets.batch()), (2, 3));
        let sampler = Sampler::new(Order::Given(offsets.clone()), 1, 4, 10, "x").unwrap();
        let (mut x, mut y) = ([0; 12], [0; 12]);
        fill(&sampler, &counting(10), 3, &mut x, &mut y);
        assert_eq!(x, [2, 3, 4, 5, 3, 4, 5, 6, 4, 5, 6, 7]);
        let message = sampler.start(6).unwrap_err().to_string();
        assert!(message.contains("batches.npy: steps 2..3 requested, but the file has 2"), "{message}");
        let message = Sampler::new(Order::Given(offsets), 1, 4, 9, "x").unwrap_err().to_string();
        assert!(message.contains("found 5"), "{message}");
        npy::write_i32(&path, &[1, 2], &[5, -1]).unwrap();
        assert!(Offsets::read(&path).unwrap_err().to_string().contains("-1 at index 1"));
        for shape in [&[2][..], &[1, 2, 1], &[0, 2]] {
            npy::write_i32(&path, shape, &[1, 1][..shape.iter().product()]).unwrap();
            assert!(Offsets::read(&path).is_err());
        }
    }

    #[test]
    fn a_sweep_reads_every_token_once() {
        for tokens in [0, 1, 2, 8, 9, 10, 23] {
            let source = counting(tokens);
            let rows = sweep_rows(source.len(), 4);
            let (mut counted, mut seen) = (0, Vec::new());
            for first in (0..rows).step_by(2) {
                let (mut x, mut y) = ([9; 8], [9; 8]);
                counted += fill_sweep(&source, 4, first, -1, &mut x, &mut y).unwrap();
                seen.extend(x.iter().zip(y).filter(|&(_, y)| y >= 0).map(|(&x, y)| (x, y)));
                assert!(x.iter().zip(y).all(|(&x, y)| y == x + 1 || (x == 0 && y == -1)));
            }
            assert_eq!(counted, u64::from(tokens.saturating_sub(1)));
            assert_eq!(seen, (1..tokens as i32).map(|t| (t - 1, t)).collect::<Vec<_>>());
        }
    }

    /// Rows that published runs depend on.
    #[test]
    fn same_rows_for_ever() {
        let rows = |order| {
            let sampler = Sampler::new(order, 1337, 64, 1_003_854, "x").unwrap();
            [0, 1, 1_000_000].map(|row| sampler.start(row).unwrap())
        };
        assert_eq!(rows(Order::Random), [585_714, 531_275, 826_430]);
        assert_eq!(rows(Order::Shuffled), [91_776, 353_216, 369_600]);
    }
}
