//! Products against three nested loops.

use proptest::prelude::*;
use std::cell::RefCell;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::math::Real;

/// A kernel with a blocking so small that every loop of the driver runs several times.
fn small_blocks<R: Real>() -> MicroKernel<R> {
    MicroKernel { mc: 8, kc: 5, ..portable() }
}

/// A micro-kernel of any tile, element by element.
fn run<R: Real, const NR: usize>(
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    panel: &mut [R],
    _: Soon<R>,
    store: Store,
    rows: &mut [&mut [R]],
) {
    for (i, row) in rows.iter_mut().enumerate() {
        for (j, c) in row.iter_mut().enumerate() {
            let mut sum = R::ZERO;
            for p in 0..a.cols {
                sum += a.at(i, p) * b.at(p, j);
            }
            *c = if store == Store::Add { *c + sum } else { sum };
        }
    }
    for (p, row) in panel.chunks_exact_mut(NR).take(b.rows).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, x)| *x = b.at(p, j));
    }
}

/// A kernel with the tile of the AVX2 kernel, to pack panels of 6 and of 16.
fn wide<R: Real>() -> MicroKernel<R> {
    MicroKernel { mr: 6, nr: 16, lanes: 4, line: 8, mc: 12, kc: 7, run: run::<R, 16>, pack: panels::panels::<R> }
}

/// A kernel of odd widths, which no packing routine is compiled for.
fn odd<R: Real>() -> MicroKernel<R> {
    MicroKernel { mr: 3, nr: 11, lanes: 1, line: 0, mc: 6, kc: 4, run: run::<R, 11>, pack: panels::panels::<R> }
}

fn numbers<R: Real>(len: usize, seed: u64) -> Vec<R> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            R::from_f64((state >> 40) as f64 / f64::from(1 << 24) - 0.5)
        })
        .collect()
}

/// The storage of a matrix in its slice.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows(usize),
    Columns(usize),
    Strided(usize),
    SameRow,
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![
        (0usize..4).prop_map(Layout::Rows),
        (0usize..4).prop_map(Layout::Columns),
        (1usize..4).prop_map(Layout::Strided),
        Just(Layout::SameRow),
    ]
}

fn strides(layout: Layout, rows: usize, cols: usize) -> (usize, usize) {
    match layout {
        Layout::Rows(gap) => (cols + gap, 1),
        Layout::Columns(gap) => (1, rows + gap),
        Layout::Strided(step) => (cols * step + 3, step),
        Layout::SameRow => (0, 1),
    }
}

fn matrix<R: Real>(data: &[R], layout: Layout, rows: usize, cols: usize) -> MatRef<'_, R> {
    let (row_stride, col_stride) = strides(layout, rows, cols);
    MatRef { data, rows, cols, row_stride, col_stride }
}

const ROOM: usize = 4 * 40 * 40 + 200;

/// The product in f64, with the epilogue `2 c + row - 3 col`.
fn naive<R: Real>(a: MatRef<'_, R>, b: MatRef<'_, R>, old: &[R], ld: usize, store: Store, epilogue: bool) -> Vec<f64> {
    let mut c: Vec<f64> = old.iter().map(|x| x.to_f64()).collect();
    for i in 0..a.rows {
        for j in 0..b.cols {
            let mut sum = if store == Store::Add { c[i * ld + j] } else { 0.0 };
            for p in 0..a.cols {
                sum += a.at(i, p).to_f64() * b.at(p, j).to_f64();
            }
            c[i * ld + j] = if epilogue { 2.0 * sum + i as f64 - 3.0 * j as f64 } else { sum };
        }
    }
    c
}

fn affine<R: Real>(row: usize, first_col: usize, segment: &mut [R]) {
    for (j, c) in segment.iter_mut().enumerate() {
        *c = R::from_f64(2.0) * *c + R::from_usize(row) - R::from_f64(3.0) * R::from_usize(first_col + j);
    }
}

#[allow(clippy::too_many_arguments)]
fn check<R: Real>(
    kernel: &MicroKernel<R>,
    (m, n, k): (usize, usize, usize),
    layouts: (Layout, Layout),
    gap: usize,
    store: Store,
    epilogue: bool,
    tolerance: f64,
) {
    let (a, b) = (numbers::<R>(ROOM, 1), numbers::<R>(ROOM, 2));
    let (a, b) = (matrix(&a, layouts.0, m, k), matrix(&b, layouts.1, k, n));
    let ld = n + gap;
    let mut c = numbers::<R>(m * ld, 3);
    let want = naive(a, b, &c, ld, store, epilogue);
    let mut scratch = vec![R::from_f64(f64::NAN); scratch_len(kernel, a.major(), m, n, k)];
    let hook: Epilogue<'_, R> = if epilogue { Some(&mut affine::<R>) } else { None };
    gemm(kernel, a, b, &mut RowSlices { data: &mut c, ld }, store, hook, &mut scratch);
    for (i, (got, want)) in c.iter().zip(&want).enumerate() {
        assert!((got.to_f64() - want).abs() <= tolerance, "element {i} of {m}x{n}x{k}: {got} against {want}");
    }
}

