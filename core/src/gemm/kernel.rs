//! Micro-kernels: the product of two panels as a tile of C.

use super::{MatRef, Store, pack};
use crate::math::Real;

/// The most rows a micro-kernel's tile may have.
pub const MAX_ROWS: usize = 16;

/// The function of [`MicroKernel::run`].
pub type RunKernel<R> = fn(usize, &[R], &[R], &[R], Store, &mut [&mut [R]]);

/// A kernel that multiplies a panel of A by a panel of B, and the blocking that suits it.
#[derive(Clone, Copy, Debug)]
pub struct MicroKernel<R> {
    /// Rows of the tile, 1 to [`MAX_ROWS`].
    pub mr: usize,
    /// Columns of the tile, at least 1.
    pub nr: usize,
    /// Rows of A that stay in the second-level cache, a multiple of `mr`.
    pub mc: usize,
    /// Longest block of the summed dimension, at least 1; fixes the order of sums.
    pub kc: usize,
    /// Columns of B packed at a time, a multiple of `nr`.
    pub nc: usize,
    /// `run(k, a, b, ahead, store, rows)` computes `Σ_p a[p * mr + i] · b[p * nr + j]` over p in 0..k, from the first p to the last, and stores it in
    /// `rows[i][j]` (or adds it). Shapes: a (k, mr), b (k, nr); at most mr rows of at most nr elements, fewer at the edges of C.
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
}

/// Rows and columns of the portable kernel's tile: eight vectors of four f32, which is what any 16-register machine holds.
const MR: usize = 4;
const NR: usize = 8;

/// The kernel in plain Rust, for any number type and any machine.
pub fn portable<R: Real>() -> MicroKernel<R> {
    MicroKernel { mr: MR, nr: NR, mc: 128, kc: 256, nc: 512, run: run_portable::<R>, pack: pack_portable::<R> }
}

fn run_portable<R: Real>(k: usize, a: &[R], b: &[R], _: &[R], store: Store, rows: &mut [&mut [R]]) {
    let mut sums = [[R::ZERO; NR]; MR];
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0).take(k) {
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    for (row, sums) in rows.iter_mut().zip(&sums) {
        store_row(store, sums, row);
    }
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
