//! Timings of linear assignment on families of cost matrices.

use std::hint::black_box;

use samara_core::assignment::{Costs, Options, Ties, verify};

use super::machine::read_bytes_per_s;
use super::{median, times};
use crate::assignment::families::Family;
use crate::assignment::{Batch, Solver};
use crate::cli::requests::BenchRow;
use crate::error::Error;
use crate::threads::Pool;

/// Calls for one measurement: so many costs are gone through at least.
const COSTS: usize = 20_000;
/// Problems of a batch: images, times layers of a decoder.
const BATCH: u64 = 96;

/// Shapes beside the 400 × 400 of every family.
const UNIFORM: [(usize, usize); 8] = [(10, 10), (30, 30), (100, 100), (1000, 1000), (100, 7), (100, 20), (300, 20), (100, 1000)];

/// Measures every family, one thread, and a batch on all threads of the pool. Answers are proven by their duals first.
pub(super) fn run(repeats: usize, pool: &Pool) -> Result<Vec<BenchRow>, Error> {
    let bytes_per_s = read_bytes_per_s(&Pool::new(1)?);
    let squares = Family::ALL.iter().map(|&(name, family)| (name, family, 400, 400));
    let others = UNIFORM.iter().map(|&(rows, columns)| ("uniform", Family::Uniform, rows, columns));
    let mut measured = Vec::new();
    for (name, family, rows, columns) in squares.chain(others) {
        let costs = family.costs(rows, columns, 1);
        for (suffix, ties) in [("", Ties::Any), (", ties as scipy", Ties::Scipy)] {
            let seconds = solve(&costs, (rows, columns), ties, repeats)?;
            measured.push(row(format!("{name} {rows}x{columns}{suffix}"), seconds, rows * columns, bytes_per_s));
        }
    }
    let matrices: Vec<Vec<f64>> = (0..BATCH).map(|seed| Family::Uniform.costs(100, 7, seed)).collect();
    let problems: Result<Vec<_>, _> = matrices.iter().map(|costs| Costs::new(costs, 100, 7)).collect();
    let problems = problems.map_err(failed)?;
    let one = Pool::new(1)?;
    for pool in [&one, pool] {
        let batch = Batch::new(pool);
        let seconds = times(repeats, || {
            black_box(batch.solve_with(&problems, &Options::default(), |_, answer| answer.rows().first().copied()));
            Ok(())
        })?;
        let name = format!("{BATCH} of uniform 100x7, {} threads", pool.threads());
        measured.push(row(name, median(seconds), problems.len() * 700, bytes_per_s));
    }
    Ok(measured)
}

/// The median of the seconds of one call.
fn solve(costs: &[f64], (rows, columns): (usize, usize), ties: Ties, repeats: usize) -> Result<f64, Error> {
    let view = Costs::new(costs, rows, columns).map_err(failed)?;
    let options = Options { ties, ..Options::default() };
    let mut solver = Solver::default();
    let proof = solver.solve_with(view, &options, |answer| verify(view, &answer, &options, 1e-9)).map_err(failed)?;
    proof.map_err(|why| Error::Input(format!("an answer without a proof: {why}")))?;
    let calls = COSTS.div_ceil(rows * columns);
    let seconds = times(repeats, || {
        for _ in 0..calls {
            solver.solve_with(view, &options, |answer| black_box(answer.columns().len())).map_err(failed)?;
        }
        Ok(())
    })?;
    Ok(median(seconds) / calls as f64)
}

fn failed(error: samara_core::assignment::Error<f64>) -> Error {
    Error::Input(error.to_string())
}

/// The floor: reading every cost once.
fn row(name: String, seconds: f64, costs: usize, bytes_per_s: f64) -> BenchRow {
    let bytes = (costs * size_of::<f64>()) as f64;
    BenchRow {
        name,
        milliseconds: 1e3 * seconds,
        figure: 1e-6 * costs as f64 / seconds.max(1e-12),
        unit: "Mcosts/s",
        floor: bytes,
        floor_unit: "bytes",
        floor_milliseconds: 1e3 * bytes / bytes_per_s,
    }
}
