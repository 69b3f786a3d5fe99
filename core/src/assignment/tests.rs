//! Answers against brute force, a subset recurrence and their own proofs.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::shared::{Shared, linear_sum_assignment};
use super::*;

/// The pairs, the total and a proof of an answer.
struct Solved<T: Cost> {
    pairs: Vec<(usize, usize)>,
    total: T::Total,
}

fn solve<T: Cost>(costs: &[T], rows: usize, columns: usize, options: &Options<T>) -> Result<Solved<T>, Error<T>> {
    let view = Costs::new(costs, rows, columns)?;
    let len = workspace_len(rows, columns);
    let (mut reals, mut indices) = (vec![T::ZERO; len.costs], vec![0_u16; len.indices]);
    let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns)?;
    let answer = linear_sum_assignment(view, options, &mut workspace)?;
    verify(view, &answer, options, if T::EXACT { 0.0 } else { 1e-6 }).expect("a proof");
    Ok(Solved { pairs: answer.pairs().collect(), total: answer.total(&view) })
}

fn total(costs: &[f64], rows: usize, columns: usize) -> Option<f64> {
    solve(costs, rows, columns, &Options::default()).ok().map(|s| s.total)
}

/// The least total by a recurrence over subsets of the columns, if all of the fewer side can be matched.
fn subsets(costs: &[f64], rows: usize, columns: usize) -> Option<f64> {
    if rows > columns {
        let flipped: Vec<f64> = (0..columns).flat_map(|j| (0..rows).map(move |i| costs[i * columns + j])).collect();
        return subsets(&flipped, columns, rows);
    }
    let mut best = vec![f64::INFINITY; 1 << columns];
    best[0] = 0.0;
    for set in 0..1_usize << columns {
        let row = set.count_ones() as usize;
        if row < rows && best[set].is_finite() {
            for j in (0..columns).filter(|j| set & 1 << j == 0) {
                let next = set | 1 << j;
                best[next] = best[next].min(best[set] + costs[row * columns + j]);
            }
        }
    }
    let full = (0..1_usize << columns).filter(|set| set.count_ones() as usize == rows);
    let least = full.map(|set| best[set]).fold(f64::INFINITY, f64::min);
    least.is_finite().then_some(least)
}

const INF: f64 = f64::INFINITY;

#[test]
fn the_cases_of_scipy() {
    let cases: [(&[f64], usize, usize, &[f64]); 5] = [
        (&[400., 150., 400., 400., 450., 600., 300., 225., 300.], 3, 3, &[150., 400., 300.]),
        (&[400., 150., 400., 1., 400., 450., 600., 2., 300., 225., 300., 3.], 3, 4, &[150., 2., 300.]),
        (&[10., 10., 8., 9., 8., 1., 9., 7., 4.], 3, 3, &[10., 1., 7.]),
        (&[10., 10., 8., 11., 9., 8., 1., 1., 9., 7., 4., 10.], 3, 4, &[10., 1., 4.]),
        (&[10., INF, INF, INF, INF, 1., INF, 7., INF], 3, 3, &[10., 1., 7.]),
    ];
    for (costs, rows, columns, expected) in cases {
        for ties in [Ties::Any, Ties::Scipy] {
            for maximize in [false, true] {
                let signed: Vec<f64> = costs.iter().map(|&c| if maximize { -c } else { c }).collect();
                let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
                let options = Options { ties, objective, ..Options::default() };
                let solved = solve(&signed, rows, columns, &options).expect("feasible");
                let chosen: f64 = solved.pairs.iter().map(|&(i, j)| costs[i * columns + j]).sum();
                assert_eq!(chosen, expected.iter().sum::<f64>());
                if ties == Ties::Scipy {
                    let values: Vec<f64> = solved.pairs.iter().map(|&(i, j)| costs[i * columns + j]).collect();
                    assert_eq!(values, expected);
                }
                let flipped: Vec<f64> =
                    (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|(i, j)| signed[i * columns + j]).collect();
                let flipped = solve(&flipped, columns, rows, &options).expect("feasible");
                assert_eq!(flipped.total.abs(), chosen);
            }
        }
    }
}

