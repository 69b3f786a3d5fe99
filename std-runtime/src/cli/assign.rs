//! `samara assign`.

use std::path::PathBuf;

use samara_core::assignment::{self, Costs, Dirty, Objective, Options, Ties};
use serde::Serialize;

use super::output;
use crate::assignment::{Solution, Solver, files};
use crate::error::Error;

const EXAMPLES: &str = "\
A cost of inf forbids a pair (-inf with --maximize). Text has a line for each
row, with numbers between commas.

Examples:
  samara assign costs.csv
  samara assign gains.npy --maximize --duals --json
  samara assign distances.csv --cost-limit 0.7     # pairs up to 0.7, the rest stays free
  samara assign scores.npy --dirty forbid          # nan and infinity are no pairs";

/// Pair rows with columns of a cost matrix so that the total is least.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The cost matrix, .npy or text.
    #[arg(value_name = "FILE")]
    costs: PathBuf,
    /// Seek the largest total.
    #[arg(long)]
    maximize: bool,
    /// Make no pair that costs more; rows and columns may stay free.
    #[arg(long, value_name = "X", allow_hyphen_values = true, conflicts_with = "ties")]
    cost_limit: Option<f64>,
    /// Which of equal optima: any, or the one that scipy returns.
    #[arg(long, value_name = "RULE", default_value = "any", value_parser = ["any", "scipy"])]
    ties: String,
    /// What to do about nan and infinite costs: reject them, but for forbidden pairs, or forbid all of these pairs and match as many rows as can be.
    #[arg(long, value_name = "RULE", default_value = "reject", value_parser = ["reject", "forbid"])]
    dirty: String,
    /// Print the dual variables, which prove the total.
    #[arg(long)]
    duals: bool,
    /// Print {"rows":[...],"columns":[...],"total":...}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Outcome {
    rows: Vec<u32>,
    columns: Vec<u32>,
    total: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    row_duals: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column_duals: Option<Vec<f64>>,
}

/// What is wrong with the costs, and what to do about it here.
fn explained(error: &assignment::Error<f64>) -> String {
    match error {
        assignment::Error::Invalid { row, column, value } => format!(
            "matrix contains invalid numeric entries: row {row}, column {column} (from 0) is {value}; correct it, or forbid such pairs with --dirty forbid"
        ),
        assignment::Error::Infeasible { index, of_columns } => {
            let what = if *of_columns { "column" } else { "row" };
            format!(
                "cost matrix is infeasible: {what} {index} (from 0) cannot be matched together with those before it; give it a finite cost, or match \
                 as many as can be with --dirty forbid"
            )
        }
        other => other.to_string(),
    }
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        if self.cost_limit.is_some_and(f64::is_nan) {
            return Err(Error::Usage("--cost-limit: expected a number, found NaN; without a limit leave it out".to_owned()));
        }
        let matrix = files::read(&self.costs)?;
        let refused = |error| {
            let line = match error {
                assignment::Error::Invalid { row, .. } => matrix.lines.get(row).map(|line| format!("{line}: ")),
                _ => None,
            };
            Error::Input(format!("{}:{}{}", self.costs.display(), line.as_deref().unwrap_or(" "), explained(&error)))
        };
        let costs = Costs::new(&matrix.values, matrix.rows, matrix.columns).map_err(refused)?;
        let options = Options {
            objective: if self.maximize { Objective::Maximize } else { Objective::Minimize },
            ties: if self.ties == "scipy" { Ties::Scipy } else { Ties::Any },
            dirty: if self.dirty == "forbid" { Dirty::Forbid } else { Dirty::Reject },
            cost_limit: self.cost_limit,
        };
        let solution = Solver::default().solve(costs, &options).map_err(refused)?;
        if self.json {
            let Solution { rows, columns, total, row_duals, column_duals } = solution;
            let duals = |duals: Vec<f64>| self.duals.then_some(duals);
            let (row_duals, column_duals) = (duals(row_duals), duals(column_duals));
            return output::json(&Outcome { rows, columns, total, row_duals, column_duals });
        }
        output::write(self.text(&solution, &costs).as_bytes())
    }

    fn text(&self, solution: &Solution<f64>, costs: &Costs<'_, f64>) -> String {
        let mut rows = vec![["row", "column", "cost"].map(str::to_owned).to_vec()];
        for (&row, &column) in solution.rows.iter().zip(&solution.columns) {
            let cost = costs.at(row as usize, column as usize).unwrap_or(f64::NAN);
            rows.push(vec![row.to_string(), column.to_string(), cost.to_string()]);
        }
        let mut text = format!("{}total {}\n", output::table(&rows), solution.total);
        if self.duals {
            text += &format!("row duals {:?}\ncolumn duals {:?}\n", solution.row_duals, solution.column_duals);
        }
        text
    }
}
