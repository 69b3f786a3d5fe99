//! Matrix products `C = A·B` and `C += A·B`, with packing into lent memory and an epilogue on finished rows.
//!
//! The algorithm is that of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008) as arranged by BLIS (Van Zee and van de
//! Geijn, 2015), with less packing. A micro-kernel multiplies some rows of A by one panel of B into a small tile in registers. A is read in place
//! unless its columns are contiguous and map to few cache sets. The first tile of a panel reads B in place and packs it for the others. [`gemm`] runs
//! on the calling thread. A runtime with threads partitions C into tiles and calls [`multiply`] for each; if A is packed, earlier tasks have done so
//! ([`pack_a`]).
//!
//! **Order of sums.** An element of C is the sum over blocks of K ([`MicroKernel::k_block`]) of the sums over each block, in ascending k. The order
//! depends on K alone: a row has the same bits alone, in a batch, and under any partition into tiles.

mod driver;
mod kernel;
mod matrix;
mod pack;
mod panels;

#[cfg(test)]
mod tests;

pub use driver::{Epilogue, gemm, multiply, panel_len, scratch_bound, scratch_len};
pub use kernel::{Left, MAX_ROWS, MicroKernel, RunKernel, portable, store_row};
pub use matrix::{Major, MatRef, RowSlices, RowsMut, Soon, Store};
pub use pack::{pack_a, packed_len};
