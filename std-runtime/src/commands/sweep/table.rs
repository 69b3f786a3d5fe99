//! The table of a sweep.

use super::super::output;
use crate::sweep::record::{Record, Spread};

/// The table of cells, and the chosen one.
pub(super) fn text(record: &Record) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    // Of keys beside the grid those are shown that differ.
    let [mut keys, others] = record.keys();
    let first = |key: &str| record.cells.first().and_then(|cell| cell.value(key));
    keys.extend(others.into_iter().filter(|key| record.cells.iter().any(|cell| cell.value(key) != first(key))));
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
