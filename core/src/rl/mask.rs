//! The shape of a batch of completions, and which of its tokens count.

use super::error::Error;
use super::number::same_len;

/// Which tokens of a batch of completions count: (B, T) as one slice, row by row. It carries the shape of everything beside it.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    live: &'a [bool],
    row: usize,
}

impl<'a> Mask<'a> {
    /// A mask (B, T) whose rows have `row` = T tokens.
    ///
    /// # Errors
    /// Rows of no tokens; a slice that is not a whole number of rows; a mask that leaves nothing.
    pub fn new(live: &'a [bool], row: usize) -> Result<Self, Error> {
        if live.len().checked_rem(row) != Some(0) {
            return Err(Error::Rows { name: "mask", row, found: live.len() });
        }
        let mask = Self { live, row };
        if mask.tokens() == 0 {
            return Err(Error::TooFew { name: "mask", expected: 1, found: 0 });
        }
        Ok(mask)
    }

    /// (B, T) as one slice.
    pub fn live(&self) -> &'a [bool] {
        self.live
    }

    /// T.
    pub fn row_len(&self) -> usize {
        self.row
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.live.len().checked_div(self.row).unwrap_or(0)
    }

    /// Tokens that count.
    pub fn tokens(&self) -> usize {
        count(self.live)
    }

    /// Every row of the mask (T).
    pub(super) fn each_row(&self) -> impl Iterator<Item = &'a [bool]> + use<'a> {
        self.live.chunks(self.row.max(1))
    }

    /// Every row of an array beside it (T).
    pub(super) fn rows_of<'x, X>(&self, x: &'x [X]) -> impl Iterator<Item = &'x [X]> + use<'x, X> {
        x.chunks(self.row.max(1))
    }

    /// Every row of an array beside it (T), to be written.
    pub(super) fn rows_of_mut<'x, X>(&self, x: &'x mut [X]) -> impl Iterator<Item = &'x mut [X]> + use<'x, X> {
        x.chunks_mut(self.row.max(1))
    }

    /// Refuses an array of another shape.
    pub(super) fn check<X>(&self, name: &'static str, x: &[X]) -> Result<(), Error> {
        same_len(name, x, self.live.len())
    }
}

/// How many are true.
pub(super) fn count(live: &[bool]) -> usize {
    live.iter().filter(|live| **live).count()
}
