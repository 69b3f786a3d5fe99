//! Panels: pieces of a matrix in the order in which a micro-kernel reads them.

use super::matrix::MatRef;
use crate::math::Real;

/// Cuts `0..total` into pieces of at most `step`: pairs of start and length.
#[inline(always)]
pub(super) fn blocks(total: usize, step: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    core::iter::from_fn(move || {
        let len = step.min(total - start);
        let piece = (len > 0).then_some((start, len));
        start += len;
        piece
    })
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

/// For contiguous rows: each row of the panel is a piece of a row of the source.
fn copy_rows<R: Real, const W: usize>(source: MatRef<'_, R>, panel: &mut [R]) {
    let mut rest = source.data;
    for to in panel.as_chunks_mut::<W>().0 {
        *to = rest.first_chunk::<W>().copied().unwrap_or([R::ZERO; W]);
        rest = rest.get(source.row_stride..).unwrap_or(&[]);
    }
}

/// For `W` contiguous columns: a transpose, in tiles of eight rows, so that every piece of a cache line is read once.
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

/// For any strides and up to `width` columns; missing columns become zeros.
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
