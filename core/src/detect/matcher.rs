//! The match of queries and objects of least cost.

use super::Prediction;
use super::cost::{MatchCosts, cost_matrix};
use super::error::Error;
use crate::assignment::{Cost, Costs, Machine, Options, Workspace, linear_sum_assignment_on};
use crate::math::Real;

/// The object of a query without one.
pub const UNMATCHED: i32 = -1;

/// Memory of a match.
pub struct MatchMemory<'m, R> {
    /// At least T · Q values.
    pub matrix: &'m mut [R],
    /// At least [`workspace_len(T, Q).costs`](crate::assignment::workspace_len).
    pub costs: &'m mut [R],
    /// At least [`workspace_len(T, Q).indices`](crate::assignment::workspace_len).
    pub indices: &'m mut [u32],
}

/// The object of every query, or [`UNMATCHED`]: min(Q, T) different pairs of the least total cost by [`cost_matrix`], which is returned. `matched` (Q).
///
/// # Errors
/// Those of [`cost_matrix`], and too little memory.
pub fn matched_queries<R: Real + Cost<Total = f64>>(
    machine: impl Machine,
    prediction: &Prediction<'_, R>,
    costs: &MatchCosts<R>,
    memory: MatchMemory<'_, R>,
    matched: &mut [i32],
) -> Result<f64, Error> {
    let (objects, queries) = (prediction.classes.len(), prediction.queries());
    Error::length("matched", queries, matched.len())?;
    let len = objects * queries;
    let found = memory.matrix.len();
    let matrix = memory.matrix.get_mut(..len).ok_or(Error::Length { name: "matrix", expected: len, found })?;
    cost_matrix(prediction, costs, matrix)?;
    matched.fill(UNMATCHED);
    if matrix.is_empty() {
        return Ok(0.0);
    }
    let matrix = Costs::new(matrix, objects, queries).map_err(|_| Error::Assignment)?;
    let mut workspace = Workspace::new(memory.costs, memory.indices, objects, queries).map_err(|_| Error::Assignment)?;
    let answer = linear_sum_assignment_on(machine, matrix, &Options::default(), &mut workspace).map_err(|_| Error::Assignment)?;
    for (object, query) in answer.pairs() {
        if let Some(to) = matched.get_mut(query) {
            *to = object as i32;
        }
    }
    Ok(answer.total(&matrix))
}
