//! Matrix products on several threads.
//!
//! A product is done in groups that bound the packed memory. For each group, tasks pack panels of A and B, then other tasks multiply tiles of C.
//! Everything is cut by shape, never by the number of threads, and the order of sums is that of [`samara_core::gemm`]: the bits are the same for
//! any number of threads.

use samara_core::gemm::{Epilogue, MatRef, MicroKernel, PackedProduct, Store, multiply_packed, pack_a, pack_b, portable};
use samara_core::threads::{Serial, Threads};

use super::rows::{MAX_ROWS, multiply_rows};
use super::{avx2, peer};
use crate::tiles::{Tiling, for_each_chunk, for_each_chunk_of_both, for_each_tile};

/// Who multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gemm {
    /// samara's driver with the best micro-kernel that this machine runs.
    #[default]
    Samara,
    /// samara's driver with the portable micro-kernel.
    Portable,
    /// The crate `matrixmultiply`. It allocates on every call.
    MatrixMultiply,
}

/// A choice of [`Gemm`], looked up once.
#[derive(Clone, Copy, Debug)]
pub struct GemmChoice {
    gemm: Gemm,
    name: &'static str,
    kernel: MicroKernel<f32>,
}

impl GemmChoice {
    /// Asks the machine what it can run.
    pub fn new(gemm: Gemm) -> Self {
        match (gemm, avx2::kernel()) {
            (Gemm::Samara, Some(kernel)) => Self { gemm, name: "samara avx2 6x16", kernel },
            (Gemm::MatrixMultiply, _) => Self { gemm, name: "matrixmultiply", kernel: portable() },
            _ => Self { gemm, name: "samara portable 4x8", kernel: portable() },
        }
    }

    /// Who multiplies.
    pub fn gemm(&self) -> Gemm {
        self.gemm
    }

    /// The micro-kernel of samara's driver.
    pub fn kernel(&self) -> MicroKernel<f32> {
        self.kernel
    }

    /// For people: who multiplies, with which instructions.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Default for GemmChoice {
    fn default() -> Self {
        Self::new(Gemm::default())
    }
}

/// Elements of scratch that [`gemm`] needs for C (m, n) summed over k.
pub fn gemm_scratch_len(choice: &GemmChoice, m: usize, n: usize, k: usize) -> usize {
    match choice.gemm {
        Gemm::MatrixMultiply => 0,
        Gemm::Samara if m <= MAX_ROWS => 0,
        _ => Plan::new(&choice.kernel, m, n, k).scratch_len(),
    }
}

/// `C = A·B` or `C += A·B`, then `epilogue(row, first_col, segment)` on every finished piece of a row.
///
/// Shapes: a (m, k), b (k, n), out (m, n) with `out_ld` elements from a row to the next. Without k (k = 0) the product is 0, and the epilogue
/// still runs. Tasks run on `threads`; the result does not depend on it.
///
/// # Panics
/// `scratch` is shorter than [`gemm_scratch_len`], the summed dimensions differ, or C does not fit `out`.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    choice: &GemmChoice,
    threads: &dyn Threads,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Epilogue<'_, f32>,
    scratch: &mut [f32],
) {
    assert_eq!(a.cols, b.rows, "the summed dimensions of A and B differ");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    if choice.gemm == Gemm::Samara && a.rows <= MAX_ROWS {
        return multiply_rows(&choice.kernel, threads, a, b, out, out_ld, store, epilogue);
    }
    let plan = Plan::new(&choice.kernel, a.rows, b.cols, a.cols);
    let threads = if plan.tasks == 1 { &Serial } else { threads };
    match choice.gemm {
        Gemm::MatrixMultiply => by_peer(threads, &plan, a, b, out, out_ld, store, epilogue),
        _ => by_groups(&choice.kernel, threads, &plan, a, b, out, out_ld, store, epilogue, scratch),
    }
}

/// Multiply-adds that are worth a task.
const TASK_WORK: usize = 1 << 20;
/// The most tasks that a group is cut into for the sake of threads; tiles have a largest size too.
const MAX_TASKS: usize = 16;
/// The most rows, columns and packed elements of a group.
const GROUP_ROWS: usize = 2048;
const GROUP_COLS: usize = 4096;
const GROUP_LEN: usize = 4 << 20;
/// Least and most columns of a tile.
const TILE_COLS: (usize, usize) = (128, 1024);
/// Packed elements that are worth a task.
const PACK_LEN: usize = 1 << 16;
/// Elements of a cache line: packed panels begin at one.
const LINE: usize = 16;
/// Least rows of a task of matrixmultiply: each packs all of B for itself.
const PEER_ROWS: usize = 256;

