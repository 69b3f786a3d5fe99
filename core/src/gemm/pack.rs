//! Packing: an operand rearranged into panels that the micro-kernel reads sequentially.

use super::kernel::MicroKernel;
use super::matrix::MatRef;
use super::panels::panels;
use crate::math::Real;

/// Elements that `count` rows of A (`width` = mr) or columns of B (`width` = nr) take when packed over k.
pub fn packed_len(count: usize, width: usize, k: usize) -> usize {
    let width = width.max(1);
    count.div_ceil(width).saturating_mul(width).saturating_mul(k)
}

/// Packs A (m, k) into panels of `mr` of its rows, zero padded: `packed` is (⌈m / mr⌉, k, mr).
pub fn pack_a<R: Real>(kernel: &MicroKernel<R>, a: MatRef<'_, R>, packed: &mut [R]) {
    pack(kernel, a.t(), kernel.mr, packed);
}

/// Packs B (k, n) into panels of `nr` of its columns, zero padded: `packed` is (⌈n / nr⌉, k, nr).
pub(super) fn pack_b<R: Real>(kernel: &MicroKernel<R>, b: MatRef<'_, R>, packed: &mut [R]) {
    pack(kernel, b, kernel.nr, packed);
}

/// Packs `source` (k, count) into panels of `width` columns.
fn pack<R: Real>(kernel: &MicroKernel<R>, source: MatRef<'_, R>, width: usize, packed: &mut [R]) {
    let contiguous = source.col_stride == 1 || source.row_stride == 1;
    if contiguous && source.is_inside() && packed.len() >= packed_len(source.cols, width, source.rows) {
        (kernel.pack)(source, width.max(1), packed);
    } else {
        panels(source, width, packed);
    }
}
