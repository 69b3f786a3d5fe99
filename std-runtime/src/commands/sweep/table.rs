//! The table of a sweep.

use super::super::output;
use crate::sweep::record::{Record, Spread};

/// The table of cells, and the chosen one.
pub(super) fn text(record: &Record) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    // What is the same in all cells is not shown.
    let differs = |key: &&str| record.cells.iter().any(|cell| cell.value(key) != record.cells[0].value(key));
    let of_grid = record.cells.first().map_or(0, |cell| cell.settings.len());
    let keys: Vec<&str> =
        record.keys().into_iter().enumerate().filter(|(i, key)| *i < of_grid || differs(key)).map(|(_, key)| key).collect();
    let names = keys.iter().map(|&key| key.to_owned());
    let mut rows: Vec<Vec<String>> =
        vec![names.chain(["seed".to_owned(), format!("validation {}", record.measure), "test accuracy".to_owned()]).collect()];
    for cell in &record.cells {
        let values = keys.iter().map(|key| cell.value(key).unwrap_or("-").to_owned());
        rows.push(values.chain([cell.seed.to_string(), shown(cell.validation), shown(cell.test)]).collect());
    }
    let mut text = output::table(&rows);
    if let Some(chosen) = &record.chosen {
        let spread = |spread: Option<Spread>| match spread {
            Some(Spread { mean, sd: Some(sd), n }) => format!("{mean:.4} ± {sd:.4} ({n} seeds)"),
            Some(Spread { mean, .. }) => format!("{mean:.4}"),
            None => "not measured".to_owned(),
        };
        text += &format!("\nchosen by validation: {}\n", chosen.settings.join(" "));
        text += &format!("validation {}: {}\n", record.measure, spread(chosen.validation));
        text += &format!("test accuracy: {}\n", spread(chosen.test));
    }
    text
}
