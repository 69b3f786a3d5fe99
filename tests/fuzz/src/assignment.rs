//! Assignment against brute force on what libFuzzer makes up: shapes, costs with ties, forbidden and invalid entries, options.
//!
//! `cd tests/fuzz && cargo run --release --bin assignment -- -max_total_time=300` needs a C++ compiler for libFuzzer and nothing else. A failure leaves a file
//! `crash-…`, which is run again as `cargo run --release --bin assignment -- crash-…`.

#![no_main]

mod brute;

use brute::Best;
use libfuzzer_sys::fuzz_target;
use samara_core::assignment::{
    Changed, Cost, Costs, Dirty, Error, Objective, Options, Portable, Ties, Workspace, assign_pairs, bottleneck_assignment,
    linear_sum_assignment, reassign, verify, workspace_len,
};

/// The most rows or columns: brute force looks at every assignment.
const MOST: usize = 6;
/// The most columns of wide problems, which reach whole vectors and blocks; they have few rows.
const WIDEST: usize = 70;

/// What the bytes of the fuzzer say.
struct Problem {
    rows: usize,
    columns: usize,
    costs: Vec<f64>,
    options: Options<f64>,
    changed: (usize, usize),
    pairs: usize,
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(problem) = Problem::read(bytes) {
        problem.check();
    }
});

