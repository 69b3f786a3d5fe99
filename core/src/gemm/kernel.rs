//! Micro-kernels: the product of two panels as a tile.

use crate::math::Real;

/// The most elements a micro-kernel's tile may have.
pub const MAX_TILE: usize = 128;

/// A kernel that multiplies a panel of A by a panel of B, and the blocking that suits it.
#[derive(Clone, Copy, Debug)]
pub struct MicroKernel<R> {
    /// Rows of the tile, at least 1.
    pub mr: usize,
    /// Columns of the tile, at least 1; `mr * nr <= MAX_TILE`.
    pub nr: usize,
    /// Rows of A that stay in the second-level cache, a multiple of `mr`.
    pub mc: usize,
    /// Longest piece of the summed dimension, at least 1; fixes the order of sums.
    pub kc: usize,
    /// Columns of B packed at a time, a multiple of `nr`.
    pub nc: usize,
    /// `run(k, a, b, tile)` writes `tile[i * nr + j] = Σ_p a[p * mr + i] · b[p * nr + j]` for p in 0..k, summed from the first p to the last.
    /// Shapes: a (k, mr), b (k, nr), tile (mr, nr).
    pub run: fn(usize, &[R], &[R], &mut [R]),
}

/// Rows and columns of the portable kernel's tile: eight vectors of four f32, which is what any 16-register machine holds.
const MR: usize = 4;
const NR: usize = 8;

/// The kernel in plain Rust, for any number type and any machine.
pub fn portable<R: Real>() -> MicroKernel<R> {
    MicroKernel { mr: MR, nr: NR, mc: 128, kc: 256, nc: 512, run: run_portable::<R> }
}

fn run_portable<R: Real>(k: usize, a: &[R], b: &[R], tile: &mut [R]) {
    let mut sums = [[R::ZERO; NR]; MR];
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0).take(k) {
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    for (to, from) in tile.as_chunks_mut::<NR>().0.iter_mut().zip(sums) {
        *to = from;
    }
}