#[test]
fn shapes_and_errors_are_those_of_scipy() {
    let any = Options::default();
    for (rows, columns) in [(0, 0), (0, 3), (3, 0)] {
        assert!(solve::<f64>(&[], rows, columns, &any).expect("empty").pairs.is_empty());
    }
    let tall = solve(&[1., 2., 3., 4., 0., 9., 5., 0.], 4, 2, &any).expect("feasible");
    assert_eq!(tall.pairs, [(2, 0), (3, 1)]);
    let maximize = Options { objective: Objective::Maximize, ..any };
    let error = |costs: &[f64], rows, columns, options: &Options<f64>| solve(costs, rows, columns, options).err();
    assert!(
        matches!(error(&[1., f64::NAN, INF, -INF], 2, 2, &any), Some(Error::Invalid { row: 0, column: 1, value }) if value.is_nan())
    );
    assert_eq!(error(&[1., 2., 3., -INF], 2, 2, &any), Some(Error::Invalid { row: 1, column: 1, value: -INF }));
    assert_eq!(error(&[1., 2., INF, -INF], 2, 2, &maximize), Some(Error::Invalid { row: 1, column: 0, value: INF }));
    assert!(error(&[1., 2., 3., -INF], 2, 2, &maximize).is_none());
    // Invalid costs are found even where the matrix is infeasible, and in the order of rows of a tall matrix.
    assert!(matches!(error(&[INF, INF, INF, f64::NAN], 2, 2, &any), Some(Error::Invalid { row: 1, column: 1, .. })));
    assert!(matches!(error(&[1., 2., 3., f64::NAN, f64::NAN, 1.], 3, 2, &any), Some(Error::Invalid { row: 1, column: 1, .. })));
    assert_eq!(error(&[INF], 1, 1, &any), Some(Error::Infeasible { index: 0, of_columns: false }));
    for ties in [Ties::Any, Ties::Scipy] {
        let options = Options { ties, ..any };
        assert!(matches!(
            error(&[1., INF, 1., INF, 1., INF], 3, 2, &options),
            Some(Error::Infeasible { index: 1, of_columns: true })
        ));
        assert!(error(&[1., INF, 2., 3., INF, 4.], 2, 3, &options).is_none(), "a column of infinities in a wide matrix");
        assert!(error(&[1., 2., INF, INF, 3., 4.], 3, 2, &options).is_none(), "a row of infinities in a tall matrix");
    }
    assert_eq!(Costs::<f64>::new(&[1.0; 5], 2, 3).err(), Some(Error::Short { needed: 6, found: 5 }));
}

#[test]
fn constant_matrices_give_the_identity_in_the_order_of_scipy() {
    let options = Options { ties: Ties::Scipy, ..Options::default() };
    for (rows, columns) in [(8, 8), (3, 5), (5, 3), (70, 70)] {
        let solved = solve(&vec![1.0_f64; rows * columns], rows, columns, &options).expect("feasible");
        assert!(solved.pairs.into_iter().eq((0..rows.min(columns)).map(|i| (i, i))));
    }
}

#[test]
fn huge_costs_do_not_overflow() {
    for costs in
        [[1e308, -1e308, -1e308, 1e308], [-1e308, 1e308, 1e308, -1e308], [1e308, INF, 1e308, 1e308], [5e-324, 0.0, 0.0, 5e-324]]
    {
        for ties in [Ties::Any, Ties::Scipy] {
            let options = Options { ties, ..Options::default() };
            let view = Costs::new(&costs, 2, 2).expect("costs");
            let mut memory = Fixed::<2, 2, f64, u16>::default();
            let mut workspace = memory.workspace(2, 2).expect("room");
            let answer = linear_sum_assignment(view, &options, &mut workspace).expect("feasible");
            let least = (costs[0] + costs[3]).min(costs[1] + costs[2]);
            assert_eq!(answer.pairs().map(|(i, j)| costs[2 * i + j]).sum::<f64>(), least);
        }
    }
    let costs: Vec<f32> = (0..100).map(|i| if i % 7 == 0 { 3e38 } else { -3e38 }).collect();
    assert!(solve(&costs, 10, 10, &Options::default()).is_ok());
}

#[test]
fn integers_say_when_sums_could_overflow() {
    let error = solve(&[0_i32, i32::MAX - 1, 5, 7], 2, 2, &Options::default()).err();
    assert!(matches!(error, Some(Error::HeadRoom { .. })), "{error:?}");
    let far = solve(&[0_i64, i64::from(i32::MAX) - 1, 5, i64::MAX], 2, 2, &Options::default()).expect("room in 64 bits");
    assert_eq!(far.total, i64::from(i32::MAX) + 4);
    let limit = i64::MAX / 1000;
    assert!(matches!(solve(&[limit; 64 * 64], 64, 64, &Options::default()).err(), Some(Error::HeadRoom { .. })));
    let forbidden = solve(&[1_i32, i32::MAX, i32::MAX, i32::MAX], 2, 2, &Options::default()).err();
    assert_eq!(forbidden, Some(Error::Infeasible { index: 1, of_columns: false }));
}