/// How a product is cut; made from its shape alone.
#[derive(Clone, Copy, Debug)]
struct Plan {
    m: usize,
    n: usize,
    k: usize,
    /// The most rows, columns and blocks of k of a group.
    group: (usize, usize, usize),
    /// Length of a block of k.
    panel_k: usize,
    /// How A and B are packed.
    a: Packing,
    b: Packing,
    /// Rows and columns of a tile.
    tile: (usize, usize),
    /// Tasks that multiply a group.
    tasks: usize,
}

/// How an operand is packed: (blocks of k, chunks, panels of a chunk, panel_k, width), a chunk a task.
#[derive(Clone, Copy, Debug)]
struct Packing {
    width: usize,
    panel_k: usize,
    /// Panels that a task packs.
    panels: usize,
    /// Tasks for a block of k.
    chunks: usize,
}

impl Packing {
    fn new(count: usize, width: usize, panel_k: usize) -> Self {
        let panels = count.div_ceil(width);
        let chunks = (panels * width * panel_k).div_ceil(PACK_LEN).clamp(1, panels);
        let panels = panels.div_ceil(chunks);
        Self { width, panel_k, panels, chunks: count.div_ceil(width).div_ceil(panels) }
    }

    /// Rows of A or columns of B that a task packs.
    fn chunk_count(&self) -> usize {
        self.panels * self.width
    }

    /// Elements that a task writes.
    fn chunk_len(&self) -> usize {
        self.chunk_count() * self.panel_k
    }

    /// Elements of a block of k.
    fn block_len(&self) -> usize {
        self.chunk_len() * self.chunks
    }
}

impl Plan {
    fn new(kernel: &MicroKernel<f32>, m: usize, n: usize, k: usize) -> Self {
        let (rows, cols, panel_k) = (m.clamp(1, GROUP_ROWS), n.clamp(1, GROUP_COLS), kernel.k_block(k).max(1));
        let k_blocks = k.div_ceil(panel_k).min(GROUP_LEN / ((rows + cols) * panel_k)).max(1);
        let tasks = (rows.saturating_mul(cols).saturating_mul(panel_k * k_blocks) / TASK_WORK).clamp(1, MAX_TASKS);
        let (mut across, mut down) = (cols.div_ceil(TILE_COLS.1), rows.div_ceil(kernel.mc));
        while across * down < tasks {
            if cols / (2 * across) >= TILE_COLS.0 {
                across *= 2;
            } else if rows / (2 * down) >= kernel.mr {
                down *= 2;
            } else {
                break;
            }
        }
        let tile = |len: usize, parts: usize, step: usize| len.div_ceil(step).div_ceil(parts) * step;
        Self {
            m,
            n,
            k,
            group: (rows, cols, k_blocks),
            panel_k,
            a: Packing::new(rows, kernel.mr, panel_k),
            b: Packing::new(cols, kernel.nr, panel_k),
            tile: (tile(rows, down, kernel.mr), tile(cols, across, kernel.nr)),
            tasks,
        }
    }

    fn scratch_len(&self) -> usize {
        (self.a.block_len() + self.b.block_len()) * self.group.2 + LINE
    }
}

/// Some rows of A and columns of B over some blocks of k, packed.
struct Group<'a> {
    plan: &'a Plan,
    a: &'a [f32],
    b: &'a [f32],
    rows: usize,
    cols: usize,
    k: usize,
    store: Store,
    epilogue: Epilogue<'a, f32>,
    first_row: usize,
    first_col: usize,
}

