//! Rows that are objects: JSONL, a JSON array, or CSV, each optionally compressed. The format is detected from the content, except for CSV, which is
//! detected by the name `*.csv` (or `*.tsv`, with tabs).

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::lines::{RawRow, each_element, each_line};
use super::options::TextOptions;
use super::rows::object_of;
use super::text::{first_character, has_extension, inner_name, read_plain, refuse_dash};
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
    refuse_dash(path)?;
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
    if let Some(separator) = separator_of(path) {
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

/// Whether a file is a table, whose cells are text.
pub fn is_table(path: &Path) -> bool {
    separator_of(path).is_some()
}

/// The character between the cells of a table; `None` for another file.
fn separator_of(path: &Path) -> Option<char> {
    let inner = inner_name(path);
    csv::EXTENSIONS.into_iter().find(|(extension, _)| has_extension(&inner, &[*extension])).map(|(_, separator)| separator)
}

fn each_record<E: From<DataError>>(
    path: &Path,
    separator: char,
    options: &TextOptions,
    take: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let text = read_plain(path, &options.stop)?;
    let mut records = csv::Records::of(&text, separator);
    let header = csv::header(path, &mut records)?;
    for record in records {
        options.stop.check().map_err(DataError::from)?;
        let record = record.map_err(|problem| csv::not_a_record(path, problem))?;
        let (columns, cells) = (header.len(), record.cells.len());
        let row = if cells == columns {
            Ok(header.iter().cloned().zip(record.cells.into_iter().map(Value::String)).collect())
        } else {
            Err(csv::error(path, record.line, format!("{columns} cells, as the header has"), options.or_skip(format!("{cells}"))))
        };
        take((row, record.line))?;
    }
    Ok(())
}
