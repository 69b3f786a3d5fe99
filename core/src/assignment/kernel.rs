//! The inner loops: passes over one row of costs, in plain Rust that compilers turn into vectors.
//!
//! A runtime that knows its machine compiles the same bodies for more instructions and lends them as a table.

use super::number::{Cost, Index};

/// Columns are looked at in blocks of so many: a pass notes the least value of every block, so that nobody searches a whole row for it.
pub const BLOCK: usize = 32;

/// Blocks go by so many columns: a vector or two.
const LANES: usize = 8;
/// What does not fill a block goes by so many.
const FEW: usize = 4;

/// The operands of [`Kernels::scan`], all as long as the row.
#[derive(Debug)]
pub struct Scan<'a, T, I> {
    /// Costs of the row.
    pub costs: &'a [T],
    /// Duals of the columns.
    pub duals: &'a [T],
    /// Distance of the row, less its dual.
    pub from: T,
    /// The row.
    pub row: I,
    /// Distances of the columns, which may become less.
    pub distances: &'a mut [T],
    /// The row before each column on its path.
    pub path: &'a mut [I],
    /// The least distance of every block.
    pub minima: &'a mut [T],
}

/// The function of [`Kernels::first`].
pub type FirstPass<T> = fn(&[T], &[T], &mut [T], &mut [T]) -> T;

