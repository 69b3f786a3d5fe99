//! The proof of an answer.

use super::answer::Assignment;
use super::number::{Cost, Index, get};
use super::options::{Objective, Options, is_unlimited, meets_none};
use super::view::Costs;

/// The distance of an answer from proven optimality, in `f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Certificate {
    /// Every allowed pair has a reduced cost `cost − row dual − column dual` of at least `-violation`.
    pub violation: f64,
    /// The total exceeds the dual bound, below which no assignment's total lies, by at most this.
    pub gap: f64,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Violation {
    /// The rows' columns contradict the columns' rows, too few pairs are made, or one is forbidden.
    Pairs {
        /// A row where that happens.
        row: usize,
    },
    /// The duals do not prove the answer optimal: its certificate.
    Duals(Certificate),
    /// The answer is for costs of another shape.
    Shape {
        /// Rows and columns of the answer.
        answer: (usize, usize),
        /// Rows and columns of the costs.
        costs: (usize, usize),
    },
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Pairs { row } => write!(f, "row {row} has no allowed column of its own"),
            Self::Duals(c) => write!(f, "the duals prove no more than a gap of {} with a violation of {}", c.gap, c.violation),
            Self::Shape { answer, costs } => {
                write!(f, "the answer is for {} x {} costs, the matrix is {} x {}", answer.0, answer.1, costs.0, costs.1)
            }
        }
    }
}

impl core::error::Error for Violation {}

/// Proves in one pass over the costs that an answer is optimal to within `tolerance`, which is relative to the largest allowed cost; sums are formed in 64 bits.
///
/// Proof: with `cost(i, j) ≥ u_i + v_j` for all allowed pairs, every complete assignment costs at least `Σ u + Σ v` (the dual of a row or column that
/// may stay free being at most 0, or the cost of staying free), and the answer's total is not above that bound.
///
/// With a limit that admits every pair, only answers that match the whole smaller side have a proof; with a limit that admits none, only the empty
/// answer.
///
/// # Errors
/// The first [`Violation`] found.
pub fn verify<T: Cost, I: Index>(
    costs: Costs<'_, T>,
    answer: &Assignment<'_, T, I>,
    options: &Options<T>,
    tolerance: f64,
) -> Result<Certificate, Violation> {
    check_shape(&costs, answer)?;
    if meets_none(options) {
        return check_empty(answer);
    }
    let maximize = options.objective == Objective::Maximize;
    let (u, v) = (answer.row_duals(), answer.column_duals());
    let sign = if maximize { -1.0 } else { 1.0 };
    // The tolerance is relative: an infinite limit among the costs would accept everything.
    let limit = options.cost_limit.filter(|_| !is_unlimited(options)).map(|limit| sign * limit.to_f64());
    let mut certificate = Certificate::default();
    let mut largest = limit.map_or(0.0, f64::abs);
    for row in 0..costs.rows() {
        let dual = sign * get(u, row, T::ZERO).to_f64();
        let column = answer.column_of(row);
        for ((j, cost), &column_dual) in costs.row_iter(row).enumerate().zip(v) {
            let admitted = cost.admit(maximize, T::ONE);
            let allowed = admitted.is_some_and(|cost| cost < T::FAR);
            if !allowed {
                if column == Some(j) {
                    return Err(Violation::Pairs { row });
                }
                continue;
            }
            let cost = sign * cost.to_f64();
            largest = if cost.abs() > largest { cost.abs() } else { largest };
            let slack = cost - (dual + sign * column_dual.to_f64());
            if column == Some(j) {
                if answer.row_of(j) != Some(row) {
                    return Err(Violation::Pairs { row });
                }
                certificate.gap += slack;
            }
            certificate.violation = if -slack > certificate.violation { -slack } else { certificate.violation };
        }
    }
    add_free(&mut certificate, answer, limit, sign)?;
    let bound = tolerance * largest;
    let proven = certificate.gap <= bound * costs.rows().min(costs.columns()) as f64 && certificate.violation <= bound;
    if proven { Ok(certificate) } else { Err(Violation::Duals(certificate)) }
}

fn check_shape<T: Cost, I: Index>(costs: &Costs<'_, T>, answer: &Assignment<'_, T, I>) -> Result<(), Violation> {
    let (answer, costs) = ((answer.columns().len(), answer.rows().len()), (costs.rows(), costs.columns()));
    if answer == costs { Ok(()) } else { Err(Violation::Shape { answer, costs }) }
}

/// Checks that the answer is empty, which is the only answer when no pair may be made.
fn check_empty<T: Cost, I: Index>(answer: &Assignment<'_, T, I>) -> Result<Certificate, Violation> {
    match answer.pairs().next() {
        Some((row, _)) => Err(Violation::Pairs { row }),
        None => Ok(Certificate::default()),
    }
}

/// Adds the contribution of unmatched rows and columns: their duals must be 0, or the cost of staying free, and no other dual may exceed that.
fn add_free<T: Cost, I: Index>(
    certificate: &mut Certificate,
    answer: &Assignment<'_, T, I>,
    limit: Option<f64>,
    sign: f64,
) -> Result<(), Violation> {
    let (rows, columns) = (answer.columns().len(), answer.rows().len());
    let rows_are_small = rows <= columns;
    let sides = [(answer.columns(), answer.row_duals(), rows_are_small), (answer.rows(), answer.column_duals(), !rows_are_small)];
    for (partners, duals, small) in sides {
        // The dual of an unmatched vertex: the whole limit on the small side, 0 on the other.
        let free = if small { limit } else { Some(0.0) };
        let bounded = limit.is_some() || !small && rows != columns;
        for (i, (partner, dual)) in partners.iter().zip(duals).enumerate() {
            let dual = sign * dual.to_f64();
            let over = free.map_or(0.0, |free| dual - free);
            if bounded && over > certificate.violation {
                certificate.violation = over;
            }
            if partner.get().is_none() {
                if small && limit.is_none() {
                    return Err(Violation::Pairs { row: i });
                }
                certificate.gap -= over;
            }
        }
    }
    Ok(())
}
