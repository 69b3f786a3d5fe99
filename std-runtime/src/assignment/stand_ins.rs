//! Sentinel costs for "forbidden", such as 1e9 or 1e18, without loss of accuracy in the other costs.
//!
//! A search adds costs to distances and duals: next to a sentinel of 1e18, costs of 1 are rounded away. So an answer whose duals are far larger than
//! its costs is solved again in `f64`, without the costs that no optimal assignment can contain: a cost that exceeds the minimum of its line by more
//! than the answer exceeds the sum of all line minima. Where the answer itself contains sentinels, all of one value, a smaller value above every sum
//! of other costs replaces them: the answer then has the fewest sentinels and the least sum of the others.

use std::cmp::Ordering;

use samara_core::assignment::{
    Assignment, Cost, Costs, Index, Objective, Options, Workspace, linear_sum_assignment_on, workspace_len,
};

use super::ThisMachine;

/// The ratio of duals to costs above which digits may be lost and a second search pays.
const GAP: f64 = 1024.0;
/// Next to pairs of cost 0, duals of at least this size are taken for those of sentinels.
const STAND_IN: f64 = 1e6;
/// The most searches for duals that are also valid for the excluded costs.
const ROUNDS: usize = 4;

/// An answer that owns itself.
#[derive(Debug)]
pub(super) struct Repaired<T> {
    columns: Vec<u32>,
    rows: Vec<u32>,
    row_duals: Vec<T>,
    column_duals: Vec<T>,
}

impl<T: Cost> Repaired<T> {
    pub(super) fn answer(&self) -> Assignment<'_, T> {
        Assignment::new(&self.columns, &self.rows, &self.row_duals, &self.column_duals)
    }
}

/// Whether the magnitudes in an answer are so far apart that digits may be lost. Reads only the duals, whose sums are the costs of the pairs: the
/// pairs' costs are scattered in a large matrix.
#[inline]
pub(super) fn is_strained<T: Cost>(costs: &Costs<'_, T>, answer: &Assignment<'_, T>) -> bool {
    let (rows, columns) = (answer.row_duals(), answer.column_duals());
    let tall = rows.len() > columns.len();
    let (partners, u, v) = if tall { (answer.rows(), columns, rows) } else { (answer.columns(), rows, columns) };
    // Duals of the larger side are at most 0, and large only if the duals of their partners are.
    let range = range(if u.len() == v.len() { v } else { &[] }, range(u, (T::ZERO, T::ZERO)));
    let most = range.0.to_f64().abs().max(range.1.to_f64());
    let mut least = T::FORBIDDEN;
    for (&u, partner) in u.iter().zip(partners) {
        if let Some(&v) = v.get(partner.at()) {
            let (cost, negative) = (u.minus(T::ZERO.minus(v)), T::ZERO.minus(v).minus(u));
            least = least.least(if cost < T::ZERO { negative } else { cost });
        }
    }
    most > GAP * least.to_f64() && has_gap(costs, answer, most)
}

/// The least and the largest of values and of those in `range`.
#[inline]
fn range<T: Cost>(values: &[T], range: (T, T)) -> (T, T) {
    let (mut low, mut high) = ([range.0; 4], [range.1; 4]);
    let (parts, rest) = values.as_chunks::<4>();
    for values in parts {
        for ((&value, low), high) in values.iter().zip(&mut low).zip(&mut high) {
            *low = low.least(value);
            *high = if value > *high { value } else { *high };
        }
    }
    let low = low.iter().chain(rest).fold(range.0, |low, &value| low.least(value));
    (low, high.iter().chain(rest).fold(range.1, |high, &value| if value > high { value } else { high }))
}

/// Whether there is a gap between the magnitudes of the pairs' costs, or between them and `most`.
#[cold]
fn has_gap<T: Cost>(costs: &Costs<'_, T>, answer: &Assignment<'_, T>, most: f64) -> bool {
    let chosen = answer.pairs().filter_map(|(row, column)| costs.at(row, column)).map(|cost| cost.to_f64().abs());
    let mut sizes: Vec<f64> = chosen.filter(|&size| size > 0.0).collect();
    if sizes.len() < answer.pairs().count() {
        if most >= STAND_IN {
            return true;
        }
        // Costs of 0 give no scale for the others; the duals may.
        let duals = answer.row_duals().iter().chain(answer.column_duals()).map(|dual| dual.to_f64().abs());
        sizes.extend(duals.filter(|&size| size > 0.0));
    }
    sizes.push(most);
    sizes.sort_unstable_by(f64::total_cmp);
    sizes.array_windows().any(|[low, high]| *high > GAP * low)
}

