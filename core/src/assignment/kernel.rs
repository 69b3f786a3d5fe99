//! The inner loops: passes over one row of costs, in plain Rust that compilers vectorise.
//!
//! Everything here is inlined into the search, which a [`super::Machine`] compiles for its instruction set. Hence loops rather than closures, which
//! compilers may leave outside of the function that has the target features.

use super::machine::Stores;
use super::number::{Cost, Index, get};

/// Columns per tile: a pass records the minima of every tile, so that no later step scans a whole row for a minimum.
pub(super) const TILE: usize = 32;

/// Whether the machine has vector registers. Without them, processing several columns at once is more code and not faster.
pub(super) const VECTORS: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_feature = "simd128"));
/// Columns processed at once: one or two vectors.
pub(super) const LANES: usize = if VECTORS { 8 } else { 1 };

/// The operands of [`scan`], all as long as the row.
#[derive(Debug)]
pub(super) struct Scan<'a, T, I> {
    /// Costs of the row.
    pub(super) costs: &'a [T],
    /// Duals of the columns.
    pub(super) duals: &'a [T],
    /// Distance of the row, less its dual.
    pub(super) from: T,
    /// The row.
    pub(super) row: I,
    /// Distances of the columns, which may become less.
    pub(super) distances: &'a mut [T],
    /// The row before each column on its path.
    pub(super) path: &'a mut [I],
    /// The minima of every tile, [`minima_len`] values.
    pub(super) minima: &'a mut [T],
    /// How distances and path are stored.
    pub(super) stores: Stores,
}

/// Whether every cost is plain ([`Cost::is_plain`]).
#[inline(always)]
pub(super) fn plain<T: Cost>(costs: &[T]) -> bool {
    let mut plain = true;
    for cost in costs {
        plain &= cost.is_plain();
    }
    plain
}

