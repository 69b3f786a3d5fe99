//! One problem after the other in the same memory.

use samara_core::assignment::{
    Assignment, Cost, Costs, Error, Options, Ties, Workspace, linear_sum_assignment_on, workspace_len,
};

use super::{ThisMachine, stand_ins};

/// Memory for problems of any shape; it grows on demand and is reused.
///
/// Large sentinel costs for forbidden pairs, such as 1e18, do not reduce the accuracy of floating-point answers: an optimal assignment without them
/// is found as if they were infinite. Where all sentinels are equal and some are unavoidable, the answer has the fewest of them, and the least sum of
/// other costs. This does not hold with [`Ties::Scipy`], whose rounding is part of its choice, nor with rows that stay free; there a
/// [`Options::cost_limit`] bounds the loss.
#[derive(Debug)]
pub struct Solver<T> {
    machine: ThisMachine,
    costs: Vec<T>,
    indices: Vec<u32>,
    transposed: Vec<T>,
}

/// An answer that owns itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Solution<T: Cost> {
    /// Rows that have a column, in increasing order.
    pub rows: Vec<u32>,
    /// Their columns.
    pub columns: Vec<u32>,
    /// The total cost of the pairs.
    pub total: T::Total,
    /// The dual variable of every row.
    pub row_duals: Vec<T>,
    /// The dual variable of every column.
    pub column_duals: Vec<T>,
}

impl<T: Cost> Default for Solver<T> {
    fn default() -> Self {
        Self { machine: ThisMachine::new(), costs: Vec::new(), indices: Vec::new(), transposed: Vec::new() }
    }
}

impl<T: Cost> Solver<T> {
    /// A solver with core's portable passes.
    pub fn portable() -> Self {
        Self { machine: ThisMachine::PORTABLE, ..Self::default() }
    }

    /// Solves, and passes the answer to `read`, borrowed from the solver's memory.
    ///
    /// # Errors
    /// Those of [`samara_core::assignment::linear_sum_assignment`].
    pub fn solve_with<R>(
        &mut self,
        costs: Costs<'_, T>,
        options: &Options<T>,
        read: impl FnOnce(Assignment<'_, T>) -> R,
    ) -> Result<R, Error<T>> {
        let (mut read, mut result) = (Some(read), None);
        self.search(costs, options, &mut |answer| result = read.take().map(|read| read(answer)))?;
        Ok(result.unwrap_or_else(|| unreachable!("a search that succeeds hands over its answer")))
    }

    /// Solves and passes the answer on. Not generic over the caller's result, so that it is compiled once per type of costs.
    #[inline(never)]
    fn search(
        &mut self,
        costs: Costs<'_, T>,
        options: &Options<T>,
        read: &mut dyn FnMut(Assignment<'_, T>),
    ) -> Result<(), Error<T>> {
        let (rows, columns) = (costs.rows(), costs.columns());
        let len = workspace_len(rows, columns);
        self.costs.resize(len.costs.max(self.costs.len()), T::ZERO);
        self.indices.resize(len.indices.max(self.indices.len()), 0);
        let wide = if rows > columns { costs.transposed() } else { costs };
        // Columns of a tall matrix are read as rows several times: a contiguous copy is faster.
        let costs = if rows > 0 && wide.row(0).is_none() && (options.ties == Ties::Scipy || !is_slim(wide)) {
            transpose(wide.transposed(), &mut self.transposed);
            let copy = Costs::new(&self.transposed, wide.rows(), wide.columns())?;
            if rows > columns { copy.transposed() } else { copy }
        } else {
            costs
        };
        let mut workspace = Workspace::new(&mut self.costs, &mut self.indices, rows, columns)?;
        let answer = linear_sum_assignment_on(self.machine, costs, options, &mut workspace)?;
        let repairs = !T::EXACT && options.ties == Ties::Any && options.cost_limit.is_none();
        if repairs
            && stand_ins::is_strained(&costs, &answer)
            && let Some(better) = stand_ins::repaired(self.machine, &costs, options, &answer)
        {
            read(better.answer());
        } else {
            read(answer);
        }
        Ok(())
    }

    /// Solves.
    ///
    /// # Errors
    /// Those of [`samara_core::assignment::linear_sum_assignment`].
    pub fn solve(&mut self, costs: Costs<'_, T>, options: &Options<T>) -> Result<Solution<T>, Error<T>> {
        self.solve_with(costs, options, |answer| Solution::of(&answer, &costs))
    }
}

impl<T: Cost> Solution<T> {
    fn of(answer: &Assignment<'_, T>, costs: &Costs<'_, T>) -> Self {
        let (rows, columns) = answer.pairs().map(|(row, column)| (row as u32, column as u32)).unzip();
        Self {
            rows,
            columns,
            total: answer.total(costs),
            row_duals: answer.row_duals().to_vec(),
            column_duals: answer.column_duals().to_vec(),
        }
    }
}

/// Whether a matrix is so small, and has so few rows compared with its columns, that most of it is read once.
fn is_slim<T: Cost>(wide: Costs<'_, T>) -> bool {
    wide.columns() >= 4 * wide.rows() && wide.rows() * wide.columns() <= 1 << 14
}

/// Copies the transpose of a matrix, tile by tile, so that cache lines of both stay in the cache.
fn transpose<T: Cost>(from: Costs<'_, T>, to: &mut Vec<T>) {
    const TILE: usize = 16;
    let (rows, columns) = (from.rows(), from.columns());
    to.resize(rows * columns, T::ZERO);
    for first in (0..rows).step_by(TILE) {
        let tile: [Option<&[T]>; TILE] = std::array::from_fn(|k| (first + k < rows).then(|| from.row(first + k)).flatten());
        for (column, to) in to.chunks_exact_mut(rows.max(1)).enumerate() {
            for ((to, row), i) in to.iter_mut().skip(first).zip(&tile).zip(first..) {
                *to = row.and_then(|row| row.get(column)).copied().or_else(|| from.at(i, column)).unwrap_or(T::ZERO);
            }
        }
    }
}
