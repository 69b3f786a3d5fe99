//! `samara assign`.

use std::fmt::{self, Debug, Display, Formatter};
use std::path::PathBuf;

use samara_core::assignment::{self, Cost, Costs, Dirty, Objective, Options, Ties};
use serde::{Serialize, Serializer};

use super::{Command, Console, Error, output};
use crate::assignment::costs::{self, CostValues};
use crate::assignment::files::{self, Matrix};
use crate::assignment::{Solution, Solver};
use crate::files::ensure_memory;

const EXAMPLES: &str = "\
A cost of inf forbids a pair (-inf with --maximize); a large number in its place,
such as 1e18, is avoided where it can be and costs the others no digits. Text has a line for each
row, with commas, semicolons, tabs or spaces between numbers; # begins a comment.
Of a .npz archive the only array is read, or NAME of FILE.npz:NAME. Files may be
gzip or Zstandard. Integers (arrays of them, and text with integers beyond 2^53)
are added up exactly; there the largest signed 64-bit integer forbids a pair (the
least with --maximize). Numbers that JSON cannot hold are the strings Infinity,
-Infinity and NaN.

Examples:
  samara assign costs.csv
  samara assign gains.npy --maximize --duals --json
  samara assign distances.csv --cost-limit 0.7     # pairs up to 0.7, the rest stays free
  samara assign scores.npy --dirty forbid          # nan and infinity are no pairs";

/// Pair rows with columns of a cost matrix so that the total is least.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The cost matrix: text, .npy or .npz; -: standard input.
    #[arg(value_name = "FILE")]
    costs: PathBuf,
    /// Lines at the top of a text that are not read, such as headings.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_rows: usize,
    /// Seek the largest total.
    #[arg(long)]
    maximize: bool,
    /// Do not match pairs that cost more than X (with --maximize: that gain less); rows and columns may stay unmatched.
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    cost_limit: Option<f64>,
    /// Which of equal optima: any, or the one that scipy returns.
    #[arg(long, value_name = "RULE", default_value = "any", value_parser = ["any", "scipy"])]
    ties: String,
    /// Treatment of nan and infinite costs: reject all but those that forbid a pair, or forbid all of these pairs and match as many rows as possible.
    #[arg(long, value_name = "RULE", default_value = "reject", value_parser = ["reject", "forbid"])]
    dirty: String,
    /// Print the dual variables, which prove the total.
    #[arg(long)]
    duals: bool,
    /// Print {"rows":[...],"columns":[...],"total":...}.
    #[arg(long)]
    json: bool,
}

/// f64 represents every smaller integer exactly.
const LARGEST_LIMIT: f64 = 9_007_199_254_740_992.0;

/// Sums of fewer than 2^64 smaller costs are finite, and so are duals.
const LARGEST_WITH_DUALS: f64 = 1e288;

/// An answer as printed; sums of integers may exceed 64 bits.
#[derive(Debug, Serialize)]
struct Outcome<N> {
    rows: Vec<u32>,
    columns: Vec<u32>,
    total: N,
    #[serde(skip_serializing_if = "Option::is_none")]
    row_duals: Option<Vec<N>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column_duals: Option<Vec<N>>,
}

/// A number in JSON: values that are not finite are strings.
#[derive(Clone, Copy)]
struct Real(f64);

impl Display for Real {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, to)
    }
}

impl Debug for Real {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, to)
    }
}

impl Serialize for Real {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            x if x.is_finite() => to.serialize_f64(x),
            x if x.is_nan() => to.serialize_str("NaN"),
            x if x > 0.0 => to.serialize_str("Infinity"),
            _ => to.serialize_str("-Infinity"),
        }
    }
}

