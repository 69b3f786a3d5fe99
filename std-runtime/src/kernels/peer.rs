//! The crate `matrixmultiply` behind a safe function: a selectable alternative and a baseline. It allocates on every call.

use samara_core::gemm::{MatRef, Store};

/// `C = A·B` or `C += A·B` on the calling thread: a (m, k), b (k, n), out (m, n) with `out_ld` elements from a row to the next.
///
/// # Panics
/// A matrix does not fit its slice.
pub(super) fn sgemm(a: MatRef<'_, f32>, b: MatRef<'_, f32>, out: &mut [f32], out_ld: usize, store: Store) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert!(k == 0 || (a.is_inside() && b.is_inside() && b.rows == k), "an operand is longer than its slice");
    assert!(out_ld >= n && (m - 1) * out_ld + n <= out.len(), "the result is longer than its slice");
    let beta = if store == Store::Add { 1.0 } else { 0.0 };
    // SAFETY: every element of the three matrices lies inside its slice, as just checked; rows of the result do not overlap.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            beta,
            out.as_mut_ptr(),
            out_ld as isize,
            1,
        );
    }
}
