//! Disjoint parts of one buffer for concurrent tasks: the only place where tasks share writable memory.
//!
//! Every function here is safe to call with any arguments and any [`Threads`], for two reasons:
//! 1. *Parts with different indices do not overlap.* Chunk i is `[i·len, (i+1)·len)` cut at the slice's end; tile (i, j) is rows `[i·tile_rows, …)`
//!    and columns `[j·tile_cols, …)` of a matrix whose rows are disjoint since `cols <= ld`.
//! 2. *A part is handed out at most once per call*, whatever the implementation of [`Threads`] does: its index is claimed through an atomic bit
//!    before the part is created. A task that is started twice does nothing the second time.
//!
//! All references end with the call, because the closures that hold them are borrowed for the call only.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use samara_core::gemm::{RowsMut, Soon};
use samara_core::threads::Threads;

/// Calls `f(i, chunk i)` for every chunk of `len` elements of `data`; the last one may be shorter.
pub fn for_each_chunk<A: Send>(threads: &dyn Threads, data: &mut [A], len: usize, f: &(dyn Fn(usize, &mut [A]) + Sync)) {
    let a = Chunks::new(data, len);
    for_each_once(threads, a.count(), &|i| {
        // SAFETY: `for_each_once` hands out each index below every count at most once.
        f(i, unsafe { a.get(i) });
    });
}

/// Calls `f(i, chunk i of a, chunk i of b)` for slices cut in lockstep: as many times as the slice with fewer chunks has chunks.
#[allow(clippy::type_complexity)]
pub fn for_each_chunk_2<A: Send, B: Send>(
    threads: &dyn Threads,
    (a, a_len): (&mut [A], usize),
    (b, b_len): (&mut [B], usize),
    f: &(dyn Fn(usize, &mut [A], &mut [B]) + Sync),
) {
    let (a, b) = (Chunks::new(a, a_len), Chunks::new(b, b_len));
    for_each_once(threads, a.count().min(b.count()), &|i| {
        // SAFETY: `for_each_once` hands out each index below every count at most once.
        let (a, b) = unsafe { (a.get(i), b.get(i)) };
        f(i, a, b);
    });
}

/// Calls `f(i, chunk i of a, chunk i of b, chunk i of c)` for slices cut in lockstep: as many times as the slice with the fewest chunks has chunks.
#[allow(clippy::type_complexity)]
pub fn for_each_chunk_3<A: Send, B: Send, C: Send>(
    threads: &dyn Threads,
    (a, a_len): (&mut [A], usize),
    (b, b_len): (&mut [B], usize),
    (c, c_len): (&mut [C], usize),
    f: &(dyn Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync),
) {
    let (a, b, c) = (Chunks::new(a, a_len), Chunks::new(b, b_len), Chunks::new(c, c_len));
    let count = a.count().min(b.count()).min(c.count());
    for_each_once(threads, count, &|i| {
        // SAFETY: `for_each_once` hands out each index below every count at most once.
        let (a, b, c) = unsafe { (a.get(i), b.get(i), c.get(i)) };
        f(i, a, b, c);
    });
}

/// How a matrix is cut into tiles.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// Elements from a row to the next, at least `cols`.
    pub ld: usize,
    /// Rows of a tile.
    pub tile_rows: usize,
    /// Columns of a tile.
    pub tile_cols: usize,
}

impl Tiling {
    /// Tiles in all.
    pub fn count(&self) -> usize {
        self.rows.div_ceil(self.tile_rows.max(1)) * self.across()
    }

    /// Tiles side by side.
    fn across(&self) -> usize {
        self.cols.div_ceil(self.tile_cols.max(1))
    }
}

/// A tile of a matrix, to write. Tiles are numbered along rows of tiles.
#[derive(Debug)]
pub struct Tile<'a, R> {
    /// The tile's first element; dangling when `rows` or `cols` is 0.
    start: *mut R,
    ld: usize,
    /// First row in the matrix.
    pub first_row: usize,
    /// First column in the matrix.
    pub first_col: usize,
    rows: usize,
    cols: usize,
    owner: PhantomData<&'a mut [R]>,
}

