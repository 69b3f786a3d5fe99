//! Packing for products: panels that a micro-kernel reads sequentially.

use samara_core::gemm::MatRef;

use super::prefetch::prefetch_line;
use super::vector::{Isa, LANES, vectorised};

/// Packs `source` (k, n) into panels of `width` columns, the last one padded with zeros: `packed` is (⌈n / width⌉, k, width).
///
/// # Panics
/// Neither rows nor columns are contiguous, the source is longer than its slice, or `packed` is too short.
pub(super) fn panels(source: MatRef<'_, f32>, width: usize, packed: &mut [f32]) {
    let (k, n) = (source.rows, source.cols);
    if k == 0 || n == 0 {
        return;
    }
    assert!(source.col_stride == 1 || source.row_stride == 1, "neither rows nor columns are contiguous");
    assert!(source.is_inside(), "the source is longer than its slice");
    assert!(n.div_ceil(width) * width * k <= packed.len(), "no room for {n} columns of {k}");
    match (source.col_stride, width) {
        (1, 48) => copy::<48>(source, packed),
        (1, 16) => copy::<16>(source, packed),
        (1, 8) => copy::<8>(source, packed),
        (1, 6) => copy::<6>(source, packed),
        (1, _) => copy_any(source, width, packed, 0),
        _ => transpose(Isa::detect(), source, width, packed),
    }
}

/// Rows of every panel that are copied before the next rows: with all rows at once, each panel would touch one page per row.
const ROWS: usize = 16;

/// For contiguous rows: each row of a panel is a piece of a row of the source.
fn copy<const W: usize>(source: MatRef<'_, f32>, packed: &mut [f32]) {
    let (k, whole) = (source.rows, source.cols / W);
    for first in (0..k).step_by(ROWS) {
        let rows = ROWS.min(k - first);
        for panel in 0..whole {
            let from = &source.data[first * source.row_stride + panel * W..];
            let to = packed[(panel * k + first) * W..][..rows * W].as_chunks_mut::<W>().0;
            for (p, to) in to.iter_mut().enumerate() {
                *to = *from[p * source.row_stride..].first_chunk().expect("a row of a source that was checked");
            }
        }
    }
    if whole * W < source.cols {
        copy_any(source, W, packed, whole);
    }
}

/// [`copy`] for panels of any width, from panel `first` on.
fn copy_any(source: MatRef<'_, f32>, width: usize, packed: &mut [f32], first: usize) {
    let k = source.rows;
    for (panel, packed) in packed.chunks_exact_mut(k * width).enumerate().skip(first).take(source.cols.div_ceil(width) - first) {
        let cols = width.min(source.cols - panel * width);
        for (p, to) in packed.chunks_exact_mut(width).enumerate() {
            let (to, zeros) = to.split_at_mut(cols);
            to.copy_from_slice(&source.data[p * source.row_stride + panel * width..][..cols]);
            zeros.fill(0.0);
        }
    }
}

vectorised! {
    /// For contiguous columns: transposes sixteen cache lines at a time.
    fn transpose<V>(source: MatRef<'_, f32>, width: usize, packed: &mut [f32]) {
        let (k, n, stride) = (source.rows, source.cols, source.col_stride);
        for (panel, packed) in packed.chunks_exact_mut(k * width).enumerate().take(n.div_ceil(width)) {
            let cols = width.min(n - panel * width);
            // Sixteen columns, each from beginning to end: hardware prefetchers do not follow more streams.
            for j in (0..width).step_by(LANES) {
                let (len, first) = (LANES.min(width - j), panel * width + j);
                for p in (0..k).step_by(LANES) {
                    // Prefetches the next sixteen, which may come from memory, while these are transposed.
                    for i in LANES..2 * LANES {
                        prefetch_line(source.data.as_ptr().wrapping_add((first + i) * stride + p));
                    }
                    let (count, steps) = (cols.saturating_sub(j).min(LANES), LANES.min(k - p));
                    // SAFETY: the columns `first`.. + `count` have `steps` values from p on, and the rows of the panel `len` from j on: `panels` has
                    // checked that the source is inside its slice, and the panel has k rows of `width`.
                    unsafe {
                        let from = source.data.as_ptr().wrapping_add(first * stride + p);
                        let to = packed.as_mut_ptr().add(p * width + j);
                        if (count, steps, len) == (LANES, LANES, LANES) {
                            let square = V::load_transposed(from, stride);
                            for (i, row) in square.iter().enumerate() {
                                row.store(to.add(i * width), LANES);
                            }
                        } else {
                            let mut square = [V::splat(0.0); LANES];
                            for (i, column) in square.iter_mut().enumerate().take(count) {
                                *column = V::load(from.add(i * stride), steps);
                            }
                            V::transpose(&mut square);
                            for (i, row) in square.iter().enumerate().take(steps) {
                                row.store(to.add(i * width), len);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_panel_holds_its_columns_and_zeros(
            (k, n) in (1usize..70, 1usize..120),
            width in prop::sample::select(vec![48, 16, 8, 6, 5]),
            turned in any::<bool>(),
        ) {
            let data: Vec<f32> = (1..=(k * n) as u16).map(f32::from).collect();
            let source = if turned { MatRef::new(&data, n, k).t() } else { MatRef::new(&data, k, n) };
            let len = n.div_ceil(width) * width * k;
            let mut packed = vec![-1.0; len + 1];
            panels(source, width, &mut packed);
            for (at, &got) in packed[..len].iter().enumerate() {
                let (panel, p, j) = (at / (k * width), at / width % k, at % width);
                let col = panel * width + j;
                prop_assert_eq!(got, if col < n { source.at(p, col) } else { 0.0 });
            }
            prop_assert_eq!(packed[len], -1.0);
        }
    }
}
