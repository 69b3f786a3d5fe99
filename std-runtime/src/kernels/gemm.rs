//! Matrix products on several threads.
//!
//! C is partitioned into tiles, each a task that packs its own panels of B: one fork-join per product. Where columns of A map to few cache sets,
//! other tasks pack parts of A before. The partition depends on the shape, never on the number of threads, and the order of sums is that of
//! [`samara_core::gemm`]: the bits are the same for any number of threads and for every micro-kernel with the same blocks.
//!
//! Products pack as little as possible. Micro-kernels accept any strides of A, so A is packed only where it is column-major with a column stride
//! between half a page and a page, or a multiple of a page (weight gradients of 768 or of 3072 outputs), so that successive columns map to few cache
//! sets. Other strides spread over all sets: packing the logits' gradient cost a sixth of the speed. The first tile of each panel reads B in place
//! and packs it for the tiles below; a transposed B is packed before, by 16 x 16 transposes in registers. Packing all of B before multiplying cost a
//! second fork-join and up to 16 MiB of scratch, and was no faster.
//!
//! The partition minimises a cost model of the shape: every row of tiles packs B; every column of tiles reads A; tiles cut by columns find their
//! operands in another core's cache, because other operations cut rows; and threads idle when the last column of tiles is narrower. Eight tiles, and
//! sixteen for the largest products: with more, tiles are narrower, and up to a tenth slower where the summed dimension is long.

use samara_core::gemm::{Left, Major, MatRef, MicroKernel, Store, multiply, pack_a, packed_len, panel_len, portable};
use samara_core::threads::{Serial, Threads};

use super::epilogue::{Epilogue, Finish, finish_tile};
use super::few_rows::MAX_ROWS;
use super::rows::multiply_rows;
use super::{micro_kernels, peer};
use crate::tiles::{Grid, Tile, for_each_chunk, for_each_item};

/// A GEMM backend.
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

/// A [`Gemm`] backend with its kernel, resolved once.
#[derive(Clone, Copy, Debug)]
pub struct GemmChoice {
    gemm: Gemm,
    name: &'static str,
    kernel: MicroKernel<f32>,
}

impl GemmChoice {
    /// Detects the backends that the machine supports.
    pub fn new(gemm: Gemm) -> Self {
        match (gemm, micro_kernels::kernels().next()) {
            (Gemm::Samara, Some((name, kernel))) => Self { gemm, name, kernel },
            (Gemm::MatrixMultiply, _) => Self { gemm, name: "matrixmultiply", kernel: portable() },
            _ => Self { gemm, name: "samara portable 4x8", kernel: portable() },
        }
    }

    /// All backends of this machine, the best first.
    pub fn all() -> impl Iterator<Item = Self> {
        let vector = micro_kernels::kernels().map(|(name, kernel)| Self { gemm: Gemm::Samara, name, kernel });
        vector.chain([Gemm::Portable, Gemm::MatrixMultiply].map(Self::new))
    }

    /// The GEMM backend.
    pub fn gemm(&self) -> Gemm {
        self.gemm
    }

    /// The micro-kernel of samara's driver.
    pub fn kernel(&self) -> MicroKernel<f32> {
        self.kernel
    }

    /// The backend and its instruction set, for display.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Default for GemmChoice {
    fn default() -> Self {
        Self::new(Gemm::default())
    }
}

/// Elements of scratch that [`gemm`] needs for C (m, n) summed over k, with A in this storage order.
pub fn gemm_scratch_len(choice: &GemmChoice, major: Major, m: usize, n: usize, k: usize) -> usize {
    match choice.gemm {
        Gemm::MatrixMultiply => 0,
        Gemm::Samara if m <= MAX_ROWS => 0,
        // B may be row-major or column-major.
        _ => [Major::Rows, Major::Columns]
            .map(|b| Tiling::new(&choice.kernel, (major, b), m, n, k).scratch_len())
            .into_iter()
            .fold(0, usize::max),
    }
}

