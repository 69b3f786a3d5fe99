//! A product with few rows, a tile at a time, in plain Rust.

use samara_core::gemm::{MatRef, Store, store_row};

use super::prefetch::prefetch;
use super::simd::MulAdd;
use crate::tiles::Tile;

/// The most rows of A: with more, packing B once for all rows is faster.
pub(super) const MAX_ROWS: usize = 7;

/// Column counts of tiles are multiples of this, so that two tasks share no cache line of C.
pub(super) const LINE: usize = 16;
/// Columns whose sums stay in the first-level cache.
pub(super) const SEGMENT: usize = 2048;
/// Rows of B that are added in one pass over the sums.
const PASS: usize = 8;

/// A product divided into tasks: a (m, k), b (k, n), and the longest block of k.
#[derive(Clone, Copy)]
pub(super) struct FewRows<'a> {
    pub(super) a: MatRef<'a, f32>,
    pub(super) b: MatRef<'a, f32>,
    pub(super) panel_k: usize,
    pub(super) store: Store,
}

impl FewRows<'_> {
    /// The columns of a tile, in plain Rust.
    #[inline(always)]
    pub(super) fn multiply<M: MulAdd>(&self, tile: &mut Tile<'_, f32>) {
        if self.a.cols == 0 && self.store == Store::Overwrite {
            (0..tile.rows()).for_each(|i| tile.row(i).fill(0.0));
        } else if self.b.col_stride == 1 && self.b.is_inside() {
            self.add_rows::<M>(tile);
        } else {
            self.add_products::<M>(tile, 0);
        }
    }

    /// Blocks of k: the start, the length, and whether C is overwritten or accumulated.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, usize, Store)> {
        let (k, panel_k, store) = (self.a.cols, self.panel_k, self.store);
        (0..k).step_by(panel_k).map(move |first| (first, panel_k.min(k - first), if first == 0 { store } else { Store::Add }))
    }

    /// For B (k, n) with contiguous rows: several rows of B at a time are added to the sums of a segment of columns.
    #[inline(always)]
    fn add_rows<M: MulAdd>(&self, tile: &mut Tile<'_, f32>) {
        let mut sums = [[0.0; SEGMENT]; MAX_ROWS];
        let m = tile.rows().min(MAX_ROWS);
        for first in (0..tile.cols()).step_by(SEGMENT) {
            let cols = SEGMENT.min(tile.cols() - first);
            for (first_k, k, store) in self.blocks() {
                let b = self.b.part(first_k, tile.first_col + first, k, cols);
                let sums = &mut sums[..m]; // (m, SEGMENT)
                sums.iter_mut().for_each(|sums| sums.fill(0.0));
                for p in (0..k / PASS * PASS).step_by(PASS) {
                    self.pass::<M, PASS>(&b, p, first_k, sums);
                }
                for p in k / PASS * PASS..k {
                    self.pass::<M, 1>(&b, p, first_k, sums);
                }
                for (i, sums) in sums.iter().enumerate() {
                    store_row(store, &sums[..cols], &mut tile.row(i)[first..first + cols]);
                }
            }
        }
    }

    /// Adds P rows of B from row `p` of this block on, in order.
    #[inline(always)]
    fn pass<M: MulAdd, const P: usize>(&self, b: &MatRef<'_, f32>, p: usize, first_k: usize, sums: &mut [[f32; SEGMENT]]) {
        let rows: [(&[[f32; LINE]], &[f32]); P] =
            std::array::from_fn(|i| b.data[(p + i) * b.row_stride..][..b.cols].as_chunks::<LINE>());
        for i in 0..P {
            prefetch(b.part(p + P + i, 0, 1, b.cols).data.get(..b.cols).unwrap_or_default());
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let x: [f32; P] = std::array::from_fn(|i| self.a.at(row, first_k + p + i));
            let (lines, rest) = sums[..b.cols].as_chunks_mut::<LINE>();
            for (c, sums) in lines.iter_mut().enumerate() {
                // A copy stays in registers.
                let mut own = *sums;
                for (&x, (line, _)) in x.iter().zip(&rows) {
                    for (sum, &b) in own.iter_mut().zip(&line[c]) {
                        *sum = M::mul_add(x, b, *sum);
                    }
                }
                *sums = own;
            }
            for (&x, (_, row)) in x.iter().zip(&rows) {
                for (sum, &b) in rest.iter_mut().zip(*row) {
                    *sum = M::mul_add(x, b, *sum);
                }
            }
        }
    }

    /// For any strides: the sums of a few columns at a time, from column `first` of the tile on.
    #[inline(always)]
    pub(super) fn add_products<M: MulAdd>(&self, tile: &mut Tile<'_, f32>, first: usize) {
        for first in (first..tile.cols()).step_by(PASS) {
            let cols = PASS.min(tile.cols() - first);
            for i in 0..tile.rows() {
                for (first_k, k, store) in self.blocks() {
                    let mut sums = [0.0; PASS];
                    for p in first_k..first_k + k {
                        let x = self.a.at(i, p);
                        for (j, sum) in sums[..cols].iter_mut().enumerate() {
                            *sum = M::mul_add(x, self.b.at(p, tile.first_col + first + j), *sum);
                        }
                    }
                    store_row(store, &sums[..cols], &mut tile.row(i)[first..first + cols]);
                }
            }
        }
    }
}
