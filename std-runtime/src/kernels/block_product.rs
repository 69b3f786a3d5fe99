//! A product with quantised weights, a tile at a time, in plain Rust.

use samara_core::gemm::{Store, store_row};
use samara_core::graph::DType;
use samara_core::quant::{BLOCK, dot_blocks};

use crate::tiles::Tile;

/// Integers of a vector.
pub(super) const LANES: usize = 8;

/// Rows of activations (M, K) in quantisation blocks.
#[derive(Clone, Copy)]
pub(super) struct Activations<'a> {
    /// Signed bytes (M, K).
    pub(super) q: &'a [i8],
    /// Scales (M, K/32).
    pub(super) d: &'a [f32],
    /// The initial sums of a product with unsigned weights (M, K/32, 8): −z Σ of the four bytes of a lane, where z is the unsigned weight that
    /// represents 0.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by the kernels of AVX2 and AVX-512"))]
    pub(super) start: &'a [i32],
}

/// A product divided into tasks: rows of activations times rows of a quantised weight (N, K).
#[derive(Clone, Copy)]
pub(super) struct BlockProduct<'a> {
    pub(super) dtype: DType,
    pub(super) weight: &'a [u8],
    pub(super) x: Activations<'a>,
    /// K/32.
    pub(super) blocks: usize,
    pub(super) store: Store,
}

impl BlockProduct<'_> {
    /// Bytes of a row of the weight.
    pub(super) fn row_bytes(&self) -> usize {
        self.dtype.bytes(self.blocks * BLOCK, size_of::<f32>()).unwrap_or(0)
    }

    /// The columns of a tile, in plain Rust.
    pub(super) fn multiply(&self, tile: &mut Tile<'_, f32>) {
        let (first_row, first_col, k) = (tile.first_row, tile.first_col, self.blocks * BLOCK);
        for i in 0..tile.rows() {
            let (q, d) = (&self.x.q[(first_row + i) * k..][..k], &self.x.d[(first_row + i) * self.blocks..][..self.blocks]);
            for (j, c) in tile.row(i).iter_mut().enumerate() {
                let row = &self.weight[(first_col + j) * self.row_bytes()..][..self.row_bytes()];
                store_row(self.store, &[dot_blocks(self.dtype, row, q, d)], std::slice::from_mut(c));
            }
        }
    }
}
