//! Timings of linear assignment on families of cost matrices.

use std::hint::black_box;

use samara_core::assignment::{
    Changed, Costs, Options, Ties, Workspace, linear_sum_assignment_on, reassign, verify, workspace_len,
};
use samara_core::bipartite::{Graph, maximum_matching, scratch_len};

use super::error::BenchError;
use super::measure::{Measurement, median, times};
use super::rates::read_bytes_per_s;
use crate::assignment::families::{self, Family};
use crate::assignment::{Batch, Solver, ThisMachine};
use crate::threads::Pool;

/// A measurement repeats calls until it has processed at least this many costs.
const COSTS: usize = 20_000;
/// Problems of a batch: images, times layers of a decoder.
const BATCH: u64 = 96;
/// Their shapes: queries and boxes.
const BATCHED: [(usize, usize); 3] = [(100, 7), (100, 20), (300, 20)];

/// Shapes beside the 400 × 400 of every family.
const UNIFORM: [(usize, usize); 8] = [(10, 10), (30, 30), (100, 100), (1000, 1000), (100, 7), (100, 20), (300, 20), (100, 1000)];

/// Measures every family on one thread, batches on all threads of the pool, frames of a tracker, and matchings. Answers are first verified by their
/// duals.
///
/// # Errors
/// An answer cannot be verified.
pub fn run(repeats: usize, pool: &Pool) -> Result<Vec<Measurement>, BenchError> {
    let bytes_per_s = read_bytes_per_s(&Pool::new(1)?)?;
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
    for (rows, columns) in BATCHED {
        measured.extend(batches((rows, columns), repeats, pool, bytes_per_s)?);
    }
    measured.extend(frames(repeats, bytes_per_s)?);
    measured.extend(matchings(repeats, bytes_per_s)?);
    Ok(measured)
}

/// Many problems: sequentially on one thread of the pool, and as a batch on all.
fn batches(
    (rows, columns): (usize, usize),
    repeats: usize,
    pool: &Pool,
    bytes_per_s: f64,
) -> Result<[Measurement; 2], BenchError> {
    let matrices: Vec<Vec<f64>> = (0..BATCH).map(|seed| Family::Uniform.costs(rows, columns, seed)).collect();
    let problems: Result<Vec<_>, _> = matrices.iter().map(|costs| Costs::new(costs, rows, columns)).collect();
    let problems = problems.map_err(failed)?;
    let (mut solver, batch, options) = (Solver::default(), Batch::new(pool), Options::default());
    // Callers that solve batches run on a thread of the pool.
    let (one, all) = pool.install(|| -> Result<_, BenchError> {
        let one = times(repeats, || -> Result<(), BenchError> {
            for &costs in &problems {
                solver.solve_with(costs, &options, |answer| black_box(answer.rows().first().copied())).map_err(failed)?;
            }
            Ok(())
        })?;
        let all = times(repeats, || -> Result<(), BenchError> {
            black_box(batch.solve_with(&problems, &options, |_, answer| answer.rows().first().copied()));
            Ok(())
        })?;
        Ok((median(one), median(all)))
    })?;
    let costs = problems.len() * rows * columns;
    let name = |what: &str| format!("{BATCH} of uniform {rows}x{columns}, {what}");
    let threads = format!("a batch on {} threads", pool.threads());
    Ok([row(name("one after the other"), one, costs, bytes_per_s), row(name(&threads), all, costs, bytes_per_s)])
}

