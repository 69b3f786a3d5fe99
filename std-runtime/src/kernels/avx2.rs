//! The micro-kernel for x86-64 with AVX2 and FMA.

use samara_core::gemm::MicroKernel;

/// The kernel, if this machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernel() -> Option<MicroKernel<f32>> {
    let available = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    available.then_some(MicroKernel {
        mr: x86::MR,
        nr: x86::NR,
        mc: 144,
        kc: 384,
        nc: 1024,
        run: x86::run,
        transpose: x86::transpose,
    })
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
        // SAFETY: the machine has AVX2 and FMA, and the lengths were just checked.
        let sums = unsafe { multiply(k, a.as_ptr(), b.as_ptr(), ahead, rows) };
        if rows.len() == MR && rows.iter().all(|row| row.len() == NR) {
            // SAFETY: the machine has AVX2.
            unsafe { store_full(&sums, store, rows) };
        } else {
            for (row, sums) in rows.iter_mut().zip(&sums) {
                // SAFETY: two vectors are sixteen numbers.
                let sums: &[f32; NR] = unsafe { &*std::ptr::from_ref(sums).cast() };
                store_row(store, sums, row);
            }
        }
    }

    /// # Safety
    /// AVX2 and FMA exist; a (k, MR) and b (k, NR) can be read.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn multiply(k: usize, mut a: *const f32, mut b: *const f32, ahead: &[f32], rows: &[&mut [f32]]) -> [[__m256; 2]; MR] {
        for row in rows {
            _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().cast());
            _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(NR - 1).cast());
        }
        for line in ahead.chunks(LINE) {
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
        let mut sums: [[__m256; 2]; MR] = [[_mm256_setzero_ps(); 2]; MR];
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
        sums
    }

    /// Adds the product of MR numbers of A and NR numbers of B.
    ///
    /// # Safety
    /// AVX2 and FMA exist; MR and NR elements can be read.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn step(a: *const f32, b: *const f32, sums: &mut [[__m256; 2]; MR]) {
        // SAFETY: the caller's contract.
        unsafe {
            let (left, right) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(i));
                sums[0] = _mm256_fmadd_ps(x, left, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, right, sums[1]);
            }
        }
    }

    /// # Safety
    /// AVX2 exists; every row has NR elements.
    #[target_feature(enable = "avx2")]
    unsafe fn store_full(sums: &[[__m256; 2]; MR], store: Store, rows: &mut [&mut [f32]]) {
        for (row, sums) in rows.iter_mut().zip(sums) {
            let (left, right) = (row.as_mut_ptr(), row.as_mut_ptr().wrapping_add(8));
            // SAFETY: a row has sixteen elements.
            unsafe {
                let sums = match store {
                    Store::Overwrite => *sums,
                    Store::Add => [_mm256_add_ps(_mm256_loadu_ps(left), sums[0]), _mm256_add_ps(_mm256_loadu_ps(right), sums[1])],
                };
                _mm256_storeu_ps(left, sums[0]);
                _mm256_storeu_ps(right, sums[1]);
            }
        }
    }

    /// Reached only through [`super::kernel`], which has asked the machine.
    pub(super) fn transpose(source: MatRef<'_, f32>, panel: &mut [f32]) {
        let (k, width) = (source.rows, source.cols);
        assert!(source.row_stride == 1 && panel.len() == k * width, "not a full panel");
        let last = width.saturating_sub(1).saturating_mul(source.col_stride);
        assert!(last.saturating_add(k) <= source.data.len(), "columns longer than their slice");
        let (data, stride, to) = (source.data.as_ptr(), source.col_stride, panel.as_mut_ptr());
        // SAFETY: the machine has AVX2; `width` columns of k elements lie inside the slice and (k, width) elements inside the panel.
        unsafe {
            match width {
                NR => {
                    transpose_8::<8>(k, data, stride, to, NR);
                    transpose_8::<8>(k, data.add(8 * stride), stride, to.add(8), NR);
                }
                MR => transpose_8::<MR>(k, data, stride, to, MR),
                _ => unreachable!("panels are {MR} or {NR} wide"),
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
