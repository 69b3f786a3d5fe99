//! Micro-kernels for x86-64 and aarch64: one source, compiled for AVX2 and FMA, for AVX-512, and for NEON.

use samara_core::gemm::MicroKernel;

/// The kernels that this machine runs, the best first, with their names.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2 && is_x86_feature_detected!("avx512f");
    // Both sum in the same order: a machine with AVX-512 gives the bits of one without.
    let wide = MicroKernel { mr: 12, nr: 32, mc: MC, kc: KC, run: compiled::avx512::run, pack: compiled::pack };
    let narrow = MicroKernel { mr: 6, nr: 16, mc: MC, kc: KC, run: compiled::avx2::run, pack: compiled::pack };
    let wide = avx512.then_some(("samara avx512 12x32", wide));
    wide.into_iter().chain(avx2.then_some(("samara avx2 6x16", narrow)))
}

/// The kernel of every machine of this kind, with its name. It sums in the order of those for x86-64: the same bits.
#[cfg(target_arch = "aarch64")]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    let neon = MicroKernel { mr: 12, nr: 8, mc: MC, kc: KC, run: compiled::neon::run, pack: super::pack_plain::pack };
    std::arch::is_aarch64_feature_detected!("neon").then_some(("samara neon 12x8", neon)).into_iter()
}

/// No such kernel on this kind of machine.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    std::iter::empty()
}

