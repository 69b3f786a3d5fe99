//! The loops around the micro-kernel.

use super::kernel::{Left, MAX_ROWS, MicroKernel};
use super::matrix::{Major, MatRef, RowsMut, Soon, Store};
use super::pack::{pack_a, pack_b, packed_len};
use super::panels::blocks;
use crate::math::Real;

/// Called as `epilogue(row, first_col, segment)` for finished segments of rows of C, once per element: bias, activation, residual.
pub type Epilogue<'a, R> = Option<&'a mut dyn FnMut(usize, usize, &mut [R])>;

/// Columns of C that are finished together: the segments are long enough for an epilogue, and still in the L2 cache.
const FINISHED_COLS: usize = 128;

/// Elements of scratch that [`gemm`] needs for C (m, n) summed over k, with A in this storage order.
///
/// A panel of B, and a block of A if A is packed.
pub fn scratch_len<R>(kernel: &MicroKernel<R>, major: Major, m: usize, n: usize, k: usize) -> usize {
    let packed_a = if kernel.packs(major, m) { packed_len(kernel.row_block(m, k), kernel.mr, kernel.k_block(k)) } else { 0 };
    panel_len(kernel, n, k).saturating_add(packed_a)
}

/// Elements of scratch that suffice for every product with at most k summed elements: blocks of a shorter k may be longer.
pub fn scratch_bound<R>(kernel: &MicroKernel<R>, major: Major, m: usize, n: usize, k: usize) -> usize {
    let k = k.min(kernel.kc.max(1));
    let panel = packed_len(n.min(kernel.nr), kernel.nr, k);
    if !kernel.packs(major, m) {
        return panel;
    }
    // A block of A has at most mc·kc elements, but for the rows that complete its last tile.
    let most = kernel.mc.saturating_add(kernel.mr).saturating_mul(kernel.kc.max(1));
    panel.saturating_add(packed_len(m, kernel.mr, k).min(most))
}

/// Elements of the panel that [`multiply`] needs for n columns summed over k.
pub fn panel_len<R>(kernel: &MicroKernel<R>, n: usize, k: usize) -> usize {
    packed_len(n.min(kernel.nr), kernel.nr, kernel.k_block(k))
}

/// `C = A·B` or `C += A·B`, then the epilogue, on the calling thread.
///
/// Shapes: a (m, k) with every element inside its slice, b (k, n), c (m, n). Without k (k = 0) the product is 0, and the epilogue still runs.
/// `scratch` has at least [`scratch_len`] elements; with fewer, a part of C is not computed (and a debug build panics).
pub fn gemm<R: Real>(
    kernel: &MicroKernel<R>,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    c: &mut impl RowsMut<R>,
    store: Store,
    mut epilogue: Epilogue<'_, R>,
    scratch: &mut [R],
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    debug_assert_eq!(a.cols, b.rows, "the summed dimensions of A and B differ");
    debug_assert!(a.is_inside(), "A is longer than its slice");
    debug_assert!(scratch.len() >= scratch_len(kernel, a.major(), m, n, k), "too little scratch");
    let Some((panel, packed_a)) = scratch.split_at_mut_checked(panel_len(kernel, n, k)) else { return };
    if !kernel.packs(a.major(), m) {
        return multiply(kernel, Left::Lying(a), b, c, store, epilogue, panel);
    }
    for (first_row, rows) in blocks(m, kernel.row_block(m, k)) {
        // With k = 0 there is still one block, which is empty: it clears C and runs the epilogue.
        for (first_k, k_len) in blocks(k.max(1), kernel.k_block(k).max(1)) {
            let part = a.part(first_row, first_k, rows, k_len.min(k));
            pack_a(kernel, part, packed_a);
            let left = Left::Packed { panels: packed_a, rows, k: part.cols, k_block: kernel.k_block(k) };
            let last = first_k + k_len >= k;
            let mut at_row = epilogue
                .as_mut()
                .filter(|_| last)
                .map(|epilogue| |row: usize, col: usize, segment: &mut [R]| epilogue(first_row + row, col, segment));
            let epilogue = at_row.as_mut().map(|at_row| at_row as &mut dyn FnMut(usize, usize, &mut [R]));
            let store = if first_k == 0 { store } else { Store::Add };
            let b = b.part(first_k, 0, part.cols, n);
            multiply(kernel, left, b, &mut Below { inner: c, first_row }, store, epilogue, panel);
        }
    }
}

