//! Cost matrices in files.

use std::path::Path;

use crate::data::{DataError, device};
use crate::error::Error;
use crate::npy;

/// A matrix with what it takes to view it.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Row after row.
    pub values: Vec<f64>,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// The line of the file, from 1, of every row; none for `.npy`.
    pub lines: Vec<u32>,
}

/// Reads a matrix from `.npy` or, under any other name, from text: a line for each row, numbers between commas. `inf`, `-inf` and `nan` are numbers.
///
/// # Errors
/// What is wrong with the file, with line and column.
pub fn read(path: &Path) -> Result<Matrix, Error> {
    if path.extension().is_some_and(|extension| extension == "npy") {
        let array = npy::read(path)?;
        let [rows, columns] = *array.shape.as_slice() else {
            let expected = format!("a matrix (2-D array), got a {} array", array.shape.len());
            return Err(Error::Input(format!("{}: expected {expected}; save it with two dimensions", path.display())));
        };
        return Ok(Matrix { values: array.into_f64(), rows, columns, lines: Vec::new() });
    }
    device::refuse(path, &std::fs::metadata(path).map_err(DataError::io(path, "read"))?)?;
    let bytes = std::fs::read(path).map_err(DataError::io(path, "read"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::Input(format!("{}: expected text or .npy, found bytes that are not UTF-8", path.display())))?;
    parse(&text).map_err(|why| Error::Input(format!("{}:{why}", path.display())))
}

fn parse(text: &str) -> Result<Matrix, String> {
    let mut matrix = Matrix { values: Vec::new(), rows: 0, columns: 0, lines: Vec::new() };
    for (line, row) in (1..).zip(text.trim_start_matches('\u{feff}').lines()).filter(|(_, row)| !row.trim().is_empty()) {
        let before = matrix.values.len();
        let mut at = 1;
        for cell in row.split(',') {
            let wrong = |_| {
                let found = cell.trim();
                format!(
                    "{line}:{at}: expected a number, found {found:?}; costs are numbers, inf, -inf or nan, without a line of headings"
                )
            };
            let number = cell.trim().parse().map_err(wrong)?;
            matrix.values.push(number);
            at += cell.chars().count() + 1;
        }
        let columns = matrix.values.len() - before;
        if matrix.rows == 0 {
            matrix.columns = columns;
        } else if columns != matrix.columns {
            let expected = matrix.columns;
            return Err(format!(
                "{line}:1: expected {expected} numbers as in the first row, found {columns}; write inf where a pair is forbidden"
            ));
        }
        matrix.rows += 1;
        matrix.lines.push(line);
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_lines_and_columns() {
        let matrix = parse("1, 2.5,inf\n\n-3,4e2,nan\n").expect("a matrix");
        assert_eq!((matrix.rows, matrix.columns), (2, 3));
        assert_eq!(matrix.lines, [1, 3]);
        assert_eq!(matrix.values.get(..5), Some(&[1.0, 2.5, f64::INFINITY, -3.0, 400.0][..]));
        let refused = |text: &str, begin: &str| parse(text).expect_err("a bad matrix").starts_with(begin);
        assert!(refused("1,2\n3,x4\n", "2:3: expected a number, found \"x4\"; "));
        assert!(refused("1,2\n3\n", "2:1: expected 2 numbers as in the first row, found 1; "));
        assert_eq!(parse(""), Ok(Matrix { values: Vec::new(), rows: 0, columns: 0, lines: Vec::new() }));
    }
}
