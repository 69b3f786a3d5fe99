//! Assignment against scipy's choices, Hopcroft and Karp's matching, and bounds on the number of its steps.

use std::cell::Cell;

use proptest::prelude::*;
use samara::assignment::families::Family;
use samara::assignment::{Batch, Solution, Solver, ThisMachine, best_assignments};
use samara::threads::Pool;
use samara_core::assignment::{
    Cost, Costs, Error, Index, Objective, Options, Ties, Workspace, linear_sum_assignment_lazy, verify, workspace_len,
};
use samara_core::bipartite::{Graph, maximum_matching, scratch_len};
use samara_tests::golden::json;
use serde_json::Value;

fn indices(list: &Value) -> Vec<u32> {
    list.as_array().expect("a list").iter().map(|x| x.as_u64().expect("an index") as u32).collect()
}

fn solve<T: Cost>(costs: &[T], rows: usize, columns: usize, options: &Options<T>) -> Result<Solution<T>, Error<T>> {
    let view = Costs::new(costs, rows, columns).expect("costs");
    let fast = Solver::default().solve(view, options);
    let portable = Solver::portable().solve(view, options);
    assert_eq!(fast, portable, "the passes of every machine give the same answer");
    fast
}

#[test]
fn scipys_choice_among_equal_optima() {
    let golden = json("assignment/assignment.json");
    for case in golden["ties"].as_array().expect("cases") {
        let [rows, columns] = indices(&case["shape"])[..] else { panic!("a shape") };
        let maximize = case["maximize"] == true;
        let sign = if maximize { -1.0 } else { 1.0 };
        let costs: Vec<f64> =
            case["costs"].as_array().expect("costs").iter().map(|c| sign * c.as_f64().unwrap_or(f64::INFINITY)).collect();
        let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
        let options = Options { objective, ties: Ties::Scipy, ..Options::default() };
        match (solve(&costs, rows as usize, columns as usize, &options), case["error"].as_str()) {
            (Ok(found), None) => {
                assert_eq!(
                    (found.rows, found.columns),
                    (indices(&case["rows"]), indices(&case["columns"])),
                    "{rows} x {columns}"
                );
            }
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{rows} x {columns}: {found:?} instead of {expected:?}"),
        }
    }
}

/// Integers from 1 to 100, as the script of the golden file makes them.
fn hashed(n: u32) -> Vec<i32> {
    let cost = |i: u32, j: u32| {
        let mut h = i.wrapping_mul(2_654_435_761) ^ j.wrapping_mul(2_246_822_519);
        h = (h ^ h >> 15).wrapping_mul(3_266_489_917);
        h ^= h >> 13;
        1 + (h % 100) as i32
    };
    (0..n).flat_map(|i| (0..n).map(move |j| cost(i, j))).collect()
}

#[test]
fn totals_of_larger_problems() {
    let golden = json("assignment/assignment.json");
    for (n, total) in golden["totals"].as_object().expect("totals") {
        let n: u32 = n.parse().expect("a size");
        let costs = hashed(n);
        let found = solve(&costs, n as usize, n as usize, &Options::default()).expect("feasible");
        assert_eq!(Some(found.total as f64), total.as_f64(), "{n}");
        let reals: Vec<f64> = costs.iter().map(|&c| f64::from(c)).collect();
        let found = solve(&reals, n as usize, n as usize, &Options::default()).expect("feasible");
        assert_eq!(Some(found.total), total.as_f64(), "{n}");
    }
}

/// Solves on lazy rows, proves the answer, and returns how often a row was looked at.
fn rows_read<T: Cost, I: Index>(costs: &[T], rows: usize, columns: usize) -> usize {
    let len = workspace_len(rows, columns);
    let (mut reals, mut indices) = (vec![T::ZERO; len.costs], vec![I::NONE; len.indices]);
    let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns).expect("room");
    let count = Cell::new(0);
    let fill = |row: usize, to: &mut [T]| {
        count.set(count.get() + 1);
        to.copy_from_slice(&costs[row * columns..][..columns]);
    };
    let answer = linear_sum_assignment_lazy(ThisMachine::new(), &fill, &Options::default(), &mut workspace).expect("feasible");
    let view = Costs::new(costs, rows, columns).expect("costs");
    verify(view, &answer, &Options::default(), 1e-5).expect("a proof");
    count.get()
}

/// A path looks at no more rows than have columns, and the passes of the start at no more than a fixed number for each row.
fn most_rows_read(rows: usize) -> usize {
    rows * (rows + 1) / 2 + 24 * rows + 100
}

#[test]
fn steps_are_bounded_on_every_family() {
    for (name, family) in Family::ALL {
        for (rows, columns) in [(10, 10), (70, 70), (150, 150), (60, 200)] {
            let costs = family.costs(rows, columns, 3);
            let single: Vec<f32> = costs.iter().map(|&c| c as f32).collect();
            let read = rows_read::<f64, u32>(&costs, rows, columns);
            assert!(read <= most_rows_read(rows), "{name} {rows} x {columns}: {read} rows read");
            let read = rows_read::<f32, u16>(&single, rows, columns);
            assert!(read <= most_rows_read(rows), "{name} {rows} x {columns} in 32 bits: {read} rows read");
        }
    }
}