impl<'a, R> Tile<'a, R> {
    /// A whole matrix (rows, cols) with row stride `ld`; a tile without rows when `data` is empty.
    ///
    /// # Panics
    /// The matrix does not fit `data`, or its rows overlap (`ld < cols`).
    pub fn new(data: &'a mut [R], rows: usize, cols: usize, ld: usize) -> Self {
        let rows = if data.is_empty() || cols == 0 { 0 } else { rows };
        if rows > 0 {
            check_fit(data.len(), rows, cols, ld);
        }
        Self { start: data.as_mut_ptr(), ld, first_row: 0, first_col: 0, rows, cols, owner: PhantomData }
    }

    /// Splits off the first `cols` columns.
    ///
    /// # Panics
    /// There are fewer.
    pub fn split_cols(self, cols: usize) -> (Self, Self) {
        assert!(cols <= self.cols, "{cols} columns of {}", self.cols);
        // SAFETY: with a row and a column beyond, that element is in the matrix; without, the address is never used, so any will do.
        let start = if self.rows > 0 && cols < self.cols { unsafe { self.start.add(cols) } } else { self.start };
        let rest = Self { start, first_col: self.first_col + cols, cols: self.cols - cols, ..self };
        // Columns of the first part end where those of the second begin, so that no element is in both.
        (Self { cols, ..self }, rest)
    }

    /// Rows `first..first + rows` as a tile of its own.
    ///
    /// # Panics
    /// There are fewer.
    pub fn rows_part(&mut self, first: usize, rows: usize) -> Tile<'_, R> {
        let (start, ld) = self.part([first, 0], [rows, self.cols]);
        Tile {
            start,
            ld,
            first_row: self.first_row + first,
            first_col: self.first_col,
            rows,
            cols: self.cols,
            owner: PhantomData,
        }
    }

    /// Rows of the tile.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the tile.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The address of the submatrix of `shape` = (rows, columns) at row and column `at`, and its row stride; for writing while the tile is borrowed.
    ///
    /// # Panics
    /// The tile is smaller.
    pub(crate) fn part(&mut self, at: [usize; 2], shape: [usize; 2]) -> (*mut R, usize) {
        let inside = |at: usize, len: usize, of: usize| at.checked_add(len).is_some_and(|end| end <= of);
        assert!(
            inside(at[0], shape[0], self.rows) && inside(at[1], shape[1], self.cols),
            "{shape:?} from {at:?} on lie outside of a tile"
        );
        (self.start.wrapping_add(at[0] * self.ld + at[1]), self.ld)
    }
}

impl<R> Tile<'_, R> {
    /// Row `i` of the tile (cols); empty when there is no such row.
    pub fn row(&mut self, i: usize) -> &mut [R] {
        let mut one = [Default::default()];
        let cols = self.cols;
        self.block(i, 0, cols, &mut one);
        let [row] = one;
        row
    }
}

impl<R> RowsMut<R> for Tile<'_, R> {
    #[inline(always)]
    fn block<'a>(&'a mut self, row: usize, col: usize, cols: usize, into: &mut [&'a mut [R]]) {
        if col.checked_add(cols).is_none_or(|end| end > self.cols) {
            return;
        }
        for (to, row) in into.iter_mut().zip(row..self.rows) {
            // SAFETY: the elements are in row `row` of the tile, inside the matrix's slice (checked when the tile was made). They belong to this tile
            // alone (see the module), different rows do not overlap, and `&mut self` stays borrowed as long as the slices live.
            *to = unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.ld + col), cols) };
        }
    }

    #[inline(always)]
    fn soon(&self, row: usize, rows: usize, col: usize) -> Soon<R> {
        Soon { at: self.start.wrapping_add(row * self.ld + col), stride: self.ld, count: rows }
    }
}

