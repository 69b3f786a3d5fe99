//! Products with few rows, such as a token's: every number of B is used so rarely that reading it is the work, and packing would only add to it.
//!
//! Rows of B are added one after the other to sums that stay in the first-level cache; columns of B (rows of a weight) are transposed in registers
//! as they stream by. Either way an element of C is summed in the order of [`samara_core::gemm`], so that a row has the same bits as in a batch.

use samara_core::gemm::{MatRef, MicroKernel, Store, store_row};
use samara_core::threads::Threads;

use super::gemm::{Epilogue, finish_tile};
use super::rows_avx2;
use super::simd::{MulAdd, Portable};
use crate::tiles::{Grid, Tile, for_each_item};

/// The most rows of A: with more, B is better packed once for all.
pub(super) const MAX_ROWS: usize = 7;

/// Elements of B that are worth a task, and the most tasks.
const TASK_LEN: usize = 1 << 16;
const MAX_TASKS: usize = 64;
/// Columns of a tile are a multiple of this, so that two tasks share no cache line of C.
const LINE: usize = 16;
/// Columns whose sums stay in the first-level cache, and the least that are read of a row at once: memory is fast along rows only.
const SEGMENT: usize = 2048;
const LEAST_SEGMENT: usize = 384;
/// Tasks that rows of B are cut into, unless the segments would be too long or too short.
const SEGMENT_TASKS: usize = 4;
/// Rows of B that are added in one pass over the sums.
const PASS: usize = 8;

/// A product for its tasks: a (m, k), b (k, n), and the longest block of k.
#[derive(Clone, Copy)]
pub(super) struct FewRows<'a> {
    pub(super) a: MatRef<'a, f32>,
    pub(super) b: MatRef<'a, f32>,
    pub(super) panel_k: usize,
    pub(super) store: Store,
}