#[allow(clippy::too_many_arguments)]
fn by_groups(
    kernel: &MicroKernel<f32>,
    threads: &dyn Threads,
    plan: &Plan,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Epilogue<'_, f32>,
    scratch: &mut [f32],
) {
    let needed = plan.scratch_len();
    assert!(scratch.len() >= needed, "{} elements of scratch, {needed} needed", scratch.len());
    let (group_rows, group_cols, k_blocks) = plan.group;
    let unaligned = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let (packed_a, packed_b) = scratch[unaligned..].split_at_mut(plan.a.block_len() * k_blocks);
    for first_col in (0..plan.n).step_by(group_cols) {
        // Without k there is still one group, empty: it clears C and runs the epilogue.
        for first_k in (0..plan.k.max(1)).step_by(plan.panel_k * k_blocks) {
            let k = (plan.panel_k * k_blocks).min(plan.k - first_k);
            let b = b.part(first_k, first_col, k, group_cols);
            for first_row in (0..plan.m).step_by(group_rows) {
                let a = a.part(first_row, first_k, group_rows, k);
                pack(kernel, threads, plan, (a, &mut *packed_a), (first_row == 0).then_some((b, &mut *packed_b)));
                let group = Group {
                    plan,
                    a: packed_a,
                    b: packed_b,
                    rows: a.rows,
                    cols: b.cols,
                    k,
                    store: if first_k == 0 { store } else { Store::Add },
                    epilogue: if first_k + k == plan.k { epilogue } else { None },
                    first_row,
                    first_col,
                };
                multiply_tiles(kernel, threads, &group, &mut out[first_row * out_ld + first_col..], out_ld);
            }
        }
    }
}

