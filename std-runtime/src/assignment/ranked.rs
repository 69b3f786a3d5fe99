//! The best assignments in order, by Murty's partition (1968).

use samara_core::assignment::{
    Changed, Cost, Costs, Error, Objective, Options, Workspace, linear_sum_assignment_on, reassign, workspace_len,
};

use super::ThisMachine;

/// One of the best assignments.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked<T: Cost> {
    /// Rows and their columns, by rows.
    pub pairs: Vec<(u32, u32)>,
    /// The total cost of the pairs.
    pub total: T::Total,
}

/// A set of assignments and the best of them: rows before `fixed` keep their columns, and some pairs are forbidden.
struct Part<T: Cost> {
    columns: Vec<usize>,
    total: T::Total,
    fixed: usize,
    forbidden: Vec<(usize, usize)>,
    memory: Memory<T>,
}

/// A workspace that owns itself, with the duals of an answer.
#[derive(Clone)]
struct Memory<T> {
    costs: Vec<T>,
    indices: Vec<u32>,
}

/// The `count` best assignments, best first, or all if there are fewer. Each after the first costs at most one warm start per row.
///
/// # Errors
/// Those of [`samara_core::assignment::linear_sum_assignment`].
pub fn best_assignments<T: Cost>(costs: Costs<'_, T>, count: usize, objective: Objective) -> Result<Vec<Ranked<T>>, Error<T>> {
    let tall = costs.rows() > costs.columns();
    let wide = if tall { costs.transposed() } else { costs };
    let base = to_minimize(costs, wide, objective)?;
    let machine = ThisMachine::new();
    let mut parts = vec![Part::first(machine, &base, wide)?];
    let mut ranked = Vec::new();
    let mut changed = Vec::new();
    while ranked.len() < count && !parts.is_empty() {
        let best = parts.remove(0);
        changed.clone_from(&base);
        best.divide(machine, &mut changed, wide.columns(), |part| {
            let at = parts.partition_point(|other| other.total <= part.total);
            parts.insert(at, part);
            // A candidate beyond the remaining count is never returned.
            parts.truncate(count - ranked.len());
        })?;
        ranked.push(Ranked::of(&best.columns, costs, tall));
    }
    Ok(ranked)
}

/// Costs of the wide matrix whose least total is sought.
fn to_minimize<T: Cost>(costs: Costs<'_, T>, wide: Costs<'_, T>, objective: Objective) -> Result<Vec<T>, Error<T>> {
    let maximize = objective == Objective::Maximize;
    for row in 0..costs.rows() {
        for column in 0..costs.columns() {
            if let Some(value) = costs.at(row, column).filter(|cost| cost.admit(maximize, T::ONE).is_none()) {
                return Err(Error::Invalid { row, column, value });
            }
        }
    }
    let cells = (0..wide.rows()).flat_map(|row| (0..wide.columns()).filter_map(move |column| wide.at(row, column)));
    let admitted = cells.filter_map(|cost| cost.admit(maximize, T::ONE));
    Ok(admitted.map(|cost| if cost == T::FAR { T::FORBIDDEN } else { cost }).collect())
}

impl<T: Cost> Part<T> {
    /// All assignments.
    fn first(machine: ThisMachine, base: &[T], wide: Costs<'_, T>) -> Result<Self, Error<T>> {
        let (rows, columns) = (wide.rows(), wide.columns());
        let len = workspace_len(rows, columns);
        let mut memory = Memory { costs: vec![T::ZERO; len.costs], indices: vec![0; len.indices] };
        let view = Costs::new(base, rows, columns)?;
        let mut workspace = Workspace::new(&mut memory.costs, &mut memory.indices, rows, columns)?;
        let answer = linear_sum_assignment_on(machine, view, &Options::default(), &mut workspace)?;
        let (columns, total) = (answer.pairs().map(|pair| pair.1).collect(), answer.total(&view));
        Ok(Self { columns, total, fixed: 0, forbidden: Vec::new(), memory })
    }

    /// Partitions the set without its best answer: the k-th part keeps the columns of the rows before k and forbids that of row k. `costs` are those
    /// of all assignments, and are overwritten.
    fn divide(&self, machine: ThisMachine, costs: &mut [T], width: usize, mut each: impl FnMut(Self)) -> Result<(), Error<T>> {
        for &(row, column) in &self.forbidden {
            set(costs, row * width + column, T::FORBIDDEN);
        }
        for (row, &column) in self.columns.iter().enumerate() {
            let cost = costs.get(row * width + column).copied().unwrap_or(T::FORBIDDEN);
            if row >= self.fixed {
                set(costs, row * width + column, T::FORBIDDEN);
                if let Some(part) = self.without(machine, costs, width, (row, column))? {
                    each(part);
                }
            }
            // From here on the row keeps its column.
            if let Some(row) = costs.get_mut(row * width..(row + 1) * width) {
                row.fill(T::FORBIDDEN);
            }
            set(costs, row * width + column, cost);
        }
        Ok(())
    }

    /// The part that forbids a pair, which `costs` already forbid. The other costs that have changed since this part's answer belong to pairs outside
    /// of the answer and have increased: its duals remain valid, and only one row needs another column.
    fn without(&self, machine: ThisMachine, costs: &[T], width: usize, pair: (usize, usize)) -> Result<Option<Self>, Error<T>> {
        let mut memory = self.memory.clone();
        let rows = self.columns.len();
        let view = Costs::new(costs, rows, width)?;
        let mut workspace = Workspace::new(&mut memory.costs, &mut memory.indices, rows, width)?;
        let changed = Changed::Only { rows: &[pair.0], columns: &[] };
        match reassign(machine, view, changed, &Options::default(), &mut workspace) {
            Ok(answer) => {
                let (columns, total) = (answer.pairs().map(|pair| pair.1).collect(), answer.total(&view));
                let mut forbidden = self.forbidden.clone();
                forbidden.push(pair);
                Ok(Some(Self { columns, total, fixed: pair.0, forbidden, memory }))
            }
            Err(Error::Infeasible { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn set<T>(costs: &mut [T], at: usize, cost: T) {
    if let Some(to) = costs.get_mut(at) {
        *to = cost;
    }
}

impl<T: Cost> Ranked<T> {
    fn of(columns: &[usize], costs: Costs<'_, T>, tall: bool) -> Self {
        let pair = |(row, &column): (usize, &usize)| if tall { (column as u32, row as u32) } else { (row as u32, column as u32) };
        let mut pairs: Vec<(u32, u32)> = columns.iter().enumerate().map(pair).collect();
        pairs.sort_unstable();
        let chosen = pairs.iter().filter_map(|&(row, column)| costs.at(row as usize, column as usize));
        let total = chosen.fold(T::Total::default(), |sum, cost| cost.add_to(sum));
        Self { pairs, total }
    }
}