/// Costs that differ by rounding alone: rows that push each other out do so for ever, a last bit at a time, unless steps are counted.
#[test]
fn ties_but_for_rounding_end() {
    for n in [66, 130] {
        for seed in 0..8_u32 {
            let cell = |k: u32| {
                let h = (k ^ seed.wrapping_mul(0x9e37)).wrapping_mul(2_654_435_761);
                let tenths = f64::from(h >> 29) * 0.1;
                // One last bit up, or none.
                f64::from_bits((1000.0 + tenths).to_bits() + u64::from(h >> 7 & 1))
            };
            let costs: Vec<f64> = (0..n * n).map(cell).collect();
            let n = n as usize;
            let read = rows_read::<f64, u32>(&costs, n, n);
            assert!(read <= most_rows_read(n), "{n}: {read} rows read");
            let sums: Vec<f64> = (0..n * n).map(|k| 0.1 * (k / n) as f64 + 0.2 * (k % n) as f64 + 0.3).collect();
            let read = rows_read::<f64, u32>(&sums, n, n);
            assert!(read <= most_rows_read(n), "{n}: {read} rows read");
        }
    }
}

#[test]
fn batches_do_not_depend_on_threads() {
    let shapes = [(7, 100), (100, 7), (1, 1), (0, 3), (40, 40), (2, 2)];
    let matrices: Vec<(usize, usize, Vec<f64>)> =
        (0..60).map(|k| (shapes[k % 6], k)).map(|((n, m), k)| (n, m, Family::Integers10.costs(n, m, k as u64))).collect();
    let mut problems: Vec<Costs<'_, f64>> =
        matrices.iter().map(|(n, m, costs)| Costs::new(costs, *n, *m).expect("costs")).collect();
    problems.push(Costs::new(&[f64::INFINITY], 1, 1).expect("costs"));
    let solved = |threads: usize| {
        let pool = Pool::new(threads).expect("threads");
        let batch = Batch::new(&pool);
        let pairs = |k: usize, answer: samara_core::assignment::Assignment<'_, f64>| (k, answer.pairs().collect::<Vec<_>>());
        batch.solve_with(&problems, &Options::default(), pairs)
    };
    let one = solved(1);
    assert_eq!(one, solved(3));
    assert!(matches!(one.last(), Some(Err(Error::Infeasible { .. }))));
    for (k, (found, costs)) in one.iter().zip(&problems).enumerate().take(60) {
        let alone = Solver::default().solve_with(*costs, &Options::default(), |answer| (k, answer.pairs().collect::<Vec<_>>()));
        assert_eq!(*found, alone);
    }
}

/// The total of every complete assignment, in order.
fn all_totals(costs: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    fn extend(costs: &[f64], at: (usize, usize), sum: f64, used: &mut Vec<bool>, free: usize, totals: &mut Vec<f64>) {
        let (row, columns) = (at.0, at.1);
        if row * columns == costs.len() {
            totals.push(sum);
            return;
        }
        for j in 0..columns {
            if !used[j] && costs[row * columns + j].is_finite() {
                used[j] = true;
                extend(costs, (row + 1, columns), sum + costs[row * columns + j], used, free, totals);
                used[j] = false;
            }
        }
        if free > 0 {
            extend(costs, (row + 1, columns), sum, used, free - 1, totals);
        }
    }
    let mut totals = Vec::new();
    extend(costs, (0, columns), 0.0, &mut vec![false; columns], rows.saturating_sub(columns), &mut totals);
    totals.sort_by(f64::total_cmp);
    totals
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn infeasible_if_and_only_if_the_largest_matching_is_too_small(
        rows in 1..40_usize, columns in 1..40_usize, seed in any::<u32>(), allowed in 1..60_u32,
    ) {
        let draw = |k: u32| (k ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8;
        let costs: Vec<f64> = (0..(rows * columns) as u32)
            .map(|k| if draw(k) % 100 < allowed { f64::from(draw(k + 7919) % 9) } else { f64::INFINITY })
            .collect();
        let mut starts = vec![0];
        let mut neighbours = Vec::new();
        for row in costs.chunks(columns) {
            neighbours.extend((0..).zip(row).filter(|(_, cost)| cost.is_finite()).map(|(j, _)| j));
            starts.push(neighbours.len() as u32);
        }
        let (mut column_of, mut row_of, mut scratch) = (vec![0; rows], vec![0; columns], vec![0; scratch_len(rows)]);
        let size = maximum_matching(Graph::new(&starts, &neighbours), &mut column_of, &mut row_of, &mut scratch);
        for ties in [Ties::Any, Ties::Scipy] {
            let found = solve(&costs, rows, columns, &Options { ties, ..Options::default() });
            match found {
                Ok(_) => prop_assert_eq!(size, rows.min(columns)),
                Err(Error::Infeasible { .. }) => prop_assert!(size < rows.min(columns)),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn the_best_assignments_in_order(
        rows in 1..6_usize, columns in 1..6_usize, cells in prop::collection::vec(prop_oneof![4 => 0..6_i32, 1 => Just(99)], 25),
        count in 1..40_usize, maximize: bool,
    ) {
        let cost = |&c: &i32| if c == 99 { f64::INFINITY } else { f64::from(c) };
        let costs: Vec<f64> = cells.iter().take(rows * columns).map(cost).collect();
        let sign = if maximize { -1.0 } else { 1.0 };
        let signed: Vec<f64> = costs.iter().map(|c| sign * c).collect();
        let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
        let mut expected = all_totals(&costs, rows, columns);
        let found = best_assignments(Costs::new(&signed, rows, columns).expect("costs"), count, objective);
        if expected.is_empty() {
            prop_assert!(matches!(found, Err(Error::Infeasible { .. })), "{:?}", found);
            return Ok(());
        }
        let found = found.expect("feasible");
        expected.truncate(count);
        prop_assert_eq!(found.iter().map(|ranked| sign * ranked.total).collect::<Vec<_>>(), expected);
        let different: std::collections::BTreeSet<_> = found.iter().map(|ranked| ranked.pairs.clone()).collect();
        prop_assert_eq!(different.len(), found.len());
    }
}
