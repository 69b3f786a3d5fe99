//! Micro-kernels: the product of two panels as a tile of C.

use super::{Major, MatRef, Store, pack};
use crate::math::Real;

/// The most rows a micro-kernel's tile may have.
pub const MAX_ROWS: usize = 16;

/// Rows of A as a micro-kernel takes them.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a, R> {
    /// Rows where they lie, contiguous and inside their slice.
    Rows(MatRef<'a, R>),
    /// What [`pack_a`](super::pack_a) made of `rows` rows: panels (k, mr).
    Packed {
        /// (⌈rows / mr⌉, k, mr).
        panels: &'a [R],
        /// Rows of A, without padding.
        rows: usize,
        /// Length of a panel.
        k: usize,
        /// Length of the blocks that k is summed in: [`MicroKernel::k_block`] of all that is summed.
        k_block: usize,
    },
}

impl<R: Real> Left<'_, R> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match *self {
            Self::Rows(a) => a.rows,
            Self::Packed { rows, .. } => rows,
        }
    }

    /// Some rows, from a multiple of mr on, over a part of the summed dimension; panels stay as long as they are.
    #[must_use]
    pub fn part(self, mr: usize, (first_row, rows): (usize, usize), (first_k, k_len): (usize, usize)) -> Self {
        match self {
            Self::Rows(a) => Self::Rows(a.part(first_row, first_k, rows, k_len)),
            Self::Packed { panels, rows: all, k, k_block } => {
                let start = (first_row / mr.max(1)).saturating_mul(k).saturating_add(first_k).saturating_mul(mr);
                let rows = rows.min(all.saturating_sub(first_row));
                Self::Packed { panels: panels.get(start..).unwrap_or(&[]), rows, k, k_block }
            }
        }
    }
}

/// The function of [`MicroKernel::run`].
pub type RunKernel<R> = fn(usize, Left<'_, R>, &[R], MatRef<'_, R>, Store, &mut [&mut [R]]);

/// A kernel that multiplies some rows of A by a panel of B, and the blocking that suits it.
#[derive(Clone, Copy, Debug)]
pub struct MicroKernel<R> {
    /// Rows of the tile, 1 to [`MAX_ROWS`].
    pub mr: usize,
    /// Columns of the tile, at least 1.
    pub nr: usize,
    /// The most rows of A in a block, which stays in the second-level cache.
    pub mc: usize,
    /// Longest block of the summed dimension, at least 1; fixes the order of sums.
    pub kc: usize,
    /// `run(k, a, b, ahead, store, rows)` computes `Σ_p a(i, p) · b[p * nr + j]` over p in 0..k, from the first p to the last, and stores it in
    /// `rows[i][j]` (or adds it). Shapes: a (rows, k), b (k, nr); at most mr rows of at most nr elements, fewer at the edges of C.
    /// `ahead` is a piece of what later calls will read: a hint to prefetch it.
    pub run: RunKernel<R>,
    /// `pack(source, panel)` copies a full panel whose rows or columns are contiguous: source (k, mr or nr) with a stride of 1 and every element
    /// inside its slice, panel (k, mr or nr).
    pub pack: fn(MatRef<'_, R>, &mut [R]),
}

impl<R> MicroKernel<R> {
    /// Length of the blocks that `k` summed elements are cut into: the fewest that are not longer than `kc`, about equally long.
    pub fn k_block(&self, k: usize) -> usize {
        let kc = self.kc.max(1);
        let block = k.div_ceil(k.div_ceil(kc).max(1));
        block.checked_next_multiple_of(8).unwrap_or(block).min(kc).min(k)
    }

    /// Rows of the blocks that `m` rows are cut into: the fewest that are not longer than `mc`, about equally long, in whole tiles.
    pub(super) fn row_block(&self, m: usize) -> usize {
        let mr = self.mr.max(1);
        let blocks = m.div_ceil(self.mc.max(mr)).max(1);
        m.div_ceil(blocks).div_ceil(mr).saturating_mul(mr).max(1)
    }

    /// Whether A is packed: by columns it must be, and by rows when the rows of a tile would share few sets of the first-level cache.
    pub fn packs(&self, major: Major, k: usize) -> bool {
        const SAME_SET_BYTES: usize = 2048;
        k > 0 && (major == Major::Columns || k.saturating_mul(size_of::<R>()).is_multiple_of(SAME_SET_BYTES))
    }
}

/// Rows and columns of the portable kernel's tile: eight vectors of four f32, which is what any 16-register machine holds.
const MR: usize = 4;
const NR: usize = 8;

/// The kernel in plain Rust, for any number type and any machine.
pub fn portable<R: Real>() -> MicroKernel<R> {
    MicroKernel { mr: MR, nr: NR, mc: 128, kc: 256, run: run_portable::<R>, pack: pack_portable::<R> }
}

fn run_portable<R: Real>(k: usize, a: Left<'_, R>, b: &[R], _: MatRef<'_, R>, store: Store, rows: &mut [&mut [R]]) {
    let b = b.as_chunks::<NR>().0.iter().take(k);
    let sums = match a {
        Left::Packed { panels, .. } => tile(panels.as_chunks::<MR>().0.iter().copied(), b),
        Left::Rows(a) => {
            // A missing row is any row: its sums are not stored.
            let [w, x, y, z] = [0, 1, 2, 3].map(|i: usize| a.row(i.min(rows.len().saturating_sub(1))).iter());
            tile(w.zip(x).zip(y).zip(z).map(|(((&w, &x), &y), &z)| [w, x, y, z]), b)
        }
    };
    for (row, sums) in rows.iter_mut().zip(&sums) {
        store_row(store, sums, row);
    }
}

/// Σ of the products of columns of A with rows of B.
#[inline(always)]
fn tile<'a, R: Real>(a: impl Iterator<Item = [R; MR]>, b: impl Iterator<Item = &'a [R; NR]>) -> [[R; NR]; MR] {
    let mut sums = [[R::ZERO; NR]; MR];
    for (a, b) in a.zip(b) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    sums
}

/// Stores or adds as many of `sums` as there are elements in a row: the last step of a micro-kernel.
#[inline(always)]
pub fn store_row<R: Real>(store: Store, sums: &[R], row: &mut [R]) {
    match store {
        Store::Overwrite => row.iter_mut().zip(sums).for_each(|(to, &sum)| *to = sum),
        Store::Add => row.iter_mut().zip(sums).for_each(|(to, &sum)| *to += sum),
    }
}

fn pack_portable<R: Real>(source: MatRef<'_, R>, panel: &mut [R]) {
    match (source.cols, source.col_stride) {
        (MR, 1) => pack::copy_rows::<R, MR>(source, panel),
        (MR, _) => pack::transpose::<R, MR>(source, panel),
        (_, 1) => pack::copy_rows::<R, NR>(source, panel),
        (_, _) => pack::transpose::<R, NR>(source, panel),
    }
}