/// `C = A·B` or `C += A·B`, then the epilogue.
///
/// Shapes: a (m, k) and b (k, n) with every element inside their slices, out (m, n) with row stride `out_ld`. With k = 0 the product is 0, and the
/// epilogue still runs. Tasks run on `threads`; the result does not depend on it.
///
/// # Panics
/// `scratch` is shorter than [`gemm_scratch_len`], the summed dimensions differ, or C does not fit `out`. With an operand that exceeds its slice it
/// may panic or leave a wrong C.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    choice: &GemmChoice,
    threads: &dyn Threads,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Option<Epilogue<'_>>,
    scratch: &mut [f32],
) {
    assert_eq!(a.cols, b.rows, "the summed dimensions of A and B differ");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    assert!(!out.is_empty(), "{} x {} elements do not fit an empty slice", a.rows, b.cols);
    if choice.gemm == Gemm::Samara && a.rows <= MAX_ROWS {
        return multiply_rows(&choice.kernel, threads, a, b, out, out_ld, store, epilogue);
    }
    let plan = Tiling::new(&choice.kernel, (a.major(), b.major()), a.rows, b.cols, a.cols);
    let threads = if plan.tiles(plan.m) == 1 { &Serial } else { threads };
    match choice.gemm {
        Gemm::MatrixMultiply => by_peer(threads, &plan, a, b, out, out_ld, store, epilogue),
        _ => by_tiles(&choice.kernel, threads, &plan, a, b, out, out_ld, store, epilogue, scratch),
    }
}

/// Multiply-adds that are worth a task.
const TASK_WORK: usize = 1 << 20;
/// The most tasks of a product, and of one with more multiply-adds: narrow tiles read A more often.
const MAX_TASKS: usize = 8;
const MORE_TASKS: (usize, usize) = (16, 1 << 31);
/// Costs in multiply-adds: of packing an element of B, of packing one of a transposed B, of reading one of A from the L2 cache, of fetching one from
/// another core.
const PACK_COST: usize = 13;
const TURN_COST: usize = 24;
const READ_COST: usize = 3;
const MOVE_COST: usize = 16;
/// The most elements of A that are packed together, so that they stay in the L3 cache.
const PACKED_LEN: usize = 1 << 20;
/// Packed elements that are worth a task.
const PACK_WORK: usize = 1 << 16;
/// Elements of a cache line, the alignment of packed panels.
const LINE: usize = 16;
/// Least rows of a task with matrixmultiply: each task packs all of B.
const PEER_ROWS: usize = 256;

/// How a product is cut; made from its shape alone.
#[derive(Clone, Copy, Debug)]
struct Tiling {
    m: usize,
    n: usize,
    k: usize,
    /// Rows and columns of a tile of C, each a task.
    tile: (usize, usize),
    /// Rows and summed elements of the parts of A that are packed before they are multiplied; 0 if A is read in place.
    packed: (usize, usize),
    /// Elements of the panel of B of a task.
    panel_len: usize,
}

impl Tiling {
    fn new(kernel: &MicroKernel<f32>, (a, b): (Major, Major), m: usize, n: usize, k: usize) -> Self {
        let part = |len: usize, parts: usize, step: usize| len.div_ceil(step).div_ceil(parts.max(1)).max(1) * step;
        let panel_k = kernel.k_block(k).max(1);
        let packs = k > 0 && kernel.packs(a, m);
        let rows = if packs { part(m, m.div_ceil((PACKED_LEN / panel_k).max(1)), kernel.mr) } else { m };
        // Whole blocks of the summed dimension, as many as fit the cache together.
        let packed_k = k.min(panel_k * (PACKED_LEN / (rows * panel_k).max(1)).max(1));
        let work = rows.saturating_mul(n).saturating_mul(if packs { packed_k } else { k });
        let most = if work < MORE_TASKS.1 { MAX_TASKS } else { MORE_TASKS.0 };
        let tasks = 1_usize << (work / TASK_WORK).clamp(1, most).ilog2();
        let tile = |down: usize| (part(rows, down, kernel.mr), part(n, tasks / down, kernel.nr));
        // The cheapest partition into about that many tiles.
        let cost = |down: usize| {
            let (tile_rows, tile_cols) = tile(down);
            let too_few = 2 * rows.div_ceil(tile_rows) * n.div_ceil(tile_cols) < tasks;
            (too_few, tiling_cost(kernel, b, (rows, n, k), (tile_rows, tile_cols), down))
        };
        let down = (0..=tasks.ilog2()).map(|bit| 1 << bit).min_by_key(|&down| cost(down)).unwrap_or(1);
        Self {
            m,
            n,
            k,
            tile: tile(down),
            packed: if packs { (rows, packed_k) } else { (0, 0) },
            panel_len: panel_len(kernel, n, k).next_multiple_of(LINE),
        }
    }

    /// Tiles of `rows` rows.
    fn tiles(&self, rows: usize) -> usize {
        rows.div_ceil(self.tile.0) * self.n.div_ceil(self.tile.1)
    }

    fn packed_len(&self) -> usize {
        (self.packed.0 * self.packed.1).next_multiple_of(LINE)
    }