/// Frames of a tracker in which the costs of five rows change: warm-started from the last frame's duals, and from scratch.
fn frames(repeats: usize, bytes_per_s: f64) -> Result<[Measurement; 2], BenchError> {
    const N: usize = 100;
    const ROWS: [usize; 5] = [3, 21, 42, 64, 99];
    let costs = Family::Euclidean.costs(N, N, 1);
    let moved: Vec<Vec<f64>> = (2..42).map(|seed| Family::Euclidean.costs(ROWS.len(), N, seed)).collect();
    let frames: Vec<Vec<f64>> = moved
        .iter()
        .map(|moved| {
            let mut costs = costs.clone();
            for (row, moved) in ROWS.iter().zip(moved.chunks_exact(N)) {
                costs.iter_mut().skip(row * N).zip(moved).for_each(|(to, &cost)| *to = cost);
            }
            costs
        })
        .collect();
    let options = Options::default();
    let mut solver = Solver::default();
    let cold = times(repeats, || -> Result<(), BenchError> {
        for costs in &frames {
            let view = Costs::new(costs, N, N).map_err(failed)?;
            solver.solve_with(view, &options, |answer| black_box(answer.columns().len())).map_err(failed)?;
        }
        Ok(())
    })?;
    let len = workspace_len(N, N);
    let (mut reals, mut indices) = (vec![0.0; len.costs], vec![0_u32; len.indices]);
    let mut workspace = Workspace::new(&mut reals, &mut indices, N, N).map_err(failed)?;
    let machine = ThisMachine::new();
    linear_sum_assignment_on(machine, Costs::new(&costs, N, N).map_err(failed)?, &options, &mut workspace).map_err(failed)?;
    let warm = times(repeats, || -> Result<(), BenchError> {
        for costs in &frames {
            let view = Costs::new(costs, N, N).map_err(failed)?;
            let changed = Changed::Only { rows: &ROWS, columns: &[] };
            black_box(reassign(machine, view, changed, &options, &mut workspace).map_err(failed)?.columns().len());
        }
        Ok(())
    })?;
    let each = |seconds| median(seconds) / frames.len() as f64;
    let name = |what: &str| format!("frame of euclidean {N}x{N}, {} rows changed, {what}", ROWS.len());
    Ok([row(name("cold"), each(cold), N * N, bytes_per_s), row(name("warm"), each(warm), N * N, bytes_per_s)])
}

/// Maximum matchings; their "costs" are edges.
fn matchings(repeats: usize, bytes_per_s: f64) -> Result<Vec<Measurement>, BenchError> {
    let mut measured = Vec::new();
    let graphs =
        [("ladder", families::ladder(1667)), ("ladder", families::ladder(16_667)), ("random", families::sparse(100_000, 10, 1))];
    for (name, (starts, neighbours)) in graphs {
        let rows = starts.len() - 1;
        let (mut column_of, mut row_of, mut scratch) = (vec![0; rows], vec![0; rows], vec![0; scratch_len(rows)]);
        let seconds = times(repeats, || -> Result<(), BenchError> {
            black_box(maximum_matching(Graph::new(&starts, &neighbours), &mut column_of, &mut row_of, &mut scratch));
            Ok(())
        })?;
        let name = format!("maximum matching, {name} graph, {} edges", neighbours.len());
        measured.push(row(name, median(seconds), neighbours.len(), bytes_per_s));
    }
    Ok(measured)
}

/// The median of the seconds of one call.
fn solve(costs: &[f64], (rows, columns): (usize, usize), ties: Ties, repeats: usize) -> Result<f64, BenchError> {
    let view = Costs::new(costs, rows, columns).map_err(failed)?;
    let options = Options { ties, ..Options::default() };
    let mut solver = Solver::default();
    let proof = solver.solve_with(view, &options, |answer| verify(view, &answer, &options, 1e-9)).map_err(failed)?;
    proof.map_err(|why| BenchError::Assignment(format!("an answer could not be verified: {why}")))?;
    let calls = COSTS.div_ceil(rows * columns);
    let seconds = times(repeats, || -> Result<(), BenchError> {
        for _ in 0..calls {
            solver.solve_with(view, &options, |answer| black_box(answer.columns().len())).map_err(failed)?;
        }
        Ok(())
    })?;
    Ok(median(seconds) / calls as f64)
}

fn failed(error: samara_core::assignment::Error<f64>) -> BenchError {
    BenchError::Assignment(error.to_string())
}

/// The floor is the time to read every cost once.
fn row(name: String, seconds: f64, costs: usize, bytes_per_s: f64) -> Measurement {
    let bytes = (costs * size_of::<f64>()) as f64;
    Measurement {
        name,
        milliseconds: 1e3 * seconds,
        figure: 1e-6 * costs as f64 / seconds.max(1e-12),
        unit: "Mcosts/s",
        floor: bytes,
        floor_unit: "bytes",
        floor_milliseconds: 1e3 * bytes / bytes_per_s,
    }
}
