//! The inner loops: passes over one row of costs, in plain Rust that compilers turn into vectors.
//!
//! A runtime that knows its machine compiles the same bodies for more instructions and lends them as a table.

use super::number::{Cost, Index};

/// Columns are looked at in blocks of so many: a pass notes the least value of every block, so that nobody searches a whole row for it.
pub const BLOCK: usize = 32;

/// Loops go by so many columns where they can.
const LANES: usize = 16;
/// And by so many in what is left.
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

/// Passes over rows.
#[derive(Clone, Copy, Debug)]
pub struct Kernels<T, I> {
    /// Whether every cost is plain ([`Cost::is_plain`]).
    pub plain: fn(costs: &[T]) -> bool,
    /// `reduce(costs, duals, minima)`: the least `cost − dual`, of all and of every block.
    pub reduce: fn(&[T], &[T], &mut [T]) -> T,
    /// `first(costs, duals, distances, minima)`: the same, and the differences are kept as distances.
    pub first: fn(&[T], &[T], &mut [T], &mut [T]) -> T,
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
    let (lanes, rest) = costs.as_chunks::<LANES>();
    let mut all = [true; LANES];
    for costs in lanes {
        for (all, cost) in all.iter_mut().zip(costs) {
            *all &= cost.is_plain();
        }
    }
    let mut plain = true;
    for lane in all {
        plain &= lane;
    }
    for cost in rest {
        plain &= cost.is_plain();
    }
    plain
}

/// The least of some numbers, pair by pair, which is how vectors do it.
#[inline(always)]
fn least<T: Cost, const N: usize>(mut values: [T; N]) -> T {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            if let (Some(&a), Some(&b)) = (values.get(i), values.get(i + half))
                && let Some(to) = values.get_mut(i)
            {
                *to = a.least(b);
            }
        }
        half /= 2;
    }
    values.first().copied().unwrap_or(T::FAR)
}

/// The body of [`Kernels::reduce`].
#[inline(always)]
pub fn reduce<T: Cost>(costs: &[T], duals: &[T], minima: &mut [T]) -> T {
    let mut all = T::FAR;
    for ((costs, duals), minimum) in costs.chunks(BLOCK).zip(duals.chunks(BLOCK)).zip(minima) {
        let mut lanes = [T::FAR; LANES];
        let (a, b) = (costs.as_chunks::<LANES>(), duals.as_chunks::<LANES>());
        for (costs, duals) in a.0.iter().zip(b.0) {
            reduce_lanes(costs, duals, &mut lanes);
        }
        let mut few = [T::FAR; FEW];
        let (a, b) = (a.1.as_chunks::<FEW>(), b.1.as_chunks::<FEW>());
        for (costs, duals) in a.0.iter().zip(b.0) {
            reduce_lanes(costs, duals, &mut few);
        }
        let mut rest = least(lanes).least(least(few));
        for (cost, &dual) in a.1.iter().zip(b.1) {
            rest = rest.least(cost.minus(dual));
        }
        *minimum = rest;
        all = all.least(rest);
    }
    all
}

#[inline(always)]
fn reduce_lanes<T: Cost, const N: usize>(costs: &[T; N], duals: &[T; N], lanes: &mut [T; N]) {
    for ((cost, &dual), lane) in costs.iter().zip(duals).zip(lanes) {
        *lane = lane.least(cost.minus(dual));
    }
}

/// The body of [`Kernels::first`].
#[inline(always)]
pub fn first<T: Cost>(costs: &[T], duals: &[T], distances: &mut [T], minima: &mut [T]) -> T {
    let mut all = T::FAR;
    for (((costs, duals), distances), minimum) in
        costs.chunks(BLOCK).zip(duals.chunks(BLOCK)).zip(distances.chunks_mut(BLOCK)).zip(minima)
    {
        let mut lanes = [T::FAR; LANES];
        let (a, b, c) = (costs.as_chunks::<LANES>(), duals.as_chunks::<LANES>(), distances.as_chunks_mut::<LANES>());
        for ((costs, duals), distances) in a.0.iter().zip(b.0).zip(c.0) {
            first_lanes(costs, duals, distances, &mut lanes);
        }
        let mut few = [T::FAR; FEW];
        let (a, b, c) = (a.1.as_chunks::<FEW>(), b.1.as_chunks::<FEW>(), c.1.as_chunks_mut::<FEW>());
        for ((costs, duals), distances) in a.0.iter().zip(b.0).zip(c.0) {
            first_lanes(costs, duals, distances, &mut few);
        }
        let mut rest = least(lanes).least(least(few));
        for ((cost, &dual), distance) in a.1.iter().zip(b.1).zip(c.1) {
            *distance = cost.minus(dual);
            rest = rest.least(*distance);
        }
        *minimum = rest;
        all = all.least(rest);
    }
    all
}

#[inline(always)]
fn first_lanes<T: Cost, const N: usize>(costs: &[T; N], duals: &[T; N], distances: &mut [T; N], lanes: &mut [T; N]) {
    for (((cost, &dual), distance), lane) in costs.iter().zip(duals).zip(distances).zip(lanes) {
        *distance = cost.minus(dual);
        *lane = lane.least(*distance);
    }
}