#[test]
fn workspaces_are_as_large_as_said() {
    assert!(workspace_bytes::<f32, u16>(7, 100) <= 2560);
    assert!(size_of::<Fixed<7, 100, f32, u16>>() <= 2600);
    let mut memory = Fixed::<7, 100, f32, u16>::default();
    assert!(matches!(memory.workspace(8, 5), Err(Error::TooMany { limit: 7, found: 8 })));
    let len = workspace_len(3, 5);
    let (mut costs, mut indices) = (vec![0.0_f64; len.costs], vec![0_u32; len.indices - 1]);
    assert!(matches!(Workspace::new(&mut costs, &mut indices, 3, 5), Err(Error::Workspace { .. })));
    // Both orientations of a fixed workspace, and rows that do not fill a tile.
    for (rows, columns) in [(5, 33), (33, 5), (33, 33), (1, 1)] {
        let mut memory = Fixed::<33, 33, f64, u16>::default();
        let costs: Vec<f64> = (0..rows * columns).map(|i| f64::from((i * 7919 % 101) as u16)).collect();
        let view = Costs::new(&costs, rows, columns).expect("costs");
        let mut workspace = memory.workspace(rows, columns).expect("room");
        let answer = linear_sum_assignment(view, &Options::default(), &mut workspace).expect("feasible");
        verify(view, &answer, &Options::default(), 1e-12).expect("a proof");
        assert_eq!(answer.pairs().count(), rows.min(columns));
    }
}

#[test]
fn a_wrong_answer_has_no_proof() {
    let costs = [1.0, 2.0, 2.0, 1.0];
    let view = Costs::new(&costs, 2, 2).expect("costs");
    let other = [2.0, 1.0, 1.0, 2.0];
    let mut memory = Fixed::<2, 2, f64, u16>::default();
    let mut workspace = memory.workspace(2, 2).expect("room");
    let answer =
        linear_sum_assignment(Costs::new(&other, 2, 2).expect("costs"), &Options::default(), &mut workspace).expect("feasible");
    assert!(matches!(verify(view, &answer, &Options::default(), 1e-6), Err(Violation::Duals(_))));
    let forbidden = [1.0, INF, 2.0, 1.0];
    assert_eq!(
        verify(Costs::new(&forbidden, 2, 2).expect("costs"), &answer, &Options::default(), 1e-6),
        Err(Violation::Pairs { row: 0 })
    );
}

/// The least total for every number of pairs, rows in any order taking a column or none.
fn by_pairs(costs: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut best = vec![INF; 1 << columns];
    best[0] = 0.0;
    for row in 0..rows {
        for set in (0..1_usize << columns).rev() {
            for j in (0..columns).filter(|j| set & 1 << j != 0) {
                best[set] = best[set].min(best[set & !(1 << j)] + costs[row * columns + j]);
            }
        }
    }
    let mut least = vec![INF; rows.min(columns) + 1];
    for (set, &cost) in best.iter().enumerate() {
        if let Some(to) = least.get_mut(set.count_ones() as usize) {
            *to = to.min(cost);
        }
    }
    least
}

fn memory<T: Cost>(rows: usize, columns: usize) -> (Vec<T>, Vec<u32>) {
    let len = workspace_len(rows, columns);
    (vec![T::ZERO; len.costs], vec![0; len.indices])
}