    fn scratch_len(&self) -> usize {
        self.packed_len() + self.tiles(if self.packed.0 > 0 { self.packed.0 } else { self.m }) * self.panel_len + LINE
    }
}

/// The cost of partitioning C (rows, n) into tiles, `down` of them in a column, beyond the multiply-adds, per step of k; in multiply-adds.
fn tiling_cost(
    kernel: &MicroKernel<f32>,
    b: Major,
    (rows, n, k): (usize, usize, usize),
    (tile_rows, tile_cols): (usize, usize),
    down: usize,
) -> usize {
    let across = n.div_ceil(tile_cols).max(1);
    // Every row of tiles packs B, and every column of tiles reads A.
    let blocks = rows.div_ceil(tile_rows) * tile_rows.div_ceil(kernel.row_block(tile_rows, k)).max(1);
    let packing = blocks.saturating_mul(n * if b == Major::Rows { PACK_COST } else { TURN_COST });
    let reading = across.saturating_mul(rows * READ_COST);
    // The last column of tiles is narrower: this does not matter to two threads that share rows, or to four with four rows of tiles.
    let narrower = if down * across > 1 { (across * tile_cols).saturating_sub(n) } else { 0 };
    let idle = rows.saturating_mul(narrower / down.min(4));
    // Other operations cut rows: with a cut by columns, operands are in another core's cache.
    let moving = rows.saturating_mul(k.saturating_add(n)).saturating_mul(MOVE_COST) / k.max(1) / down;
    [packing, reading, idle, moving].into_iter().fold(0, usize::saturating_add)
}

#[allow(clippy::too_many_arguments)]
fn by_tiles(
    kernel: &MicroKernel<f32>,
    threads: &dyn Threads,
    plan: &Tiling,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Option<Epilogue<'_>>,
    scratch: &mut [f32],
) {
    let needed = plan.scratch_len();
    assert!(scratch.len() >= needed, "{} elements of scratch, {needed} needed", scratch.len());
    let unaligned = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let (packed, panels) = scratch[unaligned..].split_at_mut(plan.packed_len());
    let (finish, second) = Epilogue::parts(epilogue);
    if plan.packed.0 == 0 {
        let c = Part { kernel, plan, first_row: 0, rows: plan.m, store, finish };
        return c.multiply(threads, Left::Lying(a), b, (out, out_ld), second, panels);
    }
    for first_row in (0..plan.m).step_by(plan.packed.0) {
        for first_k in (0..plan.k).step_by(plan.packed.1) {
            let a = a.part(first_row, first_k, plan.packed.0, plan.packed.1);
            pack(kernel, threads, a, packed);
            let c = Part {
                kernel,
                plan,
                first_row,
                rows: a.rows,
                store: if first_k == 0 { store } else { Store::Add },
                finish: if first_k + a.cols == plan.k { finish } else { None },
            };
            let left = Left::Packed { panels: packed, rows: a.rows, k: a.cols, k_block: kernel.k_block(plan.k) };
            let second = second.get_mut(first_row * plan.n..).unwrap_or_default();
            c.multiply(
                threads,
                left,
                b.part(first_k, 0, a.cols, plan.n),
                (&mut out[first_row * out_ld..], out_ld),
                second,
                panels,
            );
        }
    }
}

/// Packs A, some panels a task.
fn pack(kernel: &MicroKernel<f32>, threads: &dyn Threads, a: MatRef<'_, f32>, packed: &mut [f32]) {
    let rows = (PACK_WORK / (a.cols * kernel.mr)).max(1) * kernel.mr;
    let packed = &mut packed[..packed_len(a.rows, kernel.mr, a.cols)];
    let threads = if a.rows <= rows { &Serial } else { threads };
    for_each_chunk(threads, packed, rows * a.cols, &|i, packed| {
        pack_a(kernel, a.part(i * rows, 0, rows, a.cols), packed);
    });
}

/// Some rows of C and their epilogue.
struct Part<'a> {
    kernel: &'a MicroKernel<f32>,
    plan: &'a Tiling,
    first_row: usize,
    rows: usize,
    store: Store,
    finish: Option<Finish<'a>>,
}

