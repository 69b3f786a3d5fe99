//! Blocks of the matrix of windows (windows, kh·kw·C) of images (N, H, W, C): a row is a window, a column a tap and a channel.
//!
//! A convolution is a product with this matrix, which is kh·kw times as large as the images. So it is never whole in memory: a block is written into
//! scratch that stays in the L2 cache, multiplied, and overwritten by the next.

use std::ops::Range;

use samara_core::ops::convolution::Geometry;

use super::elementwise::{add, copy};

/// Writes rows `rows` and columns `columns` of the matrix of windows of x into `block` (rows, columns); zeros outside of an image.
pub(super) fn gather(geometry: &Geometry, x: &[f32], rows: Range<usize>, columns: Range<usize>, block: &mut [f32]) {
    let width = columns.len();
    for (block, i) in block.chunks_exact_mut(width.max(1)).zip(rows) {
        for_each_run(geometry, i, columns.clone(), |run| match run {
            Run::Inside { at, start, len } => copy(&mut block[at..at + len], &x[start..]),
            Run::Outside { at, len } => block[at..at + len].fill(0.0),
        });
    }
}

/// Adds rows `rows` and columns `columns` of a matrix of windows, `block`, to the places that they were read from. `dx` is the part of the images from
/// element `first` on; what lies outside of it is skipped, so that tasks can have parts that begin and end with lines of pixels.
pub(super) fn scatter(
    geometry: &Geometry,
    block: &[f32],
    rows: Range<usize>,
    columns: Range<usize>,
    dx: &mut [f32],
    first: usize,
) {
    let width = columns.len();
    for (block, i) in block.chunks_exact(width.max(1)).zip(rows) {
        for_each_run(geometry, i, columns.clone(), |run| {
            if let Run::Inside { at, start, len } = run
                && let Some(dx) = start.checked_sub(first).and_then(|start| dx.get_mut(start..start + len))
            {
                add(dx, &block[at..at + len]);
            }
        });
    }
}

/// Neighbouring columns of a row that are contiguous in the images, or all outside of them; `at` is the first column, from the first of the block.
enum Run {
    Inside { at: usize, start: usize, len: usize },
    Outside { at: usize, len: usize },
}

/// Calls `f` for the runs of row `i` that cover the columns, in ascending order.
fn for_each_run(geometry: &Geometry, i: usize, columns: Range<usize>, mut f: impl FnMut(Run)) {
    let Geometry { window, image: [height, width], channels, .. } = *geometry;
    let (image, [y, x]) = geometry.split(i);
    let line_len = window.kernel[1] as usize * channels;
    let mut column = columns.start;
    while column < columns.end {
        let (line, within) = (column / line_len, column % line_len);
        let end = columns.end.min((line + 1) * line_len);
        let Some(row) = window.place(0, y, line, height) else {
            f(Run::Outside { at: column - columns.start, len: end - column });
            column = end;
            continue;
        };
        // With dilation neighbouring taps are apart; otherwise a line of taps is one run inside of the image and one at each side.
        let tap = within / channels;
        let place = window.place(1, x, tap, width);
        let same_side = |other: usize| window.place(1, x, other, width).is_some() == place.is_some();
        let mut taps = 1;
        while (window.dilation == 1 || place.is_none())
            && line * line_len + (tap + taps) * channels < end
            && same_side(tap + taps)
        {
            taps += 1;
        }
        let len = ((tap + taps) * channels - within).min(end - column);
        let at = column - columns.start;
        f(match place {
            Some(place) => {
                Run::Inside { at, start: ((image * height + row) * width + place) * channels + within % channels, len }
            }
            None => Run::Outside { at, len },
        });
        column += len;
    }
}
