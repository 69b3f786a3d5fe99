//! Assignment against the crates lapjv, lsap and pathfinding, on families of cost matrices on which ways to solve differ most.
//!
//! `cargo bench -p samara-benches --features peers --bench assignment -- [filter] [--largest N]` (without the feature: samara alone) prints microseconds: the least of interleaved rounds, and the median
//! of ours. Every answer's total is compared, and ours is proven by its duals. With `--serve` it reads lines from standard input and answers each with
//! the seconds of one call, so that a script can time peers of other languages in turns with it.

use std::hint::black_box;
use std::io::BufRead;
use std::time::{Duration, Instant};

use samara::assignment::Solver;
use samara::assignment::families::Family;
use samara_core::assignment::{Costs, Options, Ties, verify};
use samara_core::bipartite::{Graph, maximum_matching, scratch_len};

/// Shapes of a row of the table.
const SHAPES: &[(Family, usize, usize)] = &[
    (Family::Uniform, 10, 10),
    (Family::Uniform, 30, 30),
    (Family::Uniform, 100, 100),
    (Family::Uniform, 400, 400),
    (Family::Uniform, 1000, 1000),
    (Family::Integers100, 400, 400),
    (Family::Integers10, 400, 400),
    (Family::Binary, 400, 400),
    (Family::Euclidean, 400, 400),
    (Family::Euclidean, 1000, 1000),
    (Family::SquaredEuclidean, 400, 400),
    (Family::MacholWien, 400, 400),
    (Family::LowRank, 400, 400),
    (Family::Sorted, 400, 400),
    (Family::Logarithmic, 400, 400),
    (Family::Constant, 400, 400),
    (Family::Uniform, 7, 100),
    (Family::Uniform, 100, 7),
    (Family::Uniform, 30, 100),
    (Family::Uniform, 300, 20),
    (Family::Uniform, 100, 1000),
    (Family::Uniform, 1000, 100),
    (Family::Uniform, 1000, 4000),
    (Family::Uniform, 4000, 1000),
    (Family::Uniform, 4000, 4000),
    (Family::Integers100, 4000, 4000),
    (Family::Euclidean, 4000, 4000),
];

/// Rounds go on for at least so long.
const PATIENCE: Duration = Duration::from_millis(600);
/// Rivals that take longer than this at once are left out of later rounds.
const TOO_LONG: f64 = 2.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.iter().any(|a| a == "--serve") {
        return serve();
    }
    let largest =
        arguments.iter().position(|a| a == "--largest").and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(1000);
    let filter = arguments.first().filter(|a| !a.starts_with("--")).cloned().unwrap_or_default();
    println!(
        "{:<28}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "least µs", "any", "(median)", "portable", "scipy ties", "lapjv", "lsap", "pathfinding"
    );
    for &(family, rows, columns) in SHAPES.iter().filter(|s| s.1.max(s.2) <= largest) {
        let name = Family::ALL.iter().find(|f| f.1 == family).map_or("", |f| f.0);
        let name = format!("{name} {rows}x{columns}");
        if name.contains(&filter) {
            row(&name, &family.costs(rows, columns, 1), rows, columns);
        }
    }
}

/// A way to solve: the total cost.
type Way<'a> = Box<dyn FnMut() -> f64 + 'a>;

fn row(name: &str, costs: &[f64], rows: usize, columns: usize) {
    let view = Costs::new(costs, rows, columns).expect("costs");
    let ours = |mut solver: Solver<f64>, ties| -> Way<'_> {
        let options = Options { ties, ..Options::default() };
        Box::new(move || solver.solve_with(view, &options, |answer| answer.total(&view)).expect("an assignment"))
    };
    Solver::default()
        .solve_with(view, &Options::default(), |answer| verify(view, &answer, &Options::default(), 1e-9))
        .expect("an assignment")
        .expect("a proof");
    let mut ways: Vec<Option<Way<'_>>> = vec![
        Some(ours(Solver::default(), Ties::Any)),
        Some(ours(Solver::portable(), Ties::Any)),
        Some(ours(Solver::default(), Ties::Scipy)),
    ];
    ways.extend(rivals(costs, rows, columns));
    let mut times = vec![Vec::new(); ways.len()];
    let expected = ways.first_mut().and_then(Option::as_mut).map_or(0.0, |way| way());
    let begun = Instant::now();
    let inner = (50_000 / (rows * columns)).max(1);
    for round in 0.. {
        if round > 2 && begun.elapsed() > PATIENCE {
            break;
        }
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let Some(call) = way else { continue };
            if inner == 1 {
                // The matrix comes back to the cache.
                black_box(call());
            }
            let start = Instant::now();
            let mut total = 0.0;
            for _ in 0..inner {
                total = black_box(call());
            }
            let seconds = start.elapsed().as_secs_f64() / inner as f64;
            assert!((total - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{name}: {total} instead of {expected}");
            times.push(seconds);
            if seconds > TOO_LONG {
                *way = None;
            }
        }
    }
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min) * 1e6;
    let cell = |us: f64| if us.is_finite() { format!("{us:>11.1}") } else { format!("{:>11}", "-") };
    let mut sorted = times[0].clone();
    sorted.sort_by(f64::total_cmp);
    let mut line = format!("{name:<28}{}{}", cell(least(&times[0])), cell(sorted[sorted.len() / 2] * 1e6));
    for times in &times[1..] {
        line += &cell(least(times));
    }
    println!("{line}");
}

