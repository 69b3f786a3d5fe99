//! Families of cost matrices on which assignment algorithms differ most.

use samara_core::math::rng::{Purpose, Rng};

/// A kind of cost matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Uniform in [0, 1).
    Uniform,
    /// Integers 0 to 99.
    Integers100,
    /// Integers 0 to 9.
    Integers10,
    /// 0 or 1.
    Binary,
    /// Distances between points of the unit square.
    Euclidean,
    /// Their squares.
    SquaredEuclidean,
    /// i · j: the many long paths of Machol and Wien (1976).
    MacholWien,
    /// Products of two random matrices of rank 3.
    LowRank,
    /// |aᵢ − bⱼ| of sorted values.
    Sorted,
    /// Powers of ten with exponents from 0 to 20.
    Logarithmic,
    /// All costs are 1.
    Constant,
}

impl Family {
    /// Every family with its name.
    pub const ALL: [(&'static str, Self); 11] = [
        ("uniform", Self::Uniform),
        ("int100", Self::Integers100),
        ("int10", Self::Integers10),
        ("binary", Self::Binary),
        ("euclidean", Self::Euclidean),
        ("squared-euclidean", Self::SquaredEuclidean),
        ("machol-wien", Self::MacholWien),
        ("low-rank", Self::LowRank),
        ("sorted", Self::Sorted),
        ("logarithmic", Self::Logarithmic),
        ("constant", Self::Constant),
    ];

    /// A matrix (rows, columns) of the family.
    pub fn costs(self, rows: usize, columns: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed, Purpose::Sampling, 0);
        let mut draw = |count: usize| -> Vec<f64> { (0..count).map(|_| rng.uniform_f64()).collect() };
        let whole = |values: Vec<f64>, bound: f64| values.into_iter().map(|x| (x * bound).floor()).collect();
        match self {
            Self::Uniform => draw(rows * columns),
            Self::Integers100 => whole(draw(rows * columns), 100.0),
            Self::Integers10 => whole(draw(rows * columns), 10.0),
            Self::Binary => whole(draw(rows * columns), 2.0),
            Self::Logarithmic => draw(rows * columns).into_iter().map(|x| 10_f64.powf(20.0 * x)).collect(),
            Self::Constant => vec![1.0; rows * columns],
            Self::MacholWien => (0..rows).flat_map(|i| (0..columns).map(move |j| (i * j) as f64)).collect(),
            Self::Euclidean => pairs(&draw(2 * rows), &draw(2 * columns), 2, |a, b| distance(a, b).sqrt()),
            Self::SquaredEuclidean => pairs(&draw(2 * rows), &draw(2 * columns), 2, distance),
            Self::LowRank => pairs(&draw(3 * rows), &draw(3 * columns), 3, |a, b| a.iter().zip(b).map(|(a, b)| a * b).sum()),
            Self::Sorted => {
                let (mut a, mut b) = (draw(rows), draw(columns));
                a.sort_by(f64::total_cmp);
                b.sort_by(f64::total_cmp);
                pairs(&a, &b, 1, |a, b| distance(a, b).sqrt())
            }
        }
    }
}

/// A graph in compressed sparse rows: the start of each row's neighbours, and all neighbours.
pub type Rows = (Vec<u32>, Vec<u32>);

/// A complete bipartite graph between successive levels of two vertices, with a chain along them: searches that do not mark dead ends take
/// exponential time.
pub fn ladder(levels: u32) -> Rows {
    let (mut starts, mut neighbours) = (vec![0], Vec::new());
    for row in 0..2 * levels {
        neighbours.push(row);
        let next = row - row % 2 + 2;
        if next < 2 * levels {
            neighbours.extend([next, next + 1]);
        }
        starts.push(neighbours.len() as u32);
    }
    neighbours.extend([0, 1]);
    starts.push(neighbours.len() as u32);
    (starts, neighbours)
}

/// A bipartite graph with as many rows as columns, each row with random neighbours.
pub fn sparse(rows: u32, degree: u32, seed: u64) -> Rows {
    let mut rng = Rng::new(seed, Purpose::Sampling, 0);
    let neighbours = (0..rows * degree).map(|_| rng.below(u64::from(rows)) as u32).collect();
    ((0..=rows).map(|row| row * degree).collect(), neighbours)
}

fn pairs(a: &[f64], b: &[f64], width: usize, cost: impl Fn(&[f64], &[f64]) -> f64) -> Vec<f64> {
    a.chunks_exact(width).flat_map(|a| b.chunks_exact(width).map(|b| cost(a, b)).collect::<Vec<_>>()).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}