/// Rows of a block of A, and the longest block of the summed dimension: 432 KiB, in half a mebibyte of second-level cache.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const MC: usize = 288;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const KC: usize = 384;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod compiled {
    #[cfg(target_arch = "aarch64")]
    use std::arch::aarch64::*;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    use samara_core::gemm::{Left, MatRef, Store, store_row};

    #[cfg(target_arch = "x86_64")]
    use super::super::vector::transpose_8x8;

    /// Numbers of a cache line.
    const LINE: usize = 16;

    /// Fetches the lines of a matrix with contiguous rows or columns into the second-level cache.
    #[inline(always)]
    fn prefetch(ahead: MatRef<'_, f32>) {
        let (count, stride, len) = match ahead.col_stride {
            1 => (ahead.rows, ahead.row_stride, ahead.cols),
            stride => (ahead.cols, stride, ahead.rows),
        };
        for i in 0..count {
            for at in (0..len).step_by(LINE) {
                fetch::<true>(ahead.data.as_ptr().wrapping_add(i * stride + at));
            }
        }
    }

    /// Fetches a line into the first-level cache, or, as far ahead as the next tile, into the second-level one.
    #[inline(always)]
    fn fetch<const FAR: bool>(at: *const f32) {
        // SAFETY: a prefetch of any address only hints.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            if FAR { _mm_prefetch::<_MM_HINT_T1>(at.cast()) } else { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        };
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            if FAR {
                std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at, options(nostack, readonly, preserves_flags));
            } else {
                std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, readonly, preserves_flags));
            }
        };
    }

    /// A micro-kernel: `$rows` rows of two vectors, whose sums hide the latency of the multiply-adds in registers.
    macro_rules! micro_kernel {
        (
            $name:ident, $features:literal, $vector:ty, $lanes:literal, $unrolled:literal, [$($rows:literal)*],
            $zero:ident, $load:ident, $store:ident, $splat:ident, $mul_add:ident, $add:ident
        ) => {
            pub(super) mod $name {
                use super::*;

                const LANES: usize = $lanes;
                const NR: usize = 2 * LANES;
                /// Steps of a loop pass.
                const UNROLLED: usize = $unrolled;
                const MR: usize = {
                    let rows = [$($rows),*];
                    rows[rows.len() - 1]
                };

                /// Reached only through [`super::super::kernels`], which has asked the machine.
                pub(in super::super) fn run(
                    k: usize,
                    a: Left<'_, f32>,
                    b: &[f32],
                    ahead: MatRef<'_, f32>,
                    store: Store,
                    rows: &mut [&mut [f32]],
                ) {
                    let cols = rows.first().map_or(0, |row| row.len());
                    assert!(b.len() >= k * NR && rows.len() <= MR && cols <= NR, "a panel shorter than {k}, or too large a tile");
                    prefetch(ahead);
                    // SAFETY: the machine has the instructions, and the lengths of both operands are checked.
                    unsafe {
                        match a {
                            Left::Packed { panels, .. } => {
                                assert!(panels.len() >= k * MR, "a panel shorter than {k}");
                                by_size::<true>(k, panels.as_ptr(), 0, b.as_ptr(), store, rows);
                            }
                            Left::Rows(a) => {
                                let end = rows.len().saturating_sub(1).saturating_mul(a.row_stride).saturating_add(k);
                                assert!(end <= a.data.len(), "rows longer than their slice");
                                by_size::<false>(k, a.data.as_ptr(), a.row_stride, b.as_ptr(), store, rows);
                            }
                        }
                    }
                }

                /// # Safety
                /// As [`tile`], for as many rows as there are and one or two vectors.
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn by_size<const PACKED: bool>(
                    k: usize,
                    a: *const f32,
                    stride: usize,
                    b: *const f32,
                    store: Store,
                    rows: &mut [&mut [f32]],
                ) {
                    let one = rows.first().is_none_or(|row| row.len() <= LANES);
                    // SAFETY: the caller's contract.
                    unsafe {
                        match (rows.len(), one) {
                            $(
                                ($rows, true) => tile::<$rows, 1, PACKED>(k, a, stride, b, store, rows),
                                ($rows, false) => tile::<$rows, 2, PACKED>(k, a, stride, b, store, rows),
                            )*
                            _ => {}
                        }
                    }
                }

                /// A tile of R rows of V vectors, the first V of the panel of B.
                ///
                /// # Safety
                /// The instructions exist; a and b (k, NR) can be read: a is (k, MR) if PACKED, else (R, k) with `stride` from a row to the next.
                #[target_feature(enable = $features)]
                unsafe fn tile<const R: usize, const V: usize, const PACKED: bool>(
                    k: usize,
                    mut a: *const f32,
                    stride: usize,
                    mut b: *const f32,
                    store: Store,
                    rows: &mut [&mut [f32]],
                ) {
                    for row in &*rows {
                        for v in 0..V {
                            fetch::<false>(row.as_ptr().wrapping_add(v * LANES));
                        }
                    }
                    let ahead = if PACKED { MR } else { 1 };
                    let mut sums = [[$zero(); V]; R];
                    let mut left = k;
                    while left >= UNROLLED {
                        if PACKED {
                            // A comes from the second-level cache: 16 steps ahead.
                            for line in (0..UNROLLED * MR).step_by(LINE) {
                                fetch::<false>(a.wrapping_add(16 * MR + line));
                            }
                        }
                        for p in 0..UNROLLED {
                            // SAFETY: UNROLLED more steps are inside both operands.
                            unsafe { step::<R, V, PACKED>(a.add(p * ahead), stride, b.add(p * NR), &mut sums) };
                        }
                        // SAFETY: as above.
                        unsafe { (a, b) = (a.add(UNROLLED * ahead), b.add(UNROLLED * NR)) };
                        left -= UNROLLED;
                    }
                    for p in 0..left {
                        // SAFETY: so many steps are left of both operands.
                        unsafe { step::<R, V, PACKED>(a.add(p * ahead), stride, b.add(p * NR), &mut sums) };
                    }
                    for (row, sums) in rows.iter_mut().zip(&sums) {
                        if row.len() == V * LANES {
                            store_vectors(store, sums, row);
                        } else {
                            // SAFETY: V vectors are V * LANES numbers.
                            let sums = unsafe { std::slice::from_raw_parts(sums.as_ptr().cast(), V * LANES) };
                            store_row(store, sums, row);
                        }
                    }
                }

                /// Adds the product of R numbers of A and V vectors of B.
                ///
                /// # Safety
                /// The instructions exist; R elements of A, `stride` apart or side by side, and V vectors of B can be read.
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn step<const R: usize, const V: usize, const PACKED: bool>(
                    a: *const f32,
                    stride: usize,
                    b: *const f32,
                    sums: &mut [[$vector; V]; R],
                ) {
                    let mut right = [$zero(); V];
                    for (v, right) in right.iter_mut().enumerate() {
                        // SAFETY: the caller's contract.
                        *right = unsafe { $load(b.add(v * LANES)) };
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: the caller's contract.
                        let left = $splat(unsafe { *a.add(if PACKED { i } else { i * stride }) });
                        for (sum, &right) in sums.iter_mut().zip(&right) {
                            *sum = $mul_add(left, right, *sum);
                        }
                    }
                }

                /// Stores or adds whole vectors.
                #[inline]
                #[target_feature(enable = $features)]
                fn store_vectors<const V: usize>(store: Store, sums: &[$vector; V], row: &mut [f32]) {
                    for (&sum, to) in sums.iter().zip(row.chunks_exact_mut(LANES)) {
                        // SAFETY: the piece has as many elements as a vector.
                        unsafe {
                            let sum = match store {
                                Store::Overwrite => sum,
                                Store::Add => $add($load(to.as_ptr()), sum),
                            };
                            $store(to.as_mut_ptr(), sum);
                        }
                    }
                }
            }
        };
    }

    #[cfg(target_arch = "x86_64")]
    micro_kernel!(
        avx2, "avx2,fma", __m256, 8, 2, [1 2 3 4 5 6],
        _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps
    );
    #[cfg(target_arch = "x86_64")]
    micro_kernel!(
        avx512, "avx512f,avx2,fma", __m512, 16, 1, [1 2 3 4 5 6 7 8 9 10 11 12],
        _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps
    );

    #[cfg(target_arch = "aarch64")]
    micro_kernel!(
        neon, "neon", float32x4_t, 4, 1, [1 2 3 4 5 6 7 8 9 10 11 12],
        neon_zero, vld1q_f32, vst1q_f32, vdupq_n_f32, neon_mul_add, vaddq_f32
    );

    /// Four zeros.
    #[cfg(target_arch = "aarch64")]
    #[inline]
    #[target_feature(enable = "neon")]
    fn neon_zero() -> float32x4_t {
        vdupq_n_f32(0.0)
    }

    /// a·b + c, rounded once.
    #[cfg(target_arch = "aarch64")]
    #[inline]
    #[target_feature(enable = "neon")]
    fn neon_mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }

    /// Reached only through [`super::kernels`], which has asked the machine.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn pack(source: MatRef<'_, f32>, panel: &mut [f32]) {
        let (k, width) = (source.rows, source.cols);
        assert!(panel.len() == k * width, "not a full panel");
        let last = |count: usize, stride: usize| count.saturating_sub(1).saturating_mul(stride);
        let end = last(k, source.row_stride).saturating_add(last(width, source.col_stride));
        assert!(end < source.data.len(), "the source is longer than its slice");
        let (data, to) = (source.data.as_ptr(), panel.as_mut_ptr());
        // SAFETY: the machine has AVX2; (k, width) elements lie inside the slice, with these strides, and inside the panel.
        unsafe {
            match (width, source.col_stride) {
                (32, 1) => copy_rows::<32>(k, data, source.row_stride, to),
                (16, 1) => copy_rows::<16>(k, data, source.row_stride, to),
                (12, 1) => copy_rows::<12>(k, data, source.row_stride, to),
                (6, 1) => copy_rows::<6>(k, data, source.row_stride, to),
                (32, stride) => transpose::<32>(k, data, stride, to),
                (16, stride) => transpose::<16>(k, data, stride, to),
                (12, stride) => transpose::<12>(k, data, stride, to),
                (6, stride) => transpose::<6>(k, data, stride, to),
                _ => unreachable!("no kernel has panels of {width}"),
            }
        }
    }

    /// Writes `to[p * W + j] = from[j * stride + p]` for p in 0..k, j in 0..W.
    ///
    /// # Safety
    /// AVX2 exists; W columns of k elements can be read, and (k, W) elements written.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn transpose<const W: usize>(k: usize, from: *const f32, stride: usize, to: *mut f32) {
        // Eight steps of every column at a time: the panel is written in order.
        for p in (0..k).step_by(8) {
            let steps = (k - p).min(8);
            // SAFETY: so many steps are left of the columns and of the panel.
            unsafe {
                let (from, to) = (from.add(p), to.add(p * W));
                for j in (0..W / 8 * 8).step_by(8) {
                    transpose_8::<8>(steps, from.add(j * stride), stride, to.add(j), W);
                }
                match W % 8 {
                    6 => transpose_8::<6>(steps, from.add(W / 8 * 8 * stride), stride, to.add(W / 8 * 8), W),
                    4 => transpose_8::<4>(steps, from.add(W / 8 * 8 * stride), stride, to.add(W / 8 * 8), W),
                    _ => {}
                }
            }
        }
    }

    /// Writes `to[p * W + j] = from[p * stride + j]` for p in 0..k, j in 0..W, W even.
    ///
    /// # Safety
    /// AVX2 exists; k rows of W elements can be read, and (k, W) elements written.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn copy_rows<const W: usize>(k: usize, from: *const f32, stride: usize, to: *mut f32) {
        for p in 0..k {
            // SAFETY: row p of both; whole vectors first, then four and two elements.
            unsafe {
                let (from, to) = (from.add(p * stride), to.add(p * W));
                for j in 0..W / 8 {
                    _mm256_storeu_ps(to.add(8 * j), _mm256_loadu_ps(from.add(8 * j)));
                }
                if W % 8 >= 4 {
                    _mm_storeu_ps(to.add(W / 8 * 8), _mm_loadu_ps(from.add(W / 8 * 8)));
                }
                if W % 4 == 2 {
                    to.add(W - 2).cast::<f64>().write_unaligned(from.add(W - 2).cast::<f64>().read_unaligned());
                }
            }
        }
    }

    /// Writes `to[p * ld + j] = from[j * stride + p]` for p in 0..k, j in 0..W, k and W at most 8.
    ///
    /// # Safety
    /// AVX2 exists; W columns of k elements can be read, and k rows of W elements written.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn transpose_8<const W: usize>(k: usize, from: *const f32, stride: usize, to: *mut f32, ld: usize) {
        if k < 8 {
            for p in 0..k {
                for j in 0..W {
                    // SAFETY: element p of column j, element j of row p.
                    unsafe { *to.add(p * ld + j) = *from.add(j * stride + p) };
                }
            }
            return;
        }
        let mut x = [_mm256_setzero_ps(); 8];
        for (j, x) in x.iter_mut().enumerate().take(W) {
            // SAFETY: eight elements lie in column j.
            *x = unsafe { _mm256_loadu_ps(from.add(j * stride)) };
        }
        // SAFETY: AVX2 exists.
        unsafe { transpose_8x8(&mut x) };
        for (i, row) in x.into_iter().enumerate() {
            // SAFETY: row i has W elements.
            unsafe {
                match W {
                    8 => _mm256_storeu_ps(to.add(i * ld), row),
                    _ => {
                        _mm_storeu_ps(to.add(i * ld), _mm256_castps256_ps128(row));
                        if W == 6 {
                            let high = _mm_castps_pd(_mm256_extractf128_ps::<1>(row));
                            _mm_store_sd(to.add(i * ld + 4).cast(), high);
                        }
                    }
                }
            }
        }
    }
}
