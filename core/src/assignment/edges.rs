//! Limits, costs and shapes at the ends of what their types hold.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::shared::{Shared, linear_sum_assignment};
use super::*;

const INF: f64 = f64::INFINITY;

fn memory<T: Cost>(rows: usize, columns: usize) -> (Vec<T>, Vec<u32>) {
    let len = workspace_len(rows, columns);
    (vec![T::ZERO; len.costs], vec![0; len.indices])
}

fn maximum<T: Cost>() -> Options<T> {
    Options { objective: Objective::Maximize, ..Options::default() }
}

fn limited<T: Cost>(cost_limit: T) -> Options<T> {
    Options { cost_limit: Some(cost_limit), ..Options::default() }
}

type Pairs<T> = Result<Vec<(usize, usize)>, Error<T>>;

/// The pairs by all entry points that take a limit, which have to agree.
fn pairs<T: Cost>(costs: &[T], rows: usize, columns: usize, options: &Options<T>) -> Pairs<T> {
    let view = Costs::new(costs, rows, columns)?;
    let (mut reals, mut indices) = memory(rows, columns);
    let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns)?;
    let dense = linear_sum_assignment(view, options, &mut workspace).map(|answer| answer.pairs().collect::<Vec<_>>());
    let warm = reassign(Shared, view, Changed::Any, options, &mut workspace).map(|answer| answer.pairs().collect());
    assert_eq!(dense, warm);
    assert!(rows > columns || dense == lazy(costs, rows, columns, options), "{:?}", lazy(costs, rows, columns, options));
    dense
}

fn lazy<T: Cost>(costs: &[T], rows: usize, columns: usize, options: &Options<T>) -> Pairs<T> {
    let (mut reals, mut indices) = memory(rows, columns);
    let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns)?;
    let computed = |row: usize, to: &mut [T]| to.copy_from_slice(&costs[row * columns..][..columns]);
    linear_sum_assignment_lazy(Shared, &computed, options, &mut workspace).map(|answer| answer.pairs().collect())
}

fn proof(costs: &[f64], options: &Options<f64>) -> Result<Certificate, Violation> {
    let view = Costs::new(costs, 2, 2).expect("costs");
    let (mut reals, mut indices) = memory(2, 2);
    let mut workspace = Workspace::new(&mut reals, &mut indices, 2, 2).expect("room");
    let answer = linear_sum_assignment(view, options, &mut workspace).expect("an answer");
    verify(view, &answer, options, 1e-9)
}

#[test]
fn an_answer_proves_nothing_about_another_shape() {
    let (small, large) = ([1.0, 2.0, 2.0, 1.0], [1.0; 9]);
    let (mut reals, mut indices) = memory(2, 2);
    let mut workspace = Workspace::new(&mut reals, &mut indices, 2, 2).expect("room");
    let options = Options::default();
    let answer = linear_sum_assignment(Costs::new(&small, 2, 2).expect("costs"), &options, &mut workspace).expect("feasible");
    for (rows, columns) in [(3, 3), (2, 3), (3, 2), (1, 1), (0, 0)] {
        let error =
            verify(Costs::new(&large, rows, columns).expect("costs"), &answer, &options, 1e-9).expect_err("another shape");
        let text = error.to_string();
        assert!(text.contains("2 x 2") && text.contains(&std::format!("{rows} x {columns}")), "{text}");
    }
}

#[test]
fn limits_that_no_pair_meets_leave_all_rows_free() {
    let costs = [1.0, 2.0, 2.0, -5.0];
    for (options, rows, columns) in [(limited(-INF), 2, 2), (limited(-INF), 1, 4), (limited(-INF), 4, 1)] {
        assert_eq!(pairs(&costs, rows, columns, &options), Ok(vec![]));
    }
    let largest = Options { cost_limit: Some(INF), ..maximum() };
    assert_eq!(pairs(&costs, 2, 2, &largest), Ok(vec![]));
    assert_eq!(proof(&costs, &largest), Ok(Certificate::default()));
    assert_eq!(proof(&costs, &limited(-INF)), Ok(Certificate::default()));
    let invalid = pairs(&[1.0, -INF, 2.0, 3.0], 2, 2, &limited(-INF));
    assert_eq!(invalid, Err(Error::Invalid { row: 0, column: 1, value: -INF }));
}