/// Calls `f(tile)` for every tile of a matrix (rows, cols) in `data`.
///
/// # Panics
/// The matrix does not fit `data`, or its rows overlap (`ld < cols`).
pub fn for_each_tile<R: Send>(threads: &dyn Threads, data: &mut [R], tiling: Tiling, f: &(dyn Fn(Tile<'_, R>) + Sync)) {
    let Tiling { rows, cols, ld, tile_rows, tile_cols } = tiling;
    if rows == 0 || cols == 0 {
        return;
    }
    check_fit(data.len(), rows, cols, ld);
    let (tile_rows, tile_cols) = (tile_rows.max(1), tile_cols.max(1));
    let shared = Shared::new(data);
    for_each_once(threads, tiling.count(), &|i| {
        let (first_row, first_col) = (i / tiling.across() * tile_rows, i % tiling.across() * tile_cols);
        f(Tile {
            // SAFETY: i < count, so that row and column are inside the matrix, which is inside the slice.
            start: unsafe { shared.at(first_row * ld + first_col) },
            ld,
            first_row,
            first_col,
            rows: tile_rows.min(rows - first_row),
            cols: tile_cols.min(cols - first_col),
            owner: PhantomData,
        });
    });
}

/// # Panics
/// A matrix (rows, cols) with at least one row does not fit a slice, or its rows overlap.
fn check_fit(len: usize, rows: usize, cols: usize, ld: usize) {
    assert!(cols <= ld, "rows of {cols} elements overlap: only {ld} from a row to the next");
    let end = (rows - 1).checked_mul(ld).and_then(|start| start.checked_add(cols));
    assert!(end.is_some_and(|end| end <= len), "{rows} x {cols} elements, {ld} to a row, do not fit a slice of {len}");
}

/// A matrix and the size of its tiles, which are numbered in row-major order.
#[derive(Debug)]
pub struct Grid<'a, R> {
    /// The matrix.
    pub matrix: Tile<'a, R>,
    /// Rows of a tile.
    pub tile_rows: usize,
    /// Columns of a tile.
    pub tile_cols: usize,
}

/// A task on one tile of each of N matrices: the index of the item, the tiles, the task's scratch.
pub type TilesTask<'f, R, const N: usize> = dyn Fn(usize, [Tile<'_, R>; N], &mut [R]) + Sync + 'f;

/// Calls `f(i, tile i of every matrix, scratch)` for every `i` in `0..items`, `per_task` of them in sequence per task. Each task has its own
/// `scratch_len` elements of `scratch`. A matrix with fewer tiles gives tiles without rows.
///
/// # Panics
/// The scratch is too short for all tasks.
pub fn for_each_item<R: Send, const N: usize>(
    threads: &dyn Threads,
    (items, per_task): (usize, usize),
    grids: [Grid<'_, R>; N],
    (scratch, scratch_len): (&mut [R], usize),
    f: &TilesTask<'_, R, N>,
) {
    let per_task = per_task.max(1);
    let tasks = items.div_ceil(per_task);
    assert!(scratch.len() / scratch_len.max(1) >= tasks || scratch_len == 0, "too little scratch for {tasks} tasks");
    let scratch = Chunks::new(scratch, scratch_len);
    let grids = grids.map(SharedGrid::new);
    for_each_once(threads, tasks, &|task| {
        // SAFETY: `for_each_once` hands out each task once, and there are that many chunks.
        let scratch = if scratch_len == 0 { &mut [] } else { unsafe { scratch.get(task) } };
        for i in task * per_task..items.min((task + 1) * per_task) {
            // SAFETY: items of different tasks differ, and each index comes once.
            f(i, std::array::from_fn(|n| unsafe { grids[n].tile(i) }), scratch);
        }
    });
}

/// A [`Grid`] from which tasks take tiles.
struct SharedGrid<'a, R> {
    start: Shared<'a, R>,
    ld: usize,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
}

impl<'a, R> SharedGrid<'a, R> {
    fn new(grid: Grid<'a, R>) -> Self {
        let Tile { start, ld, rows, cols, owner, .. } = grid.matrix;
        let (tile_rows, tile_cols) = (grid.tile_rows.max(1), grid.tile_cols.max(1));
        // The length in elements is not needed: tiles are addressed by the matrix's rows and columns.
        Self { start: Shared { start, len: usize::MAX, owner }, ld, rows, cols, tile_rows, tile_cols }
    }

    /// Tile `i`; one without rows when there is none.
    ///
    /// # Safety
    /// No other reference to this tile exists.
    unsafe fn tile(&self, i: usize) -> Tile<'_, R> {
        let across = self.cols.div_ceil(self.tile_cols).max(1);
        let (row, col) = (i / across * self.tile_rows, i % across * self.tile_cols);
        let inside = row < self.rows && col < self.cols;
        Tile {
            // SAFETY: row and column are in the matrix, which lies in memory that it borrows.
            start: if inside { unsafe { self.start.at(row * self.ld + col) } } else { self.start.start },
            ld: self.ld,
            first_row: row,
            first_col: col,
            rows: if inside { self.tile_rows.min(self.rows - row) } else { 0 },
            cols: if inside { self.tile_cols.min(self.cols - col) } else { 0 },
            owner: PhantomData,
        }
    }
}

