//! Rows that are objects: JSONL, a JSON array, or CSV, each optionally compressed. The format is detected from the content, except for CSV, which is
//! detected by the name `*.csv` (or `*.tsv`, with tabs).

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::lines::{RawRow, each_element, each_line};
use super::options::TextOptions;
use super::rows::object_of;
use super::text::{first_character, has_extension, inner_name, read_plain};
use super::{DataError, csv};
use crate::compressed;
use crate::files::{IoError, refuse_device};

pub(crate) use super::rows::shown_keys;

/// A row or the error in it, and its first line, from 1.
pub type Found = (Result<Map<String, Value>, DataError>, u64);

/// Passes every row of a file to `take`, including rows that are not objects. Cells of CSV are strings.
///
/// # Errors
/// A file that cannot be read or has no rows; a signal; what `take` returns.
pub fn for_each_object<E: From<DataError>>(
    path: &Path,
    options: &TextOptions,
    take: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let metadata = fs::metadata(path).map_err(IoError::at(path, "open")).map_err(DataError::from)?;
    refuse_device(path, &metadata).map_err(DataError::from)?;
    if metadata.is_dir() {
        return Err(DataError::format(
            path,
            "a file of rows (.jsonl, .json, .csv, each also .gz, .zst)",
            "a folder; give one of its files",
        )
        .into());
    }
    let inner = inner_name(path);
    if let Some(separator) =
        [("csv", ','), ("tsv", '\t')].iter().find_map(|(e, separator)| has_extension(&inner, &[*e]).then_some(*separator))
    {
        return each_record(path, separator, options, take);
    }
    let mut row = |row: &RawRow<'_>| take((object_of(row.bytes, options).map_err(|wrong| row.error(wrong)), row.line()));
    if first_character(path)? == Some(b'[') {
        each_element(path, &read_plain(path, &options.stop)?, &options.stop, &mut row)
    } else {
        each_line(path, compressed::open(path).map_err(DataError::from)?, &options.stop, &mut row)
    }
}

/// The first row of a file.
///
/// # Errors
/// As [`for_each_object`]; a first row that is not an object.
pub fn first_object(path: &Path, options: &TextOptions) -> Result<Map<String, Value>, DataError> {
    /// The reason for the end of reading.
    enum End {
        Row(Map<String, Value>),
        Error(DataError),
    }
    impl From<DataError> for End {
        fn from(error: DataError) -> Self {
            Self::Error(error)
        }
    }
    let read = for_each_object(path, options, &mut |(row, _)| Err(row.map_or_else(End::Error, End::Row)));
    match read {
        Err(End::Row(row)) => Ok(row),
        Err(End::Error(error)) => Err(error),
        Ok(()) => Err(DataError::format(path, "at least one row", "none")),
    }
}

fn each_record<E: From<DataError>>(
    path: &Path,
    separator: char,
    options: &TextOptions,
    take: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let text = read_plain(path, &options.stop)?;
    let error = |line: u64, expected: String, found: String| DataError::Line {
        path: path.to_path_buf(),
        line,
        column: 1,
        expected,
        found,
    };
    let records = csv::records(&text, separator)
        .map_err(|(line, found)| error(line, "a record of comma-separated values".to_owned(), found.to_owned()))?;
    let mut records = records.into_iter();
    let Some(header) = records.next() else { return Ok(()) };
    for record in records {
        let (columns, cells) = (header.cells.len(), record.cells.len());
        let found = || options.or_skip(format!("{cells}"));
        let row = if cells == columns {
            Ok(header.cells.iter().cloned().zip(record.cells.into_iter().map(Value::String)).collect())
        } else {
            Err(error(record.line, format!("{columns} cells, as the header has"), found()))
        };
        take((row, record.line))?;
    }
    Ok(())
}
