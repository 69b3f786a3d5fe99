//! Comma-separated values (RFC 4180): a header with the names of columns, then records. Quoted cells may contain commas, line breaks and doubled
//! quotes.

use std::path::Path;

use super::DataError;

/// Extensions of such files, with their separators.
pub(super) const EXTENSIONS: [(&str, char); 2] = [("csv", ','), ("tsv", '\t')];

/// A record and its first line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) cells: Vec<String>,
    pub(super) line: u64,
}

/// The records of a text, one after the other. Skips empty lines.
pub(super) struct Records<'t> {
    rest: &'t str,
    line: u64,
    separator: char,
}

impl<'t> Records<'t> {
    /// Those of a whole text.
    pub(super) fn of(text: &'t str, separator: char) -> Self {
        Self { rest: text, line: 1, separator }
    }

    /// A record, which may be empty.
    fn record(&mut self) -> Result<Record, (u64, &'static str)> {
        let mut record = Record { cells: Vec::new(), line: self.line };
        loop {
            let (cell, after) = cell(self.rest, self.separator).map_err(|problem| (self.line, problem))?;
            let passed = self.rest.len().checked_sub(after.len()).and_then(|end| self.rest.get(..end));
            self.line += passed.map_or(0, |cell| cell.matches('\n').count() as u64);
            record.cells.push(cell);
            let Some(next) = after.strip_prefix(self.separator) else {
                self.rest = after.strip_prefix('\n').unwrap_or(after);
                self.line += 1;
                return Ok(record);
            };
            self.rest = next;
        }
    }
}

impl Iterator for Records<'_> {
    /// A record, or the line of a quote that is not closed, or that is followed by anything but a separator. Nothing comes after an error.
    type Item = Result<Record, (u64, &'static str)>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.record() {
                Ok(record) if matches!(record.cells.as_slice(), [only] if only.is_empty()) => {}
                Ok(record) => return Some(Ok(record)),
                Err(error) => {
                    self.rest = "";
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The error for a place in a file that is not as it should be.
pub(super) fn error(path: &Path, line: u64, expected: impl Into<String>, found: impl Into<String>) -> DataError {
    DataError::Line { path: path.to_path_buf(), line, column: 1, expected: expected.into(), found: found.into() }
}

/// The names of the columns, from the first record; empty without one.
///
/// # Errors
/// No record, or two columns of one name.
pub(super) fn header(path: &Path, records: &mut Records<'_>) -> Result<Vec<String>, DataError> {
    let first = records.next().transpose().map_err(|problem| not_a_record(path, problem))?;
    let Some(Record { cells, line }) = first else { return Ok(Vec::new()) };
    let twice = cells.iter().enumerate().find(|(i, name)| cells.iter().take(*i).any(|before| before == *name));
    match twice {
        Some((_, name)) => {
            Err(error(path, line, "a name of its own for every column", format!("column {name:?} twice; rename one")))
        }
        None => Ok(cells),
    }
}

/// The error for text that is no record.
pub(super) fn not_a_record(path: &Path, (line, found): (u64, &'static str)) -> DataError {
    error(path, line, "a record of comma-separated values", found)
}

/// The first cell of a text, and the rest: a separator, a line break, or nothing.
fn cell(text: &str, separator: char) -> Result<(String, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([separator, '\n']).unwrap_or(text.len());
        let (cell, after) = text.split_at(end);
        return Ok((cell.to_owned(), after));
    };
    let mut cell = String::new();
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote that is not closed")?;
        cell += before;
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None if after.is_empty() || after.starts_with([separator, '\n']) => return Ok((cell, after)),
            None => return Err("text behind a closing quote"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(Vec<String>, u64)> {
        Records::of(text, ',').map(|record| record.unwrap()).map(|record| (record.cells, record.line)).collect()
    }

    #[test]
    fn cells_may_hold_anything_in_quotes() {
        let own = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        let text = "a,b\n\"x, \"\"y\"\"\nz\",\n\n,\"\"\nlast,1";
        let expected = [(own(&["a", "b"]), 1), (own(&["x, \"y\"\nz", ""]), 2), (own(&["", ""]), 5), (own(&["last", "1"]), 6)];
        assert_eq!(cells(text), expected);
        let last = |text| Records::of(text, ',').last();
        assert_eq!(last("a\n\"b"), Some(Err((2, "a quote that is not closed"))));
        assert_eq!(last("a\n\n\"b\"c\nd"), Some(Err((3, "text behind a closing quote"))));
        assert_eq!(cells(""), []);
    }
}
