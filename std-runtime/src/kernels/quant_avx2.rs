//! Products with quantised weights for x86-64: integer products of AVX2, or of 256-bit AVX-512 VNNI where available.

use super::block_product::BlockProduct;
use crate::tiles::Tile;

/// Multiplies the columns of a tile.
pub(super) type Multiply = fn(&BlockProduct<'_>, &mut Tile<'_, f32>);

/// The kernels that this machine supports, the best first.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernels() -> [Option<Multiply>; 2] {
    let avx2 = super::simd::has_avx2() && is_x86_feature_detected!("f16c");
    let vnni = avx2 && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl");
    // SAFETY: the machine has the instructions of each, as just checked.
    let by_vnni: Multiply = |product, tile| unsafe { x86::vnni::multiply(product, tile) };
    // SAFETY: as above.
    let by_avx2: Multiply = |product, tile| unsafe { x86::avx2::multiply(product, tile) };
    [vnni.then_some(by_vnni), avx2.then_some(by_avx2)]
}

/// No such kernel on this kind of machine.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn kernels() -> [Option<Multiply>; 2] {
    [None; 2]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use samara_core::graph::DType;
    use samara_core::quant::{BLOCK, Q4_BYTES, Q8_BYTES};

    use super::super::block_product::{BlockProduct, LANES};

    /// Rows of the weight that are multiplied together: each has its own sum.
    const WIDTH: usize = 4;
    /// Prefetch distance in bytes beyond the next rows of the weight.
    const AHEAD_BYTES: usize = 1 << 14;
    /// Bytes of a cache line.
    const LINE_BYTES: usize = 64;

    /// # Panics
    /// The operands are shorter than this tile needs.
    fn check(product: &BlockProduct<'_>, rows: usize, cols: usize) {
        let (x, blocks) = (&product.x, product.blocks);
        assert!(product.weight.len() >= cols * product.row_bytes(), "the weight is shorter than its shape");
        assert!(x.q.len() >= rows * blocks * BLOCK && x.d.len() >= rows * blocks, "too few activations");
        assert!(x.start.len() >= rows * blocks * LANES, "too few starts of products");
    }

    /// The 32 weights of a block, as bytes from −127 to 127 or from 0 to 15.
    ///
    /// # Safety
    /// AVX2 exists; the block can be read.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn weights<const Q4: bool>(block: *const u8) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe {
            if !Q4 {
                return _mm256_loadu_si256(block.add(2).cast());
            }
            let bytes = _mm_loadu_si128(block.add(2).cast());
            _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes), _mm256_set1_epi8(15))
        }
    }

    /// The scale of a block in every lane.
    ///
    /// # Safety
    /// F16C exists; the block can be read.
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn scale(block: *const u8) -> __m256 {
        // SAFETY: the caller's contract.
        let bits = unsafe { block.cast::<i16>().read_unaligned() };
        _mm256_cvtph_ps(_mm_set1_epi16(bits))
    }

    /// The driver for an instruction set, whose `product::<Q4>(w, x, start)` gives eight sums of four products each.
    macro_rules! driver {
        ($features:literal, $rows:literal) => {
            use super::*;
            use crate::tiles::Tile;
            use samara_core::gemm::store_row;

            /// Reached only after asking the machine.
            #[target_feature(enable = $features)]
            pub(in super::super) fn multiply(product: &BlockProduct<'_>, tile: &mut Tile<'_, f32>) {
                check(product, tile.first_row + tile.rows(), tile.first_col + tile.cols());
                if product.dtype == DType::Q4 { columns::<true>(product, tile) } else { columns::<false>(product, tile) }
            }

            #[target_feature(enable = $features)]
            fn columns<const Q4: bool>(product: &BlockProduct<'_>, tile: &mut Tile<'_, f32>) {
                for col in (0..tile.cols()).step_by(WIDTH) {
                    let mut row = 0;
                    while row + $rows <= tile.rows() {
                        group::<Q4, $rows>(product, tile, row, col);
                        row += $rows;
                    }
                    for row in row..tile.rows() {
                        group::<Q4, 1>(product, tile, row, col);
                    }
                }
            }

            /// R rows from `row` and at most WIDTH columns from `col` of a tile that [`check`] has accepted.
            #[target_feature(enable = $features)]
            fn group<const Q4: bool, const R: usize>(
                product: &BlockProduct<'_>,
                tile: &mut Tile<'_, f32>,
                row: usize,
                col: usize,
            ) {
                let cols = WIDTH.min(tile.cols() - col);
                assert!(row + R <= tile.rows(), "rows outside of the tile");
                // SAFETY: R rows and `cols` columns from here on are inside the tile, whose operands `check` has accepted.
                let sums = unsafe { sums::<Q4, R>(product, tile.first_row + row, tile.first_col + col, cols) };
                for (i, sums) in sums.iter().enumerate() {
                    store_row(product.store, &sums[..cols], &mut tile.row(row + i)[col..col + cols]);
                }
            }

            /// R rows of activations times `cols` rows of the weight; the columns beyond repeat the last.
            ///
            /// # Safety
            /// The instructions exist; these rows of activations and of the weight can be read, at least one of each.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn sums<const Q4: bool, const R: usize>(
                product: &BlockProduct<'_>,
                row: usize,
                col: usize,
                cols: usize,
            ) -> [[f32; WIDTH]; R] {
                let (blocks, step) = (product.blocks, if Q4 { Q4_BYTES } else { Q8_BYTES });
                let row_bytes = blocks * step;
                let mut w: [*const u8; WIDTH] =
                    std::array::from_fn(|j| product.weight.as_ptr().wrapping_add((col + j.min(cols - 1)) * row_bytes));
                let first = row * blocks;
                let mut x = product.x.q.as_ptr().wrapping_add(first * BLOCK);
                let mut d = product.x.d.as_ptr().wrapping_add(first);
                let mut start = product.x.start.as_ptr().wrapping_add(first * LANES);
                // Consecutive rows of the weight are one memory range, prefetched sequentially.
                let mut ahead = w[0].wrapping_add(WIDTH * row_bytes + AHEAD_BYTES);
                let mut sums = [[_mm256_setzero_ps(); R]; WIDTH];
                for _ in 0..blocks {
                    if R == 1 {
                        for line in 0..(WIDTH * step).div_ceil(LINE_BYTES) {
                            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line * LINE_BYTES).cast());
                        }
                    }
                    for (w, sums) in w.iter_mut().zip(&mut sums) {
                        // SAFETY: that many blocks are left in every row.
                        unsafe {
                            let (weights, scale) = (weights::<Q4>(*w), scale(*w));
                            for (i, sum) in sums.iter_mut().enumerate() {
                                let x = _mm256_loadu_si256(x.add(i * blocks * BLOCK).cast());
                                let product = product_of::<Q4>(weights, x, start.add(i * blocks * LANES));
                                let scale = _mm256_mul_ps(scale, _mm256_broadcast_ss(&*d.add(i * blocks)));
                                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), scale, *sum);
                            }
                        }
                        *w = w.wrapping_add(step);
                    }
                    (x, d, start) = (x.wrapping_add(BLOCK), d.wrapping_add(1), start.wrapping_add(LANES));
                    ahead = ahead.wrapping_add(WIDTH * step);
                }
                let mut out = [[0.0; WIDTH]; R];
                for (i, out) in out.iter_mut().enumerate() {
                    let pairs = _mm256_hadd_ps(_mm256_hadd_ps(sums[0][i], sums[1][i]), _mm256_hadd_ps(sums[2][i], sums[3][i]));
                    let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
                    // SAFETY: the array holds four values.
                    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
                }
                out
            }
        };
    }

    pub(super) mod avx2 {
        driver!("avx2,fma,f16c", 2);

        /// # Safety
        /// AVX2 exists; eight integers can be read.
        #[target_feature(enable = "avx2")]
        #[inline]
        unsafe fn product_of<const Q4: bool>(w: __m256i, x: __m256i, start: *const i32) -> __m256i {
            let ones = _mm256_set1_epi16(1);
            if !Q4 {
                // The instruction takes one unsigned operand: |w| · (x with the sign of w). No byte is −128, so that pairs fit 16 bits.
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                return _mm256_madd_epi16(pairs, ones);
            }
            // SAFETY: the caller's contract.
            let start = unsafe { _mm256_loadu_si256(start.cast()) };
            _mm256_add_epi32(start, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones))
        }
    }

    pub(super) mod vnni {
        driver!("avx2,fma,f16c,avx512f,avx512vl,avx512vnni", 4);

        /// # Safety
        /// AVX-512 VNNI exists for 256 bits; eight integers can be read.
        #[target_feature(enable = "avx2,avx512f,avx512vl,avx512vnni")]
        #[inline]
        unsafe fn product_of<const Q4: bool>(w: __m256i, x: __m256i, start: *const i32) -> __m256i {
            // With its sign bit flipped, a signed byte is an unsigned one in which 128 represents 0.
            let w = if Q4 { w } else { _mm256_xor_si256(w, _mm256_set1_epi8(-128)) };
            // SAFETY: the caller's contract.
            let start = unsafe { _mm256_loadu_si256(start.cast()) };
            _mm256_dpbusd_epi32(start, w, x)
        }
    }
}