/// Passes over rows.
#[derive(Clone, Copy, Debug)]
pub struct Kernels<T, I> {
    /// Whether every cost is plain ([`Cost::is_plain`]).
    pub plain: fn(costs: &[T]) -> bool,
    /// `reduce(costs, duals, minima)`: the least `cost − dual`, of all and of every block.
    pub reduce: fn(&[T], &[T], &mut [T]) -> T,
    /// `first(costs, duals, distances, minima)`: the same, and the differences are kept as distances.
    pub first: FirstPass<T>,
    /// Shortens distances by paths through a row; returns the least distance.
    pub scan: fn(Scan<'_, T, I>) -> T,
    /// The same in the order of additions of scipy: `((distance + cost) − row dual) − column dual`; `scan(operands, row dual)`.
    pub scan_in_order: fn(Scan<'_, T, I>, T) -> T,
    /// `at_most(values, bound)`: bit k says whether value k of at most [`BLOCK`] is at most the bound.
    pub at_most: fn(&[T], T) -> u32,
    /// `reduced_at_most(costs, duals, bound)`: the same of `cost − dual`.
    pub reduced_at_most: fn(&[T], &[T], T) -> u32,
    /// `second(costs, duals, k)`: the least `cost − dual` but that of column k, of at most [`BLOCK`] columns.
    pub second: fn(&[T], &[T], usize) -> T,
}

impl<T: Cost, I: Index> Kernels<T, I> {
    /// The passes for any machine.
    pub const PORTABLE: Self = Self {
        plain: plain::<T>,
        reduce: reduce::<T>,
        first: first::<T>,
        scan: scan::<T, I>,
        scan_in_order: scan_in_order::<T, I>,
        at_most: at_most::<T>,
        reduced_at_most: reduced_at_most::<T>,
        second: second::<T>,
    };
}

/// The body of [`Kernels::plain`].
#[inline(always)]
pub fn plain<T: Cost>(costs: &[T]) -> bool {
    let (parts, rest) = costs.as_chunks::<LANES>();
    // A lane for each place, and no branch: vectors have none.
    let mut lanes = [true; LANES];
    for costs in parts {
        for (lane, cost) in lanes.iter_mut().zip(costs) {
            *lane &= cost.is_plain();
        }
    }
    let all = lanes.iter().fold(true, |plain, lane| plain & lane);
    rest.iter().fold(all, |plain, cost| plain & cost.is_plain())
}

/// The least of some lanes, one after the other: in pairs, compilers would narrow the vectors before them to pairs as well.
#[inline(always)]
fn least_of<T: Cost>(lanes: &[T; LANES]) -> T {
    lanes.iter().fold(T::FAR, |least, &lane| least.least(lane))
}

#[inline(always)]
fn least_of_few<T: Cost>(&[a, b, c, d]: &[T; FEW]) -> T {
    a.least(c).least(b.least(d))
}

#[inline(always)]
fn lower<T: Cost, const N: usize>(lanes: &mut [T; N], values: &[T; N]) {
    for (lane, &value) in lanes.iter_mut().zip(values) {
        *lane = lane.least(value);
    }
}

#[inline(always)]
fn reduced<T: Cost, const N: usize>(costs: &[T; N], duals: &[T; N]) -> [T; N] {
    let mut values = *costs;
    for (value, &dual) in values.iter_mut().zip(duals) {
        *value = value.minus(dual);
    }
    values
}

/// The body of [`Kernels::reduce`].
#[inline(always)]
pub fn reduce<T: Cost>(costs: &[T], duals: &[T], minima: &mut [T]) -> T {
    let mut all = T::FAR;
    let (a, b) = (costs.as_chunks::<BLOCK>(), duals.as_chunks::<BLOCK>());
    let mut minima = minima.iter_mut();
    for ((costs, duals), minimum) in a.0.iter().zip(b.0).zip(minima.by_ref()) {
        let mut lanes = [T::FAR; LANES];
        for (costs, duals) in costs.as_chunks().0.iter().zip(duals.as_chunks().0) {
            lower(&mut lanes, &reduced(costs, duals));
        }
        *minimum = least_of(&lanes);
        all = all.least(*minimum);
    }
    if let Some(minimum) = minima.next() {
        let (a, b) = (a.1.as_chunks::<FEW>(), b.1.as_chunks::<FEW>());
        let mut lanes = [T::FAR; FEW];
        for (costs, duals) in a.0.iter().zip(b.0) {
            lower(&mut lanes, &reduced(costs, duals));
        }
        let mut rest = least_of_few(&lanes);
        for (cost, &dual) in a.1.iter().zip(b.1) {
            rest = rest.least(cost.minus(dual));
        }
        *minimum = rest;
        all = all.least(rest);
    }
    all
}

/// The body of [`Kernels::first`].
#[inline(always)]
pub fn first<T: Cost>(costs: &[T], duals: &[T], distances: &mut [T], minima: &mut [T]) -> T {
    let mut all = T::FAR;
    let (a, b, c) = (costs.as_chunks::<BLOCK>(), duals.as_chunks::<BLOCK>(), distances.as_chunks_mut::<BLOCK>());
    let mut minima = minima.iter_mut();
    for (((costs, duals), distances), minimum) in a.0.iter().zip(b.0).zip(c.0).zip(minima.by_ref()) {
        let mut lanes = [T::FAR; LANES];
        let parts = costs.as_chunks().0.iter().zip(duals.as_chunks().0).zip(distances.as_chunks_mut().0);
        for ((costs, duals), distances) in parts {
            let values = reduced(costs, duals);
            *distances = values;
            lower(&mut lanes, &values);
        }
        *minimum = least_of(&lanes);
        all = all.least(*minimum);
    }
    if let Some(minimum) = minima.next() {
        let (a, b, c) = (a.1.as_chunks::<FEW>(), b.1.as_chunks::<FEW>(), c.1.as_chunks_mut::<FEW>());
        let mut lanes = [T::FAR; FEW];
        for ((costs, duals), distances) in a.0.iter().zip(b.0).zip(c.0) {
            *distances = reduced(costs, duals);
            lower(&mut lanes, distances);
        }
        let mut rest = least_of_few(&lanes);
        for ((cost, &dual), distance) in a.1.iter().zip(b.1).zip(c.1) {
            *distance = cost.minus(dual);
            rest = rest.least(*distance);
        }
        *minimum = rest;
        all = all.least(rest);
    }
    all
}

/// The body of [`Kernels::scan`].
#[inline(always)]
pub fn scan<T: Cost, I: Index>(operands: Scan<'_, T, I>) -> T {
    let from = operands.from;
    scan_by(
        operands,
        #[inline(always)]
        |cost: T, dual| from.plus(cost.minus(dual)),
    )
}

/// The body of [`Kernels::scan_in_order`].
#[inline(always)]
pub fn scan_in_order<T: Cost, I: Index>(operands: Scan<'_, T, I>, row_dual: T) -> T {
    let from = operands.from;
    scan_by(
        operands,
        #[inline(always)]
        |cost: T, dual| from.plus(cost).minus(row_dual).minus(dual),
    )
}

#[inline(always)]
fn scan_by<T: Cost, I: Index>(operands: Scan<'_, T, I>, distance: impl Fn(T, T) -> T + Copy) -> T {
    let Scan { costs, duals, row, distances, path, minima, .. } = operands;
    let mut all = T::FAR;
    let (a, b) = (costs.as_chunks::<BLOCK>(), duals.as_chunks::<BLOCK>());
    let (c, d) = (distances.as_chunks_mut::<BLOCK>(), path.as_chunks_mut::<BLOCK>());
    let mut minima = minima.iter_mut();
    for ((((costs, duals), distances), path), minimum) in a.0.iter().zip(b.0).zip(c.0).zip(d.0).zip(minima.by_ref()) {
        let mut lanes = [T::FAR; LANES];
        let (a, b) = (costs.as_chunks::<LANES>().0, duals.as_chunks().0);
        let (c, d) = (distances.as_chunks_mut().0, path.as_chunks_mut().0);
        for (((costs, duals), distances), path) in a.iter().zip(b).zip(c).zip(d) {
            lower(&mut lanes, &shorten(costs, duals, row, distances, path, distance));
        }
        *minimum = least_of(&lanes);
        all = all.least(*minimum);
    }
    if let Some(minimum) = minima.next() {
        let (a, b) = (a.1.as_chunks::<FEW>(), b.1.as_chunks::<FEW>());
        let (c, d) = (c.1.as_chunks_mut::<FEW>(), d.1.as_chunks_mut::<FEW>());
        let mut lanes = [T::FAR; FEW];
        for (((costs, duals), distances), path) in a.0.iter().zip(b.0).zip(c.0).zip(d.0) {
            lower(&mut lanes, &shorten(costs, duals, row, distances, path, distance));
        }
        let mut rest = least_of_few(&lanes);
        for (((&cost, &dual), to), path) in a.1.iter().zip(b.1).zip(c.1).zip(d.1) {
            let now = distance(cost, dual);
            if now < *to {
                (*to, *path) = (now, row);
            }
            rest = rest.least(*to);
        }
        *minimum = rest;
        all = all.least(rest);
    }
    all
}

/// Everything is read before anything is written, so that nothing has to be known about where the operands lie.
#[inline(always)]
fn shorten<T: Cost, I: Index, const N: usize>(
    costs: &[T; N],
    duals: &[T; N],
    row: I,
    distances: &mut [T; N],
    path: &mut [I; N],
    distance: impl Fn(T, T) -> T,
) -> [T; N] {
    let (mut kept, mut rows) = (*distances, *path);
    for (((&cost, &dual), kept), before) in costs.iter().zip(duals).zip(&mut kept).zip(&mut rows) {
        let now = distance(cost, dual);
        let shorter = now < *kept;
        *before = if shorter { row } else { *before };
        *kept = if shorter { now } else { *kept };
    }
    *distances = kept;
    *path = rows;
    kept
}

/// One bit for every value that is at most the bound.
#[inline(always)]
fn bits<T: Cost, const N: usize>(values: &[T; N], bound: T) -> u32 {
    let mut all = 0;
    for (k, &value) in values.iter().enumerate() {
        all |= if value <= bound { 1_u32 << (k % 32) } else { 0 };
    }
    all
}

/// The body of [`Kernels::at_most`].
#[inline(always)]
pub fn at_most<T: Cost>(values: &[T], bound: T) -> u32 {
    if let Ok(values) = <&[T; BLOCK]>::try_from(values) {
        return bits(values, bound);
    }
    let (few, rest) = values.as_chunks::<FEW>();
    let mut all = 0;
    for (k, values) in few.iter().take(BLOCK / FEW).enumerate() {
        all |= bits(values, bound) << (k * FEW % 32);
    }
    for (k, value) in rest.iter().enumerate() {
        all |= u32::from(*value <= bound) << ((few.len() * FEW + k) % 32);
    }
    all
}

/// The body of [`Kernels::reduced_at_most`].
#[inline(always)]
pub fn reduced_at_most<T: Cost>(costs: &[T], duals: &[T], bound: T) -> u32 {
    if let (Ok(costs), Ok(duals)) = (<&[T; BLOCK]>::try_from(costs), <&[T; BLOCK]>::try_from(duals)) {
        return bits(&reduced(costs, duals), bound);
    }
    let (a, b) = (costs.as_chunks::<FEW>(), duals.as_chunks::<FEW>());
    let mut all = 0;
    for (k, (costs, duals)) in a.0.iter().zip(b.0).take(BLOCK / FEW).enumerate() {
        all |= bits(&reduced(costs, duals), bound) << (k * FEW % 32);
    }
    for (k, (cost, &dual)) in a.1.iter().zip(b.1).enumerate() {
        all |= u32::from(cost.minus(dual) <= bound) << ((a.0.len() * FEW + k) % 32);
    }
    all
}

/// The body of [`Kernels::second`].
#[inline(always)]
pub fn second<T: Cost>(costs: &[T], duals: &[T], skipped: usize) -> T {
    let mut values = [T::FAR; BLOCK];
    let (a, b) = (costs.as_chunks::<FEW>(), duals.as_chunks::<FEW>());
    let (values_by_few, _) = values.as_chunks_mut::<FEW>();
    for ((costs, duals), values) in a.0.iter().zip(b.0).zip(values_by_few) {
        *values = reduced(costs, duals);
    }
    for ((value, cost), &dual) in values.iter_mut().skip(a.0.len() * FEW).zip(a.1).zip(b.1) {
        *value = cost.minus(dual);
    }
    super::number::set(&mut values, skipped, T::FAR);
    let mut lanes = [T::FAR; LANES];
    values.as_chunks().0.iter().for_each(|values| lower(&mut lanes, values));
    least_of(&lanes)
}