/// [`gemm`] with A in the form that the micro-kernel reads.
///
/// A block of A stays in the L2 cache while panels of B stream through. The first tile of a panel reads B in place and packs it into `panel`
/// ([`panel_len`]) if its rows are contiguous; otherwise B is packed before.
pub fn multiply<R: Real>(
    kernel: &MicroKernel<R>,
    a: Left<'_, R>,
    b: MatRef<'_, R>,
    c: &mut impl RowsMut<R>,
    store: Store,
    mut epilogue: Epilogue<'_, R>,
    panel: &mut [R],
) {
    let (m, n, k) = (a.rows(), b.cols, b.rows);
    let panel_k = match a {
        Left::Lying(_) => kernel.k_block(k).max(1),
        Left::Packed { k_block, .. } => k_block.max(1),
    };
    for (first_row, rows) in blocks(m, kernel.row_block(m, panel_k)) {
        // Without k there is still one block, as above.
        for (first_k, k_len) in blocks(k.max(1), panel_k) {
            let k_len = k_len.min(k);
            let store = if first_k == 0 { store } else { Store::Add };
            let block = Block { a, b: b.part(first_k, 0, k_len, n), first_k, store, first_row, rows };
            for (first_col, cols) in blocks(n, FINISHED_COLS.next_multiple_of(kernel.nr.max(1))) {
                multiply_panels(kernel, &block, (first_col, cols), c, panel);
                if let (Some(epilogue), true) = (&mut epilogue, first_k + k_len >= k) {
                    for row in first_row..first_row + rows {
                        epilogue(row, first_col, segment(c, row, first_col, cols));
                    }
                }
            }
        }
    }
}

/// A block of rows of A and all columns of B, over one block of the summed dimension.
struct Block<'a, R> {
    a: Left<'a, R>,
    b: MatRef<'a, R>,
    first_k: usize,
    store: Store,
    first_row: usize,
    rows: usize,
}

/// Columns `first_col..first_col + cols` of the product of a block, one panel of B at a time.
fn multiply_panels<R: Real>(
    kernel: &MicroKernel<R>,
    block: &Block<'_, R>,
    (first_col, cols): (usize, usize),
    c: &mut impl RowsMut<R>,
    panel: &mut [R],
) {
    let (mr, nr, k) = (kernel.mr.clamp(1, MAX_ROWS), kernel.nr.max(1), block.b.rows);
    if k == 0 {
        if block.store == Store::Overwrite {
            (block.first_row..block.first_row + block.rows).for_each(|i| segment(c, i, first_col, cols).fill(R::ZERO));
        }
        return;
    }
    for (col, cols) in blocks(cols, nr) {
        let col = first_col + col;
        let lying = block.b.part(0, col, k, cols);
        let mut in_place = lying.has_rows() && cols.is_multiple_of(kernel.lanes.max(1)) && lying.is_inside();
        if !in_place {
            pack_b(kernel, lying, panel);
        }
        for (row, rows) in blocks(block.rows, mr) {
            let row = block.first_row + row;
            let mut into: [&mut [R]; MAX_ROWS] = Default::default();
            let Some(into) = into.get_mut(..rows) else { continue };
            let soon = written_soon(kernel, block, row, col, c);
            c.block(row, col, cols, into);
            let a = block.a.tile(mr, (row, rows), (block.first_k, k));
            if core::mem::take(&mut in_place) {
                // One tile needs no panel.
                let panel = if rows < block.rows { &mut *panel } else { &mut [] };
                (kernel.run)(a, lying, panel, soon, block.store, into);
            } else {
                (kernel.run)(
                    a,
                    MatRef { data: panel, rows: k, cols, row_stride: nr, col_stride: 1 },
                    &mut [],
                    soon,
                    block.store,
                    into,
                );
            }
        }
    }
}

/// What to prefetch while the tile that starts at (`row`, `col`) is multiplied.
///
/// Tiles whose rows are n cache lines wide take turns in groups of n: each prefetches one line of every row of the next group, so that no tile
/// prefetches many lines at once. The group after the last is the first of the next panel. Lines for which a short group or a short sum has no time
/// are not prefetched, nor is the very first group.
fn written_soon<R: Real>(kernel: &MicroKernel<R>, block: &Block<'_, R>, row: usize, col: usize, c: &impl RowsMut<R>) -> Soon<R> {
    if kernel.line == 0 {
        return Soon::default();
    }
    let (mr, nr) = (kernel.mr.clamp(1, MAX_ROWS), kernel.nr.max(1));
    let group = nr.div_ceil(kernel.line).max(1);
    let tile = (row - block.first_row) / mr;
    let next = (tile / group + 1) * group * mr;
    let (next, first_col) = if next < block.rows { (next, col) } else { (0, col + nr) };
    let at = first_col + tile % group * kernel.line;
    if at < block.b.cols { c.soon(block.first_row + next, (group * mr).min(block.rows - next), at) } else { Soon::default() }
}

/// `cols` elements of row `i` from `first_col` on.
fn segment<R>(c: &mut impl RowsMut<R>, i: usize, first_col: usize, cols: usize) -> &mut [R] {
    let mut one: [&mut [R]; 1] = Default::default();
    c.block(i, first_col, cols, &mut one);
    let [one] = one;
    one
}

/// The rows of C from some row on.
struct Below<'a, C> {
    inner: &'a mut C,
    first_row: usize,
}

impl<R, C: RowsMut<R>> RowsMut<R> for Below<'_, C> {
    #[inline(always)]
    fn block<'a>(&'a mut self, row: usize, col: usize, cols: usize, into: &mut [&'a mut [R]]) {
        self.inner.block(self.first_row + row, col, cols, into);
    }

    #[inline(always)]
    fn soon(&self, row: usize, rows: usize, col: usize) -> Soon<R> {
        self.inner.soon(self.first_row + row, rows, col)
    }
}
