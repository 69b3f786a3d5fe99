//! Products with quantised weights: see `samara_core::quant` for the formats.
//!
//! Activations are rounded to quantisation blocks of signed bytes, row by row, and multiplied as integers; the integer products of blocks are scaled
//! and added in order. A row's result depends on the row alone, in a product of few rows or of many.

use samara_core::gemm::{Major, MatRef, Store, store_row};
use samara_core::graph::{DType, Node};
use samara_core::ops::weight::{Weight, dtype, is_blocks};
use samara_core::quant::{BLOCK, quantise_activations};
use samara_core::threads::Threads;

use super::block_product::{Activations, BlockProduct, LANES};
use super::epilogue::{Epilogue, finish_tile};
use super::simd::simd;
use super::{Product, per_task, quant_avx2};
use crate::tiles::{Grid, Tile, for_each_chunk_3, for_each_item};

/// The least weight elements of a task, and the most tasks.
const TASK_LEN: usize = 1 << 17;
const MAX_TASKS: usize = 64;
/// Rows of a tile: their activations stay in the second-level cache.
const TILE_ROWS: usize = 64;
/// Column counts of tiles are multiples of this, so that two tasks share no cache line of C.
const LINE: usize = 16;
/// Elements of scratch that [`multiply`] needs for input `i` of a node and `m` rows.
pub(super) fn scratch_len<G: Product>(node: &Node<'_>, i: usize, m: usize) -> usize {
    let (n, k) = (node.input_shape(i).rows(), node.input_shape(i).cols());
    match dtype(node, i) {
        DType::Real | DType::I32 => G::scratch_len(Major::Rows, m, n, k),
        DType::Q8 | DType::Q4 => scratch_parts(m, k).iter().sum(),
        DType::F16 => 0,
    }
}

/// Elements for signed bytes, scales, and starts.
fn scratch_parts(m: usize, k: usize) -> [usize; 3] {
    [m * k / size_of::<f32>(), m * k / BLOCK, m * k / BLOCK * LANES]
}

/// `C = A·Wᵀ` or `C += A·Wᵀ` for a weight (N, K) of any element type, then the epilogue; rows of C are contiguous.
pub(super) fn multiply<G: Product>(
    threads: &dyn Threads,
    a: MatRef<'_, f32>,
    weight: &Weight<'_, f32>,
    out: &mut [f32],
    store: Store,
    epilogue: Option<Epilogue<'_>>,
    scratch: &mut [f32],
) {
    let (m, k) = (a.rows, a.cols);
    let n = out.len() / m.max(1);
    if weight.dtype == DType::Real {
        return G::multiply(threads, a, MatRef::new(weight.real, n, k).t(), out, store, epilogue, scratch);
    }
    let tasks = (n.saturating_mul(k) / TASK_LEN).clamp(1, MAX_TASKS);
    let tile_cols = n.div_ceil(tasks).next_multiple_of(LINE);
    let (finish, second) = Epilogue::parts(epilogue);
    let grid = |data| Grid { matrix: Tile::new(data, m, n, n), tile_rows: TILE_ROWS, tile_cols };
    let (tiles, grids) = (m.div_ceil(TILE_ROWS) * n.div_ceil(tile_cols), [grid(out), grid(second)]);
    if !is_blocks(weight.dtype) {
        return for_each_item(threads, (tiles, 1), grids, (&mut [], 0), &|_, [mut tile, mut second], _| {
            let (first_row, first_col) = (tile.first_row, tile.first_col);
            for i in 0..tile.rows() {
                let x = weight.prepare(&a.data[(first_row + i) * a.row_stride..][..k], &mut []);
                for (j, c) in tile.row(i).iter_mut().enumerate() {
                    store_row(store, &[weight.dot(first_col + j, &x)], std::slice::from_mut(c));
                }
            }
            finish_tile(finish, &mut tile, &mut second);
        });
    }
    let x = quantise(threads, a, weight.dtype, scratch);
    let product = BlockProduct { dtype: weight.dtype, weight: weight.bytes, x, blocks: k / BLOCK, store };
    let kernel = quant_avx2::kernels().into_iter().flatten().next();
    for_each_item(threads, (tiles, 1), grids, (&mut [], 0), &|_, [mut tile, mut second], _| {
        match kernel {
            Some(kernel) => kernel(&product, &mut tile),
            None => product.multiply(&mut tile),
        }
        finish_tile(finish, &mut tile, &mut second);
    });
}