/// lapjv, lsap and pathfinding, where they can solve the problem.
#[cfg(feature = "peers")]
fn rivals(costs: &[f64], rows: usize, columns: usize) -> [Option<Way<'_>>; 3] {
    let whole = rows <= columns && costs.iter().all(|x| x.fract() == 0.0);
    [
        (rows == columns).then(|| lapjv_way(costs, rows)),
        Some(lsap_way(costs, rows, columns)),
        whole.then(|| pathfinding_way(costs, rows, columns)),
    ]
}

/// Nobody: the crates are not built.
#[cfg(not(feature = "peers"))]
fn rivals(_: &[f64], _: usize, _: usize) -> [Option<Way<'static>>; 3] {
    [None, None, None]
}

#[cfg(feature = "peers")]
fn lapjv_way(costs: &[f64], n: usize) -> Way<'_> {
    let matrix = lapjv::Matrix::from_shape_vec((n, n), costs.to_vec()).expect("a square matrix");
    Box::new(move || {
        let (rows, _) = lapjv::lapjv(&matrix).expect("an assignment");
        rows.iter().enumerate().map(|(i, &j)| costs[i * n + j]).sum()
    })
}

#[cfg(feature = "peers")]
fn lsap_way(costs: &[f64], rows: usize, columns: usize) -> Way<'_> {
    let owned = costs.to_vec();
    Box::new(move || {
        let (a, b) = lsap::solve(rows, columns, &owned, false).expect("an assignment");
        a.iter().zip(&b).map(|(&i, &j)| costs[i * columns + j]).sum()
    })
}

#[cfg(feature = "peers")]
fn pathfinding_way(costs: &[f64], rows: usize, columns: usize) -> Way<'_> {
    let whole = costs.iter().map(|&x| x as i64).collect();
    let matrix = pathfinding::matrix::Matrix::from_vec(rows, columns, whole).expect("a matrix");
    Box::new(move || pathfinding::kuhn_munkres::kuhn_munkres_min(&matrix).0 as f64)
}

/// Times calls for a script: on every line `solve FILE.npy TIES REPEATS` for a stack of matrices, which are solved in turn, or
/// `match STARTS.npy NEIGHBOURS.npy` for a bipartite graph.
fn serve() {
    let mut solver = Solver::default();
    let mut loaded: (String, Stack) = Default::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        let seconds = match words.as_slice() {
            ["solve", path, ties, repeats] => {
                if loaded.0 != *path {
                    loaded = ((*path).to_owned(), Stack::read(path));
                }
                let ties = if *ties == "scipy" { Ties::Scipy } else { Ties::Any };
                loaded.1.solve(&mut solver, ties, repeats.parse().expect("a number"))
            }
            ["match", starts, neighbours] => {
                let read = |path: &str| -> Vec<u32> {
                    let array = samara::npy::read(path.as_ref()).expect("an array");
                    array.into_f64().into_iter().map(|x| x as u32).collect()
                };
                matching(&read(starts), &read(neighbours))
            }
            _ => panic!("expected solve FILE.npy TIES REPEATS or match STARTS.npy NEIGHBOURS.npy"),
        };
        println!("{seconds:e}");
    }
}

/// Matrices of one shape.
#[derive(Default)]
struct Stack {
    shape: [usize; 3],
    costs: Vec<f64>,
}

impl Stack {
    fn read(path: &str) -> Self {
        let array = samara::npy::read(path.as_ref()).expect("matrices");
        Self { shape: array.shape.as_slice().try_into().expect("a stack of matrices"), costs: array.into_f64() }
    }

    /// The seconds of one call.
    fn solve(&self, solver: &mut Solver<f64>, ties: Ties, repeats: usize) -> f64 {
        let [count, rows, columns] = self.shape;
        let options = Options { ties, ..Options::default() };
        let start = Instant::now();
        for costs in self.costs.chunks_exact(rows * columns).cycle().take(count * repeats) {
            let view = Costs::new(costs, rows, columns).expect("a matrix");
            let solved = solver.solve_with(view, &options, |answer| {
                black_box(answer.columns());
            });
            solved.expect("an assignment");
        }
        start.elapsed().as_secs_f64() / (count * repeats) as f64
    }
}

/// The seconds of one maximum matching.
fn matching(starts: &[u32], neighbours: &[u32]) -> f64 {
    let rows = starts.len() - 1;
    let columns = neighbours.iter().max().map_or(0, |&last| last as usize + 1);
    let (mut column_of, mut row_of, mut scratch) = (vec![0; rows], vec![0; columns], vec![0; scratch_len(rows)]);
    let start = Instant::now();
    black_box(maximum_matching(Graph::new(starts, neighbours), &mut column_of, &mut row_of, &mut scratch));
    start.elapsed().as_secs_f64()
}
