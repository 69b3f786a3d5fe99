//! Micro-kernels for x86-64 and aarch64: one source, compiled for AVX2 and FMA, for AVX-512, and for NEON.
//!
//! NEON sums in the order of AVX2 and AVX-512, with the same blocks of the summed dimension, so that aarch64 gives the bits of x86-64 for f32 products;
//! products with quantised weights differ in the last places.

use samara_core::gemm::MicroKernel;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::pack;

/// The kernels that this machine runs, the best first, with their names.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2 && is_x86_feature_detected!("avx512f");
    // Both sum in the same order: machines with and without AVX-512 give the same bits.
    let wide = MicroKernel {
        mr: compiled::avx512::MR,
        nr: compiled::avx512::NR,
        lanes: compiled::avx512::LANES,
        line: LINE,
        mc: MC,
        kc: KC,
        run: compiled::avx512::run,
        pack: pack::panels,
    };
    let narrow = MicroKernel {
        mr: compiled::avx2::MR,
        nr: compiled::avx2::NR,
        lanes: compiled::avx2::LANES,
        run: compiled::avx2::run,
        ..wide
    };
    let wide = avx512.then_some(("samara avx512 8x48", wide));
    wide.into_iter().chain(avx2.then_some(("samara avx2 6x16", narrow)))
}

/// The NEON kernel, with its name. It sums in the order of the x86-64 kernels: the same bits.
#[cfg(target_arch = "aarch64")]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    use compiled::neon::{LANES, MR, NR, run};
    let neon = MicroKernel { mr: MR, nr: NR, lanes: LANES, line: 0, mc: MC, kc: KC, run, pack: pack::panels };
    std::arch::is_aarch64_feature_detected!("neon").then_some(("samara neon 12x8", neon)).into_iter()
}

/// No such kernel on this kind of machine.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    std::iter::empty()
}

/// Rows of a block of A, and the longest block of the summed dimension: 432 KiB, for an L2 cache of 512 KiB.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const MC: usize = 288;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const KC: usize = 384;