impl Part<'_> {
    /// Multiplies a tile of C a task.
    fn multiply(
        &self,
        threads: &dyn Threads,
        a: Left<'_, f32>,
        b: MatRef<'_, f32>,
        (out, out_ld): (&mut [f32], usize),
        second: &mut [f32],
        panels: &mut [f32],
    ) {
        let Self { kernel, plan, store, .. } = *self;
        let grid =
            |data, ld| Grid { matrix: Tile::new(data, self.rows, plan.n, ld), tile_rows: plan.tile.0, tile_cols: plan.tile.1 };
        let grids = [grid(out, out_ld), grid(second, plan.n)];
        for_each_item(
            threads,
            (plan.tiles(self.rows), 1),
            grids,
            (panels, plan.panel_len),
            &|_, [mut tile, mut second], panel| {
                let (row, col) = (tile.first_row, tile.first_col);
                let a = a.part(kernel.mr, row, tile.rows());
                let b = b.part(0, col, b.rows, tile.cols());
                let mut placed = self.finish.map(|finish| {
                    let second = &mut second;
                    move |i: usize, j: usize, piece: &mut [f32]| {
                        let second = second.row(i).get_mut(j..j + piece.len()).unwrap_or_default();
                        finish(self.first_row + row + i, col + j, piece, second);
                    }
                });
                let placed = placed.as_mut().map(|placed| placed as &mut dyn FnMut(usize, usize, &mut [f32]));
                multiply(kernel, a, b, &mut tile, store, placed, panel);
            },
        );
    }
}