/// Packs A, and B if given: each task packs a chunk, some panels over one block of k.
fn pack(
    kernel: &MicroKernel<f32>,
    threads: &dyn Threads,
    plan: &Plan,
    (a, packed_a): (MatRef<'_, f32>, &mut [f32]),
    b: Option<(MatRef<'_, f32>, &mut [f32])>,
) {
    let blocks = a.cols.div_ceil(plan.panel_k);
    let packed_a = &mut packed_a[..plan.a.block_len() * blocks];
    let one_a = |i: usize, packed: &mut [f32]| {
        let (k, row) = (i / plan.a.chunks * plan.panel_k, i % plan.a.chunks * plan.a.chunk_count());
        pack_a(kernel, a.part(row, k, plan.a.chunk_count(), plan.panel_k), plan.panel_k, packed);
    };
    let Some((b, packed_b)) = b else {
        return for_each_chunk(threads, packed_a, plan.a.chunk_len(), &one_a);
    };
    let packed_b = &mut packed_b[..plan.b.block_len() * blocks];
    let one_b = |i: usize, packed: &mut [f32]| {
        let (k, col) = (i / plan.b.chunks * plan.panel_k, i % plan.b.chunks * plan.b.chunk_count());
        pack_b(kernel, b.part(k, col, plan.panel_k, plan.b.chunk_count()), plan.panel_k, packed);
    };
    for_each_chunk_of_both(threads, (packed_a, plan.a.chunk_len()), (packed_b, plan.b.chunk_len()), &one_a, &one_b);
}

/// Multiplies the packed operands of a group, a tile of C a task.
fn multiply_tiles(kernel: &MicroKernel<f32>, threads: &dyn Threads, group: &Group<'_>, out: &mut [f32], out_ld: usize) {
    let plan = group.plan;
    let tiling = Tiling { rows: group.rows, cols: group.cols, ld: out_ld, tile_rows: plan.tile.0, tile_cols: plan.tile.1 };
    for_each_tile(threads, out, tiling, &|mut tile| {
        let blocks = group.k.div_ceil(plan.panel_k).max(1);
        for block in 0..blocks {
            let product = PackedProduct {
                a: &group.a[block * plan.a.block_len() + tile.first_row * plan.panel_k..],
                b: &group.b[block * plan.b.block_len() + tile.first_col * plan.panel_k..],
                rows: tile.rows(),
                cols: tile.cols(),
                k: plan.panel_k.min(group.k - block * plan.panel_k),
                panel_k: plan.panel_k,
                store: if block == 0 { group.store } else { Store::Add },
                epilogue: if block + 1 == blocks { group.epilogue } else { None },
                first_row: group.first_row + tile.first_row,
                first_col: group.first_col + tile.first_col,
            };
            multiply_packed(kernel, &product, &mut tile);
        }
    });
}

#[allow(clippy::too_many_arguments)]
fn by_peer(
    threads: &dyn Threads,
    plan: &Plan,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Epilogue<'_, f32>,
) {
    let rows = plan.m.div_ceil(plan.tasks).max(PEER_ROWS);
    let end = (plan.m - 1) * out_ld + plan.n;
    for_each_chunk(threads, &mut out[..end], rows * out_ld, &|i, out| {
        let a = a.part(i * rows, 0, rows, plan.k);
        peer::sgemm(a, b, out, out_ld, store);
        if let Some(epilogue) = epilogue {
            for (row, segment) in out.chunks_mut(out_ld).enumerate() {
                epilogue(i * rows + row, 0, &mut segment[..plan.n]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::threads::Pool;

    const CHOICES: [Gemm; 3] = [Gemm::Samara, Gemm::Portable, Gemm::MatrixMultiply];

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// Adds the row and the column to every element.
    fn place(row: usize, first_col: usize, segment: &mut [f32]) {
        segment.iter_mut().enumerate().for_each(|(j, c)| *c += (row * 7 + (first_col + j) * 5) as f32);
    }

    #[allow(clippy::too_many_arguments)]
    fn product(
        gemm_choice: Gemm,
        threads: &dyn Threads,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        gap: usize,
        store: Store,
        epilogue: bool,
    ) -> Vec<f32> {
        let choice = GemmChoice::new(gemm_choice);
        let ld = b.cols + gap;
        let mut out = numbers(a.rows * ld, 3);
        let mut scratch = vec![f32::NAN; gemm_scratch_len(&choice, a.rows, b.cols, a.cols)];
        let hook: Epilogue<'_, f32> = if epilogue { Some(&place) } else { None };
        gemm(&choice, threads, a, b, &mut out, ld, store, hook, &mut scratch);
        out
    }

    fn check(threads: &dyn Threads, a: MatRef<'_, f32>, b: MatRef<'_, f32>, gap: usize, store: Store, epilogue: bool) {
        let ld = b.cols + gap;
        let old = numbers(a.rows * ld, 3);
        for choice in CHOICES {
            let got = product(choice, threads, a, b, gap, store, epilogue);
            for (at, &got) in got.iter().enumerate() {
                let (i, j) = (at / ld, at % ld);
                let mut want = f64::from(old[at]);
                if j < b.cols {
                    let sum: f64 = (0..a.cols).map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j))).sum();
                    want = if store == Store::Add { want + sum } else { sum };
                    want += if epilogue { (i * 7 + j * 5) as f64 } else { 0.0 };
                }
                assert!(
                    (f64::from(got) - want).abs() <= 1e-5 * want.abs().max(10.0),
                    "{choice:?} ({i}, {j}): {got} against {want}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_choice_equals_three_loops(
            (m, n, k) in (0usize..70, 0usize..70, 0usize..70),
            (ta, tb, add, epilogue) in any::<(bool, bool, bool, bool)>(),
            gap in 0usize..3,
        ) {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let a = if ta { MatRef::new(&a, k, m).t() } else { MatRef::new(&a, m, k) };
            let b = if tb { MatRef::new(&b, n, k).t() } else { MatRef::new(&b, k, n) };
            check(&Serial, a, b, gap, if add { Store::Add } else { Store::Overwrite }, epilogue);
        }
    }

    #[test]
    fn large_products_in_many_groups_equal_three_loops() {
        let pool = Pool::new(3).expect("threads");
        for (m, n, k) in [(2100, 40, 50), (30, 4200, 40), (150, 260, 600), (1, 5000, 1), (40, 30, 70_000)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            for store in [Store::Overwrite, Store::Add] {
                check(&pool, MatRef::new(&a, m, k), MatRef::new(&b, n, k).t(), 1, store, true);
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let pools: Vec<Pool> = [1, 2, 3, 8].into_iter().map(|n| Pool::new(n).expect("threads")).collect();
        for (m, n, k) in [(130, 70, 300), (257, 513, 129), (64, 1000, 700)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
            for choice in CHOICES {
                let serial = product(choice, &Serial, a, b, 0, Store::Add, true);
                for pool in &pools {
                    assert!(
                        product(choice, pool, a, b, 0, Store::Add, true) == serial,
                        "{choice:?} on {} threads",
                        pool.threads()
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_same_bits() {
        let (m, n, k) = (70, 300, 900);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        for choice in [Gemm::Samara, Gemm::Portable] {
            let whole = product(choice, &Serial, a, b, 0, Store::Overwrite, false);
            for row in [0, 17, 69] {
                let alone = product(choice, &Serial, a.part(row, 0, 1, k), b, 0, Store::Overwrite, false);
                assert!(alone[..] == whole[row * n..(row + 1) * n]);
            }
        }
    }
}