proptest! {
    #[test]
    fn equals_three_loops(
        shape in (0usize..40, 0usize..40, 0usize..40),
        layouts in (layout(), layout()),
        gap in 0usize..3,
        add in any::<bool>(),
        epilogue in any::<bool>(),
    ) {
        let store = if add { Store::Add } else { Store::Overwrite };
        check::<f64>(&portable(), shape, layouts, gap, store, epilogue, 1e-13);
        check::<f64>(&small_blocks(), shape, layouts, gap, store, epilogue, 1e-13);
        check::<f64>(&wide(), shape, layouts, gap, store, epilogue, 1e-13);
        check::<f64>(&odd(), shape, layouts, gap, store, epilogue, 1e-13);
        check::<f32>(&portable(), shape, layouts, gap, store, epilogue, 1e-4);
        check::<f32>(&wide(), shape, layouts, gap, store, epilogue, 1e-4);
    }

    #[test]
    fn a_row_alone_has_the_same_bits(m in 1usize..20, n in 1usize..40, k in 0usize..40, row in 0usize..20) {
        let row = row % m;
        let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let kernel = small_blocks::<f32>();
        let mut scratch = vec![0.0; scratch_len(&kernel, Major::Rows, m, n, k)];
        let (mut whole, mut alone) = (vec![0.0; m * n], vec![0.0; n]);
        gemm(&kernel, a, b, &mut RowSlices { data: &mut whole, ld: n }, Store::Overwrite, None, &mut scratch);
        let one = a.part(row, 0, 1, k);
        gemm(&kernel, one, b, &mut RowSlices { data: &mut alone, ld: n }, Store::Overwrite, None, &mut scratch);
        prop_assert_eq!(&whole[row * n..(row + 1) * n], &alone[..]);
    }
}

#[test]
fn an_infinity_stays_in_its_row_and_padding_brings_no_nan() {
    let kernel = portable::<f32>();
    let mut a = vec![1.0; 5 * 3];
    a[3] = f32::INFINITY;
    let b = vec![1.0; 3 * 9];
    let mut c = vec![f32::NAN; 5 * 9];
    let mut scratch = vec![f32::NAN; scratch_len(&kernel, Major::Rows, 5, 9, 3)];
    let mut rows = RowSlices { data: &mut c, ld: 9 };
    gemm(&kernel, MatRef::new(&a, 5, 3), MatRef::new(&b, 3, 9), &mut rows, Store::Overwrite, None, &mut scratch);
    for (i, row) in c.chunks(9).enumerate() {
        assert!(row.iter().all(|&x| x == if i == 1 { f32::INFINITY } else { 3.0 }), "row {i}: {row:?}");
    }
}

#[test]
fn without_k_the_result_is_zero_or_unchanged_and_the_epilogue_runs() {
    let kernel = portable::<f32>();
    for (store, old) in [(Store::Overwrite, 0.0), (Store::Add, 7.0)] {
        let mut c = vec![7.0; 6];
        let mut add_one = |_: usize, _: usize, segment: &mut [f32]| segment.iter_mut().for_each(|x| *x += 1.0);
        let mut rows = RowSlices { data: &mut c, ld: 3 };
        gemm(&kernel, MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 3), &mut rows, store, Some(&mut add_one), &mut []);
        assert_eq!(c, vec![old + 1.0; 6]);
    }
}

/// A result that remembers which lines of it were to be fetched, and when: before which tile.
struct Watched<'a> {
    rows: RowSlices<'a, f32>,
    tiles: usize,
    fetched: RefCell<Vec<(usize, usize, usize)>>,
}

impl RowsMut<f32> for Watched<'_> {
    fn block<'a>(&'a mut self, row: usize, col: usize, cols: usize, into: &mut [&'a mut [f32]]) {
        self.tiles += 1;
        self.rows.block(row, col, cols, into);
    }

    fn soon(&self, row: usize, rows: usize, col: usize) -> Soon<f32> {
        self.fetched.borrow_mut().extend((row..row + rows).map(|row| (row, col, self.tiles)));
        Soon::default()
    }
}

#[test]
fn every_line_but_those_of_the_first_group_is_fetched_once_before_it_is_written() {
    // Six rows of two lines to a tile, twelve rows to a block and a group, or 24.
    for (mc, blocks) in [(24, 1), (12, 2)] {
        for major in [Major::Rows, Major::Columns] {
            let kernel = MicroKernel { mc, kc: 20, ..wide::<f32>() };
            // Columns of A are packed when their stride is a multiple of a page.
            let (m, n, k) = if major == Major::Rows { (24, 32, 20) } else { (1024, 32, 20) };
            let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
            let a = if major == Major::Rows { MatRef::new(&a, m, k) } else { MatRef::new(&a, k, m).t() };
            let mut data = vec![0.0; m * n];
            let mut c = Watched { rows: RowSlices { data: &mut data, ld: n }, tiles: 0, fetched: RefCell::default() };
            let mut scratch = vec![0.0; scratch_len(&kernel, major, m, n, k)];
            gemm(&kernel, a, MatRef::new(&b, k, n), &mut c, Store::Overwrite, None, &mut scratch);
            let mut fetched = c.fetched.into_inner();
            let all = fetched.len();
            assert!(all > 0, "nothing was fetched of a product with {major:?} of A");
            assert!(fetched.iter().all(|&(row, col, _)| row < m && col < n && col % kernel.line == 0));
            fetched.sort_unstable();
            fetched.dedup_by_key(|&mut (row, col, _)| (row, col));
            assert_eq!(fetched.len(), all, "a line was fetched twice");
            if major == Major::Rows {
                // Of each block the first group of the first panel comes too early.
                assert_eq!(all, m * n / kernel.line - blocks * 12 * 2, "{fetched:?}");
                for (row, col, tile) in fetched {
                    let block = row / mc;
                    let written = block * 2 * mc / 6 + col / 16 * (mc / 6) + row % mc / 6;
                    assert!(tile < written, "line ({row}, {col}) of tile {written} is fetched before tile {tile}");
                }
            }
        }
    }
}
