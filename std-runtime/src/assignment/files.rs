//! Cost matrices in files.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::costs::CostValues;
use super::text::{self, Text};
use crate::compressed;
use crate::error::{Failure, Kind};
use crate::files::{DASH, FileError, STDIN, ensure_memory};
use crate::{npy, npz};

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
        /// The position in the file, what was found and what was expected.
        problem: String,
    },
}

impl Failure for MatrixError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Text { .. } => Kind::Data,
        }
    }
}

/// The elements of a matrix with its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Row after row.
    pub values: CostValues,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// The line in the file, from 1, of every row; empty for arrays.
    pub lines: Vec<u32>,
}

/// Reads a matrix: a `.npy` array, an array of a `.npz` archive (the only one, or NAME of `FILE.npz:NAME`), or text, whose first `skip` lines are
/// ignored. `-` is standard input. The format and the compression are detected from the content.
///
/// # Errors
/// What is wrong with the file, with line and column.
pub fn read(path: &Path, skip: usize) -> Result<Matrix, MatrixError> {
    let (mut file, name) = array_in(path);
    let bytes = if file.as_os_str() == DASH && !file.exists() {
        file = Path::new(STDIN);
        compressed::read_stdin(SMALLER)?
    } else {
        compressed::read(file, SMALLER, || Ok::<(), FileError>(()))?
    };
    let array = if bytes.starts_with(npy::MAGIC) {
        npy::from_bytes(file, &bytes)?
    } else if npz::is_zip(&bytes) {
        npz::from_bytes(file, &bytes, name)?
    } else {
        return of_text(file, bytes, skip);
    };
    if skip > 0 {
        return Err(FileError::format(file, "a text file, because --skip-rows is set", "an array; leave --skip-rows out").into());
    }
    of_array(path, array)
}

/// The advice for a matrix that does not fit into memory.
pub const SMALLER: &str = "solve a part of it, or use a machine with more memory";

/// The file of a path, and the array that is named behind it.
fn array_in(path: &Path) -> (&Path, Option<&str>) {
    match path.to_str().and_then(|path| path.rsplit_once(':')) {
        Some((file, name)) if !path.exists() && Path::new(file).is_file() => (Path::new(file), Some(name)),
        _ => (path, None),
    }
}

fn of_text(path: &Path, bytes: Vec<u8>, skip: usize) -> Result<Matrix, MatrixError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(FileError::format(path, "text in UTF-8", "UTF-16; save it as UTF-8").into());
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        FileError::format(path, "text, .npy or .npz", "bytes that are not UTF-8; save the matrix with numpy.save")
    })?;
    ensure_memory(path, text::bytes(&text, skip), SMALLER)?;
    let Text { values, lines, columns } =
        text::parse(&text, skip).map_err(|problem| MatrixError::Text { path: path.to_path_buf(), problem })?;
    Ok(Matrix { values, rows: lines.len(), columns, lines })
}

fn of_array(path: &Path, array: npy::Array) -> Result<Matrix, MatrixError> {
    let [rows, columns] = *array.shape.as_slice() else {
        let axes = array.shape.len();
        let problem = format!(" expected a matrix (2-D array), got a {axes}-D array; save array.reshape(rows, columns)");
        return Err(MatrixError::Text { path: path.to_path_buf(), problem });
    };
    if matches!(array.values, npy::ArrayValues::I32(_) | npy::ArrayValues::U64(_) | npy::ArrayValues::F32(_)) {
        // They become `f64`.
        ensure_memory(path, 8 * (rows as u64).saturating_mul(columns as u64), SMALLER)?;
    }
    let values = match array.values {
        npy::ArrayValues::I32(values) => CostValues::Integers(values.into_iter().map(i64::from).collect()),
        npy::ArrayValues::I64(values) => CostValues::Integers(values),
        npy::ArrayValues::U64(values) => CostValues::Integers(signed(path, &values, columns)?),
        npy::ArrayValues::F32(_) | npy::ArrayValues::F64(_) => CostValues::Floats(array.into_f64()),
    };
    Ok(Matrix { values, rows, columns, lines: Vec::new() })
}

/// Unsigned integers as signed ones of the same width.
fn signed(path: &Path, values: &[u64], columns: usize) -> Result<Vec<i64>, FileError> {
    let value = |(k, &value): (usize, &u64)| {
        i64::try_from(value).map_err(|_| {
            let place = format!("{value} in row {}, column {} (both from 0)", k / columns, k % columns);
            let next = "subtract a constant from all costs, or accept rounding: save array.astype('float64')";
            FileError::format(path, "integers below 2^63", format!("{place}; {next}"))
        })
    };
    values.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_integers_keep_their_digits_or_are_named() {
        let read = |values: Vec<u64>| {
            let array = npy::Array { shape: vec![1, values.len()], dtype: "u64", values: npy::ArrayValues::U64(values) };
            of_array(Path::new("a.npy"), array).map(|matrix| matrix.values).map_err(|error| error.to_string())
        };
        assert_eq!(read(vec![1, (1 << 53) + 1]), Ok(CostValues::Integers(vec![1, (1 << 53) + 1])));
        let error = read(vec![1, 1 << 63]).expect_err("too large");
        assert!(
            error.starts_with("a.npy: expected integers below 2^63, found 9223372036854775808 in row 0, column 1 "),
            "{error}"
        );
    }
}