/// A better answer, if digits were lost.
#[cold]
#[inline(never)]
pub(super) fn repaired<T: Cost>(
    machine: ThisMachine,
    costs: &Costs<'_, T>,
    options: &Options<T>,
    answer: &Assignment<'_, T>,
) -> Option<Repaired<T>> {
    let maximize = options.objective == Objective::Maximize;
    let sign = if maximize { -1.0 } else { 1.0 };
    let tall = costs.rows() > costs.columns();
    let wide = if tall { costs.transposed() } else { *costs };
    let (lines, of_lines, of_columns) = if tall {
        (answer.rows(), answer.column_duals(), answer.row_duals())
    } else {
        (answer.columns(), answer.row_duals(), answer.column_duals())
    };
    // With rows that stay free, the costs that a pair would displace are unknown.
    let column_of = lines.iter().map(|column| column.get()).collect::<Option<Vec<usize>>>()?;
    let value = |row, column| {
        let cost = wide.at(row, column).filter(|cost| !cost.forbids(maximize) && cost.admit(maximize, T::ONE).is_some());
        cost.map_or(f64::INFINITY, |cost| sign * cost.to_f64())
    };
    let cells = (0..wide.rows()).flat_map(|row| (0..wide.columns()).map(move |column| (row, column)));
    let duals = |duals: &[T]| duals.iter().map(|dual| sign * dual.to_f64()).collect();
    let problem = Problem { machine, costs: cells.map(|(row, column)| value(row, column)).collect(), width: wide.columns() };
    let found = problem.repair(Found { column_of, u: duals(of_lines), v: duals(of_columns) })?;
    let duals = |duals: Vec<f64>| duals.into_iter().map(|dual| T::from_f64(sign * dual)).collect();
    let mut row_of = vec![u32::NONE; wide.columns()];
    for (row, &column) in (0..).zip(&found.column_of) {
        if let Some(to) = row_of.get_mut(column) {
            *to = row;
        }
    }
    let column_of = found.column_of.iter().map(|&column| column as u32).collect();
    let (u, v) = (duals(found.u), duals(found.v));
    Some(if tall {
        Repaired { columns: row_of, rows: column_of, row_duals: v, column_duals: u }
    } else {
        Repaired { columns: column_of, rows: row_of, row_duals: u, column_duals: v }
    })
}

/// Costs to be minimised, with at most as many rows as columns; infinite ones are forbidden.
struct Problem {
    machine: ThisMachine,
    costs: Vec<f64>, // (rows, width)
    width: usize,
}

/// Pairs and duals.
struct Found {
    column_of: Vec<usize>,
    u: Vec<f64>,
    v: Vec<f64>,
}

impl Found {
    /// The largest dual in size.
    fn largest(&self) -> f64 {
        self.u.iter().chain(&self.v).fold(0.0, |most, dual| dual.abs().max(most))
    }
}

impl Problem {
    fn repair(&self, mut found: Found) -> Option<Found> {
        let (mut costs, mut better) = (self.costs.clone(), false);
        while let Some(bounds) = self.bounds(&costs, &found) {
            let before = costs.clone();
            for (row, bound) in costs.chunks_exact_mut(self.width).zip(bounds) {
                row.iter_mut().filter(|cost| **cost > bound).for_each(|cost| *cost = f64::INFINITY);
            }
            if costs == before {
                break;
            }
            found = self.solve(&costs)?;
            better = true;
        }
        if let Some(reduced) = self.reduced(&costs, &found) {
            found = reduced;
            better = true;
        }
        better.then(|| self.proven(costs, found))
    }

    /// For every row an upper bound on the costs of an assignment as good as this one; `None` if no digits were lost.
    fn bounds(&self, costs: &[f64], found: &Found) -> Option<Vec<f64>> {
        let rows = costs.chunks_exact(self.width);
        let least: Vec<f64> = rows.map(|row| row.iter().copied().fold(f64::INFINITY, f64::min)).collect();
        let chosen = || self.chosen(costs, found);
        let slack: f64 = chosen().zip(&least).map(|(cost, least)| cost - least).sum();
        let size = chosen().fold(slack, |most, cost| most.max(cost.abs()));
        // The rounding error of a sum of positive values is far smaller than this.
        let bound = |least: f64| least + slack * (1.0 + 1e-6);
        (found.largest() > GAP / 16.0 * size).then(|| least.into_iter().map(bound).collect())
    }

    /// The costs of the pairs.
    fn chosen(&self, costs: &[f64], found: &Found) -> impl Iterator<Item = f64> {
        costs.chunks_exact(self.width).zip(&found.column_of).filter_map(|(row, &column)| row.get(column).copied())
    }

