//! The machine's peak rates, measured together with the benchmark.

use std::hint::black_box;
use std::time::Instant;

use samara_core::cost::Cost;
use samara_core::threads::Threads;
use serde::Serialize;

use crate::kernels::peak::{multiply_adds, read};
use crate::memory::{Buffer, OutOfMemory};
use crate::threads::Pool;
use crate::tiles::for_each_chunk;

/// Rates of all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Threads that were measured.
    pub threads: usize,
    /// Floating-point operations per second of multiply-adds in registers.
    pub flops_per_s: f64,
    /// Bytes per second of updating large memory in place, counting reads and writes.
    pub bytes_per_s: f64,
}

impl Rates {
    /// Measures both rates.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn measure(pool: &Pool) -> Result<Self, OutOfMemory> {
        Ok(Self { threads: pool.threads(), flops_per_s: peak_flops_per_s(pool), bytes_per_s: update_bytes_per_s(pool)? })
    }

    /// A lower bound of the time for some work, in seconds.
    pub fn floor_s(&self, cost: Cost) -> f64 {
        (cost.flops as f64 / self.flops_per_s).max(cost.bytes as f64 / self.bytes_per_s)
    }
}

/// The minimum time over several runs: other load on the machine only increases it.
fn least_s(runs: usize, mut run: impl FnMut()) -> f64 {
    let timed = (0..runs).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed().as_secs_f64()
    });
    timed.fold(f64::INFINITY, f64::min).max(1e-12)
}

/// Floating-point operations per second of multiply-adds in registers, on all threads at once.
pub fn peak_flops_per_s(pool: &Pool) -> f64 {
    const STEPS: usize = 100_000;
    let threads = pool.threads();
    let run = || {
        pool.run(threads, &|_| {
            black_box(multiply_adds(STEPS));
        })
    };
    let seconds = least_s(40, || pool.install(run));
    // A round of one step gives the number of operations per step.
    threads as f64 * multiply_adds(1) * STEPS as f64 / seconds
}

/// More memory than caches hold, and its pieces for the threads: whole blocks of rows for [`read`].
const LARGE_LEN: usize = 64 * PIECE_LEN;
const PIECE_LEN: usize = (6 * 768) << 8;
const LARGE_RUNS: usize = 5;

/// Large memory, allocated as for models and already committed.
fn large() -> Result<Buffer, OutOfMemory> {
    let mut memory = Buffer::new(LARGE_LEN)?;
    memory.get_mut().fill(1.0);
    Ok(memory)
}

/// Bytes per second of reading 288 MiB.
///
/// # Errors
/// The memory cannot be allocated.
pub fn read_bytes_per_s(pool: &Pool) -> Result<f64, OutOfMemory> {
    let memory = large()?;
    let pieces: Vec<&[f32]> = memory.get().chunks(PIECE_LEN).collect();
    let read = |i: usize| {
        black_box(read(pieces.get(i).copied().unwrap_or(&[])));
    };
    Ok(size_of_val(memory.get()) as f64 / least_s(LARGE_RUNS, || pool.install(|| pool.run(pieces.len(), &read))))
}

/// Bytes per second of updating 288 MiB in place: every byte is read and written.
///
/// # Errors
/// The memory cannot be allocated.
pub fn update_bytes_per_s(pool: &Pool) -> Result<f64, OutOfMemory> {
    let mut memory = large()?;
    let bytes = 2.0 * size_of_val(memory.get()) as f64;
    let change = |_: usize, piece: &mut [f32]| piece.iter_mut().for_each(|x| *x = *x * 0.5 + 1.0);
    Ok(bytes / least_s(LARGE_RUNS, || pool.install(|| for_each_chunk(pool, memory.get_mut(), PIECE_LEN, &change))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_slower_of_both() {
        let machine = Rates { threads: 1, flops_per_s: 100.0, bytes_per_s: 10.0 };
        assert_eq!(machine.floor_s(Cost { flops: 500, bytes: 20 }), 5.0);
        assert_eq!(machine.floor_s(Cost { flops: 100, bytes: 20 }), 2.0);
        assert_eq!(machine.floor_s(Cost::default()), 0.0);
    }
}