/// A slice from which tasks take disjoint parts.
struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: threads take only disjoint parts (see the module), as if each had been sent its own `&mut [T]`.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), owner: PhantomData }
    }

    /// Element `i`.
    ///
    /// # Safety
    /// `i <= len`.
    unsafe fn at(&self, i: usize) -> *mut T {
        // SAFETY: the caller's contract.
        unsafe { self.start.add(i) }
    }
}

/// A slice cut into chunks of one length.
struct Chunks<'a, T> {
    shared: Shared<'a, T>,
    chunk_len: usize,
}

impl<'a, T> Chunks<'a, T> {
    fn new(data: &'a mut [T], chunk_len: usize) -> Self {
        Self { shared: Shared::new(data), chunk_len: chunk_len.max(1) }
    }

    fn count(&self) -> usize {
        self.shared.len.div_ceil(self.chunk_len)
    }

    /// Chunk `i`.
    ///
    /// # Safety
    /// `i < count()`, and no other reference to this chunk exists.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        let first = i * self.chunk_len;
        let len = self.chunk_len.min(self.shared.len - first);
        // SAFETY: by the caller's contract the chunk is inside the slice and not referenced elsewhere; chunks do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.shared.at(first), len) }
    }
}

/// Indices that can be claimed per call; larger counts are grouped.
const CLAIMS: usize = 1024;

/// Calls `f(i)` at most once for every `i` in `0..count`, and exactly once if `threads` keeps its contract.
fn for_each_once(threads: &dyn Threads, count: usize, f: &(dyn Fn(usize) + Sync)) {
    if count == 1 {
        return f(0);
    }
    let claims = [const { AtomicU64::new(0) }; CLAIMS / 64];
    let group = count.div_ceil(CLAIMS).max(1);
    let groups = count.div_ceil(group);
    threads.run(groups, &|g| {
        if g >= groups {
            return;
        }
        let bit = 1 << (g % 64);
        // Relaxed is enough: the claim decides which task takes a part, and publishes no data.
        if claims[g / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            (g * group..count.min((g + 1) * group)).for_each(f);
        }
    });
}

#[cfg(test)]
mod tests {
    use samara_core::threads::Serial;

    use super::*;
    use crate::threads::Pool;

    /// Starts every task twice, and some that do not exist.
    struct Broken;

