//! Small products for attention, read from where the operands lie: C (+)= A·B with A of any strides and rows of B contiguous.
//!
//! An element of C is the sum over k from the first to the last, whatever the blocking, so that a row does not depend on the rows around it.

use samara_core::gemm::RowsMut;

use super::simd::{MulAdd, simd};
use crate::tiles::Tile;

/// A (m, k): element (i, p) is `data[i * row_stride + p * k_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) k_stride: usize,
}

/// B (k, n): row p is `data[p * ld..][..n]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) data: &'a [f32],
    pub(super) ld: usize,
}

/// Columns of a full block: with six rows, twelve vectors of sums hide the latency of two multiply-adds a cycle.
pub(super) const WIDTH: usize = 16;

simd! {
    /// C = A·B or C += A·B with `shape` = (m, n, k), from row and column `at` of `c` on.
    ///
    /// # Panics
    /// An operand is shorter than its shape says. What lies outside of C is not written.
    pub(super) fn multiply<M>(
        shape: [usize; 3],
        a: Left<'_>,
        b: Right<'_>,
        c: &mut Tile<'_, f32>,
        at: [usize; 2],
        add: bool,
    ) {
        let ([m, n, k], [first_row, first_col]) = (shape, at);
        if m == 0 || n == 0 {
            return;
        }
        if k > 0 {
            assert!((m - 1) * a.row_stride + (k - 1) * a.k_stride < a.data.len(), "A is shorter than its shape");
            assert!((k - 1) * b.ld + n <= b.data.len(), "B is shorter than its shape");
        }
        let mut col = 0;
        while col < n {
            let width = if n - col >= WIDTH { WIDTH } else if n - col >= 8 { 8 } else { 1 };
            let mut row = 0;
            while row < m {
                let place = Place { a_start: row * a.row_stride, b_start: col, k, row: first_row + row, col: first_col + col, add };
                // SAFETY: both operands were checked, and the block is inside m and n.
                let height = unsafe {
                    match width {
                        WIDTH => place.high::<M, WIDTH>(m - row, a, b, c),
                        8 => place.high::<M, 8>(m - row, a, b, c),
                        _ => place.high::<M, 1>(m - row, a, b, c),
                    }
                };
                row += height;
            }
            col += width;
        }
    }
}

/// Rows of k numbers (rows, k) as panels of [`WIDTH`] columns (⌈rows / WIDTH⌉, k, WIDTH): the right side of a product with their transpose.
/// What a panel has beyond the last row is 0.
pub(super) fn pack_transposed(source: Right<'_>, rows: usize, k: usize, panels: &mut [f32]) {
    for (i, panel) in panels.chunks_exact_mut(k * WIDTH).take(rows.div_ceil(WIDTH)).enumerate() {
        let count = WIDTH.min(rows - i * WIDTH);
        let row = |j: usize| &source.data[(i * WIDTH + j) * source.ld..][..k];
        if count < WIDTH {
            panel.fill(0.0);
            for j in 0..count {
                panel[j..].iter_mut().step_by(WIDTH).zip(row(j)).for_each(|(to, &from)| *to = from);
            }
            continue;
        }
        let columns: [&[f32]; WIDTH] = std::array::from_fn(row);
        for (p, to) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
            for (to, column) in to.iter_mut().zip(&columns) {
                *to = column[p];
            }
        }
    }
}

/// Where a block of C and its operands begin.
struct Place {
    a_start: usize,
    b_start: usize,
    k: usize,
    row: usize,
    col: usize,
    add: bool,
}

impl Place {
    /// A block as high as fits `rows` and the registers; returns its height.
    ///
    /// # Safety
    /// A has `rows` rows from the block's first on, B has W columns from the block's first on, for every p < k.
    #[inline(always)]
    unsafe fn high<M: MulAdd, const W: usize>(&self, rows: usize, a: Left<'_>, b: Right<'_>, c: &mut Tile<'_, f32>) -> usize {
        // SAFETY: the caller's contract; no block is higher than `rows`.
        unsafe {
            match rows {
                6.. => self.block::<M, 6, W>(a, b, c),
                4..6 => self.block::<M, 4, W>(a, b, c),
                2..4 => self.block::<M, 2, W>(a, b, c),
                _ => self.block::<M, 1, W>(a, b, c),
            }
        }
    }

    /// One block of C, its sums in registers; returns H.
    ///
    /// # Safety
    /// A has H rows from the block's first on, B has W columns from the block's first on, for every p < k.
    #[inline(always)]
    unsafe fn block<M: MulAdd, const H: usize, const W: usize>(&self, a: Left<'_>, b: Right<'_>, c: &mut Tile<'_, f32>) -> usize {
        let mut sums = [[0.0; W]; H];
        for p in 0..self.k {
            let (a_at, b_at) = (self.a_start + p * a.k_stride, self.b_start + p * b.ld);
            debug_assert!(a_at + (H - 1) * a.row_stride < a.data.len() && b_at + W <= b.data.len());
            // SAFETY: the caller's contract.
            let right: &[f32; W] = unsafe { &*b.data.as_ptr().add(b_at).cast() };
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                let left = unsafe { *a.data.get_unchecked(a_at + i * a.row_stride) };
                for (sum, &right) in sums.iter_mut().zip(right) {
                    *sum = M::mul_add(left, right, *sum);
                }
            }
        }
        let mut rows: [&mut [f32]; H] = std::array::from_fn(|_| Default::default());
        c.block(self.row, self.col, W, &mut rows);
        for (row, sums) in rows.into_iter().zip(&sums) {
            let Some(to) = row.first_chunk_mut::<W>() else { continue };
            if self.add {
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to += sum;
                }
            } else {
                *to = *sums;
            }
        }
        H
    }
}