/// f32 values of a cache line.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const LINE: usize = 16;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod compiled {
    #[cfg(target_arch = "aarch64")]
    use std::arch::aarch64::*;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    use samara_core::gemm::{MatRef, Soon, Store, store_row};

    use super::super::micro_loops::Operands;
    #[cfg(target_arch = "x86_64")]
    use super::super::micro_loops::{avx2_6x1, avx2_6x2, avx512_8x1, avx512_8x2, avx512_8x3};
    use super::LINE;

    /// Generates a micro-kernel: whole tiles of `$most` rows use the loops of [`micro_loops`](super::super::micro_loops) where they exist; tiles at
    /// the edges are divided into `$rows` rows and up to `$at_once` vectors.
    macro_rules! micro_kernel {
        (
            $name:ident, $features:literal, $lanes:literal, $most:literal x $nr:literal [$($vectors:literal $whole:ident),*],
            [$($rows:literal)*] x $at_once:literal,
            $zero:ident, $load:ident, $store:ident, $splat:ident, $mul_add:ident
        ) => {
            pub(super) mod $name {
                use super::*;

                pub(in super::super) const LANES: usize = $lanes;
                pub(in super::super) const MR: usize = $most;
                pub(in super::super) const NR: usize = $nr;

                /// Called only through [`super::super::kernels`], which has checked the machine's features.
                pub(in super::super) fn run(
                    a: MatRef<'_, f32>,
                    b: MatRef<'_, f32>,
                    panel: &mut [f32],
                    soon: Soon<f32>,
                    store: Store,
                    rows: &mut [&mut [f32]],
                ) {
                    let (k, cols) = (a.cols, b.cols);
                    let end = (k.max(1) - 1).saturating_mul(b.row_stride).saturating_add(cols.next_multiple_of(LANES));
                    let inside = a.is_inside() && b.col_stride == 1 && b.rows == k && end <= b.data.len();
                    assert!(k == 0 || inside, "operands longer than their slices, or B without contiguous rows");
                    assert!(cols <= NR && (panel.is_empty() || panel.len() >= k * NR), "too wide a tile, or a panel shorter than {k}");
                    assert!(rows.len() <= a.rows, "{} rows of C, {} of A", rows.len(), a.rows);
                    let mut o = Operands {
                        k,
                        a: a.data.as_ptr(),
                        row_stride: a.row_stride,
                        step_stride: a.col_stride,
                        b: b.data.as_ptr(),
                        ld: b.row_stride,
                        panel: panel.as_mut_ptr(),
                        soon: soon.at,
                        soon_stride: soon.stride,
                        soon_count: soon.count,
                        add: store == Store::Add,
                    };
                    let (mut pack, mut rest) = (!panel.is_empty(), rows);
                    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "NEON has no loops of its own"))]
                    // Every step reads A from another cache line.
                    let far = a.col_stride >= LINE;
                    while let Some(&height) = [$most $(, $rows)*].iter().find(|&&height| height <= rest.len()) {
                        let (rows, after) = std::mem::take(&mut rest).split_at_mut(height);
                        // SAFETY: the machine has the instructions; the rows of A, all of B and the panel are inside their slices, as checked.
                        unsafe {
                            match (height, cols.div_ceil(LANES)) {
                                $(
                                    ($most, $vectors) => {
                                        let lies_near = [$whole::<false, false>, $whole::<true, false>];
                                        let lies_far = [$whole::<false, true>, $whole::<true, true>];
                                        whole(if far { lies_far } else { lies_near }[usize::from(pack)], o, cols, rows);
                                    }
                                )*
                                $(
                                    ($rows, vectors) => edge::<$rows>(o, vectors, pack, rows),
                                )*
                                _ => {}
                            }
                        }
                        if std::mem::take(&mut pack) {
                            (o.b, o.ld) = (o.panel, NR);
                        }
                        o.soon_count = 0;
                        o.a = o.a.wrapping_add(height * o.row_stride);
                        rest = after;
                    }
                }

                /// A whole tile of some columns by an assembly loop.
                ///
                /// # Safety
                /// As the loop's for the operands; `cols` covers the vectors that it stores.
                #[allow(dead_code, reason = "NEON has no loops of its own")]
                unsafe fn whole(
                    steps: unsafe fn(Operands, &[*mut f32; MR]),
                    o: Operands,
                    cols: usize,
                    rows: &mut [&mut [f32]],
                ) {
                    if cols.is_multiple_of(LANES) && rows.iter().all(|row| row.len() == cols) {
                        let to = std::array::from_fn(|i| rows[i].as_mut_ptr());
                        // SAFETY: the caller's contract; each row is as long as its vectors.
                        return unsafe { steps(o, &to) };
                    }
                    let mut sums = [[0.0; NR]; MR];
                    let to = std::array::from_fn(|i| sums[i].as_mut_ptr());
                    // SAFETY: the caller's contract; the buffer holds the largest number of vectors.
                    unsafe { steps(Operands { add: false, ..o }, &to) };
                    let store = if o.add { Store::Add } else { Store::Overwrite };
                    rows.iter_mut().zip(&sums).for_each(|(row, sums)| store_row(store, sums, row));
                }

                /// A tile of R rows, several vectors of each at a time.
                ///
                /// # Safety
                /// The instructions exist; R rows of A and `vectors` vectors of B can be read and, if `pack`, of a panel written.
                #[target_feature(enable = $features)]
                unsafe fn edge<const R: usize>(o: Operands, vectors: usize, pack: bool, rows: &mut [&mut [f32]]) {
                    for first in (0..vectors).step_by($at_once) {
                        // SAFETY: the caller's contract.
                        unsafe {
                            if vectors - first >= $at_once {
                                part::<R, $at_once>(o, first * LANES, pack, rows);
                            } else {
                                (first..vectors).for_each(|v| part::<R, 1>(o, v * LANES, pack, rows));
                            }
                        }
                    }
                }

                /// V vectors of a tile of R rows, from column `first` on.
                ///
                /// # Safety
                /// As [`edge`], for these vectors.
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn part<const R: usize, const V: usize>(o: Operands, first: usize, pack: bool, rows: &mut [&mut [f32]]) {
                    let mut sums = [[$zero(); V]; R];
                    for p in 0..o.k {
                        let mut right = [$zero(); V];
                        for (v, right) in right.iter_mut().enumerate() {
                            // SAFETY: the caller's contract.
                            unsafe {
                                *right = $load(o.b.add(p * o.ld + first + v * LANES));
                                if pack {
                                    $store(o.panel.add(p * NR + first + v * LANES), *right);
                                }
                            }
                        }
                        for (i, sums) in sums.iter_mut().enumerate() {
                            // SAFETY: the caller's contract.
                            let left = $splat(unsafe { *o.a.add(p * o.step_stride + i * o.row_stride) });
                            sums.iter_mut().zip(right).for_each(|(sum, right)| *sum = $mul_add(left, right, *sum));
                        }
                    }
                    let store = if o.add { Store::Add } else { Store::Overwrite };
                    for (row, sums) in rows.iter_mut().zip(sums) {
                        let mut numbers = [[0.0; LANES]; V];
                        // SAFETY: the array has the length of a vector.
                        numbers.iter_mut().zip(sums).for_each(|(to, sum)| unsafe { $store(to.as_mut_ptr(), sum) });
                        store_row(store, numbers.as_flattened(), row.get_mut(first..).unwrap_or_default());
                    }
                }
            }
        };
    }

    #[cfg(target_arch = "x86_64")]
    micro_kernel!(
        avx2, "avx2,fma", 8, 6 x 16 [2 avx2_6x2, 1 avx2_6x1], [4 2 1] x 1,
        _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps
    );
    #[cfg(target_arch = "x86_64")]
    micro_kernel!(
        avx512, "avx512f,avx2,fma", 16, 8 x 48 [3 avx512_8x3, 2 avx512_8x2, 1 avx512_8x1], [4 2 1] x 1,
        _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps
    );
    #[cfg(target_arch = "aarch64")]
    micro_kernel!(
        neon, "neon", 4, 12 x 8 [], [12 8 4 2 1] x 2,
        neon_zero, vld1q_f32, vst1q_f32, vdupq_n_f32, neon_mul_add
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samara_core::gemm::{MatRef, MicroKernel, Soon, Store, portable};

    use super::kernels;
    use crate::kernels::tests::numbers;

    /// Strides of rows and of columns of A (m, k).
    fn strides(layout: usize, (m, k): (usize, usize), mr: usize, gap: usize) -> (usize, usize) {
        match layout {
            0 => (k + gap, 1),
            1 => (1, m + 8 * gap),
            2 => (1, mr),
            3 => (0, 1),
            _ => (2 * k + gap, 2),
        }
    }

    /// A matrix in a slice that ends with its last element.
    fn exact(data: &[f32], rows: usize, cols: usize, (row_stride, col_stride): (usize, usize)) -> MatRef<'_, f32> {
        let len = if rows * cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 };
        MatRef { data: &data[..len], rows, cols, row_stride, col_stride }
    }

    /// The shape of a tile and the storage of its operands.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        m: usize,
        cols: usize,
        k: usize,
        layout: usize,
        gap: usize,
        add: bool,
        packs: bool,
    }

    /// Fills the memory outside of every matrix: NaN, which would spread to any sum that reads it.
    const OUTSIDE: f32 = f32::NAN;

    /// Checks C and the panel of the kernel against f64 sums and B; nothing is written around them.
    fn check(name: &str, kernel: &MicroKernel<f32>, case: Case) {
        let Case { m, cols, k, layout, gap, add, packs } = case;
        let data = numbers((m + 2) * (2 * k + gap) + k * (kernel.mr + m + 8 * gap), 1);
        let a = exact(&data, m, k, strides(layout, (m, k), kernel.mr, gap));
        // Rows of B up to the next multiple of lanes; the values after the last column are not part of B.
        let ld = cols.next_multiple_of(kernel.lanes) + gap;
        let mut right = vec![OUTSIDE; k * ld];
        let inside = numbers(k * cols, 2);
        right.chunks_exact_mut(ld).zip(inside.chunks_exact(cols)).for_each(|(to, row)| to[..cols].copy_from_slice(row));
        let b = MatRef { data: &right[..(k * ld).saturating_sub(gap)], rows: k, cols, row_stride: ld, col_stride: 1 };
        let mut panel = vec![OUTSIDE; if packs { k * kernel.nr + 3 } else { 0 }];
        let old = numbers(m * cols, 3);
        let mut c = vec![OUTSIDE; m * (cols + gap)];
        c.chunks_exact_mut(cols + gap).zip(old.chunks_exact(cols)).for_each(|(to, row)| to[..cols].copy_from_slice(row));
        let mut rows: Vec<&mut [f32]> = c.chunks_exact_mut(cols + gap).map(|row| &mut row[..cols]).collect();
        (kernel.run)(
            a,
            b,
            panel.get_mut(..k * kernel.nr).unwrap_or_default(),
            // Any address may be fetched.
            Soon { at: std::ptr::without_provenance(gap), stride: m, count: gap * 5 },
            if add { Store::Add } else { Store::Overwrite },
            &mut rows,
        );
        for (at, &got) in c.iter().enumerate() {
            let (i, j) = (at / (cols + gap), at % (cols + gap));
            if j >= cols {
                assert!(got.is_nan(), "{name} {case:?} wrote behind row {i}");
                continue;
            }
            let sum: f64 = (0..k).map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j))).sum();
            let want = sum + if add { f64::from(old[i * cols + j]) } else { 0.0 };
            assert!((f64::from(got) - want).abs() < 2e-6, "{name} {case:?} ({i}, {j}): {got} against {want}");
        }
        for (p, row) in panel.chunks(kernel.nr).enumerate() {
            let (row, expected) = (&row[..cols.min(row.len())], inside.chunks_exact(cols).nth(p));
            match expected {
                Some(expected) => assert!(row == expected, "{name} {case:?}: row {p} of the panel"),
                None => assert!(row.iter().all(|x| x.is_nan()), "{name} {case:?} wrote behind its panel"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn every_kernel_equals_sums_of_doubles(
            (rows, cols, k) in (0usize..16, 0usize..64, 0usize..70),
            (layout, gap) in (0usize..5, 0usize..4),
            (add, packs, lanes) in any::<(bool, bool, bool)>(),
        ) {
            for (name, kernel) in kernels().chain([("portable", portable())]) {
                let (m, cols) = (rows % kernel.mr + 1, cols % kernel.nr + 1);
                // Whole vectors, as where B is read in place, and any number of columns, as in a panel.
                let cols = if lanes { cols.next_multiple_of(kernel.lanes) } else { cols };
                check(name, &kernel, Case { m, cols, k, layout, gap, add, packs });
            }
        }
    }

    /// Rows of C beyond the result's slice, as for a result that is too short, are not written.
    #[test]
    fn nothing_is_written_to_rows_that_are_not_there() {
        for (_, kernel) in kernels() {
            let (a, b) = (vec![1.0; kernel.mr * 4], vec![1.0; 4 * kernel.nr]);
            let (a, b) = (MatRef::new(&a, kernel.mr, 4), MatRef::new(&b, 4, kernel.nr));
            let mut c = vec![0.0; kernel.mr * kernel.nr];
            let mut rows: Vec<&mut [f32]> = c.chunks_exact_mut(kernel.nr).map(|row| &mut row[..0]).collect();
            (kernel.run)(a, b, &mut [], Soon::default(), Store::Overwrite, &mut rows);
            let mut rows: Vec<&mut [f32]> = c.chunks_exact_mut(kernel.nr).map(|row| &mut row[..kernel.lanes]).collect();
            (kernel.run)(a, b, &mut [], Soon::default(), Store::Add, &mut rows);
            for row in c.chunks_exact(kernel.nr) {
                assert!(row[..kernel.lanes].iter().all(|&x| x == 4.0) && row[kernel.lanes..].iter().all(|&x| x == 0.0));
            }
        }
    }

    /// Operands that are too short make the kernel panic before it reads them.
    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for (name, kernel) in kernels() {
            let data = vec![1.0; 64 * 64];
            let (mr, nr, k) = (kernel.mr, kernel.nr, 5);
            let (a, b) = (MatRef::new(&data, mr, k), MatRef::new(&data, k, nr));
            let refused = |a, b, panel: usize, rows: usize| {
                let run = move || {
                    let (mut c, mut panel) = (vec![0.0; (mr + 1) * nr], vec![0.0; panel]);
                    let mut rows: Vec<&mut [f32]> = c.chunks_exact_mut(nr).take(rows).collect();
                    (kernel.run)(a, b, &mut panel, Soon::default(), Store::Overwrite, &mut rows);
                };
                std::panic::catch_unwind(run).is_err()
            };
            assert!(!refused(a, b, 0, mr) && !refused(a, b, k * nr, mr), "{name}");
            let cases = [
                refused(a, b, k * nr - 1, mr),
                refused(a, b, 0, mr + 1),
                refused(MatRef { data: &data[..mr * k - 1], ..a }, b, 0, mr),
                refused(MatRef { row_stride: data.len(), ..a }, b, 0, mr),
                refused(MatRef { col_stride: data.len(), ..a }, b, 0, mr),
                refused(a, MatRef { data: &data[..k * nr - 1], ..b }, 0, mr),
                refused(a, MatRef { data: &data[..k * nr - 1], cols: nr - 1, ..b }, 0, mr),
                refused(a, MatRef { row_stride: data.len(), ..b }, 0, mr),
                refused(a, MatRef { rows: k - 1, ..b }, 0, mr),
                refused(a, MatRef { cols: nr + 1, ..b }, 0, mr),
                refused(a, MatRef::new(&data, nr, k).t(), 0, mr),
            ];
            assert_eq!(cases, [true; 11], "{name}");
        }
    }
}