#[test]
fn limits_that_every_pair_meets_leave_only_infeasible_rows_free() {
    let costs = [1.0, 2.0, 2.0, -5.0];
    for limit in [1e30, INF] {
        assert_eq!(pairs(&costs, 2, 2, &limited(limit)), Ok(vec![(0, 0), (1, 1)]));
        assert_eq!(pairs(&[3.0, INF, 2.0, INF], 2, 2, &limited(limit)).map(|pairs| pairs.len()), Ok(1));
    }
    // Beside a finite limit as large, the costs are lost.
    assert_eq!(pairs(&[3.0, INF, 2.0, INF], 2, 2, &limited(INF)), Ok(vec![(1, 0)]));
    assert_eq!(pairs(&[3.0, INF, 2.0, INF, 1.0, INF], 3, 2, &limited(INF)), Ok(vec![(2, 0)]));
    let largest = Options { cost_limit: Some(-INF), ..maximum() };
    assert_eq!(pairs(&[3.0, -INF, 2.0, -INF], 2, 2, &largest), Ok(vec![(0, 0)]));
    assert_eq!(pairs(&[3, i32::MAX, 2, i32::MAX], 2, 2, &limited(i32::MAX)), Ok(vec![(1, 0)]));
    assert!(proof(&costs, &limited(INF)).is_ok_and(|proof| proof.gap == 0.0 && proof.violation == 0.0));
    assert!(proof(&[3.0, INF, 2.0, INF], &limited(INF)).is_err(), "duals do not prove that no more pairs are possible");
}

#[test]
fn limits_do_not_prove_wrong_answers() {
    let view = Costs::new(&[2.0, 1.0, 1.0, 2.0], 2, 2).expect("costs");
    let (mut reals, mut indices) = memory(2, 2);
    let mut workspace = Workspace::new(&mut reals, &mut indices, 2, 2).expect("room");
    let answer = linear_sum_assignment(view, &Options::default(), &mut workspace).expect("feasible");
    let other = Costs::new(&[1.0, 2.0, 2.0, 1.0], 2, 2).expect("costs");
    for limit in [INF, -INF, f64::NAN] {
        assert!(verify(other, &answer, &limited(limit), 1e-9).is_err(), "{limit}");
    }
}

#[test]
fn limits_that_are_not_numbers_are_errors() {
    let error = pairs(&[1.0, 2.0, 2.0, 1.0], 2, 2, &limited(f64::NAN)).expect_err("no limit");
    assert!(error.to_string().contains("limit"), "{error}");
}

#[test]
fn lazy_rows_need_as_much_head_room_as_others() {
    let costs = [600_000_000_i32, 1, 600_000_000, 1];
    let error = pairs(&costs, 2, 2, &Options::default()).expect_err("too large");
    assert!(matches!(error, Error::HeadRoom { .. }), "{error:?}");
    // The sentinel for forbidden pairs inside a search is an ordinary large cost outside.
    for cost in [1 << 29, 1 << 28] {
        assert!(matches!(pairs(&[cost, 1, 1, 1], 2, 2, &Options::default()), Err(Error::HeadRoom { .. })));
        assert!(matches!(pairs(&[1, 1, 1, 1], 2, 2, &limited(cost)), Err(Error::HeadRoom { .. })));
        assert!(matches!(pairs(&[-cost, 1, 1, 1], 2, 2, &maximum()), Err(Error::HeadRoom { .. })));
    }
}

#[test]
fn lazy_rows_may_be_as_large_as_others() {
    for costs in [[1e200, 2e200, 2e200, 1e200], [1e308, 1e308, 1e308, -1e308]] {
        assert_eq!(pairs(&costs, 2, 2, &Options::default()), Ok(vec![(0, 0), (1, 1)]));
    }
    let forgiving = Options { dirty: Dirty::Forbid, ..Options::default() };
    assert_eq!(pairs(&[f64::NAN, 2e200, f64::NAN, 1e200], 2, 2, &forgiving), Ok(vec![(1, 1)]));
    let invalid = pairs(&[1e200, 2e200, 2e200, -INF], 2, 2, &Options::default());
    assert_eq!(invalid, Err(Error::Invalid { row: 1, column: 1, value: -INF }));
}

#[test]
fn rows_that_change_are_blamed_themselves() {
    let (mut reals, mut indices) = memory(1, 2);
    let mut workspace = Workspace::new(&mut reals, &mut indices, 1, 2).expect("room");
    let asked = core::cell::Cell::new(false);
    let computed = |_: usize, to: &mut [f64]| to.fill(if asked.replace(true) { 1.0 } else { f64::NAN });
    let error = linear_sum_assignment_lazy(Shared, &computed, &Options::default(), &mut workspace).expect_err("NaN");
    assert!(error.to_string().contains("row 0") && !error.to_string().contains("invalid"), "{error}");
}