/// The error in the costs, with advice for this command.
fn explained<T: Debug>(error: &assignment::Error<T>) -> String {
    match error {
        assignment::Error::Invalid { row, column, value } => format!(
            "matrix contains invalid numeric entries: row {row}, column {column} (from 0) is {value:?}; correct it, or forbid such pairs with --dirty forbid"
        ),
        assignment::Error::Infeasible { index, of_columns } => {
            let what = if *of_columns { "column" } else { "row" };
            let why = if *index == 0 { "has no pair that is allowed" } else { "cannot be matched together with those before it" };
            format!(
                "cost matrix is infeasible: {what} {index} (from 0) {why}; give it a finite cost, or match as many as can be with --dirty forbid"
            )
        }
        assignment::Error::HeadRoom { .. } => {
            "expected integers whose sums fit into 64 bits, found larger ones; divide all costs by a common factor, \
             or let sums be rounded: save the array as float64, or write a number of the text with a decimal point"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// The offset to subtract from all integers so that their sums have head-room, and the shifted integers; `None` if that does not help.
fn shifted(values: &[i64], forbidden: i64) -> Option<(i64, Vec<i64>)> {
    let least = values.iter().copied().filter(|&cost| cost != forbidden).min()?;
    let shift = |&cost: &i64| {
        if cost == forbidden {
            return Some(cost);
        }
        // No allowed cost may become the forbidden one.
        cost.checked_sub(least).filter(|&cost| cost < i64::FAR)
    };
    Some((least, values.iter().map(shift).collect::<Option<_>>()?))
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        if self.cost_limit.is_some_and(f64::is_nan) {
            return Err(Error::usage("--cost-limit: expected a number, found NaN; without a limit leave it out".to_owned()));
        }
        if self.cost_limit.is_some() && self.ties == "scipy" {
            return Err(Error::usage(
                "--ties scipy cannot be used with --cost-limit, which scipy does not have; leave one of them out".to_owned(),
            ));
        }
        let matrix = files::read(&self.costs, self.skip_rows)?;
        if matrix.rows > matrix.columns {
            // A copy of the transpose is solved.
            let bytes = 8 * (matrix.rows as u64).saturating_mul(matrix.columns as u64);
            ensure_memory(&self.costs, bytes, files::SMALLER)?;
        }
        match &matrix.values {
            CostValues::Floats(values) => self.floats(&matrix, values),
            CostValues::Integers(values) => match self.cost_limit {
                // The limit is as significant as a cost, so rounding it would change the answer; a larger value was already rounded when it was
                // parsed.
                Some(limit) if limit.fract() != 0.0 || limit.abs() >= LARGEST_LIMIT => {
                    self.floats(&matrix, &exact_floats(values, limit)?)
                }
                limit => self.integers(&matrix, values, limit.map(|limit| limit as i64)),
            },
        }
    }
}

impl Args {
    fn options<T>(&self, cost_limit: Option<T>) -> Options<T> {
        Options {
            objective: if self.maximize { Objective::Maximize } else { Objective::Minimize },
            ties: if self.ties == "scipy" { Ties::Scipy } else { Ties::Any },
            dirty: if self.dirty == "forbid" { Dirty::Forbid } else { Dirty::Reject },
            cost_limit,
        }
    }

    fn solve<T: Cost>(&self, matrix: &Matrix, values: &[T], cost_limit: Option<T>) -> Result<Solution<T>, assignment::Error<T>> {
        let costs = Costs::new(values, matrix.rows, matrix.columns)?;
        Solver::default().solve(costs, &self.options(cost_limit))
    }

    fn refused<T: Debug>(&self, matrix: &Matrix, error: &assignment::Error<T>) -> Error {
        let line = match error {
            assignment::Error::Invalid { row, .. } => matrix.lines.get(*row).map(|line| format!("{line}: ")),
            _ => None,
        };
        Error::data(format!("{}:{}{}", self.costs.display(), line.as_deref().unwrap_or(" "), explained(error)))
    }

    fn floats(&self, matrix: &Matrix, values: &[f64]) -> Result<(), Error> {
        let found = self.solve(matrix, values, self.cost_limit).map_err(|error| self.refused(matrix, &error))?;
        let Solution { rows, columns, total, row_duals, column_duals } = found;
        let largest = values.iter().map(|cost| cost.abs()).filter(|cost| cost.is_finite()).fold(0.0, f64::max);
        if self.duals && largest > LARGEST_WITH_DUALS && !row_duals.iter().chain(&column_duals).all(|dual| dual.is_finite()) {
            return Err(Error::data(format!(
                "{}: --duals: they exceed the largest f64 beside a cost of {largest:e}; divide all costs by a common factor",
                self.costs.display()
            )));
        }
        let duals = |duals: Vec<f64>| self.duals.then(|| duals.into_iter().map(Real).collect());
        let (row_duals, column_duals) = (duals(row_duals), duals(column_duals));
        self.print(&Outcome { rows, columns, total: Real(total), row_duals, column_duals }, matrix, values)
    }

    fn integers(&self, matrix: &Matrix, values: &[i64], limit: Option<i64>) -> Result<(), Error> {
        let (offset, found) = self.solve_shifted(matrix, values, limit).map_err(|error| self.refused(matrix, &error))?;
        let Solution { rows, columns, row_duals, column_duals, .. } = found;
        let pairs = rows.iter().zip(&columns);
        let total = pairs.filter_map(|(&row, &column)| at(matrix, values, row, column)).map(i128::from).sum();
        let duals = |duals: Vec<i64>, offset: i64| {
            self.duals.then(|| duals.into_iter().map(|dual| i128::from(dual) + i128::from(offset)).collect())
        };
        // Every line of the shorter side has a pair, so its duals absorb the offset.
        let (of_rows, of_columns) = if matrix.rows <= matrix.columns { (offset, 0) } else { (0, offset) };
        let (row_duals, column_duals) = (duals(row_duals, of_rows), duals(column_duals, of_columns));
        self.print(&Outcome { rows, columns, total, row_duals, column_duals }, matrix, values)
    }

    /// Solves; if integers are large and close together, their common offset is subtracted first and reported.
    fn solve_shifted(
        &self,
        matrix: &Matrix,
        values: &[i64],
        limit: Option<i64>,
    ) -> Result<(i64, Solution<i64>), assignment::Error<i64>> {
        let error = match self.solve(matrix, values, limit) {
            // Where lines may stay unmatched, the number of pairs is open, and so is the total of the offset.
            Err(error @ assignment::Error::HeadRoom { .. }) if limit.is_none() && self.dirty != "forbid" => error,
            found => return found.map(|found| (0, found)),
        };
        let forbidden = if self.maximize { i64::MIN } else { i64::MAX };
        let (offset, values) = shifted(values, forbidden).ok_or(error)?;
        Ok((offset, self.solve(matrix, &values, None)?))
    }

    fn print<N: Serialize + Display + Debug, T: Copy + Display>(
        &self,
        outcome: &Outcome<N>,
        matrix: &Matrix,
        values: &[T],
    ) -> Result<(), Error> {
        if self.json {
            return output::json(outcome);
        }
        let mut rows = vec![["row", "column", "cost"].map(str::to_owned).to_vec()];
        for (&row, &column) in outcome.rows.iter().zip(&outcome.columns) {
            let cost = at(matrix, values, row, column).map(|cost| cost.to_string());
            rows.push(vec![row.to_string(), column.to_string(), cost.unwrap_or_default()]);
        }
        let mut text = format!("{}total {}\n", output::table(&rows), outcome.total);
        if let (Some(rows), Some(columns)) = (&outcome.row_duals, &outcome.column_duals) {
            text += &format!("row duals {rows:?}\ncolumn duals {columns:?}\n");
        }
        output::write(text.as_bytes())
    }
}

/// The value of a pair.
fn at<T: Copy>(matrix: &Matrix, values: &[T], row: u32, column: u32) -> Option<T> {
    values.get(row as usize * matrix.columns + column as usize).copied()
}

/// The costs as f64, for a cost limit that is not an integer.
fn exact_floats(values: &[i64], limit: f64) -> Result<Vec<f64>, Error> {
    match values.iter().find(|&&cost| !costs::is_exact(cost)) {
        None => Ok(values.iter().map(|&cost| cost as f64).collect()),
        Some(cost) => Err(Error::usage(format!(
            "--cost-limit: expected an integer between -2^53 and 2^53 beside the cost {cost}, found {limit}; round it, or subtract a constant from all costs and the limit"
        ))),
    }
}
