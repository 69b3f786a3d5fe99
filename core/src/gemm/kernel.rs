//! Micro-kernels: some rows of A times a panel of B as a tile of C.

use super::matrix::{Major, MatRef, Soon, Store};
use super::panels::panels;
use crate::math::Real;

/// The most rows a micro-kernel's tile may have.
pub const MAX_ROWS: usize = 16;

/// A as a product takes it.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a, R> {
    /// In place, every element inside its slice.
    Lying(MatRef<'a, R>),
    /// The output of [`pack_a`](super::pack_a) for `rows` rows: panels (k, mr).
    Packed {
        /// (⌈rows / mr⌉, k, mr).
        panels: &'a [R],
        /// Rows of A, without padding.
        rows: usize,
        /// Length of a panel.
        k: usize,
        /// Length of the blocks of the summed dimension: [`MicroKernel::k_block`] of the full k.
        k_block: usize,
    },
}

impl<'a, R: Real> Left<'a, R> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match *self {
            Self::Lying(a) => a.rows,
            Self::Packed { rows, .. } => rows,
        }
    }

    /// Some rows, from a multiple of mr on; panels stay as long as they are.
    #[must_use]
    pub fn part(self, mr: usize, first_row: usize, rows: usize) -> Self {
        match self {
            Self::Lying(a) => Self::Lying(a.part(first_row, 0, rows, a.cols)),
            Self::Packed { panels, rows: all, k, k_block } => {
                let start = (first_row / mr.max(1)).saturating_mul(k).saturating_mul(mr);
                let rows = rows.min(all.saturating_sub(first_row));
                Self::Packed { panels: panels.get(start..).unwrap_or(&[]), rows, k, k_block }
            }
        }
    }

    /// The rows of a tile, from a multiple of mr on, over a part of the summed dimension.
    pub(super) fn tile(self, mr: usize, (first_row, rows): (usize, usize), (first_k, k_len): (usize, usize)) -> MatRef<'a, R> {
        match self {
            Self::Lying(a) => a.part(first_row, first_k, rows, k_len),
            Self::Packed { panels, k, .. } => {
                let start = (first_row / mr.max(1)).saturating_mul(k).saturating_add(first_k).saturating_mul(mr);
                MatRef { data: panels.get(start..).unwrap_or(&[]), rows, cols: k_len, row_stride: 1, col_stride: mr }
            }
        }
    }
}

/// The function of [`MicroKernel::run`].
pub type RunKernel<R> = fn(MatRef<'_, R>, MatRef<'_, R>, &mut [R], Soon<R>, Store, &mut [&mut [R]]);

/// A kernel that multiplies some rows of A by a panel of B, and its blocking parameters.
#[derive(Clone, Copy, Debug)]
pub struct MicroKernel<R> {
    /// Rows of the tile, 1 to [`MAX_ROWS`].
    pub mr: usize,
    /// Columns of the tile, at least 1.
    pub nr: usize,
    /// Columns of B can be read in place if their number is a multiple of this.
    pub lanes: usize,
    /// Columns per cache line; 0 without prefetching.
    pub line: usize,
    /// Rows of A over `kc` elements that stay in the L2 cache; with a shorter summed dimension more rows do.
    pub mc: usize,
    /// Longest block of the summed dimension, at least 1; fixes the order of sums.
    pub kc: usize,
    /// `run(a, b, panel, soon, store, rows)` computes `Σ_p a(i, p) · b(p, j)` over p in 0..k in ascending order, and stores it in `rows[i][j]` (or
    /// adds it). Shapes: a (rows, k) with any strides, b (k, cols) with contiguous rows; at most mr rows and nr columns, fewer at the edges of C.
    /// Every element is inside its slice, also those up to the next multiple of `lanes` columns. Elements beyond the end of a row of C are not
    /// stored. If `panel` (k, nr) is not empty, b is copied there. `soon` names elements to prefetch for writing.
    pub run: RunKernel<R>,
    /// `pack(source, width, packed)` packs a matrix whose rows or columns are contiguous into panels of `width` columns, the last one padded with
    /// zeros: source (k, n) with every element inside its slice, packed (⌈n / width⌉, k, width), width mr or nr.
    pub pack: fn(MatRef<'_, R>, usize, &mut [R]),
}

impl<R> MicroKernel<R> {
    /// Length of the blocks of `k` summed elements: the smallest number of about equal blocks that are not longer than `kc`.
    pub fn k_block(&self, k: usize) -> usize {
        let kc = self.kc.max(1);
        let block = k.div_ceil(k.div_ceil(kc).max(1));
        block.checked_next_multiple_of(8).unwrap_or(block).min(kc).min(k)
    }

    /// Rows of the blocks of `m` rows over `k` elements: the smallest number of about equal blocks, in whole tiles, that stay in the L2 cache.
    pub fn row_block(&self, m: usize, k: usize) -> usize {
        let mr = self.mr.max(1);
        let most = self.mc.saturating_mul(self.kc.max(1)) / self.k_block(k).max(1);
        let blocks = m.div_ceil(most.max(mr)).max(1);
        m.div_ceil(blocks).div_ceil(mr).saturating_mul(mr).max(1)
    }

    /// Whether an A with this layout is packed: if it is column-major and the column stride is between half a page and a page, or a multiple of a
    /// page, so that successive columns map to few sets of the L1 cache. Other strides spread over all sets.
    pub fn packs(&self, major: Major, m: usize) -> bool {
        const PAGE_BYTES: usize = 4096;
        let apart = m.saturating_mul(size_of::<R>());
        major == Major::Columns && apart > PAGE_BYTES / 2 && (apart <= PAGE_BYTES || apart.is_multiple_of(PAGE_BYTES))
    }
}

/// Rows and columns of the portable kernel's tile: eight vectors of four f32, which is what any 16-register machine holds.
const MR: usize = 4;
const NR: usize = 8;

/// The kernel in plain Rust, for `f32` and `f64` on any machine.
pub fn portable<R: Real>() -> MicroKernel<R> {
    MicroKernel { mr: MR, nr: NR, lanes: NR, line: 0, mc: 128, kc: 256, run: run_portable::<R>, pack: panels::<R> }
}

fn run_portable<R: Real>(a: MatRef<'_, R>, b: MatRef<'_, R>, panel: &mut [R], _: Soon<R>, store: Store, rows: &mut [&mut [R]]) {
    let b = if panel.is_empty() {
        b
    } else {
        panels(b, NR, panel);
        MatRef { data: panel, row_stride: NR, ..b }
    };
    let b = b.data.chunks(b.row_stride.max(1)).filter_map(|row| row.first_chunk::<NR>()).take(a.cols);
    let sums = if a.col_stride == 1 {
        // A missing row is any row: its sums are not stored.
        let [w, x, y, z] = [0, 1, 2, 3].map(|i: usize| a.row(i.min(rows.len().saturating_sub(1))).iter());
        tile(w.zip(x).zip(y).zip(z).map(|(((&w, &x), &y), &z)| [w, x, y, z]), b)
    } else {
        tile((0..a.cols).map(|p| [0, 1, 2, 3].map(|i| a.at(i, p))), b)
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

/// Stores or adds `sums` up to the length of the row: the last step of a micro-kernel.
#[inline(always)]
pub fn store_row<R: Real>(store: Store, sums: &[R], row: &mut [R]) {
    match store {
        Store::Overwrite => row.iter_mut().zip(sums).for_each(|(to, &sum)| *to = sum),
        Store::Add => row.iter_mut().zip(sums).for_each(|(to, &sum)| *to += sum),
    }
}
