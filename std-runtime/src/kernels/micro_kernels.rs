//! Micro-kernels for x86-64: one source, compiled for AVX2 and FMA and for AVX-512.

use samara_core::gemm::MicroKernel;

#[cfg(target_arch = "x86_64")]
use super::pack;

/// The kernels that this machine runs, the best first, with their names.
#[cfg(target_arch = "x86_64")]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2 && is_x86_feature_detected!("avx512f");
    // Both sum in the same order: a machine with AVX-512 gives the bits of one without.
    let wide = MicroKernel {
        mr: x86::avx512::MR,
        nr: x86::avx512::NR,
        lanes: x86::avx512::LANES,
        mc: MC,
        kc: KC,
        run: x86::avx512::run,
        pack: pack::panels,
    };
    let narrow = MicroKernel { mr: x86::avx2::MR, nr: x86::avx2::NR, lanes: x86::avx2::LANES, run: x86::avx2::run, ..wide };
    let wide = avx512.then_some(("samara avx512 8x48", wide));
    wide.into_iter().chain(avx2.then_some(("samara avx2 6x16", narrow)))
}

/// No such kernel on this kind of machine.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn kernels() -> impl Iterator<Item = (&'static str, MicroKernel<f32>)> {
    std::iter::empty()
}

/// Rows of a block of A, and the longest block of the summed dimension: 432 KiB, in half a mebibyte of second-level cache.
#[cfg(target_arch = "x86_64")]
const MC: usize = 288;
#[cfg(target_arch = "x86_64")]
const KC: usize = 384;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use samara_core::gemm::{MatRef, Store, store_row};

    use super::super::micro_loops::{Operands, avx2_6x1, avx2_6x2, avx512_8x1, avx512_8x2, avx512_8x3};

    /// A micro-kernel: whole tiles by the loops of [`micro_loops`]; fewer rows, at the end of a matrix, are cut into tiles of `$rows`.
    macro_rules! micro_kernel {
        (
            $name:ident, $features:literal, $lanes:literal, $most:literal [$($rows:literal)*],
            [$nr:literal: $($vectors:literal $whole:ident),*],
            $zero:ident, $load:ident, $store:ident, $splat:ident, $mul_add:ident
        ) => {
            pub(super) mod $name {
                use super::*;

                pub(in super::super) const LANES: usize = $lanes;
                pub(in super::super) const MR: usize = $most;
                pub(in super::super) const NR: usize = $nr;

                /// Reached only through [`super::super::kernels`], which has asked the machine.
                pub(in super::super) fn run(
                    a: MatRef<'_, f32>,
                    b: MatRef<'_, f32>,
                    panel: &mut [f32],
                    store: Store,
                    rows: &mut [&mut [f32]],
                ) {
                    let (k, cols) = (a.cols, b.cols);
                    let end = (k.max(1) - 1).saturating_mul(b.row_stride).saturating_add(cols.next_multiple_of(LANES));
                    assert!(k == 0 || (a.is_inside() && b.rows == k && end <= b.data.len()), "operands longer than their slices");
                    assert!(cols <= NR && (panel.is_empty() || panel.len() >= k * NR), "too wide a tile, or a panel shorter than {k}");
                    let mut o = Operands {
                        k,
                        a: a.data.as_ptr(),
                        row_stride: a.row_stride,
                        step_stride: a.col_stride,
                        b: b.data.as_ptr(),
                        ld: b.row_stride,
                        panel: panel.as_mut_ptr(),
                        add: store == Store::Add,
                    };
                    let (mut pack, mut rest) = (!panel.is_empty(), rows);
                    while let Some(&height) = [$most $(, $rows)*].iter().find(|&&height| height <= rest.len()) {
                        let (rows, after) = std::mem::take(&mut rest).split_at_mut(height);
                        // SAFETY: the machine has the instructions, and the lengths of operands and panel are checked.
                        unsafe {
                            match (height, cols.div_ceil(LANES)) {
                                $(
                                    ($most, $vectors) if pack => whole($whole::<true>, o, rows),
                                    ($most, $vectors) => whole($whole::<false>, o, rows),
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
                        o.a = o.a.wrapping_add(height * o.row_stride);
                        rest = after;
                    }
                }

                /// A whole tile by a loop of its own.
                ///
                /// # Safety
                /// As the loop's for the operands; `rows` are MR.
                unsafe fn whole(steps: unsafe fn(Operands, &[*mut f32; MR]), o: Operands, rows: &mut [&mut [f32]]) {
                    let cols = rows.first().map_or(0, |row| row.len());
                    if cols.is_multiple_of(LANES) && rows.iter().all(|row| row.len() == cols) {
                        let to = std::array::from_fn(|i| rows[i].as_mut_ptr());
                        // SAFETY: the caller's contract; rows are as long as all vectors.
                        return unsafe { steps(o, &to) };
                    }
                    let mut sums = [[0.0; NR]; MR];
                    let to = std::array::from_fn(|i| sums[i].as_mut_ptr());
                    // SAFETY: the caller's contract; there is room for the most vectors.
                    unsafe { steps(Operands { add: false, ..o }, &to) };
                    let store = if o.add { Store::Add } else { Store::Overwrite };
                    rows.iter_mut().zip(&sums).for_each(|(row, sums)| store_row(store, sums, row));
                }

                /// A tile of R rows, a vector of each at a time.
                ///
                /// # Safety
                /// The instructions exist; R rows of A and `vectors` vectors of B can be read and, if `pack`, of a panel written.
                #[target_feature(enable = $features)]
                unsafe fn edge<const R: usize>(o: Operands, vectors: usize, pack: bool, rows: &mut [&mut [f32]]) {
                    let store = if o.add { Store::Add } else { Store::Overwrite };
                    for first in (0..vectors * LANES).step_by(LANES) {
                        let mut sums = [$zero(); R];
                        for p in 0..o.k {
                            // SAFETY: the caller's contract.
                            unsafe {
                                let right = $load(o.b.add(p * o.ld + first));
                                if pack {
                                    $store(o.panel.add(p * NR + first), right);
                                }
                                for (i, sum) in sums.iter_mut().enumerate() {
                                    *sum = $mul_add($splat(*o.a.add(p * o.step_stride + i * o.row_stride)), right, *sum);
                                }
                            }
                        }
                        for (row, sum) in rows.iter_mut().zip(sums) {
                            let mut numbers = [0.0; LANES];
                            // SAFETY: a vector has so many numbers.
                            unsafe { $store(numbers.as_mut_ptr(), sum) };
                            let end = row.len().min(first + LANES);
                            store_row(store, &numbers, &mut row[first..end]);
                        }
                    }
                }
            }
        };
    }

    micro_kernel!(
        avx2, "avx2,fma", 8, 6 [4 2 1], [16: 2 avx2_6x2, 1 avx2_6x1],
        _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps
    );
    micro_kernel!(
        avx512, "avx512f,avx2,fma", 16, 8 [4 2 1], [48: 3 avx512_8x3, 2 avx512_8x2, 1 avx512_8x1],
        _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps
    );
}