    impl Threads for Broken {
        fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(move || (0..tasks + 3).for_each(task));
                }
            });
        }
    }

    fn each_threads(check: impl Fn(&dyn Threads)) {
        check(&Serial);
        check(&Broken);
        check(&Pool::new(3).expect("threads"));
    }

    #[test]
    fn chunks_cover_a_slice_once() {
        each_threads(|threads| {
            for (len, chunk) in [(0, 4), (1, 4), (4, 4), (103, 10), (5000, 1), (7, 0)] {
                let mut data = vec![0usize; len];
                for_each_chunk(threads, &mut data, chunk, &|i, part| part.iter_mut().for_each(|x| *x += i + 1));
                assert!(data.iter().enumerate().all(|(at, &x)| x == at / chunk.max(1) + 1), "{len} in chunks of {chunk}");
            }
        });
    }

    #[test]
    fn slices_in_lockstep_end_with_the_shortest() {
        each_threads(|threads| {
            let (mut a, mut b, mut c) = (vec![0; 40], vec![0; 10], vec![0; 9]);
            for_each_chunk_2(threads, (&mut a, 4), (&mut b, 1), &|i, a, b| {
                a.fill(i);
                b.fill(10 * i);
            });
            assert!(a.iter().enumerate().all(|(at, &x)| x == at / 4) && b.iter().enumerate().all(|(at, &x)| x == 10 * at));
            for_each_chunk_3(threads, (&mut a, 4), (&mut b, 1), (&mut c, 2), &|i, a, b, c| {
                a.fill(100 + i);
                b.fill(200 + i);
                c.fill(300 + i);
            });
            assert_eq!((a[19], a[20], b[4], b[5], c[7], c[8]), (104, 5, 204, 50, 303, 304));
        });
    }

    #[test]
    fn tiles_cover_a_matrix_once_and_leave_the_gaps() {
        each_threads(|threads| {
            for (rows, cols, ld, tile_rows, tile_cols) in
                [(1, 1, 1, 1, 1), (7, 9, 12, 2, 4), (50, 60, 60, 1, 1), (5, 5, 8, 0, 9), (0, 3, 3, 1, 1)]
            {
                let mut data = vec![0usize; rows * ld];
                let tiling = Tiling { rows, cols, ld, tile_rows, tile_cols };
                for_each_tile(threads, &mut data, tiling, &|mut tile| {
                    for i in 0..tile.rows() {
                        let (row, first_col) = (tile.first_row + i, tile.first_col);
                        assert_eq!(tile.row(i).len(), tile.cols());
                        tile.row(i).iter_mut().enumerate().for_each(|(j, x)| *x += 1 + row * ld + first_col + j);
                    }
                    let beyond = tile.rows();
                    assert!(tile.row(beyond).is_empty());
                });
                for (at, &x) in data.iter().enumerate() {
                    assert_eq!(x, if at % ld < cols { 1 + at } else { 0 });
                }
            }
        });
    }

    #[test]
    fn items_get_their_tiles_and_their_tasks_scratch() {
        each_threads(|threads| {
            // Two bands of one matrix (6, 7) with a gap of one column, a matrix with fewer tiles, and an absent one.
            let (mut data, mut small, mut scratch) = (vec![0usize; 6 * 8], vec![0usize; 3], vec![0usize; 4]);
            let (left, right) = Tile::new(&mut data, 6, 7, 8).split_cols(4);
            let grids = [
                Grid { matrix: left, tile_rows: 2, tile_cols: 2 },
                Grid { matrix: right, tile_rows: 1, tile_cols: 3 },
                Grid { matrix: Tile::new(&mut small, 3, 1, 1), tile_rows: 1, tile_cols: 1 },
                Grid { matrix: Tile::new(&mut [], 9, 1, 1), tile_rows: 1, tile_cols: 1 },
            ];
            for_each_item(threads, (6, 4), grids, (&mut scratch, 2), &|i, mut tiles, scratch| {
                scratch[0] += 1;
                scratch[1] += i;
                for tile in &mut tiles {
                    for row in 0..tile.rows() {
                        tile.row(row).iter_mut().for_each(|x| *x += i + 1);
                    }
                }
                assert_eq!(tiles[2].rows(), usize::from(i < 3));
                assert_eq!(tiles[3].rows(), 0);
            });
            let want = |row: usize, col: usize| match col {
                0..4 => row / 2 * 2 + col / 2 + 1,
                4..7 => row + 1,
                _ => 0,
            };
            assert!(data.iter().enumerate().all(|(at, &x)| x == want(at / 8, at % 8)));
            assert_eq!((small, scratch), (vec![1, 2, 3], vec![4, 6, 2, 9]));
        });
    }

    #[test]
    #[should_panic(expected = "too little scratch")]
    fn scratch_for_fewer_tasks_is_refused() {
        for_each_item::<u8, 0>(&Serial, (3, 1), [], (&mut [0; 5], 2), &|_, _, _| {});
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn a_matrix_that_does_not_fit_is_refused() {
        for_each_tile(&Serial, &mut [0; 11], Tiling { rows: 3, cols: 4, ld: 4, tile_rows: 1, tile_cols: 1 }, &|_| {});
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_are_refused() {
        for_each_tile(&Serial, &mut [0; 40], Tiling { rows: 3, cols: 4, ld: 3, tile_rows: 1, tile_cols: 1 }, &|_| {});
    }

    #[test]
    fn a_tile_says_where_its_columns_lie() {
        let mut data = vec![0.0_f32; 5 * 7];
        let start = data.as_ptr();
        let (_, tile) = Tile::new(&mut data, 5, 6, 7).split_cols(2);
        let Soon { at, stride, count } = tile.soon(3, 2, 1);
        assert_eq!((at, stride, count), (start.wrapping_add(3 * 7 + 3), 7, 2));
    }
}