impl Problem {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[shape, sides, how, limit, changed, pairs], cells) = bytes.split_first_chunk::<6>()?;
        let (mut rows, mut columns) = (1 + usize::from(shape) % MOST, 1 + usize::from(sides) % MOST);
        if how & 1 != 0 {
            (rows, columns) = (1 + usize::from(shape) % 2, 1 + usize::from(sides) % WIDEST);
        }
        if how & 2 != 0 {
            (rows, columns) = (columns, rows);
        }
        let objective = if how & 4 != 0 { Objective::Maximize } else { Objective::Minimize };
        let dirty = if how & 8 != 0 { Dirty::Forbid } else { Dirty::Reject };
        let cost_limit = (how & 16 != 0).then(|| f64::from(limit as i8));
        let ties = if how & 32 != 0 && cost_limit.is_none() { Ties::Scipy } else { Ties::Any };
        let scale = [1.0, 0.1, 1e100, 1e307][usize::from(how >> 6)];
        let cost = |k: usize| match cells.get(k % cells.len().max(1)).copied().unwrap_or(7) {
            255 => f64::INFINITY,
            254 => f64::NEG_INFINITY,
            253 if dirty == Dirty::Forbid => f64::NAN,
            byte => f64::from(byte % 16) * scale - if byte & 16 != 0 { scale } else { 0.0 },
        };
        let costs = (0..rows * columns).map(cost).collect();
        let cost_limit = cost_limit.map(|limit| limit * scale.min(1e100));
        let options = Options { objective, dirty, ties, cost_limit };
        Some(Self {
            rows,
            columns,
            costs,
            options,
            changed: (usize::from(changed) % rows, usize::from(changed) % columns),
            pairs: usize::from(pairs) % 8,
        })
    }

    fn check(&self) {
        let sign = if self.options.objective == Objective::Maximize { -1.0 } else { 1.0 };
        // Totals of the largest costs would overflow: all are taken in units of the largest.
        let largest = self.costs.iter().filter(|c| c.is_finite()).fold(1.0_f64, |m, c| m.max(c.abs()));
        let units: Vec<f64> = self.costs.iter().map(|c| c / largest).collect();
        let best = Best::of(&units, self.rows, self.columns, sign);
        let len = workspace_len(self.rows, self.columns);
        let (mut reals, mut indices) = (vec![0.0; len.costs], vec![0_u16; len.indices]);
        let mut workspace = Workspace::new(&mut reals, &mut indices, self.rows, self.columns).expect("room");
        let view = Costs::new(&self.costs, self.rows, self.columns).expect("costs");
        let invalid = self.costs.iter().any(|&c| c.is_nan() || c == sign * f64::NEG_INFINITY);
        match linear_sum_assignment(view, &self.options, &mut workspace) {
            Ok(answer) => {
                assert!(!invalid || self.options.dirty == Dirty::Forbid, "invalid costs are refused");
                let total: f64 = answer.pairs().map(|(i, j)| units[i * self.columns + j]).sum::<f64>();
                let count = answer.pairs().count();
                let expected = match self.options.cost_limit {
                    Some(limit) => best.limited(sign * limit / largest),
                    None => best.full(),
                };
                let value = sign * (total - self.options.cost_limit.unwrap_or(0.0) / largest * count as f64);
                assert!((value - expected).abs() <= 1e-9, "{value} instead of {expected}");
                // Reduced costs of the largest numbers overflow, and prove nothing.
                let complete = count == self.rows.min(self.columns) || self.options.cost_limit.is_some();
                if complete && largest < 1e300 {
                    verify(view, &answer, &self.options, 1e-9).expect("a proof");
                }
            }
            Err(Error::Invalid { row, column, value }) => {
                assert!(self.options.dirty == Dirty::Reject && invalid);
                let first = self.costs.iter().position(|&c| c.is_nan() || c == sign * f64::NEG_INFINITY);
                assert_eq!(first, Some(row * self.columns + column));
                assert_eq!(value.to_bits(), self.costs[row * self.columns + column].to_bits());
                return;
            }
            Err(Error::Infeasible { .. }) => {
                assert!(best.most() < self.rows.min(self.columns) && self.options.dirty == Dirty::Reject);
            }
            Err(error) => panic!("{error}"),
        }
        if !invalid && largest < 1e90 {
            self.check_others(sign, |a, b| (a - b).abs() <= 1e-9 * largest);
        }
    }

    /// A number of pairs, the bottleneck, a warm start, and other types of costs.
    fn check_others(&self, sign: f64, near: impl Fn(f64, f64) -> bool) {
        let best = Best::of(&self.costs, self.rows, self.columns, sign);
        let options = Options { cost_limit: None, ties: Ties::Any, ..self.options };
        let len = workspace_len(self.rows, self.columns);
        let (mut reals, mut indices) = (vec![0.0; len.costs], vec![0_u16; len.indices]);
        let mut workspace = Workspace::new(&mut reals, &mut indices, self.rows, self.columns).expect("room");
        let mut costs = self.costs.clone();
        let view = Costs::new(&costs, self.rows, self.columns).expect("costs");
        let answer = assign_pairs(view, self.pairs, &options, &mut workspace).expect("always");
        assert!(near(sign * answer.total(&view), best.pairs(self.pairs)));
        if best.most() < self.rows.min(self.columns) {
            return;
        }
        let (answer, worst) = bottleneck_assignment(view, &options, &mut workspace).expect("feasible");
        assert_eq!(answer.pairs().count(), best.most());
        assert_eq!(worst.map(|cost| sign * cost), Some(best.bottleneck(&self.costs, self.rows, self.columns, sign)));
        linear_sum_assignment(view, &options, &mut workspace).expect("feasible");
        let (row, column) = self.changed;
        for (j, cost) in costs.iter_mut().skip(row * self.columns).take(self.columns).enumerate() {
            *cost = (j * 7 % 5) as f64;
        }
        for (i, cost) in costs.iter_mut().skip(column).step_by(self.columns).enumerate() {
            *cost = (i * 3 % 4) as f64;
        }
        let best = Best::of(&costs, self.rows, self.columns, sign);
        let view = Costs::new(&costs, self.rows, self.columns).expect("costs");
        let changed = Changed::Only { rows: &[row], columns: &[column] };
        match reassign(Portable, view, changed, &options, &mut workspace) {
            Ok(answer) => {
                assert!(near(sign * answer.total(&view), best.full()));
                verify(view, &answer, &options, 1e-9).expect("a proof");
            }
            Err(error) => assert!(best.most() < self.rows.min(self.columns), "{error}"),
        }
        if costs.iter().all(|c| c.is_finite() && c.fract() == 0.0) {
            let whole: Vec<i32> = costs.iter().map(|&c| c as i32).collect();
            self.check_type(&whole, |total| near(sign * total as f64, best.full()));
            let single: Vec<f32> = costs.iter().map(|&c| c as f32).collect();
            self.check_type(&single, |total| near(sign * total, best.full()));
        }
    }

    fn check_type<T: Cost>(&self, costs: &[T], right: impl Fn(T::Total) -> bool) {
        let len = workspace_len(self.rows, self.columns);
        let (mut reals, mut indices) = (vec![T::ZERO; len.costs], vec![0_u32; len.indices]);
        let mut workspace = Workspace::new(&mut reals, &mut indices, self.rows, self.columns).expect("room");
        let view = Costs::new(costs, self.rows, self.columns).expect("costs");
        let options = Options { objective: self.options.objective, ..Options::default() };
        let answer = linear_sum_assignment(view, &options, &mut workspace).expect("feasible");
        assert!(right(answer.total(&view)));
    }
}
