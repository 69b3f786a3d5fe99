//! The micro-kernel for x86-64 with AVX2 and FMA.

use samara_core::gemm::MicroKernel;

/// The kernel, if this machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernel() -> Option<MicroKernel<f32>> {
    let available = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    available.then_some(MicroKernel { mr: x86::MR, nr: x86::NR, mc: 144, kc: 384, nc: 1024, run: x86::run, pack: x86::pack })
}

/// No such kernel on this kind of machine.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn kernel() -> Option<MicroKernel<f32>> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use samara_core::gemm::{MatRef, Store, store_row};

    /// Six rows of two vectors: twelve sums in registers hide the latency of two multiply-adds a cycle.
    pub(super) const MR: usize = 6;
    pub(super) const NR: usize = 16;
    /// Steps of a loop pass: fewer branches between the multiply-adds.
    const UNROLLED: usize = 4;
    /// Numbers of a cache line.
    const LINE: usize = 16;

    /// Reached only through [`super::kernel`], which has asked the machine.
    pub(super) fn run(k: usize, a: &[f32], b: &[f32], ahead: &[f32], store: Store, rows: &mut [&mut [f32]]) {
        assert!(a.len() >= k * MR && b.len() >= k * NR, "panels shorter than {k}");
        let cols = rows.first().map_or(0, |row| row.len());
        // SAFETY: the machine has AVX2 and FMA, and the lengths were just checked.
        unsafe {
            if cols <= NR / 2 {
                multiply::<1>(k, a.as_ptr(), b.as_ptr(), ahead, store, rows);
            } else {
                multiply::<2>(k, a.as_ptr(), b.as_ptr(), ahead, store, rows);
            }
        }
    }

    /// A tile of MR rows of V vectors, the first V of the panel of B.
    ///
    /// # Safety
    /// AVX2 and FMA exist; a (k, MR) and b (k, NR) can be read.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn multiply<const V: usize>(
        k: usize,
        mut a: *const f32,
        mut b: *const f32,
        ahead: &[f32],
        store: Store,
        rows: &mut [&mut [f32]],
    ) {
        for row in &*rows {
            _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().cast());
            _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(NR - 1).cast());
        }
        for line in ahead.chunks(LINE) {
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
        let mut sums = [[_mm256_setzero_ps(); V]; MR];
        for _ in 0..k / UNROLLED {
            // A comes from the second-level cache: 32 steps ahead.
            _mm_prefetch::<_MM_HINT_T0>(a.wrapping_add(32 * MR).cast());
            for p in 0..UNROLLED {
                // SAFETY: UNROLLED more steps are inside the panels.
                unsafe { step(a.add(p * MR), b.add(p * NR), &mut sums) };
            }
            // SAFETY: as above.
            unsafe { (a, b) = (a.add(UNROLLED * MR), b.add(UNROLLED * NR)) };
        }
        for p in 0..k % UNROLLED {
            // SAFETY: so many steps are left of the panels.
            unsafe { step(a.add(p * MR), b.add(p * NR), &mut sums) };
        }
        if rows.len() == MR && rows.iter().all(|row| row.len() == V * 8) {
            for (row, sums) in rows.iter_mut().zip(&sums) {
                store_vectors(store, sums, row);
            }
        } else {
            for (row, sums) in rows.iter_mut().zip(&sums) {
                // SAFETY: V vectors are V * 8 numbers.
                let sums = unsafe { std::slice::from_raw_parts(sums.as_ptr().cast(), V * 8) };
                store_row(store, sums, row);
            }
        }
    }

    /// Adds the product of MR numbers of A and V vectors of B.
    ///
    /// # Safety
    /// AVX2 and FMA exist; MR and V * 8 elements can be read.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn step<const V: usize>(a: *const f32, b: *const f32, sums: &mut [[__m256; V]; MR]) {
        let mut right = [_mm256_setzero_ps(); V];
        for (v, right) in right.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            *right = unsafe { _mm256_loadu_ps(b.add(v * 8)) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            let left = unsafe { _mm256_broadcast_ss(&*a.add(i)) };
            for (sum, &right) in sums.iter_mut().zip(&right) {
                *sum = _mm256_fmadd_ps(left, right, *sum);
            }
        }
    }

    /// Stores or adds whole vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn store_vectors<const V: usize>(store: Store, sums: &[__m256; V], row: &mut [f32]) {
        for (&sum, to) in sums.iter().zip(row.chunks_exact_mut(8)) {
            // SAFETY: the piece has eight elements.
            unsafe {
                let sum = match store {
                    Store::Overwrite => sum,
                    Store::Add => _mm256_add_ps(_mm256_loadu_ps(to.as_ptr()), sum),
                };
                _mm256_storeu_ps(to.as_mut_ptr(), sum);
            }
        }
    }

    /// Reached only through [`super::kernel`], which has asked the machine.
    pub(super) fn pack(source: MatRef<'_, f32>, panel: &mut [f32]) {
        let (k, width) = (source.rows, source.cols);
        assert!((width == MR || width == NR) && panel.len() == k * width, "not a full panel");
        let last = |count: usize, stride: usize| count.saturating_sub(1).saturating_mul(stride);
        let end = last(k, source.row_stride).saturating_add(last(width, source.col_stride));
        assert!(end < source.data.len(), "the source is longer than its slice");
        let (data, to) = (source.data.as_ptr(), panel.as_mut_ptr());
        // SAFETY: the machine has AVX2; (k, width) elements lie inside the slice, with these strides, and inside the panel.
        unsafe {
            match (width, source.col_stride) {
                (NR, 1) => copy_rows::<NR>(k, data, source.row_stride, to),
                (_, 1) => copy_rows::<MR>(k, data, source.row_stride, to),
                (NR, stride) => {
                    transpose_8::<8>(k, data, stride, to, NR);
                    transpose_8::<8>(k, data.add(8 * stride), stride, to.add(8), NR);
                }
                (_, stride) => transpose_8::<MR>(k, data, stride, to, MR),
            }
        }
    }

    /// Writes `to[p * W + j] = from[p * stride + j]` for p in 0..k, j in 0..W, W even.
    ///
    /// # Safety
    /// AVX2 exists; k rows of W elements can be read, and (k, W) elements written.
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

    /// Writes `to[p * ld + j] = from[j * stride + p]` for p in 0..k, j in 0..W, W at most 8.
    ///
    /// # Safety
    /// AVX2 exists; W columns of k elements can be read, and W elements of k rows can be written.
    #[target_feature(enable = "avx2")]
    unsafe fn transpose_8<const W: usize>(k: usize, from: *const f32, stride: usize, to: *mut f32, ld: usize) {
        let mut p = 0;
        // A store of eight numbers may reach W - 8 into the next row: the last rows of the panel are left to the loop below.
        while p + 8 <= k && (W == 8 || p + 8 < k) {
            let mut x = [_mm256_setzero_ps(); 8];
            for (j, x) in x.iter_mut().enumerate().take(W) {
                // SAFETY: eight elements from p on lie in column j.
                *x = unsafe { _mm256_loadu_ps(from.add(j * stride + p)) };
            }
            for (i, row) in transposed(x).into_iter().enumerate() {
                // SAFETY: row p + i exists, and so does the row after it if W < 8, which is written later.
                unsafe { _mm256_storeu_ps(to.add((p + i) * ld), row) };
            }
            p += 8;
        }
        for p in p..k {
            for j in 0..W {
                // SAFETY: element p of column j, element j of row p.
                unsafe { *to.add(p * ld + j) = *from.add(j * stride + p) };
            }
        }
    }

    /// The transpose of eight vectors.
    #[target_feature(enable = "avx2")]
    fn transposed(x: [__m256; 8]) -> [__m256; 8] {
        let [a, b, c, d, e, f, g, h] = x;
        let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ef0, ef1) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
        let (gh0, gh1) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
        let (r0, r1) = (_mm256_shuffle_ps::<0x44>(ab0, cd0), _mm256_shuffle_ps::<0xee>(ab0, cd0));
        let (r2, r3) = (_mm256_shuffle_ps::<0x44>(ab1, cd1), _mm256_shuffle_ps::<0xee>(ab1, cd1));
        let (r4, r5) = (_mm256_shuffle_ps::<0x44>(ef0, gh0), _mm256_shuffle_ps::<0xee>(ef0, gh0));
        let (r6, r7) = (_mm256_shuffle_ps::<0x44>(ef1, gh1), _mm256_shuffle_ps::<0xee>(ef1, gh1));
        [
            _mm256_permute2f128_ps::<0x20>(r0, r4),
            _mm256_permute2f128_ps::<0x20>(r1, r5),
            _mm256_permute2f128_ps::<0x20>(r2, r6),
            _mm256_permute2f128_ps::<0x20>(r3, r7),
            _mm256_permute2f128_ps::<0x31>(r0, r4),
            _mm256_permute2f128_ps::<0x31>(r1, r5),
            _mm256_permute2f128_ps::<0x31>(r2, r6),
            _mm256_permute2f128_ps::<0x31>(r3, r7),
        ]
    }
}
