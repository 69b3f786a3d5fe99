//! Products with few rows for x86-64 with AVX2 and FMA.

use super::few_rows::FewRows;
use crate::tiles::Tile;

/// Computes the columns of a tile; returns false without AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) fn multiply(product: &FewRows<'_>, tile: &mut Tile<'_, f32>) -> bool {
    let available = super::simd::has_avx2();
    if available {
        // SAFETY: the machine has AVX2 and FMA, as just checked.
        unsafe { x86::multiply(product, tile) };
    }
    available
}

/// No such kernel on this kind of machine.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn multiply(_: &FewRows<'_>, _: &mut Tile<'_, f32>) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use samara_core::gemm::store_row;

    use super::super::few_rows::FewRows;
    use super::super::simd::Fused;
    use crate::tiles::Tile;

    /// f32 values of a vector, and rows of a weight that are transposed together.
    const LANES: usize = 8;
    /// f32 values of a cache line.
    const LINE: usize = 16;
    /// Prefetch distance in f32 values (64 KiB), split over two streams.
    const AHEAD: usize = 1 << 14;

    /// Called only through [`super::multiply`], which has checked the machine's features.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn multiply(product: &FewRows<'_>, tile: &mut Tile<'_, f32>) {
        let (a, b) = (&product.a, &product.b);
        if a.cols == 0 || b.col_stride == 1 || b.row_stride != 1 || !a.is_inside() || !b.is_inside() {
            return product.multiply::<Fused>(tile);
        }
        match tile.rows() {
            1 => transpose_columns::<1>(product, tile),
            2 => transpose_columns::<2>(product, tile),
            3 => transpose_columns::<3>(product, tile),
            4 => transpose_columns::<4>(product, tile),
            5 => transpose_columns::<5>(product, tile),
            6 => transpose_columns::<6>(product, tile),
            7 => transpose_columns::<7>(product, tile),
            _ => product.multiply::<Fused>(tile),
        }
    }

    /// A tile of M rows, for contiguous columns of B: eight columns at a time, then one by one.
    #[target_feature(enable = "avx2,fma")]
    fn transpose_columns<const M: usize>(product: &FewRows<'_>, tile: &mut Tile<'_, f32>) {
        let vectors = tile.cols() / LANES;
        assert!(
            product.a.rows >= M && product.a.cols <= product.b.rows && tile.first_col + tile.cols() <= product.b.cols,
            "a tile outside of the matrix"
        );
        for col in (0..vectors * LANES).step_by(LANES) {
            for (first_k, k, store) in product.blocks() {
                // SAFETY: the caller has checked that the operands are inside their slices; M rows of A and eight columns of B from here on exist,
                // for k elements from `first_k` on.
                let sums = unsafe { sums::<M>(product, tile.first_col + col, first_k, k) };
                for (i, sums) in sums.iter().enumerate() {
                    let mut numbers = [0.0; LANES];
                    // SAFETY: the array holds eight values.
                    unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), *sums) };
                    store_row(store, &numbers, &mut tile.row(i)[col..col + LANES]);
                }
            }
        }
        product.add_products::<Fused>(tile, vectors * LANES);
    }

    /// `Σ_p a[i, first_k + p] · b[first_k + p, col + j]` over p in 0..k in ascending order, for M rows i and eight columns j.
    ///
    /// # Safety
    /// AVX2 and FMA exist; B has contiguous columns; all these elements are inside the slices of A and B.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn sums<const M: usize>(product: &FewRows<'_>, col: usize, first_k: usize, k: usize) -> [__m256; M] {
        let (a, b) = (&product.a, &product.b);
        let (ld, step, down) = (b.col_stride, a.col_stride, a.row_stride);
        let mut sums = [_mm256_setzero_ps(); M];
        // SAFETY: the first elements exist.
        let (mut x, mut w) = unsafe { (a.data.as_ptr().add(first_k * step), b.data.as_ptr().add(col * ld + first_k)) };
        // Consecutive columns are one memory range; this is the length read so far, by this tile and by earlier ones.
        let mut read = col * ld + first_k * LANES;
        for _ in 0..k / LANES {
            let ahead = ahead(b.data.as_ptr(), read);
            // SAFETY: eight elements of eight columns, and eight elements of M rows of A.
            unsafe {
                for (p, right) in transposed(w, ld).into_iter().enumerate() {
                    // Spread over the loop: four prefetches at once would wait for each other.
                    if p % 2 == 0 {
                        _mm_prefetch::<_MM_HINT_T1>(ahead[p / 2].cast());
                    }
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm256_fmadd_ps(_mm256_broadcast_ss(&*x.add(i * down + p * step)), right, *sum);
                    }
                }
            }
            (x, w, read) = (x.wrapping_add(LANES * step), w.wrapping_add(LANES), read + LANES * LANES);
        }
        for p in 0..k % LANES {
            // SAFETY: the last elements of the columns and of the rows of A.
            unsafe {
                let at = |j: usize| *w.add(j * ld + p);
                let right = _mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_fmadd_ps(_mm256_set1_ps(*x.add(i * down + p * step)), right, *sum);
                }
            }
        }
        sums
    }

    /// Prefetches four lines, [`AHEAD`] values after those read since `start`. Two streams at once are fastest: one is up to a third slower, and
    /// eight, in the order of their use, are a little slower.
    #[inline(always)]
    fn ahead(start: *const f32, read: usize) -> [*const f32; 4] {
        let line = start.wrapping_add((read & !(AHEAD - 1)) + (read & (AHEAD - 1)) / 2 + AHEAD);
        [0, LINE, AHEAD / 2, AHEAD / 2 + LINE].map(|at| line.wrapping_add(at))
    }

    /// Transposes eight elements of eight columns, `ld` apart, into eight vectors of one element of every column.
    ///
    /// # Safety
    /// AVX exists; the elements can be read.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn transposed(from: *const f32, ld: usize) -> [__m256; 8] {
        // SAFETY: the caller's contract. Columns j and j + 4 share a vector, so that the rest is done within its halves.
        let half = |p: usize| unsafe {
            let pair = |j: usize| {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(j * ld + p)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add((j + 4) * ld + p)))
            };
            let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
            let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(ab0, cd0),
                _mm256_shuffle_ps::<0xee>(ab0, cd0),
                _mm256_shuffle_ps::<0x44>(ab1, cd1),
                _mm256_shuffle_ps::<0xee>(ab1, cd1),
            ]
        };
        let ([r0, r1, r2, r3], [r4, r5, r6, r7]) = (half(0), half(4));
        [r0, r1, r2, r3, r4, r5, r6, r7]
    }
}
