//! Packing: an operand cut into panels in which the micro-kernel reads every number in order.

use super::{MatRef, MicroKernel};
use crate::math::Real;

/// Elements that `count` rows of A (`width` = mr) or columns of B (`width` = nr) over `k` take when packed: whole panels, padded with zeros.
pub fn packed_len(count: usize, width: usize, k: usize) -> usize {
    let width = width.max(1);
    count.div_ceil(width).saturating_mul(width).saturating_mul(k)
}

/// Packs A (m, k) into panels of `mr` rows: `packed` is (⌈m / mr⌉, k, mr), of [`packed_len`]`(m, mr, k)` elements.
pub fn pack_a<R: Real>(kernel: &MicroKernel<R>, a: MatRef<'_, R>, packed: &mut [R]) {
    pack(a.t(), kernel.mr, packed);
}

/// Packs B (k, n) into panels of `nr` columns: `packed` is (⌈n / nr⌉, k, nr), of [`packed_len`]`(n, nr, k)` elements.
pub fn pack_b<R: Real>(kernel: &MicroKernel<R>, b: MatRef<'_, R>, packed: &mut [R]) {
    pack(b, kernel.nr, packed);
}

/// Packs `source` (k, count) into panels of `width` columns. The usual widths are compiled as constants.
fn pack<R: Real>(source: MatRef<'_, R>, width: usize, packed: &mut [R]) {
    let width = width.max(1);
    let panel_len = source.rows.saturating_mul(width);
    if panel_len == 0 {
        return;
    }
    let mut first = 0;
    for panel in packed.chunks_exact_mut(panel_len).take(source.cols.div_ceil(width)) {
        let columns = source.part(0, first, source.rows, width);
        match width {
            4 => pack_panel::<R, 4>(columns, panel),
            6 => pack_panel::<R, 6>(columns, panel),
            8 => pack_panel::<R, 8>(columns, panel),
            16 => pack_panel::<R, 16>(columns, panel),
            _ => pack_any(columns, width, panel),
        }
        first += width;
    }
}

/// Packs one panel of at most `W` columns.
fn pack_panel<R: Real, const W: usize>(source: MatRef<'_, R>, panel: &mut [R]) {
    if source.cols == W && source.col_stride == 1 && source.row_stride > 0 {
        copy_rows::<R, W>(source, panel);
    } else if source.cols == W && source.row_stride == 1 && source.col_stride > 0 {
        transpose::<R, W>(source, panel);
    } else {
        pack_any(source, W, panel);
    }
}

/// Columns lie side by side: each row of the panel is a piece of a row of the source.
fn copy_rows<R: Real, const W: usize>(source: MatRef<'_, R>, panel: &mut [R]) {
    for (p, to) in panel.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        let start = p.saturating_mul(source.row_stride);
        *to = source.data.get(start..).and_then(|row| row.first_chunk::<W>()).copied().unwrap_or([R::ZERO; W]);
    }
}

/// Every column is contiguous: a transpose, in blocks of eight rows so that whole cache lines are read.
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
    for (p, to) in panel.chunks_exact_mut(width.max(1)).enumerate() {
        for (j, to) in to.iter_mut().enumerate() {
            *to = if j < source.cols { source.at(p, j) } else { R::ZERO };
        }
    }
}
