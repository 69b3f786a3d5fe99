//! Packing: an operand cut into panels in which the micro-kernel reads every number in order.

use super::driver::blocks;
use super::{MatRef, MicroKernel};
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

/// The packing of the portable kernel, for any strides.
pub(super) fn panels<R: Real>(source: MatRef<'_, R>, width: usize, packed: &mut [R]) {
    let width = width.max(1);
    for (panel, (first_col, cols)) in
        packed.chunks_exact_mut(source.rows.saturating_mul(width).max(1)).zip(blocks(source.cols, width))
    {
        let source = source.part(0, first_col, source.rows, cols);
        match (cols == width, width, source.col_stride, source.row_stride) {
            (true, 8, 1, _) => copy_rows::<R, 8>(source, panel),
            (true, 4, 1, _) => copy_rows::<R, 4>(source, panel),
            (true, 8, _, 1) => transpose::<R, 8>(source, panel),
            (true, 4, _, 1) => transpose::<R, 4>(source, panel),
            _ => pack_any(source, width, panel),
        }
    }
}

/// Columns lie side by side: each row of the panel is a piece of a row of the source.
fn copy_rows<R: Real, const W: usize>(source: MatRef<'_, R>, panel: &mut [R]) {
    let mut rest = source.data;
    for to in panel.as_chunks_mut::<W>().0 {
        *to = rest.first_chunk::<W>().copied().unwrap_or([R::ZERO; W]);
        rest = rest.get(source.row_stride..).unwrap_or(&[]);
    }
}

/// Every one of `W` columns is contiguous: a transpose, in blocks of eight rows so that pieces of cache lines are read once.
fn transpose<R: Real, const W: usize>(source: MatRef<'_, R>, panel: &mut [R]) {
    const BLOCK: usize = 8;
    let mut first = 0;
    let (rows, _) = panel.as_chunks_mut::<W>();
    for block in rows.chunks_mut(BLOCK) {
        let mut columns = [[R::ZERO; BLOCK]; W];
        for (j, column) in columns.iter_mut().enumerate() {
            let start = j.saturating_mul(source.col_stride).saturating_add(first);
            let rest = source.data.get(start..).unwrap_or(&[]);
            match rest.first_chunk::<BLOCK>() {
                Some(full) => *column = *full,
                None => column.iter_mut().zip(rest).for_each(|(to, &from)| *to = from),
            }
        }
        for (p, to) in block.iter_mut().enumerate() {
            for (to, column) in to.iter_mut().zip(&columns) {
                *to = column.get(p).copied().unwrap_or(R::ZERO);
            }
        }
        first += BLOCK;
    }
}

/// Any strides, any number of columns up to `width`; the missing ones are zeros.
fn pack_any<R: Real>(source: MatRef<'_, R>, width: usize, panel: &mut [R]) {
    let width = width.max(1);
    panel.fill(R::ZERO);
    for j in 0..source.cols {
        let column = source.part(0, j, source.rows, 1);
        let mut start = 0_usize;
        for to in panel.iter_mut().skip(j).step_by(width) {
            *to = column.data.get(start).copied().unwrap_or(R::ZERO);
            start = start.saturating_add(source.row_stride);
        }
    }
}