/// Quantises rows of activations (M, K).
fn quantise<'s>(threads: &dyn Threads, a: MatRef<'_, f32>, dtype: DType, scratch: &'s mut [f32]) -> Activations<'s> {
    let (m, k) = (a.rows, a.cols);
    let [len_q, len_d, len_start] = scratch_parts(m, k);
    let (q, rest) = scratch.split_at_mut(len_q);
    let (d, rest) = rest.split_at_mut(len_d);
    let q: &mut [i8] = bytemuck::cast_slice_mut(q); // (M, K)
    let start: &mut [i32] = bytemuck::cast_slice_mut(&mut rest[..len_start]); // (M, K/32, 8)
    let zero = if dtype == DType::Q4 { 8 } else { 128 };
    let rows = per_task(m, 4 * k);
    let blocks = rows * (k / BLOCK);
    for_each_chunk_3(threads, (q, rows * k), (d, blocks), (start, blocks * LANES), &|i, q, d, start| {
        for (row, ((q, d), start)) in
            q.chunks_mut(k).zip(d.chunks_mut(k / BLOCK)).zip(start.chunks_mut(k / BLOCK * LANES)).enumerate()
        {
            quantise_row(&a.data[(i * rows + row) * a.row_stride..][..k], q, d, start, zero);
        }
    });
    Activations { q, d, start }
}

