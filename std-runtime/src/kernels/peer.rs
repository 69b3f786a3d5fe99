//! The crate `matrixmultiply` behind a safe function: an alternative GEMM backend and a baseline. It allocates on every call.

use samara_core::gemm::{MatRef, Store};

use crate::tiles::Tile;

/// `C = A·B` or `C += A·B` on the calling thread: a (m, k), b (k, n), out (m, n).
///
/// # Panics
/// An operand does not fit its slice, or C has another shape.
pub(super) fn sgemm(a: MatRef<'_, f32>, b: MatRef<'_, f32>, out: &mut Tile<'_, f32>, store: Store) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert!(k == 0 || (a.is_inside() && b.is_inside() && b.rows == k), "an operand is longer than its slice");
    let (out, out_ld) = out.part([0, 0], [m, n]);
    let beta = if store == Store::Add { 1.0 } else { 0.0 };
    // SAFETY: every element of the operands is inside its slice, and (m, n) inside the tile, as just checked.
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
            out,
            out_ld as isize,
            1,
        );
    }
}