    /// The answer with its largest cost, shared by some pairs and far above the others, reduced.
    fn reduced(&self, costs: &[f64], found: &Found) -> Option<Found> {
        let allowed = || costs.iter().copied().filter(|cost| cost.is_finite());
        let large = allowed().fold(f64::NEG_INFINITY, f64::max);
        let others = || allowed().filter(|&cost| cost < large);
        let (low, high) = others().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), cost| (low.min(cost), high.max(cost)));
        let rows = found.column_of.len() as f64;
        let reach = low.abs().max(high.abs()) + (rows + 1.0) * (high - low);
        // A power of two preserves the digits of what is added to it.
        let small = reach.log2().ceil().exp2();
        let unavoidable = self.chosen(costs, found).any(|cost| cost >= large);
        if !unavoidable || low >= high || large.partial_cmp(&(GAP / 16.0 * small)).is_none_or(Ordering::is_le) {
            return None;
        }
        let with = |stand_in: f64, rest: fn(f64) -> f64| -> Vec<f64> {
            let cost = |&cost: &f64| if cost == large { stand_in } else { rest(cost) };
            costs.iter().map(cost).collect()
        };
        let mut found = self.solve(&with(small, |cost| cost))?;
        // Duals of the problem that counts sentinels include what was subtracted from each.
        let count = self.solve(&with(1.0, |cost| if cost.is_finite() { 0.0 } else { cost }))?;
        for (dual, number) in found.u.iter_mut().zip(count.u).chain(found.v.iter_mut().zip(count.v)) {
            *dual += (large - small) * number;
        }
        Some(found)
    }

    /// The answer with duals that are also valid for the excluded costs.
    fn proven(&self, mut costs: Vec<f64>, mut found: Found) -> Found {
        for _ in 0..ROUNDS {
            let mut back = false;
            let rows = costs.chunks_exact_mut(self.width).zip(self.costs.chunks_exact(self.width)).zip(&found.u);
            for ((row, all), u) in rows {
                for ((cost, &full), v) in row.iter_mut().zip(all).zip(&found.v) {
                    if full < u + v && *cost > full {
                        *cost = full;
                        back = true;
                    }
                }
            }
            let Some(again) = back.then(|| self.solve(&costs)).flatten() else { break };
            found = again;
        }
        found
    }

    fn solve(&self, costs: &[f64]) -> Option<Found> {
        let rows = costs.len() / self.width;
        let len = workspace_len(rows, self.width);
        let (mut numbers, mut indices) = (vec![0.0; len.costs], vec![0_u32; len.indices]);
        let mut workspace = Workspace::new(&mut numbers, &mut indices, rows, self.width).ok()?;
        let view = Costs::new(costs, rows, self.width).ok()?;
        let answer = linear_sum_assignment_on(self.machine, view, &Options::default(), &mut workspace).ok()?;
        let column_of = answer.columns().iter().map(|column| column.get()).collect::<Option<_>>()?;
        Some(Found { column_of, u: answer.row_duals().to_vec(), v: answer.column_duals().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samara_core::assignment::{Certificate, Violation, verify};

    use super::*;
    use crate::assignment::Solver;

    /// The fewest pairs with a sentinel, then the least sum of the others, by dynamic programming over sets of columns.
    fn exact(costs: &[Option<i64>], rows: usize, columns: usize) -> (usize, i128) {
        let mut best = vec![None; 1 << columns];
        best[0] = Some((0_usize, 0_i128));
        for set in 0..1_usize << columns {
            let row = set.count_ones() as usize;
            let Some(so_far) = best[set].filter(|_| row < rows) else { continue };
            for column in (0..columns).filter(|column| set & 1 << column == 0) {
                let (count, sum) = so_far;
                let next = match costs[row * columns + column] {
                    Some(cost) => (count, sum + i128::from(cost)),
                    None => (count + 1, sum),
                };
                let to = &mut best[set | 1 << column];
                *to = Some(to.map_or(next, |best| next.min(best)));
            }
        }
        (0..1_usize << columns).filter(|set| set.count_ones() as usize == rows).filter_map(|set| best[set]).min().unwrap()
    }

    /// The same of an answer to costs of some type, and its proof.
    fn solved<T: Cost>(
        costs: &[Option<i64>],
        (rows, columns): (usize, usize),
        value: impl Fn(Option<i64>) -> T,
        options: &Options<T>,
    ) -> ((usize, i128), Result<Certificate, Violation>) {
        let typed: Vec<T> = costs.iter().map(|&cost| value(cost)).collect();
        let view = Costs::new(&typed, rows, columns).unwrap();
        let read = |answer: Assignment<'_, T>| {
            let chosen = answer.pairs().map(|(row, column)| costs[row * columns + column]);
            let found = chosen.fold((0, 0), |(count, sum), cost| match cost {
                Some(cost) => (count, sum + i128::from(cost)),
                None => (count + 1, sum),
            });
            (found, verify(view, &answer, options, if size_of::<T>() == 4 { 1e-6 } else { 1e-14 }))
        };
        Solver::default().solve_with(view, options, read).unwrap()
    }

    fn check(costs: &[Option<i64>], rows: usize, columns: usize, maximize: bool) {
        let sign = if maximize { -1 } else { 1 };
        let flipped: Vec<Option<i64>> = (0..columns).flat_map(|j| (0..rows).map(move |i| costs[i * columns + j])).collect();
        let expected = exact(costs, rows, columns);
        let expected = (expected.0, expected.1 * i128::from(sign));
        let signed = |costs: &[Option<i64>]| -> Vec<_> { costs.iter().map(|cost| cost.map(|cost| sign * cost)).collect() };
        let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
        for (costs, shape) in [(signed(costs), (rows, columns)), (signed(&flipped), (columns, rows))] {
            // Thousandths of a power of two, so that all sums are exact.
            for stand_in in [1e6, 1e9, 1e18, 1e99, 1e300, f64::MAX] {
                let value = |cost: Option<i64>| cost.map_or(sign as f64 * stand_in, |cost| cost as f64 / 1024.0);
                let (found, proof) = solved(&costs, shape, value, &Options { objective, ..Options::default() });
                assert_eq!(found, expected, "{costs:?} {shape:?} {stand_in}");
                proof.unwrap_or_else(|error| panic!("{costs:?} {shape:?} {stand_in}: {error}"));
            }
            for stand_in in [1e6, 1e9, 1e18, 1e29, f32::MAX] {
                let value = |cost: Option<i64>| cost.map_or(sign as f32 * stand_in, |cost| cost as f32 / 16.0);
                let (found, proof) = solved(&costs, shape, value, &Options { objective, ..Options::default() });
                assert_eq!(found, expected, "{costs:?} {shape:?} {stand_in} in 32 bits");
                proof.unwrap_or_else(|error| panic!("{costs:?} {shape:?} {stand_in} in 32 bits: {error}"));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn digits_beside_stand_ins_count(
            (rows, columns, costs) in (1_usize..=6, 0_usize..=2).prop_flat_map(|(rows, more)| {
                let cost = prop_oneof![Just(None), (-20_i64..200).prop_map(Some), (0_i64..4).prop_map(Some)];
                (Just(rows), Just(rows + more), prop::collection::vec(cost, rows * (rows + more)))
            }),
            maximize in any::<bool>(),
        ) {
            check(&costs, rows, columns, maximize);
        }
    }

    #[test]
    fn wide_problems_agree_with_integers() {
        use samara_core::math::rng::{Purpose, Rng};
        for seed in 0..60 {
            let mut rng = Rng::new(seed, Purpose::Sampling, 0);
            let (rows, columns) = (40, 40 + rng.below(2) as usize * 9);
            // One pair in ten or five is allowed: some problems need sentinels.
            let apart = 5 + 5 * rng.below(2);
            let cost = |_| (rng.below(apart) == 0).then(|| rng.below(1000) as i64);
            let costs: Vec<Option<i64>> = (0..rows * columns).map(cost).collect();
            let (expected, _) = solved(&costs, (rows, columns), |cost| cost.unwrap_or(1 << 40), &Options::default());
            let (double, proof) =
                solved(&costs, (rows, columns), |cost| cost.map_or(1e18, |cost| cost as f64 / 1024.0), &Options::default());
            assert_eq!(double, expected, "{seed}");
            proof.unwrap();
            let (single, proof) =
                solved(&costs, (rows, columns), |cost| cost.map_or(1e18, |cost| cost as f32), &Options::default());
            assert_eq!(single, expected, "{seed}");
            proof.unwrap();
        }
    }

    #[test]
    fn larger_stand_ins_give_way_to_smaller_ones() {
        // 1e30 can be avoided, 1e12 can be avoided beside it, and the others differ by 2^-20.
        let small = f64::exp2(-20.0);
        let costs = [1.0 + small, 1.0, 1e30, 1.0, 1.0 - 2.0 * small, 1e30, 1e30, 1e12, 3.0];
        let view = Costs::new(&costs, 3, 3).unwrap();
        let found = Solver::default().solve(view, &Options::default()).unwrap();
        assert_eq!(found.columns, [0, 1, 2]);
        assert_eq!(found.total, 5.0 - small);
        assert_eq!(found.row_duals.iter().chain(&found.column_duals).sum::<f64>(), 5.0 - small);
    }

    #[test]
    fn costs_without_stand_ins_are_not_solved_again() {
        use crate::assignment::families::Family;
        for (name, family) in Family::ALL {
            let costs = family.costs(60, 60, 1);
            let view = Costs::new(&costs, 60, 60).unwrap();
            let mut solver = Solver::default();
            let again = solver.solve_with(view, &Options::default(), |answer| {
                is_strained(&view, &answer) && repaired(ThisMachine::new(), &view, &Options::default(), &answer).is_some()
            });
            assert!(!again.unwrap(), "{name}");
        }
    }
}
