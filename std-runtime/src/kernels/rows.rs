//! Products with few rows, as in decoding: every value of B is used so rarely that the product is bound by reading B, and packing would only add
//! work.
//!
//! Rows of B are added in order to sums that stay in the L1 cache; columns of B (rows of a weight) are transposed in registers while they are read.
//! Either way an element of C is summed in the order of [`samara_core::gemm`], so that a row has the same bits as in a batch.

use samara_core::gemm::{MatRef, MicroKernel, Store};
use samara_core::threads::Threads;

use super::epilogue::{Epilogue, finish_tile};
use super::few_rows::{FewRows, LINE, SEGMENT};
use super::rows_avx2;
use super::simd::Portable;
use crate::tiles::{Grid, Tile, for_each_item};

/// The least number of elements of B per task: with fewer, starting a task takes longer than its work.
const TASK_LEN: usize = 1 << 16;
/// The largest number of tasks per product with column-major B.
const MAX_TASKS: usize = 64;
/// The least number of adjacent columns per task with row-major B (1.5 KiB of each row): shorter runs do not reach the memory bandwidth.
const LEAST_SEGMENT: usize = 384;
/// Number of tasks with row-major B, within the limits of [`LEAST_SEGMENT`] and [`SEGMENT`].
const SEGMENT_TASKS: usize = 4;

/// `C = A·B` or `C += A·B` for at most [`MAX_ROWS`](super::few_rows::MAX_ROWS) rows of A, then the epilogue. Shapes and operands as for [`super::gemm::gemm`].
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samara_core::gemm::portable;
    use samara_core::threads::Serial;

    use super::*;
    use crate::kernels::few_rows::MAX_ROWS;
    use crate::kernels::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
    use crate::kernels::simd::Separate;
    use crate::kernels::tests::numbers;
    use crate::threads::Pool;

    /// Storage order of B: row-major, column-major, or neither.
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
            // Rows 0..m of a product with enough rows for packing.
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
