//! Texts in a column of comma-separated values.

use std::path::Path;

use super::DataError;
use super::csv::{self, Records};
use super::options::TextOptions;
use super::rows::{Other, STRING, without_key};

/// The texts of the column that is named by the text key, or the error of a record.
///
/// # Errors
/// A header that is no record, or that has a name twice.
pub(super) fn texts<'t>(
    path: &'t Path,
    text: &'t str,
    separator: char,
    options: &'t TextOptions,
) -> Result<impl Iterator<Item = Result<String, DataError>> + 't, DataError> {
    let mut records = Records::of(text, separator);
    let header = csv::header(path, &mut records)?;
    let column = header.iter().position(|name| name.trim() == options.text_key);
    let text = move |record: Result<csv::Record, _>| {
        let record = record.map_err(|problem| csv::not_a_record(path, problem))?;
        let Some(column) = column else {
            return Err(csv::error(
                path,
                1,
                format!("column {:?}", options.text_key),
                without_column(&header, separator, options),
            ));
        };
        let (columns, cells) = (header.len(), record.cells.len());
        match record.cells.into_iter().nth(column).filter(|_| cells == columns) {
            Some(text) => Ok(text),
            None => {
                let expected = format!("{columns} cells, as the header has");
                Err(csv::error(path, record.line, expected, options.or_skip(cells.to_string())))
            }
        }
    };
    Ok(records.map(text))
}

/// Words for a table without the column.
fn without_column(header: &[String], separator: char, options: &TextOptions) -> String {
    match header {
        [only] if only.contains([';', '\t']) => {
            let between = if separator == ',' { "commas" } else { "tabs" };
            options.or_skip(format!("column {only:?}; write {between} between columns"))
        }
        _ => {
            let others: Vec<Other> = header.iter().map(|name| (name.clone(), STRING)).collect();
            without_key(&others, "column", options)
        }
    }
}