/// `C = A·B` or `C += A·B` for at most [`MAX_ROWS`] rows of A, then the epilogue. Shapes and operands as for [`super::gemm::gemm`].
#[allow(clippy::too_many_arguments)]
pub(super) fn multiply_rows(
    kernel: &MicroKernel<f32>,
    threads: &dyn Threads,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Option<Epilogue<'_>>,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let product = FewRows { a, b, panel_k: kernel.k_block(k).max(1), store };
    let tile_cols = if b.col_stride == 1 {
        n.div_ceil(SEGMENT_TASKS).clamp(LEAST_SEGMENT.max(TASK_LEN / k.max(1)), SEGMENT.max(TASK_LEN / k.max(1)))
    } else {
        n.div_ceil((n.saturating_mul(k) / TASK_LEN).clamp(1, MAX_TASKS))
    };
    let tile_cols = tile_cols.next_multiple_of(LINE);
    let (finish, second) = Epilogue::parts(epilogue);
    let grid = |data, ld| Grid { matrix: Tile::new(data, m, n, ld), tile_rows: m, tile_cols };
    let grids = [grid(out, out_ld), grid(second, n)];
    for_each_item(threads, (n.div_ceil(tile_cols), 1), grids, (&mut [], 0), &|_, [mut tile, mut second], _| {
        if !rows_avx2::multiply(&product, &mut tile) {
            product.multiply::<Portable>(&mut tile);
        }
        finish_tile(finish, &mut tile, &mut second);
    });
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

    /// Blocks of k: the first, its length, and what happens to the old values of C.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, usize, Store)> {
        let (k, panel_k, store) = (self.a.cols, self.panel_k, self.store);
        (0..k).step_by(panel_k).map(move |first| (first, panel_k.min(k - first), if first == 0 { store } else { Store::Add }))
    }

    /// B (k, n) with rows of contiguous elements: some rows of B at a time are added to the sums of a segment of columns.
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

    /// Adds P rows of B from row `p` of this block on, the first one first.
    #[inline(always)]
    fn pass<M: MulAdd, const P: usize>(&self, b: &MatRef<'_, f32>, p: usize, first_k: usize, sums: &mut [[f32; SEGMENT]]) {
        let rows: [(&[[f32; LINE]], &[f32]); P] =
            std::array::from_fn(|i| b.data[(p + i) * b.row_stride..][..b.cols].as_chunks::<LINE>());
        for i in 0..P {
            rows_avx2::prefetch(b.part(p + P + i, 0, 1, b.cols).data.get(..b.cols).unwrap_or_default());
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

    /// Any strides: the sums of a few columns at a time, from column `first` of the tile on.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samara_core::gemm::portable;
    use samara_core::threads::Serial;

    use super::*;
    use crate::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
    use crate::kernels::simd::Separate;
    use crate::kernels::tests::numbers;
    use crate::threads::Pool;

    /// How B lies in memory: rows contiguous, columns contiguous, neither.
    fn operand<'a>(layout: usize, data: &'a [f32], k: usize, n: usize) -> MatRef<'a, f32> {
        match layout {
            0 => MatRef::new(data, k, n),
            1 => MatRef::new(data, n, k).t(),
            _ => MatRef { data, rows: k, cols: n, row_stride: 2 * n, col_stride: 2 },
        }
    }

    fn place(row: usize, first_col: usize, segment: &mut [f32], _: &mut [f32]) {
        segment.iter_mut().enumerate().for_each(|(j, c)| *c += (row * 7 + (first_col + j) * 5) as f32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn has_the_bits_of_a_large_product(
            (m, n, k) in (1usize..8, 1usize..90, 0usize..900),
            (layout, turned, add) in (0usize..3, any::<bool>(), any::<bool>()),
        ) {
            // Rows 0..m of a product with so many rows that it is packed.
            let many = MAX_ROWS + 9;
            let (a, b, old) = (numbers(many * k, 1), numbers(2 * k * n, 2), numbers(many * (n + 3), 3));
            let a = if turned { MatRef::new(&a, k, many).t() } else { MatRef::new(&a, many, k) };
            let b = operand(layout, &b, k, n);
            let store = if add { Store::Add } else { Store::Overwrite };
            for choice in [Gemm::Samara, Gemm::Portable].map(GemmChoice::new) {
                let run = |rows: usize| {
                    let mut out = old.clone();
                    let mut scratch = vec![f32::NAN; gemm_scratch_len(&choice, a.major(), rows, n, k)];
                    gemm(&choice, &Serial, a.part(0, 0, rows, k), b, &mut out, n + 3, store, Some(Epilogue::new(&place)), &mut scratch);
                    out
                };
                let (few, all) = (run(m), run(many));
                for i in 0..m {
                    let row = i * (n + 3)..i * (n + 3) + n;
                    prop_assert!(few[row.clone()] == all[row], "row {i}");
                }
                prop_assert!(few[(m - 1) * (n + 3) + n..] == old[(m - 1) * (n + 3) + n..], "written outside of C");
            }
        }

        #[test]
        fn plain_loops_have_the_bits_of_the_portable_kernel(
            (m, n, k, layout) in (1usize..8, 1usize..50, 1usize..600, 0usize..3),
        ) {
            let (a, b) = (numbers(m * k, 1), numbers(2 * k * n, 2));
            let (a, b) = (MatRef::new(&a, m, k), operand(layout, &b, k, n));
            let mut found = vec![f32::NAN; m * n];
            let panel_k = portable::<f32>().k_block(k);
            FewRows { a, b, panel_k, store: Store::Overwrite }.multiply::<Separate>(&mut Tile::new(&mut found, m, n, n));
            let choice = GemmChoice::new(Gemm::Portable);
            let mut expected = vec![f32::NAN; m * n];
            let mut scratch = vec![0.0; gemm_scratch_len(&choice, a.major(), m, n, k)];
            gemm(&choice, &Serial, a, b, &mut expected, n, Store::Overwrite, None, &mut scratch);
            prop_assert!(found == expected);
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let choice = GemmChoice::new(Gemm::Samara);
        let pools: Vec<Pool> = [1, 2, 5].into_iter().map(|n| Pool::new(n).expect("threads")).collect();
        for (m, n, k, layout) in [(1, 3000, 500, 0), (3, 1111, 700, 1), (7, 20_001, 90, 1)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (a, b) = (MatRef::new(&a, m, k), operand(layout, &b, k, n));
            let run = |threads: &dyn Threads| {
                let mut out = vec![f32::NAN; m * n];
                gemm(&choice, threads, a, b, &mut out, n, Store::Overwrite, Some(Epilogue::new(&place)), &mut []);
                out
            };
            let alone = run(&Serial);
            assert!(pools.iter().all(|pool| run(pool) == alone), "{m} x {n} x {k}");
        }
    }
}
