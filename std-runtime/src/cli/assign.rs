//! `samara assign`.

use std::path::PathBuf;

use samara_core::assignment::{Costs, Objective, Options, Ties};
use serde::Serialize;

use super::output;
use crate::assignment::{Solution, Solver, files};
use crate::error::Error;

const EXAMPLES: &str = "\
A cost of inf forbids a pair (-inf with --maximize). Text has a line for each
row, with numbers between commas.

Examples:
  samara assign costs.csv
  samara assign gains.npy --maximize --duals --json";

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

impl Args {
    pub(super) fn run(&self) -> Result<(), Error> {
        if self.cost_limit.is_some_and(f64::is_nan) {
            return Err(Error::Usage("--cost-limit: expected a number, found NaN; without a limit leave it out".to_owned()));
        }
        let matrix = files::read(&self.costs)?;
        let refused = |error: samara_core::assignment::Error<f64>| Error::Input(format!("{}: {error}", self.costs.display()));
        let costs = Costs::new(&matrix.values, matrix.rows, matrix.columns).map_err(refused)?;
        let options = Options {
            objective: if self.maximize { Objective::Maximize } else { Objective::Minimize },
            ties: if self.ties == "scipy" { Ties::Scipy } else { Ties::Any },
            cost_limit: self.cost_limit,
            ..Options::default()
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
