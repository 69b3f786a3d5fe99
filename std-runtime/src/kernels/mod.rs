//! Fast CPU kernels, chosen at run time: core's reference kernels with most entries replaced.
//!
//! Work is divided into tasks by the shapes of tensors alone, and partial sums are added in the order of their indices: results have the same bits
//! for any number of threads. A row's result does not depend on the rows around it, except in attention: up to four queries are summed in another
//! order than more.

mod attention;
mod block;
mod block_product;
mod cache;
mod convolution;
mod dropout;
mod elementwise;
mod embedding;
pub mod epilogue;
mod few_rows;
pub mod gemm;
mod head;
mod layer_norm;
mod linear;
mod micro_kernels;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod micro_loops;
mod optimizer;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod pack;
pub mod peak;
mod peer;
mod pooling;
mod prefetch;
mod quant;
mod quant_avx2;
mod reduce;
mod rotary;
mod rows;
mod rows_avx2;
mod simd;
mod through;
mod tokens;
mod vector;
mod windows;

#[cfg(test)]
mod tests;

use samara_core::exec::Kernels;
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::graph::Node;
use samara_core::threads::Threads;

use self::epilogue::Epilogue;
use self::gemm::{Gemm, GemmChoice, gemm, gemm_scratch_len};
use crate::tiles::Tile;

/// All f32 kernels of this machine, with the GEMM backend `choice`.
pub fn cpu(choice: Gemm) -> Kernels<f32> {
    match choice {
        Gemm::Samara => table::<Samara>(),
        Gemm::Portable => table::<Portable>(),
        Gemm::MatrixMultiply => table::<MatrixMultiply>(),
    }
}

fn table<G: Product>() -> Kernels<f32> {
    let table = samara_core::ops::reference();
    let table = linear::kernels::<G>(table);
    let table = head::kernels::<G>(table);
    let table = layer_norm::kernels(table);
    let table = attention::kernels(table);
    let table = elementwise::kernels(table);
    let table = cache::kernels(table);
    let table = embedding::kernels(table);
    let table = dropout::kernels(table);
    let table = rotary::kernels(table);
    let table = convolution::kernels::<G>(table);
    let table = pooling::kernels(table);
    let table = reduce::kernels(table);
    let table = tokens::kernels(table);
    optimizer::kernels(table)
}

/// Called with row, column and segment for finished parts of a product within a task.
type OnSegment<'a> = samara_core::gemm::Epilogue<'a, f32>;

/// A [`Gemm`] as a type, because kernels are plain functions.
trait Product: 'static {
    const GEMM: Gemm;

    /// Elements of scratch for C (m, n) summed over k, with A in this storage order.
    fn scratch_len(order: Major, m: usize, n: usize, k: usize) -> usize {
        gemm_scratch_len(&GemmChoice::new(Self::GEMM), order, m, n, k)
    }

    /// `C = A·B` or `C += A·B` with contiguous rows of C, then the epilogue.
    fn multiply(
        threads: &dyn Threads,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        out: &mut [f32],
        store: Store,
        epilogue: Option<Epilogue<'_>>,
        scratch: &mut [f32],
    ) {
        gemm(&GemmChoice::new(Self::GEMM), threads, a, b, out, b.cols, store, epilogue, scratch);
    }

    /// Elements of scratch for products within a task that sum at most k elements.
    fn own_scratch_len(order: Major, m: usize, n: usize, k: usize) -> usize {
        samara_core::gemm::scratch_bound(&GemmChoice::new(Self::GEMM).kernel(), order, m, n, k).next_multiple_of(LINE) + LINE
    }

    /// `C = A·B` or `C += A·B` on the calling thread, for kernels whose tasks are not products alone; then `finish(row, column, segment)`.
    fn multiply_alone(
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        out: &mut Tile<'_, f32>,
        store: Store,
        finish: OnSegment<'_>,
        scratch: &mut [f32],
    ) {
        let unaligned = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let kernel = GemmChoice::new(Self::GEMM).kernel();
        samara_core::gemm::gemm(&kernel, a, b, out, store, finish, &mut scratch[unaligned..]);
    }
}

struct Samara;
impl Product for Samara {
    const GEMM: Gemm = Gemm::Samara;
}

struct Portable;
impl Product for Portable {
    const GEMM: Gemm = Gemm::Portable;
}

struct MatrixMultiply;
impl Product for MatrixMultiply {
    const GEMM: Gemm = Gemm::MatrixMultiply;

    fn multiply_alone(
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        out: &mut Tile<'_, f32>,
        store: Store,
        finish: OnSegment<'_>,
        _: &mut [f32],
    ) {
        peer::sgemm(a, b, out, store);
        if let Some(finish) = finish {
            (0..out.rows()).for_each(|i| finish(i, 0, out.row(i)));
        }
    }
}

/// Whether a product overwrites or accumulates.
fn store(add: bool) -> Store {
    if add { Store::Add } else { Store::Overwrite }
}

/// Elements of a cache line, the alignment of packed panels.
const LINE: usize = 16;
/// The most tasks that a node is cut into.
const MAX_TASKS: usize = 32;
/// The least number of simple arithmetic operations of a task.
const TASK_WORK: usize = 1 << 15;

/// How many of `items`, each of `work` simple operations, form a task.
fn per_task(items: usize, work: usize) -> usize {
    items.div_ceil(MAX_TASKS).max(TASK_WORK.div_ceil(work.max(1)))
}

fn no_scratch(_: &Node<'_>) -> usize {
    0
}
