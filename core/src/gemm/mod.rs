//! Matrix products `C = A·B` and `C += A·B` with packing into lent memory and an epilogue on finished rows.
//!
//! The algorithm is the one of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008) as arranged by BLIS
//! (Van Zee and van de Geijn, 2015), with less packing: a micro-kernel multiplies some rows of A, where they lie unless their columns are contiguous
//! and meet in few sets of the cache, by one panel of B into a small tile that stays in registers. The first tile of a panel reads B where it lies and packs it for the
//! others. [`gemm`] does everything on the calling thread. A runtime with threads cuts C into tiles and calls [`multiply`] for each; where A is packed,
//! other tasks have done so before ([`pack_a`]).
//!
//! **Order of sums.** An element of C is the sum over blocks of K ([`MicroKernel::k_block`]) of the sums over the block, each from the first k to the
//! last. That depends on K alone: a row has the same bits alone, in a batch, and under any cutting into tiles.

mod driver;
mod kernel;
mod matrix;
mod pack;
mod panels;

#[cfg(test)]
mod tests;

pub use driver::{Epilogue, gemm, multiply, panel_len, scratch_len};
pub use kernel::{Left, MAX_ROWS, MicroKernel, RunKernel, portable, store_row};
pub use matrix::{Major, MatRef, RowSlices, RowsMut, Soon, Store};
pub use pack::{pack_a, packed_len};
