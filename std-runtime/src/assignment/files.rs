//! Cost matrices in files.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::files::{FileError, IoError, refuse_device};
use crate::npy;

/// A cost matrix that cannot be read.
#[derive(Debug, Error)]
pub enum MatrixError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Text that is not a matrix.
    #[error("{}:{problem}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The place in the file, what was found and what was expected.
        problem: String,
    },
}

impl From<IoError> for MatrixError {
    fn from(error: IoError) -> Self {
        Self::File(error.into())
    }
}

impl Failure for MatrixError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Text { .. } => Kind::Data,
        }
    }
}

/// Costs as they were written: integers stay exact.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floating-point numbers, and integers that they hold exactly.
    Floats(Vec<f64>),
    /// The integers of an i32 or i64 array, or of a text in which some are beyond 2⁵³.
    Integers(Vec<i64>),
}

/// A matrix with what it takes to view it.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Row after row.
    pub values: Values,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// The line of the file, from 1, of every row; none for `.npy`.
    pub lines: Vec<u32>,
}

/// Whether `f64` holds an integer, and every one nearer to zero.
pub fn is_exact(integer: i64) -> bool {
    integer.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS
}

/// Reads a matrix from `.npy` or, under any other name, from text: a line for each row, numbers between commas. `inf`, `-inf` and `nan` are numbers.
///
/// # Errors
/// What is wrong with the file, with line and column.
pub fn read(path: &Path) -> Result<Matrix, MatrixError> {
    if path.extension().is_some_and(|extension| extension == "npy") {
        return read_npy(path);
    }
    refuse_device(path, &std::fs::metadata(path).map_err(IoError::at(path, "read"))?)?;
    let bytes = std::fs::read(path).map_err(IoError::at(path, "read"))?;
    let text = String::from_utf8(bytes).map_err(|_| FileError::format(path, "text or .npy", "bytes that are not UTF-8"))?;
    parse(&text).map_err(|problem| MatrixError::Text { path: path.to_path_buf(), problem })
}

fn read_npy(path: &Path) -> Result<Matrix, MatrixError> {
    let array = npy::read(path)?;
    let [rows, columns] = *array.shape.as_slice() else {
        let problem = format!(" expected a matrix (2-D array), got a {} array; save it with two dimensions", array.shape.len());
        return Err(MatrixError::Text { path: path.to_path_buf(), problem });
    };
    let values = match array.values {
        npy::Values::I32(values) => Values::Integers(values.into_iter().map(i64::from).collect()),
        npy::Values::I64(values) => Values::Integers(values),
        _ => Values::Floats(array.into_f64()),
    };
    Ok(Matrix { values, rows, columns, lines: Vec::new() })
}

fn parse(text: &str) -> Result<Matrix, String> {
    let (mut floats, mut integers) = (Vec::new(), Some(Vec::new()));
    let (mut columns, mut lines) = (0, Vec::new());
    for (line, row) in (1..).zip(text.trim_start_matches('\u{feff}').lines()).filter(|(_, row)| !row.trim().is_empty()) {
        let before = floats.len();
        let mut at = 1;
        for cell in row.split(',') {
            let word = cell.trim();
            floats.push(word.parse().map_err(|_| format!("{line}:{at}: {}", not_a_number(word)))?);
            integers = integers.and_then(|mut integers: Vec<i64>| {
                integers.push(word.parse().ok()?);
                Some(integers)
            });
            at += cell.chars().count() + 1;
        }
        let found = floats.len() - before;
        if lines.is_empty() {
            columns = found;
        } else if found != columns {
            return Err(format!(
                "{line}:1: expected {columns} numbers as in the first row, found {found}; write inf where a pair is forbidden"
            ));
        }
        lines.push(line);
    }
    let values = match integers {
        Some(integers) if !integers.iter().copied().all(is_exact) => Values::Integers(integers),
        _ => Values::Floats(floats),
    };
    Ok(Matrix { values, rows: lines.len(), columns, lines })
}

/// What is wrong with a cell.
fn not_a_number(word: &str) -> String {
    // A line that is split otherwise is a single cell, as long as it is.
    let found: String = word.chars().take(40).collect();
    for (separator, name) in [(';', "semicolons"), ('\t', "tabs"), (' ', "spaces")] {
        if word.contains(separator) {
            return format!("expected numbers between commas, found {name} in {found:?}; write commas in their place");
        }
    }
    format!("expected a number, found {found:?}; costs are numbers, inf, -inf or nan, without a line of headings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_lines_and_columns() {
        let matrix = parse("1, 2.5,inf\n\n-3,4e2,nan\n").expect("a matrix");
        assert_eq!((matrix.rows, matrix.columns), (2, 3));
        assert_eq!(matrix.lines, [1, 3]);
        let Values::Floats(floats) = matrix.values else { panic!("integers") };
        assert_eq!(floats.get(..5), Some(&[1.0, 2.5, f64::INFINITY, -3.0, 400.0][..]));
        let refused = |text: &str, begin: &str| parse(text).expect_err("a bad matrix").starts_with(begin);
        assert!(refused("1,2\n3,x4\n", "2:3: expected a number, found \"x4\"; "));
        assert!(refused("1,2\n3\n", "2:1: expected 2 numbers as in the first row, found 1; "));
        assert!(refused("1;2\n", "1:1: expected numbers between commas, found semicolons in \"1;2\"; "));
        assert!(refused("1,2\n1\t2\n", "2:1: expected numbers between commas, found tabs in "));
        assert!(refused("1 2\n", "1:1: expected numbers between commas, found spaces in "));
        assert_eq!(parse(""), Ok(Matrix { values: Values::Floats(Vec::new()), rows: 0, columns: 0, lines: Vec::new() }));
    }

    #[test]
    fn integers_that_floats_would_round_stay_integers() {
        let values = |text: &str| parse(text).expect("a matrix").values;
        assert_eq!(values("9007199254740993,-1\n"), Values::Integers(vec![9_007_199_254_740_993, -1]));
        assert_eq!(values("9007199254740992,-1\n"), Values::Floats(vec![9_007_199_254_740_992.0, -1.0]));
        assert_eq!(values("9007199254740993,0.5\n"), Values::Floats(vec![9_007_199_254_740_992.0, 0.5]));
    }
}
