//! The loops around the micro-kernel.

use super::pack::{pack_a, pack_b, packed_len};
use super::{MAX_TILE, MatRef, MicroKernel, RowsMut, Store};
use crate::math::Real;

/// Called as `epilogue(row, first_col, segment)` with finished pieces of rows of C, each element once: bias, activation, residual.
pub type Epilogue<'a, R> = Option<&'a (dyn Fn(usize, usize, &mut [R]) + Sync)>;

/// Elements of scratch that [`gemm`] wants for C (m, n) summed over k.
pub fn scratch_len<R>(kernel: &MicroKernel<R>, m: usize, n: usize, k: usize) -> usize {
    let k = k.min(kernel.kc);
    packed_len(m.min(kernel.mc), kernel.mr, k).saturating_add(packed_len(n.min(kernel.nc), kernel.nr, k))
}

/// `C = A·B` or `C += A·B`, then the epilogue, on the calling thread.
///
/// Shapes: a (m, k), b (k, n), c (m, n). Without k (k = 0) the product is 0, and the epilogue still runs.
/// `scratch` has at least [`scratch_len`] elements; with fewer nothing is computed (and a debug build panics).
pub fn gemm<R: Real>(
    kernel: &MicroKernel<R>,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    c: &mut impl RowsMut<R>,
    store: Store,
    epilogue: Epilogue<'_, R>,
    scratch: &mut [R],
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    debug_assert_eq!(a.cols, b.rows, "the summed dimensions of A and B differ");
    debug_assert!(scratch.len() >= scratch_len(kernel, m, n, k), "too little scratch");
    let (mc, kc, nc) = (kernel.mc.max(1), kernel.kc.max(1), kernel.nc.max(1));
    let Some((packed_a, packed_b)) = scratch.split_at_mut_checked(packed_len(m.min(mc), kernel.mr, k.min(kc))) else { return };
    for (first_col, cols) in blocks(n, nc) {
        // Without k there is still one block, empty: it clears C and runs the epilogue.
        for (first_k, k_len) in blocks(k.max(1), kc) {
            let k_len = k_len.min(k);
            pack_b(kernel, b.part(first_k, first_col, k_len, cols), packed_b);
            for (first_row, rows) in blocks(m, mc) {
                pack_a(kernel, a.part(first_row, first_k, rows, k_len), packed_a);
                let product = PackedProduct {
                    a: packed_a,
                    b: packed_b,
                    rows,
                    cols,
                    k: k_len,
                    store: if first_k == 0 { store } else { Store::Add },
                    epilogue: if first_k + k_len == k { epilogue } else { None },
                    first_row,
                    first_col,
                };
                multiply_packed(kernel, &product, &mut Part { inner: c, first_row, first_col, cols });
            }
        }
    }
}

/// A product of packed operands.
#[derive(Clone, Copy)]
pub struct PackedProduct<'a, R> {
    /// A (rows, k) as [`pack_a`] left it.
    pub a: &'a [R],
    /// B (k, cols) as [`pack_b`] left it.
    pub b: &'a [R],
    /// Rows of C.
    pub rows: usize,
    /// Columns of C.
    pub cols: usize,
    /// The summed dimension of both operands.
    pub k: usize,
    /// What happens to the old values.
    pub store: Store,
    /// What runs on finished rows.
    pub epilogue: Epilogue<'a, R>,
    /// Number of the first row, told to the epilogue.
    pub first_row: usize,
    /// Number of the first column, told to the epilogue.
    pub first_col: usize,
}

/// Multiplies packed operands into `c` (rows, cols), then runs the epilogue on its rows.
///
/// The rows of A should fit the second-level cache ([`MicroKernel::mc`]).
pub fn multiply_packed<R: Real>(kernel: &MicroKernel<R>, product: &PackedProduct<'_, R>, c: &mut impl RowsMut<R>) {
    if product.k == 0 && product.store == Store::Overwrite {
        for i in 0..product.rows {
            c.row(i).fill(R::ZERO);
        }
    }
    for (first_k, k) in blocks(product.k, kernel.kc.max(1)) {
        let store = if first_k == 0 { product.store } else { Store::Add };
        multiply_block(kernel, product, first_k, k, store, c);
    }
    if let Some(epilogue) = product.epilogue {
        for i in 0..product.rows {
            epilogue(product.first_row + i, product.first_col, c.row(i));
        }
    }
}

/// One block of the summed dimension: all tiles of C, the panel of B staying in the first-level cache.
fn multiply_block<R: Real>(
    kernel: &MicroKernel<R>,
    product: &PackedProduct<'_, R>,
    first_k: usize,
    k: usize,
    store: Store,
    c: &mut impl RowsMut<R>,
) {
    let (mr, nr) = (kernel.mr.max(1), kernel.nr.max(1));
    let mut tile = [R::ZERO; MAX_TILE];
    for (panel_b, (col, cols)) in product.b.chunks_exact((product.k * nr).max(1)).zip(blocks(product.cols, nr)) {
        let Some(panel_b) = panel_b.get(first_k * nr..(first_k + k) * nr) else { continue };
        for (panel_a, (row, rows)) in product.a.chunks_exact((product.k * mr).max(1)).zip(blocks(product.rows, mr)) {
            let Some(panel_a) = panel_a.get(first_k * mr..(first_k + k) * mr) else { continue };
            (kernel.run)(k, panel_a, panel_b, &mut tile);
            for (i, sums) in tile.chunks_exact(nr).take(rows).enumerate() {
                if let Some(to) = c.row(row + i).get_mut(col..col + cols) {
                    store_row(store, sums, to);
                }
            }
        }
    }
}

/// Moves one row of a tile to C, in pieces of eight for the compiler's sake.
#[inline(always)]
fn store_row<R: Real>(store: Store, from: &[R], to: &mut [R]) {
    let (from, from_rest) = from.as_chunks::<8>();
    let (to, to_rest) = to.as_chunks_mut::<8>();
    // A tile's width need not be a multiple of eight, and C may end before the tile does: then the last piece of the tile is cut.
    let last = from.get(to.len()).map_or(from_rest, |piece| piece.as_slice());
    match store {
        Store::Overwrite => {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            to_rest.iter_mut().zip(last).for_each(|(to, &from)| *to = from);
        }
        Store::Add => {
            to.iter_mut().zip(from).for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, &from)| *to += from));
            to_rest.iter_mut().zip(last).for_each(|(to, &from)| *to += from);
        }
    }
}

/// Cuts `0..total` into pieces of at most `step`: pairs of start and length.
fn blocks(total: usize, step: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    core::iter::from_fn(move || {
        let len = step.min(total - start);
        let piece = (len > 0).then_some((start, len));
        start += len;
        piece
    })
}

/// A block of C, so that [`multiply_packed`] counts rows and columns from its corner.
struct Part<'a, C> {
    inner: &'a mut C,
    first_row: usize,
    first_col: usize,
    cols: usize,
}

impl<R, C: RowsMut<R>> RowsMut<R> for Part<'_, C> {
    #[inline(always)]
    fn row(&mut self, i: usize) -> &mut [R] {
        self.inner.row(self.first_row + i).get_mut(self.first_col..self.first_col + self.cols).unwrap_or_default()
    }
}