simd! {
    /// Quantises a row of activations (K).
    fn quantise_row<M>(x: &[f32], q: &mut [i8], d: &mut [f32], start: &mut [i32], zero: i32) {
        let blocks = x.as_chunks::<BLOCK>().0.iter().zip(q.as_chunks_mut::<BLOCK>().0);
        for (((x, q), d), start) in blocks.zip(d).zip(start.as_chunks_mut::<LANES>().0) {
            *d = quantise_activations(x, q);
            for (start, q) in start.iter_mut().zip(q.as_chunks::<4>().0) {
                *start = -zero * q.iter().map(|&q| i32::from(q)).sum::<i32>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samara_core::quant::quantise_row;
    use samara_core::threads::Serial;

    use super::super::Samara;
    use super::*;
    use crate::kernels::tests::numbers;
    use crate::threads::Pool;

    struct Case {
        dtype: DType,
        shape: [usize; 3],
        x: Vec<f32>,
        weight: Vec<u8>,
    }

    impl Case {
        fn new(dtype: DType, m: usize, n: usize, k: usize) -> Self {
            let row = dtype.bytes(k, 4).unwrap();
            let mut weight = vec![0; n * row];
            for (bytes, values) in weight.chunks_mut(row).zip(numbers(n * k, 2).chunks(k)) {
                quantise_row(dtype, values, bytes);
            }
            Self { dtype, shape: [m, n, k], x: numbers(m * k, 1), weight }
        }

        fn weight(&self) -> Weight<'_, f32> {
            Weight { dtype: self.dtype, real: &[], bytes: &self.weight, cols: self.shape[2] }
        }

        /// The product of the rows from `first` on, accumulated; the epilogue adds the row and the column, and stores the old values in a second
        /// matrix.
        fn run(&self, threads: &dyn Threads, first: usize, rows: usize, store: Store) -> Vec<f32> {
            let [_, n, k] = self.shape;
            let mut out = numbers(self.shape[0] * n, 3)[first * n..(first + rows) * n].to_vec();
            let mut scratch = vec![f32::NAN; scratch_parts(rows, k).iter().sum()];
            let x = MatRef::new(&self.x[first * k..(first + rows) * k], rows, k);
            let place = |row: usize, col: usize, c: &mut [f32], second: &mut [f32]| {
                second.copy_from_slice(c);
                c.iter_mut().enumerate().for_each(|(j, c)| *c += (first + row + col + j) as f32);
            };
            let mut second = vec![f32::NAN; rows * n];
            let epilogue = Epilogue { finish: &place, second: &mut second };
            multiply::<Samara>(threads, x, &self.weight(), &mut out, store, Some(epilogue), &mut scratch);
            for (at, (before, after)) in second.into_iter().zip(&out).enumerate() {
                assert_eq!(before + (first + at / n + at % n) as f32, *after, "{:?} at {at}", self.dtype);
            }
            out
        }
    }

    const DTYPES: [DType; 3] = [DType::Q8, DType::Q4, DType::F16];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn equals_the_reference((m, n, blocks) in (1usize..11, 1usize..80, 1usize..9), which in 0usize..3, add in any::<bool>()) {
            let case = Case::new(DTYPES[which], m, n, blocks * BLOCK);
            let found = case.run(&Serial, 0, m, if add { Store::Add } else { Store::Overwrite });
            let old = numbers(m * n, 3);
            let mut scratch = vec![0.0; 2 * blocks * BLOCK];
            for i in 0..m {
                let weight = case.weight();
                let x = weight.prepare(&case.x[i * blocks * BLOCK..][..blocks * BLOCK], &mut scratch);
                for j in 0..n {
                    let expected = weight.dot(j, &x) + (i + j) as f32 + if add { old[i * n + j] } else { 0.0 };
                    let error = (found[i * n + j] - expected).abs();
                    prop_assert!(error <= 1e-5 * expected.abs().max(1.0), "({i}, {j}): {} against {expected}", found[i * n + j]);
                }
            }
        }
    }

    #[test]
    fn a_row_alone_and_any_number_of_threads_give_the_same_bits() {
        let pools: Vec<Pool> = [1, 2, 5].into_iter().map(|n| Pool::new(n).expect("threads")).collect();
        for dtype in DTYPES {
            let case = Case::new(dtype, 70, 1003, 320);
            let whole = case.run(&Serial, 0, 70, Store::Overwrite);
            assert!(pools.iter().all(|pool| case.run(pool, 0, 70, Store::Overwrite) == whole), "{dtype:?}");
            for (first, rows) in [(0, 1), (69, 1), (3, 2), (5, 7)] {
                let part = case.run(&pools[1], first, rows, Store::Overwrite);
                assert!(part == whole[first * 1003..(first + rows) * 1003], "{dtype:?}: rows from {first}");
            }
        }
    }

    /// The integer sums are the same for every instruction set, and so is the order of the scaled sums among the vectorised ones.
    #[test]
    fn every_kernel_of_this_machine_agrees() {
        for (dtype, m, n) in [(DType::Q8, 7, 50), (DType::Q4, 7, 50), (DType::Q8, 1, 3), (DType::Q4, 1, 3)] {
            let case = Case::new(dtype, m, n, 96);
            let mut scratch = vec![0.0; scratch_parts(m, 96).iter().sum()];
            let x = quantise(&Serial, MatRef::new(&case.x, m, 96), dtype, &mut scratch);
            let product = BlockProduct { dtype, weight: &case.weight, x, blocks: 3, store: Store::Overwrite };
            let run = |kernel: &dyn Fn(&mut Tile<'_, f32>)| {
                let mut out = vec![f32::NAN; m * n];
                kernel(&mut Tile::new(&mut out, m, n, n));
                out
            };
            let plain = run(&|tile| product.multiply(tile));
            let vectors: Vec<Vec<f32>> =
                quant_avx2::kernels().into_iter().flatten().map(|kernel| run(&|tile| kernel(&product, tile))).collect();
            for vectors in &vectors {
                assert!(plain.iter().zip(vectors).all(|(a, b)| (a - b).abs() < 1e-4), "{dtype:?}");
            }
            assert!(vectors.windows(2).all(|two| two[0] == two[1]), "{dtype:?}");
        }
    }
}