#[allow(clippy::too_many_arguments)]
fn by_peer(
    threads: &dyn Threads,
    plan: &Tiling,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    out: &mut [f32],
    out_ld: usize,
    store: Store,
    epilogue: Option<Epilogue<'_>>,
) {
    let rows = plan.m.div_ceil(plan.tiles(plan.m)).max(PEER_ROWS);
    let end = (plan.m - 1) * out_ld + plan.n;
    let (finish, second) = Epilogue::parts(epilogue);
    let tasks = plan.m.div_ceil(rows);
    let grid = |data, ld| Grid { matrix: Tile::new(data, plan.m, plan.n, ld), tile_rows: rows, tile_cols: plan.n };
    let grids = [grid(&mut out[..end], out_ld), grid(second, plan.n)];
    for_each_item(threads, (tasks, 1), grids, (&mut [], 0), &|i, [mut tile, mut second], _| {
        peer::sgemm(a.part(i * rows, 0, rows, plan.k), b, &mut tile, store);
        finish_tile(finish, &mut tile, &mut second);
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::tests::numbers;
    use crate::threads::Pool;

    /// Adds the row and the column to every element, and copies the old value.
    fn place(row: usize, first_col: usize, piece: &mut [f32], second: &mut [f32]) {
        second.copy_from_slice(piece);
        piece.iter_mut().enumerate().for_each(|(j, c)| *c += (row * 7 + (first_col + j) * 5) as f32);
    }

    #[allow(clippy::too_many_arguments)]
    fn product(
        choice: &GemmChoice,
        threads: &dyn Threads,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        gap: usize,
        store: Store,
        epilogue: bool,
    ) -> Vec<f32> {
        let ld = b.cols + gap;
        let mut out = numbers(a.rows * ld, 3);
        let mut scratch = vec![f32::NAN; gemm_scratch_len(choice, a.major(), a.rows, b.cols, a.cols)];
        let mut second = vec![f32::NAN; if epilogue { a.rows * b.cols } else { 0 }];
        let hook = epilogue.then_some(Epilogue { finish: &place, second: &mut second });
        gemm(choice, threads, a, b, &mut out, ld, store, hook, &mut scratch);
        for (at, before) in second.into_iter().enumerate() {
            let (i, j) = (at / b.cols, at % b.cols);
            assert_eq!(before + (i * 7 + j * 5) as f32, out[i * ld + j], "{} ({i}, {j})", choice.name());
        }
        out
    }

    fn check(threads: &dyn Threads, a: MatRef<'_, f32>, b: MatRef<'_, f32>, gap: usize, store: Store, epilogue: bool) {
        let ld = b.cols + gap;
        let old = numbers(a.rows * ld, 3);
        for choice in GemmChoice::all() {
            let got = product(&choice, threads, a, b, gap, store, epilogue);
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
                    "{} ({i}, {j}): {got} against {want}",
                    choice.name()
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

        #[test]
        fn every_instruction_set_gives_the_same_bits(
            (m, n, k) in (1usize..100, 1usize..150, 0usize..900),
            (ta, tb, add) in any::<(bool, bool, bool)>(),
        ) {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let a = if ta { MatRef::new(&a, k, m).t() } else { MatRef::new(&a, m, k) };
            let b = if tb { MatRef::new(&b, n, k).t() } else { MatRef::new(&b, k, n) };
            let store = if add { Store::Add } else { Store::Overwrite };
            let choices: Vec<GemmChoice> = GemmChoice::all().filter(|choice| choice.gemm() == Gemm::Samara).collect();
            let found: Vec<Vec<f32>> = choices.iter().map(|choice| product(choice, &Serial, a, b, 0, store, true)).collect();
            prop_assert!(found.windows(2).all(|two| two[0] == two[1]));
        }
    }

    #[test]
    fn large_products_in_many_groups_equal_three_loops() {
        let pool = Pool::new(3).expect("threads");
        for (m, n, k) in
            [(2100, 40, 50), (2048, 40, 50), (30, 4200, 40), (150, 260, 600), (1, 5000, 1), (40, 30, 70_000), (600, 20, 2500)]
        {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            for store in [Store::Overwrite, Store::Add] {
                check(&pool, MatRef::new(&a, m, k), MatRef::new(&b, n, k).t(), 1, store, true);
                check(&pool, MatRef::new(&a, k, m).t(), MatRef::new(&b, k, n), 1, store, true);
            }
        }
    }

    #[test]
    fn without_k_the_result_is_zero_or_unchanged_and_the_epilogue_runs() {
        // Shapes with few rows, with full tiles, and with packing for larger m.
        for m in [1, 30, 600] {
            for store in [Store::Overwrite, Store::Add] {
                check(&Serial, MatRef::new(&[], m, 0), MatRef::new(&[], 0, 20), 1, store, true);
                check(&Serial, MatRef::new(&[], 0, m).t(), MatRef::new(&[], 20, 0).t(), 1, store, true);
            }
        }
    }

    #[test]
    fn a_result_that_does_not_fit_is_refused() {
        for choice in GemmChoice::all() {
            for (m, len) in [(3, 3 * 20 - 1), (3, 0), (30, 30 * 20 - 1), (30, 0), (600, 600 * 20 - 1), (600, 0)] {
                let (a, b) = (numbers(m * 9, 1), numbers(9 * 20, 2));
                let (a, b) = (MatRef::new(&a, 9, m).t(), MatRef::new(&b, 9, 20));
                let run = || {
                    let mut scratch = vec![0.0; gemm_scratch_len(&choice, a.major(), m, 20, 9)];
                    gemm(&choice, &Serial, a, b, &mut vec![0.0; len], 20, Store::Add, None, &mut scratch);
                };
                assert!(std::panic::catch_unwind(run).is_err(), "{} {m} rows in {len}", choice.name());
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let pools: Vec<Pool> = [1, 2, 3, 8].into_iter().map(|n| Pool::new(n).expect("threads")).collect();
        for (m, n, k) in [(130, 70, 300), (257, 513, 129), (64, 1000, 700)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
            for choice in GemmChoice::all() {
                let serial = product(&choice, &Serial, a, b, 0, Store::Add, true);
                for pool in &pools {
                    assert!(
                        product(&choice, pool, a, b, 0, Store::Add, true) == serial,
                        "{} on {} threads",
                        choice.name(),
                        pool.threads()
                    );
                }
            }
        }
    }

    #[test]
    fn packed_rows_have_the_bits_of_rows_where_they_lie() {
        // Several parts of rows and of k are packed together, with and without a shorter one at the end.
        for (m, n, k) in [(40, 30, 1160), (30, 20, 2700), (4096, 17, 1200), (13, 33, 1024)] {
            let a = numbers(m * k, 1);
            let turned: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
            let b = numbers(k * n, 2);
            let (a, turned, b) = (MatRef::new(&a, m, k), MatRef::new(&turned, k, m).t(), MatRef::new(&b, k, n));
            for choice in GemmChoice::all().filter(|choice| choice.gemm() != Gemm::MatrixMultiply) {
                let rows = product(&choice, &Serial, a, b, 0, Store::Overwrite, true);
                assert!(product(&choice, &Serial, turned, b, 0, Store::Overwrite, true) == rows, "{} {m} {n} {k}", choice.name());
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_same_bits() {
        let (m, n, k) = (70, 300, 900);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        for choice in GemmChoice::all().filter(|choice| choice.gemm() != Gemm::MatrixMultiply) {
            let whole = product(&choice, &Serial, a, b, 0, Store::Overwrite, false);
            for row in [0, 17, 69] {
                let alone = product(&choice, &Serial, a.part(row, 0, 1, k), b, 0, Store::Overwrite, false);
                assert!(alone[..] == whole[row * n..(row + 1) * n]);
            }
        }
    }
}