fn bottleneck<T: Cost>(costs: &[T], options: &Options<T>) -> Result<Option<T>, Error<T>> {
    let (mut reals, mut indices) = memory(2, 2);
    let mut workspace = Workspace::new(&mut reals, &mut indices, 2, 2)?;
    bottleneck_assignment(Costs::new(costs, 2, 2)?, options, &mut workspace).map(|(_, worst)| worst)
}

#[test]
fn bottlenecks_are_exact_for_all_integers() {
    const MAX: i32 = i32::MAX;
    assert_eq!(bottleneck(&[MAX - 1, MAX - 2, MAX - 1, MAX - 1], &Options::default()), Ok(Some(MAX - 1)));
    assert_eq!(bottleneck(&[1 << 29, MAX - 2, MAX, 1 << 29], &Options::default()), Ok(Some(1 << 29)));
    assert_eq!(bottleneck(&[i32::MIN, MAX - 2, MAX, 7], &Options::default()), Ok(Some(7)));
    assert_eq!(bottleneck(&[-MAX, i32::MIN, i32::MIN, MAX], &maximum()), Ok(Some(-MAX)));
    assert_eq!(bottleneck(&[5, i32::MIN + 2, i32::MIN + 1, 6], &maximum()), Ok(Some(5)));
    assert!(matches!(bottleneck(&[MAX, MAX, 1, 1], &Options::default()), Err(Error::Infeasible { index: 0, .. })));
    let forgiving = Options { dirty: Dirty::Forbid, ..Options::default() };
    assert_eq!(bottleneck(&[-INF, 2.0, 3.0, f64::NAN], &forgiving), Ok(Some(3.0)));
}

#[test]
fn one_element_can_be_a_whole_row() {
    let data = [1.0, 5.0, 3.0, INF];
    for (rows, columns) in [(2, 3), (3, 2), (3, 3)] {
        let still = Costs::strided(&data, rows, columns, 1, 0).expect("inside");
        for (row, &cost) in data.iter().enumerate().take(rows) {
            assert!(still.row_iter(row).eq((0..columns).map(|_| cost)));
        }
        for view in [still, still.transposed()] {
            let (mut reals, mut indices) = memory(view.rows(), view.columns());
            let mut workspace = Workspace::new(&mut reals, &mut indices, view.rows(), view.columns()).expect("room");
            for options in [Options::default(), maximum()] {
                let answer = linear_sum_assignment(view, &options, &mut workspace).expect("feasible");
                verify(view, &answer, &options, 1e-9).expect("a proof");
            }
        }
    }
}

#[test]
fn answers_that_cannot_be_refined_say_why() {
    let costs = [3.0_f32, f32::INFINITY, 2.0, f32::INFINITY];
    let view = Costs::new(&costs, 2, 2).expect("costs");
    let ((mut a, mut b), (mut c, mut d)) = (memory::<f32>(2, 2), memory::<f64>(2, 2));
    let mut single = Workspace::new(&mut a, &mut b, 2, 2).expect("room");
    let mut double = Workspace::new(&mut c, &mut d, 2, 2).expect("room");
    let forgiving = Options { dirty: Dirty::Forbid, ..Options::default() };
    for options in [limited(f32::INFINITY), forgiving] {
        linear_sum_assignment(view, &options, &mut single).expect("rows may stay free");
        let refined = refine(Shared, view, &single, &options, &mut double).expect("rows may stay free");
        assert!(refined.pairs().eq([(1, 0)]));
    }
    let error = refine(Shared, view, &single, &Options::default(), &mut double).err();
    assert!(matches!(error, Some(Error::Infeasible { of_columns: false, .. })), "{error:?}");
    let scipy = Options { ties: Ties::Scipy, ..limited(1.0) };
    assert_eq!(Error::<f64>::Options.to_string(), "scipy's order does not go with a cost limit");
    assert_eq!(pairs(&[1.0], 1, 1, &scipy), Err(Error::Options));
    assert_eq!(lazy(&[f64::NAN], 1, 1, &Options { ties: Ties::Scipy, dirty: Dirty::Forbid, ..Options::default() }), Ok(vec![]));
}