/// Costs of a kind that has ties, forbidden pairs, both or neither.
fn matrix(largest: usize) -> impl Strategy<Value = (usize, usize, Vec<f64>)> {
    (1..=largest, 1..=largest, 0..4_u8).prop_flat_map(|(rows, columns, kind)| {
        let cost = match kind {
            0 => (0..1000_i32).prop_map(f64::from).boxed(),
            1 => (0..3_i32).prop_map(f64::from).boxed(),
            2 => prop_oneof![3 => (-5..5_i32).prop_map(f64::from), 1 => Just(INF)].boxed(),
            _ => (-1.0..1.0_f64).boxed(),
        };
        (Just(rows), Just(columns), prop::collection::vec(cost, rows * columns))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_those_of_the_recurrence((rows, columns, costs) in matrix(8)) {
        let expected = subsets(&costs, rows, columns);
        for ties in [Ties::Any, Ties::Scipy] {
            let found = solve(&costs, rows, columns, &Options { ties, ..Options::default() });
            match (&expected, found) {
                (Some(expected), Ok(found)) => prop_assert!((found.total - expected).abs() <= 1e-9),
                (None, Err(Error::Infeasible { .. })) => {}
                (expected, found) => prop_assert!(false, "{expected:?}, {:?}", found.map(|s| s.total)),
            }
        }
    }

    #[test]
    fn both_orders_agree_on_larger_ones(rows in 1..90_usize, columns in 1..90_usize, seed in 0..u64::MAX, values in 1..400_u64) {
        let mut rng = crate::math::rng::Rng::new(seed, crate::math::rng::Purpose::User, 0);
        let whole: Vec<i32> = (0..rows * columns).map(|_| rng.below(values) as i32 - 7).collect();
        let costs: Vec<f64> = whole.iter().map(|&c| f64::from(c)).collect();
        let small: Vec<f32> = whole.iter().map(|&c| c as f32).collect();
        let wide: Vec<i64> = whole.iter().map(|&c| i64::from(c)).collect();
        let any = solve(&costs, rows, columns, &Options::default()).expect("feasible");
        let ordered = solve(&costs, rows, columns, &Options { ties: Ties::Scipy, ..Options::default() }).expect("feasible");
        prop_assert_eq!(any.total, ordered.total);
        prop_assert_eq!(solve(&small, rows, columns, &Options::default()).expect("feasible").total, any.total);
        prop_assert_eq!(solve(&whole, rows, columns, &Options::default()).expect("feasible").total as f64, any.total);
        prop_assert_eq!(solve(&wide, rows, columns, &Options::default()).expect("feasible").total as f64, any.total);
        let negated: Vec<i32> = whole.iter().map(|c| -c).collect();
        let maximal = solve(&negated, rows, columns, &Options { objective: Objective::Maximize, ..Options::default() }).expect("feasible");
        prop_assert_eq!(maximal.total as f64, -any.total);
    }

    #[test]
    fn sixteen_columns((rows, seed) in (1..=16_usize, 0..u64::MAX)) {
        let mut rng = crate::math::rng::Rng::new(seed, crate::math::rng::Purpose::User, 0);
        let costs: Vec<f64> = (0..rows * 16).map(|_| rng.below(50) as f64).collect();
        prop_assert_eq!(total(&costs, rows, 16), subsets(&costs, rows, 16));
    }

    #[test]
    fn constants_shift_and_permutations_do_not((rows, columns, costs) in matrix(12), row in 0..12_usize, shift in -4..4_i32) {
        let Some(base) = total(&costs, rows, columns) else { return Ok(()) };
        let shift = f64::from(shift);
        let all: Vec<f64> = costs.iter().map(|c| c + shift).collect();
        let moved = total(&all, rows, columns).expect("as feasible as before");
        prop_assert!((moved - base - shift * rows.min(columns) as f64).abs() < 1e-9);
        if rows <= columns {
            let mut one = costs.clone();
            one[row % rows * columns..][..columns].iter_mut().for_each(|c| *c += shift);
            prop_assert!((total(&one, rows, columns).expect("feasible") - base - shift).abs() < 1e-9);
        }
        let mut turned = costs.clone();
        turned.rotate_left(row % rows * columns);
        turned.chunks_mut(columns).for_each(<[f64]>::reverse);
        prop_assert!((total(&turned, rows, columns).expect("feasible") - base).abs() < 1e-9);
        let scaled: Vec<f64> = costs.iter().map(|c| c * 0.125).collect();
        prop_assert!((total(&scaled, rows, columns).expect("feasible") - 0.125 * base).abs() < 1e-12);
        let flipped: Vec<f64> = (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|(i, j)| costs[i * columns + j]).collect();
        prop_assert!((total(&flipped, columns, rows).expect("feasible") - base).abs() < 1e-9);
    }

    #[test]
    fn views_with_strides_are_read_where_they_lie(
        (rows, columns, costs) in matrix(40), gap in 0..3_usize, turned: bool, scipy: bool, maximize: bool,
    ) {
        let (row_stride, column_stride) = if turned { (1 + gap, rows * (1 + gap)) } else { (columns * (1 + gap) + gap, 1 + gap) };
        let mut spread = vec![f64::NAN; rows * columns * (1 + gap) * 2 + rows * gap + 1];
        let sign = if maximize { -1.0 } else { 1.0 };
        for (k, cost) in costs.iter().enumerate() {
            spread[k / columns * row_stride + k % columns * column_stride] = sign * cost;
        }
        let ties = if scipy { Ties::Scipy } else { Ties::Any };
        let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
        let (mut reals, mut indices) = memory(rows, columns);
        let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns).expect("room");
        let view = Costs::strided(&spread, rows, columns, row_stride, column_stride).expect("inside");
        let options = Options { ties, objective, ..Options::default() };
        let found = linear_sum_assignment(view, &options, &mut workspace);
        match (solve(&costs, rows, columns, &Options { ties, ..Options::default() }), found) {
            (Ok(plain), Ok(strided)) => {
                prop_assert!((strided.total(&view) - sign * plain.total).abs() < 1e-9);
                prop_assert!(ties == Ties::Any || strided.pairs().eq(plain.pairs.iter().copied()));
                prop_assert!(verify(view, &strided, &options, 1e-9).is_ok());
            }
            (Err(Error::Infeasible { index, .. }), Err(Error::Infeasible { index: strided, .. })) => {
                prop_assert!(ties == Ties::Any || index == strided);
            }
            (plain, strided) => prop_assert!(false, "{:?} {:?}", plain.map(|s| s.total), strided.is_ok()),
        }
    }

    #[test]
    fn a_row_twice_costs_its_two_cheapest_columns((rows, columns, costs) in matrix(7)) {
        // As long as there is a column for it, the copy is a row like any other.
        let row = costs[..columns].to_vec();
        let twice: Vec<f64> = costs.iter().copied().chain(row).collect();
        match (subsets(&twice, rows + 1, columns), total(&twice, rows + 1, columns)) {
            (Some(expected), Some(found)) => prop_assert!((found - expected).abs() < 1e-9),
            (expected, found) => prop_assert_eq!(expected, found),
        }
        let reversed: Vec<f64> = twice.chunks(columns).rev().flatten().copied().collect();
        prop_assert_eq!(total(&twice, rows + 1, columns).is_some(), total(&reversed, rows + 1, columns).is_some());
    }

    #[test]
    fn forbidding_a_chosen_pair_never_helps((rows, columns, costs) in matrix(10)) {
        let Ok(solved) = solve(&costs, rows, columns, &Options::default()) else { return Ok(()) };
        for (i, j) in solved.pairs {
            let mut without = costs.clone();
            without[i * columns + j] = INF;
            prop_assert!(total(&without, rows, columns).unwrap_or(INF) >= solved.total - 1e-9);
        }
    }

    #[test]
    fn limits_and_numbers_of_pairs((rows, columns, costs) in matrix(7), limit in -3..6_i32, pairs in 0..8_usize) {
        let least = by_pairs(&costs, rows, columns);
        let limit = f64::from(limit);
        let limited = solve(&costs, rows, columns, &Options { cost_limit: Some(limit), ..Options::default() }).expect("rows may stay free");
        let cheapest = least.iter().enumerate().map(|(k, total)| total - limit * k as f64).fold(INF, f64::min);
        prop_assert!((limited.total - limit * limited.pairs.len() as f64 - cheapest).abs() < 1e-9);
        let (mut reals, mut indices) = memory(rows, columns);
        let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns).expect("room");
        let view = Costs::new(&costs, rows, columns).expect("costs");
        let possible = least.iter().take(pairs + 1).rposition(|total| total.is_finite()).expect("no pairs cost nothing");
        let answer = assign_pairs(view, pairs, &Options::default(), &mut workspace).expect("always");
        prop_assert_eq!(answer.pairs().count(), possible);
        prop_assert!((answer.total(&view) - least[possible]).abs() < 1e-9);
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            let slack = costs[i * columns + j] - answer.row_duals()[i] - answer.column_duals()[j];
            prop_assert!(slack > -1e-9 && (answer.column_of(i) != Some(j) || slack < 1e-9));
        }
        let dirty: Vec<f64> = costs.iter().enumerate().map(|(k, &c)| if c == INF && k % 2 == 0 { f64::NAN } else { c }).collect();
        let forgiving = Options { dirty: Dirty::Forbid, ..Options::default() };
        let dirty = Costs::new(&dirty, rows, columns).expect("costs");
        let answer = linear_sum_assignment(dirty, &forgiving, &mut workspace).expect("always");
        let most = least.iter().rposition(|total| total.is_finite()).expect("no pairs cost nothing");
        prop_assert!((answer.total(&dirty) - least[most]).abs() < 1e-9 && answer.pairs().count() == most);
    }

    #[test]
    fn warm_starts_find_what_cold_starts_find(
        (rows, columns, costs) in matrix(14), seed in 0..u64::MAX, limit in prop::option::of(0..9_i32), maximize: bool
    ) {
        let mut rng = crate::math::rng::Rng::new(seed, crate::math::rng::Purpose::User, 0);
        let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
        let options = Options { cost_limit: limit.map(f64::from), objective, ..Options::default() };
        let mut costs: Vec<f64> = costs.into_iter().map(|c| if c == INF { 50.0 } else { c }).collect();
        let (mut reals, mut indices) = memory(rows, columns);
        let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns).expect("room");
        linear_sum_assignment(Costs::new(&costs, rows, columns).expect("costs"), &options, &mut workspace).expect("feasible");
        for frame in 0..6 {
            let (row, column) = (rng.below(rows as u64) as usize, rng.below(columns as u64) as usize);
            for j in 0..columns {
                costs[row * columns + j] = rng.below(12) as f64 - 2.0;
            }
            for i in 0..rows {
                costs[i * columns + column] = rng.uniform_f64() * 9.0;
            }
            let view = Costs::new(&costs, rows, columns).expect("costs");
            let changed = Changed::Only { rows: &[row], columns: &[column] };
            let changed = if frame % 3 == 2 { Changed::Any } else { changed };
            let answer = reassign(Shared, view, changed, &options, &mut workspace).expect("feasible");
            prop_assert!(verify(view, &answer, &options, 1e-9).is_ok());
            let cold = solve(&costs, rows, columns, &options).expect("feasible");
            let value = |total: f64, pairs: usize| total - options.cost_limit.unwrap_or(0.0) * pairs as f64;
            prop_assert!((value(answer.total(&view), answer.pairs().count()) - value(cold.total, cold.pairs.len())).abs() < 1e-9);
        }
    }

    #[test]
    fn bottlenecks_are_least((rows, columns, costs) in matrix(7)) {
        let (mut reals, mut indices) = memory(rows, columns);
        let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns).expect("room");
        let found = bottleneck_assignment(Costs::new(&costs, rows, columns).expect("costs"), &Options::default(), &mut workspace);
        let mut bounds: Vec<f64> = costs.iter().copied().filter(|c| c.is_finite()).collect();
        bounds.sort_by(f64::total_cmp);
        let complete = |bound: f64| {
            let allowed: Vec<f64> = costs.iter().map(|&c| if c <= bound { 0.0 } else { INF }).collect();
            subsets(&allowed, rows, columns).is_some()
        };
        match (bounds.into_iter().find(|&bound| complete(bound)), found) {
            (Some(least), Ok((answer, worst))) => {
                prop_assert_eq!(worst, Some(least));
                prop_assert_eq!(answer.pairs().count(), rows.min(columns));
            }
            (None, Err(Error::Infeasible { .. })) => {}
            (expected, found) => prop_assert!(false, "{:?} {:?}", expected, found.is_ok()),
        }
    }

    #[test]
    fn refined_answers_are_those_of_64_bits(
        rows in 1..40_usize, columns in 1..40_usize, seed in 0..u64::MAX, limited: bool, maximize: bool,
    ) {
        let mut rng = crate::math::rng::Rng::new(seed, crate::math::rng::Purpose::User, 0);
        // Differences that sums in 32 bits lose.
        let costs: Vec<f32> = (0..rows * columns).map(|_| 1000.0 * rng.below(3) as f32 + 1e-4 * rng.uniform_f32()).collect();
        let objective = if maximize { Objective::Maximize } else { Objective::Minimize };
        let options = Options { objective, cost_limit: limited.then_some(1000.0), ..Options::default() };
        let view = Costs::new(&costs, rows, columns).expect("costs");
        let ((mut a, mut b), (mut c, mut d)) = (memory::<f32>(rows, columns), memory::<f64>(rows, columns));
        let mut single = Workspace::new(&mut a, &mut b, rows, columns).expect("room");
        let mut double = Workspace::new(&mut c, &mut d, rows, columns).expect("room");
        linear_sum_assignment(view, &options, &mut single).expect("feasible");
        let refined = refine(Shared, view, &single, &options, &mut double).expect("feasible");
        let wide: Vec<f64> = costs.iter().map(|&c| f64::from(c)).collect();
        let wide = Costs::new(&wide, rows, columns).expect("costs");
        let options = Options { objective, cost_limit: limited.then_some(1000.0), ..Options::default() };
        prop_assert!(verify(wide, &refined, &options, 1e-13).is_ok());
    }
}