/// The body of [`Kernels::scan`].
#[inline(always)]
pub fn scan<T: Cost, I: Index>(operands: Scan<'_, T, I>) -> T {
    let from = operands.from;
    scan_by(operands, #[inline(always)] |cost: T, dual| from.plus(cost.minus(dual)))
}

/// The body of [`Kernels::scan_in_order`].
#[inline(always)]
pub fn scan_in_order<T: Cost, I: Index>(operands: Scan<'_, T, I>, row_dual: T) -> T {
    let from = operands.from;
    scan_by(operands, #[inline(always)] |cost: T, dual| from.plus(cost).minus(row_dual).minus(dual))
}

#[inline(always)]
fn scan_by<T: Cost, I: Index>(operands: Scan<'_, T, I>, distance: impl Fn(T, T) -> T + Copy) -> T {
    let Scan { costs, duals, row, distances, path, minima, .. } = operands;
    let mut all = T::FAR;
    for ((((costs, duals), distances), path), minimum) in
        costs.chunks(BLOCK).zip(duals.chunks(BLOCK)).zip(distances.chunks_mut(BLOCK)).zip(path.chunks_mut(BLOCK)).zip(minima)
    {
        let mut lanes = [T::FAR; LANES];
        let (a, b) = (costs.as_chunks::<LANES>(), duals.as_chunks::<LANES>());
        let (c, d) = (distances.as_chunks_mut::<LANES>(), path.as_chunks_mut::<LANES>());
        for (((costs, duals), distances), path) in a.0.iter().zip(b.0).zip(c.0).zip(d.0) {
            scan_lanes(costs, duals, row, distances, path, &mut lanes, distance);
        }
        let mut few = [T::FAR; FEW];
        let (a, b) = (a.1.as_chunks::<FEW>(), b.1.as_chunks::<FEW>());
        let (c, d) = (c.1.as_chunks_mut::<FEW>(), d.1.as_chunks_mut::<FEW>());
        for (((costs, duals), distances), path) in a.0.iter().zip(b.0).zip(c.0).zip(d.0) {
            scan_lanes(costs, duals, row, distances, path, &mut few, distance);
        }
        let mut rest = least(lanes).least(least(few));
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

#[inline(always)]
fn scan_lanes<T: Cost, I: Index, const N: usize>(
    costs: &[T; N],
    duals: &[T; N],
    row: I,
    distances: &mut [T; N],
    path: &mut [I; N],
    lanes: &mut [T; N],
    distance: impl Fn(T, T) -> T,
) {
    for ((((&cost, &dual), to), path), lane) in costs.iter().zip(duals).zip(distances).zip(path).zip(lanes) {
        let now = distance(cost, dual);
        let old = *to;
        let shorter = now < old;
        let kept = if shorter { now } else { old };
        *to = kept;
        *path = if shorter { row } else { *path };
        *lane = lane.least(kept);
    }
}

/// The body of [`Kernels::at_most`].
#[inline(always)]
pub fn at_most<T: Cost>(values: &[T], bound: T) -> u32 {
    let mut bits = 0;
    if let Ok(values) = <&[T; BLOCK]>::try_from(values) {
        for (k, value) in values.iter().enumerate() {
            bits |= if *value <= bound { 1_u32 << k } else { 0 };
        }
    } else {
        for (k, value) in values.iter().take(BLOCK).enumerate() {
            bits |= if *value <= bound { 1_u32 << k } else { 0 };
        }
    }
    bits
}

/// The body of [`Kernels::reduced_at_most`].
#[inline(always)]
pub fn reduced_at_most<T: Cost>(costs: &[T], duals: &[T], bound: T) -> u32 {
    let mut bits = 0;
    if let (Ok(costs), Ok(duals)) = (<&[T; BLOCK]>::try_from(costs), <&[T; BLOCK]>::try_from(duals)) {
        for (k, (cost, &dual)) in costs.iter().zip(duals).enumerate() {
            bits |= if cost.minus(dual) <= bound { 1_u32 << k } else { 0 };
        }
    } else {
        for (k, (cost, &dual)) in costs.iter().zip(duals).take(BLOCK).enumerate() {
            bits |= if cost.minus(dual) <= bound { 1_u32 << k } else { 0 };
        }
    }
    bits
}

/// The body of [`Kernels::second`].
#[inline(always)]
pub fn second<T: Cost>(costs: &[T], duals: &[T], skipped: usize) -> T {
    let mut least_of = T::FAR;
    if let (Ok(costs), Ok(duals)) = (<&[T; BLOCK]>::try_from(costs), <&[T; BLOCK]>::try_from(duals)) {
        let mut values = [T::FAR; BLOCK];
        for ((cost, &dual), value) in costs.iter().zip(duals).zip(&mut values) {
            *value = cost.minus(dual);
        }
        super::number::set(&mut values, skipped, T::FAR);
        least_of = least(values);
    } else {
        for (k, (cost, &dual)) in costs.iter().zip(duals).enumerate() {
            least_of = if k == skipped { least_of } else { least_of.least(cost.minus(dual)) };
        }
    }
    least_of
}