/// The minimum over lanes.
#[inline(always)]
pub(super) fn least_of<T: Cost>(lanes: &[T]) -> T {
    let (parts, rest) = lanes.as_chunks::<LANES>();
    let mut all = [T::FAR; LANES];
    for lanes in parts {
        lower(&mut all, lanes);
    }
    let mut half = LANES / 2;
    while half > 0 {
        if let Some((low, high)) = all.split_at_mut_checked(half) {
            for (a, &b) in low.iter_mut().zip(&*high) {
                *a = a.least(b);
            }
        }
        half /= 2;
    }
    rest.iter().fold(all[0], |least, &lane| least.least(lane))
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

/// The number of minima that a pass records for a row of `columns`.
pub(super) const fn minima_len(columns: usize) -> usize {
    let rest = columns % TILE;
    columns / TILE * LANES + if rest < LANES { rest } else { LANES }
}

/// The last `LANES` elements of a row whose length is not a multiple of `LANES`. They overlap elements processed before, which does not change a
/// minimum.
#[inline(always)]
fn last<E>(items: &[E]) -> Option<&[E; LANES]> {
    if items.len().is_multiple_of(LANES) { None } else { items.last_chunk() }
}

/// Computes `cost − dual`: writes the minima of every tile, and returns the overall minimum.
#[inline(always)]
pub(super) fn reduce<T: Cost>(costs: &[T], duals: &[T], minima: &mut [T]) -> T {
    let (a, b, c) = (costs.as_chunks::<TILE>(), duals.as_chunks::<TILE>(), minima.as_chunks_mut::<LANES>());
    let mut all = [T::FAR; LANES];
    let mut lanes = c.0.iter_mut();
    for ((costs, duals), lanes) in a.0.iter().zip(b.0).zip(lanes.by_ref()) {
        *lanes = least_reduced(costs, duals);
        lower(&mut all, lanes);
    }
    if let Some(lanes) = lanes.next() {
        *lanes = least_reduced(a.1, b.1);
        lower(&mut all, lanes);
    }
    let mut least = least_of(&all);
    for ((cost, &dual), lane) in a.1.iter().zip(b.1).zip(c.1) {
        *lane = cost.minus(dual);
        least = least.least(*lane);
    }
    least
}

/// The lane minima of `cost − dual` of at most one tile and at least one vector.
#[inline(always)]
fn least_reduced<T: Cost>(costs: &[T], duals: &[T]) -> [T; LANES] {
    let mut lanes = [T::FAR; LANES];
    for (costs, duals) in costs.as_chunks().0.iter().zip(duals.as_chunks().0) {
        lower(&mut lanes, &reduced(costs, duals));
    }
    if let (Some(costs), Some(duals)) = (last(costs), last(duals)) {
        lower(&mut lanes, &reduced(costs, duals));
    }
    lanes
}

/// The same as [`reduce`], and stores the differences as distances.
#[inline(always)]
pub(super) fn first<T: Cost>(costs: &[T], duals: &[T], distances: &mut [T], minima: &mut [T]) -> T {
    let (a, b, c) = (costs.as_chunks::<TILE>(), duals.as_chunks::<TILE>(), distances.as_chunks_mut::<TILE>());
    let d = minima.as_chunks_mut::<LANES>();
    let mut all = [T::FAR; LANES];
    let mut lanes = d.0.iter_mut();
    for (((costs, duals), distances), lanes) in a.0.iter().zip(b.0).zip(c.0).zip(lanes.by_ref()) {
        *lanes = keep_reduced(costs, duals, distances);
        lower(&mut all, lanes);
    }
    if let Some(lanes) = lanes.next() {
        *lanes = keep_reduced(a.1, b.1, c.1);
        lower(&mut all, lanes);
        return least_of(&all);
    }
    let mut least = least_of(&all);
    for (((cost, &dual), distance), lane) in a.1.iter().zip(b.1).zip(c.1).zip(d.1) {
        *distance = cost.minus(dual);
        *lane = *distance;
        least = least.least(*lane);
    }
    least
}

/// As [`least_reduced`], and stores all differences.
#[inline(always)]
fn keep_reduced<T: Cost>(costs: &[T], duals: &[T], distances: &mut [T]) -> [T; LANES] {
    let mut lanes = [T::FAR; LANES];
    let parts = costs.as_chunks().0.iter().zip(duals.as_chunks().0).zip(distances.as_chunks_mut().0);
    for ((costs, duals), distances) in parts {
        let values = reduced(costs, duals);
        *distances = values;
        lower(&mut lanes, &values);
    }
    if let (Some(costs), Some(duals), Some(distances)) = (last(costs), last(duals), distances.last_chunk_mut()) {
        let values = reduced(costs, duals);
        *distances = values;
        lower(&mut lanes, &values);
    }
    lanes
}

/// Shortens distances by paths through a row; returns the least distance.
#[inline(always)]
pub(super) fn scan<T: Cost, I: Index>(operands: Scan<'_, T, I>) -> T {
    let from = operands.from;
    scan_by(
        operands,
        #[inline(always)]
        |cost: T, dual| from.plus(cost.minus(dual)),
    )
}

/// [`scan`] with the additions in scipy's order: `((distance + cost) − row dual) − column dual`.
#[inline(always)]
pub(super) fn scan_in_order<T: Cost, I: Index>(operands: Scan<'_, T, I>, row_dual: T) -> T {
    let from = operands.from;
    scan_by(
        operands,
        #[inline(always)]
        |cost: T, dual| from.plus(cost).minus(row_dual).minus(dual),
    )
}

#[inline(always)]
fn scan_by<T: Cost, I: Index>(operands: Scan<'_, T, I>, distance: impl Fn(T, T) -> T + Copy) -> T {
    let Scan { costs, duals, row, distances, path, minima, stores, .. } = operands;
    let (a, b) = (costs.as_chunks::<TILE>(), duals.as_chunks::<TILE>());
    let (c, d) = (distances.as_chunks_mut::<TILE>(), path.as_chunks_mut::<TILE>());
    let e = minima.as_chunks_mut::<LANES>();
    let mut all = [T::FAR; LANES];
    let mut lanes = e.0.iter_mut();
    for ((((costs, duals), distances), path), lanes) in a.0.iter().zip(b.0).zip(c.0).zip(d.0).zip(lanes.by_ref()) {
        *lanes = shorten((costs, duals), row, distances, path, (stores, distance));
        lower(&mut all, lanes);
    }
    if let Some(lanes) = lanes.next() {
        *lanes = shorten((a.1, b.1), row, c.1, d.1, (stores, distance));
        lower(&mut all, lanes);
        return least_of(&all);
    }
    let mut least = least_of(&all);
    for ((((&cost, &dual), to), path), lane) in a.1.iter().zip(b.1).zip(c.1).zip(d.1).zip(e.1) {
        let now = distance(cost, dual);
        if now < *to {
            (*to, *path) = (now, row);
        }
        *lane = *to;
        least = least.least(*lane);
    }
    least
}

/// Shortens the distances of at most one tile and at least one vector; returns the lane minima.
#[inline(always)]
fn shorten<T: Cost, I: Index>(
    (costs, duals): (&[T], &[T]),
    row: I,
    distances: &mut [T],
    path: &mut [I],
    (stores, distance): (Stores, impl Fn(T, T) -> T + Copy),
) -> [T; LANES] {
    let mut lanes = [T::FAR; LANES];
    let tail = match (last(costs), last(duals), last(distances), last(path)) {
        (Some(costs), Some(duals), Some(&distances), Some(&path)) => {
            Some(shortened(costs, duals, row, distances, path, distance))
        }
        _ => None,
    };
    let parts = costs.as_chunks().0.iter().zip(duals.as_chunks().0);
    for (((costs, duals), distances), path) in parts.zip(distances.as_chunks_mut().0).zip(path.as_chunks_mut().0) {
        let (nearer, rows) = shortened(costs, duals, row, *distances, *path, distance);
        store(stores, (distances, nearer), (path, rows));
        lower(&mut lanes, &nearer);
    }
    if let (Some((nearer, rows)), Some(distances), Some(path)) = (tail, distances.last_chunk_mut(), path.last_chunk_mut()) {
        store(stores, (distances, nearer), (path, rows));
        lower(&mut lanes, &nearer);
    }
    lanes
}

/// Stores selected distances and the rows that belong to them.
#[inline(always)]
fn store<T, I>(stores: Stores, distances: (&mut [T; LANES], [T; LANES]), path: (&mut [I; LANES], [I; LANES])) {
    if stores == Stores::Whole {
        // Compilers do not merge a selection into a store that they cannot move up to its load.
        core::hint::black_box(());
    }
    // The order matters: compilers turn the first store into a masked one, which prevents store-to-load forwarding for later loads.
    *path.0 = path.1;
    *distances.0 = distances.1;
}

/// All loads precede all stores, so that the compiler need not prove that the operands do not alias.
#[inline(always)]
fn shortened<T: Cost, I: Index>(
    costs: &[T; LANES],
    duals: &[T; LANES],
    row: I,
    mut distances: [T; LANES],
    mut path: [I; LANES],
    distance: impl Fn(T, T) -> T,
) -> ([T; LANES], [I; LANES]) {
    for (((&cost, &dual), to), before) in costs.iter().zip(duals).zip(&mut distances).zip(&mut path) {
        let now = distance(cost, dual);
        let shorter = now < *to;
        *before = if shorter { row } else { *before };
        *to = if shorter { now } else { *to };
    }
    (distances, path)
}

/// The columns of a tile.
#[inline(always)]
pub(super) fn nth_tile<E>(items: &[E], tile: usize) -> &[E] {
    let start = tile.saturating_mul(TILE);
    let end = start.saturating_add(TILE).min(items.len());
    items.get(start..end).unwrap_or(&[])
}

/// The minima that a pass has recorded for a tile.
#[inline(always)]
pub(super) fn nth_minima<T>(minima: &[T], tile: usize) -> &[T] {
    let start = tile.saturating_mul(LANES);
    minima.get(start..start.saturating_add(LANES).min(minima.len())).unwrap_or(&[])
}

/// Whether a recorded minimum of a tile is at most the bound.
#[inline(always)]
pub(super) fn any_at_most<T: Cost>(minima: &[T], bound: T) -> bool {
    match minima.as_array::<LANES>() {
        Some(lanes) => bits(lanes, bound) != 0,
        None => minima.iter().any(|&lane| lane <= bound),
    }
}

/// A bit mask of the values that are at most the bound.
#[inline(always)]
pub(super) fn bits<T: Cost, const N: usize>(values: &[T; N], bound: T) -> u32 {
    let mut all = 0;
    for (k, &value) in values.iter().enumerate() {
        all |= if value <= bound { 1_u32 << (k % 32) } else { 0 };
    }
    all
}

/// A bit mask of the values (at most [`TILE`] of them) that are at most the bound.
#[inline(always)]
pub(super) fn at_most<T: Cost>(values: &[T], bound: T) -> u32 {
    if let Some(values) = values.as_array::<TILE>() {
        return bits(values, bound);
    }
    let (parts, rest) = values.as_chunks::<LANES>();
    let mut all = 0;
    for (k, values) in parts.iter().enumerate() {
        all |= bits(values, bound) << (k * LANES % 32);
    }
    if let Some(last) = last(values) {
        all |= bits(last, bound) << ((values.len() - LANES) % 32);
    } else if parts.is_empty() {
        for (k, value) in rest.iter().enumerate() {
            all |= u32::from(*value <= bound) << (k % 32);
        }
    }
    all
}

/// The same for `cost − dual`.
#[inline(always)]
pub(super) fn reduced_at_most<T: Cost>(costs: &[T], duals: &[T], bound: T) -> u32 {
    if let (Some(costs), Some(duals)) = (costs.as_array::<TILE>(), duals.as_array::<TILE>()) {
        return bits(&reduced(costs, duals), bound);
    }
    let (a, b) = (costs.as_chunks::<LANES>(), duals.as_chunks::<LANES>());
    let mut all = 0;
    for (k, (costs, duals)) in a.0.iter().zip(b.0).enumerate() {
        all |= bits(&reduced(costs, duals), bound) << (k * LANES % 32);
    }
    if let (Some(last), Some(duals)) = (last(costs), last(duals)) {
        all |= bits(&reduced(last, duals), bound) << ((costs.len() - LANES) % 32);
    } else if a.0.is_empty() {
        for (k, (cost, &dual)) in a.1.iter().zip(b.1).enumerate() {
            all |= u32::from(cost.minus(dual) <= bound) << (k % 32);
        }
    }
    all
}

#[inline(always)]
fn above<T: Cost>(mut values: [T; LANES], least: T) -> [T; LANES] {
    for value in &mut values {
        *value = if *value > least { *value } else { T::FAR };
    }
    values
}

/// The smallest `cost − dual` above `least`, over at most [`TILE`] columns.
#[inline(always)]
pub(super) fn least_above<T: Cost>(costs: &[T], duals: &[T], least: T) -> T {
    let mut lanes = [T::FAR; LANES];
    let (a, b) = (costs.as_chunks::<LANES>(), duals.as_chunks::<LANES>());
    let tail = (last(costs), last(duals));
    for (costs, duals) in a.0.iter().zip(b.0) {
        lower(&mut lanes, &above(reduced(costs, duals), least));
    }
    if let (Some(costs), Some(duals)) = tail {
        lower(&mut lanes, &above(reduced(costs, duals), least));
    } else if a.0.is_empty() {
        for (cost, &dual) in a.1.iter().zip(b.1) {
            let value = cost.minus(dual);
            lanes[0] = if value > least { lanes[0].least(value) } else { lanes[0] };
        }
    }
    least_of(&lanes)
}

/// Lowers `least` where the row's costs are smaller, and writes `row` there; returns whether all costs are plain.
#[inline(always)]
pub(super) fn lower_all<T: Cost, I: Index>(costs: &[T], row: I, least: &mut [T], rows: &mut [I]) -> bool {
    let mut plain = true;
    for ((&cost, least), from) in costs.iter().zip(least).zip(rows) {
        let less = cost < *least;
        // In this order for the reason in [`shorten`].
        *from = if less { row } else { *from };
        *least = if less { cost } else { *least };
        plain &= cost.is_plain();
    }
    plain
}

/// The least cost of a row and a column with that cost, if all costs are plain.
#[inline(always)]
pub(super) fn cheapest<T: Cost>(costs: &[T]) -> Option<(T, usize)> {
    let (parts, rest) = costs.as_chunks::<LANES>();
    let (mut least, mut groups, mut plain) = ([T::FAR; LANES], [T::ZERO; LANES], [true; LANES]);
    for (group, costs) in parts.iter().enumerate() {
        lower_from(costs, T::count(group), &mut least, &mut groups, &mut plain);
    }
    if let Some(costs) = last(costs) {
        lower_from(costs, T::count(parts.len()), &mut least, &mut groups, &mut plain);
    }
    let (mut all, mut found) = (plain.iter().fold(true, |all, lane| all & lane), (T::FAR, 0));
    if parts.is_empty() {
        for (column, &cost) in rest.iter().enumerate() {
            all &= cost.is_plain();
            found = if cost < found.0 { (cost, column) } else { found };
        }
    } else {
        let cheapest = least_of(&least);
        let lane = bits(&least, cheapest).trailing_zeros() as usize;
        let group = get(&groups, lane, T::ZERO).to_count();
        // The last group is the row's last whole vector and may overlap the one before.
        let start = group.saturating_mul(LANES).min(costs.len().saturating_sub(LANES));
        found = (cheapest, start.saturating_add(lane));
    }
    all.then_some(found)
}

#[inline(always)]
fn lower_from<T: Cost>(costs: &[T; LANES], group: T, least: &mut [T; LANES], groups: &mut [T; LANES], plain: &mut [bool; LANES]) {
    for (((&cost, least), from), plain) in costs.iter().zip(least).zip(groups).zip(plain) {
        let less = cost < *least;
        *from = if less { group } else { *from };
        *least = if less { cost } else { *least };
        *plain &= cost.is_plain();
    }
}
