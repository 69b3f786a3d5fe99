//! The loops around the micro-kernel.

use super::pack::{pack_a, pack_b, packed_len};
use super::{MAX_ROWS, MatRef, MicroKernel, RowsMut, Store};
use crate::math::Real;

/// Called as `epilogue(row, first_col, segment)` with finished pieces of rows of C, each element once: bias, activation, residual.
pub type Epilogue<'a, R> = Option<&'a (dyn Fn(usize, usize, &mut [R]) + Sync)>;

/// Elements of scratch that [`gemm`] needs for C (m, n) summed over k.
pub fn scratch_len<R>(kernel: &MicroKernel<R>, m: usize, n: usize, k: usize) -> usize {
    let k = kernel.k_block(k);
    packed_len(m.min(kernel.mc), kernel.mr, k).saturating_add(packed_len(n.min(kernel.nc), kernel.nr, k))
}

/// `C = A·B` or `C += A·B`, then the epilogue, on the calling thread.
///
/// Shapes: a (m, k), b (k, n), c (m, n). Without k (k = 0) the product is 0, and the epilogue still runs.
/// `scratch` has at least [`scratch_len`] elements; with fewer, a part of C is not computed (and a debug build panics).
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
    let (mc, nc, panel_k) = (kernel.mc.max(1), kernel.nc.max(1), kernel.k_block(k));
    let Some((packed_a, packed_b)) = scratch.split_at_mut_checked(packed_len(m.min(mc), kernel.mr, panel_k)) else { return };
    for (first_col, cols) in blocks(n, nc) {
        // Without k there is still one block, empty: it clears C and runs the epilogue.
        for (first_k, k_len) in blocks(k.max(1), panel_k.max(1)) {
            let k_len = k_len.min(k);
            pack_b(kernel, b.part(first_k, first_col, k_len, cols), panel_k, packed_b);
            for (first_row, rows) in blocks(m, mc) {
                pack_a(kernel, a.part(first_row, first_k, rows, k_len), panel_k, packed_a);
                let product = PackedProduct {
                    a: packed_a,
                    b: packed_b,
                    rows,
                    cols,
                    k: k_len,
                    panel_k,
                    store: if first_k == 0 { store } else { Store::Add },
                    epilogue: if first_k + k_len == k { epilogue } else { None },
                    first_row,
                    first_col,
                };
                multiply_packed(kernel, &product, &mut Part { inner: c, first_row, first_col });
            }
        }
    }
}

/// A product of packed operands over one block of the summed dimension.
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
    /// Rows of a packed panel, at least `k`.
    pub panel_k: usize,
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
/// One panel of B stays in the first-level cache while the rows of A pass, which should fit the second level ([`MicroKernel::mc`]).
pub fn multiply_packed<R: Real>(kernel: &MicroKernel<R>, product: &PackedProduct<'_, R>, c: &mut impl RowsMut<R>) {
    let (mr, nr, k) = (kernel.mr.clamp(1, MAX_ROWS), kernel.nr.max(1), product.k);
    let (len_a, len_b) = ((product.panel_k * mr).max(1), (product.panel_k * nr).max(1));
    if k == 0 && product.store == Store::Overwrite {
        for i in 0..product.rows {
            segment(c, i, product.cols).fill(R::ZERO);
        }
    } else if k > 0 {
        // While the rows of A pass over a panel of B, the next panel comes nearer, a piece with every tile.
        let piece = len_b.div_ceil(product.rows.div_ceil(mr).max(1)).max(1);
        for (j, (b, (col, cols))) in product.b.chunks_exact(len_b).zip(blocks(product.cols, nr)).enumerate() {
            let mut next = product.b.get((j + 1) * len_b..).unwrap_or_default().chunks(piece);
            for (a, (row, rows)) in product.a.chunks_exact(len_a).zip(blocks(product.rows, mr)) {
                let mut block: [&mut [R]; MAX_ROWS] = Default::default();
                let Some(block) = block.get_mut(..rows) else { continue };
                c.block(row, col, cols, block);
                (kernel.run)(k, a, b, next.next().unwrap_or_default(), product.store, block);
            }
        }
    }
    if let Some(epilogue) = product.epilogue {
        for i in 0..product.rows {
            epilogue(product.first_row + i, product.first_col, segment(c, i, product.cols));
        }
    }
}

/// The first `cols` elements of row `i`.
fn segment<R>(c: &mut impl RowsMut<R>, i: usize, cols: usize) -> &mut [R] {
    let mut one: [&mut [R]; 1] = Default::default();
    c.block(i, 0, cols, &mut one);
    let [one] = one;
    one
}

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

/// The part of C from some row and column on, so that [`multiply_packed`] counts from its corner.
struct Part<'a, C> {
    inner: &'a mut C,
    first_row: usize,
    first_col: usize,
}

impl<R, C: RowsMut<R>> RowsMut<R> for Part<'_, C> {
    #[inline(always)]
    fn block<'a>(&'a mut self, row: usize, col: usize, cols: usize, into: &mut [&'a mut [R]]) {
        self.inner.block(self.first_row + row, self.first_col + col, cols, into);
    }
}
