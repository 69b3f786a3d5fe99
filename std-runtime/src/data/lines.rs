//! Raw rows of a file: the lines of JSONL, the elements of a JSON array.

use std::io::{BufRead, Read};
use std::path::Path;

use super::rows::{self, Wrong};
use super::{DataError, foreign};
use crate::compressed;
use crate::files::FileError;
use crate::memory;
use crate::stop::Stop;

/// A row is read in pieces of this many bytes, and before each piece after the first there must be memory for the row.
const PIECE_BYTES: u64 = 64 << 20;
/// How often a row lies in memory: as it is read (in a buffer that doubles), and as the text in it.
const COPIES: u64 = 3;

/// A row and its place.
pub(super) struct RawRow<'r> {
    pub(super) bytes: &'r [u8],
    path: &'r Path,
    line: u64,
    /// The text from the beginning of `line` to the row.
    before: &'r str,
}

impl<'r> RawRow<'r> {
    /// The only row of a file.
    pub(super) fn whole(path: &'r Path, text: &'r str) -> Self {
        Self { bytes: text.as_bytes(), path, line: 1, before: "" }
    }

    /// An error in it, with its position.
    pub(super) fn error(&self, wrong: Wrong) -> DataError {
        wrong.at(self.path, self.line, self.before, self.bytes)
    }

    /// Its first line, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line + self.before.matches('\n').count() as u64
    }
}

/// Passes every non-empty line to `row`.
pub(super) fn each_line<E: From<DataError>>(
    path: &Path,
    mut file: impl BufRead,
    stop: &Stop,
    row: &mut impl FnMut(&RawRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = Vec::new();
    for line in 1.. {
        stop.check().map_err(DataError::from)?;
        bytes.clear();
        read_line(path, &mut file, stop, &mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        let bom: &[u8] = if line == 1 { b"\xef\xbb\xbf" } else { b"" };
        let bytes = bytes.strip_prefix(bom).unwrap_or(&bytes).trim_ascii_end();
        if line == 1
            && let Some(foreign) = foreign::refuse(path, bytes, std::str::from_utf8(bytes).is_ok())
        {
            return Err(foreign.into());
        }
        if !bytes.trim_ascii().is_empty() {
            row(&RawRow { bytes, path, line, before: "" })?;
        }
    }
    Ok(())
}

/// Appends a line with its end; nothing at the end of the file.
fn read_line(path: &Path, file: &mut impl BufRead, stop: &Stop, bytes: &mut Vec<u8>) -> Result<(), DataError> {
    const WAY: &str = "a whole row must fit in memory: split it into shorter ones";
    loop {
        let read = file.take(PIECE_BYTES).read_until(b'\n', bytes).map_err(compressed::failed(path))?;
        if read == 0 || bytes.ends_with(b"\n") {
            return Ok(());
        }
        stop.check()?;
        let needed = COPIES * (bytes.len() as u64 + PIECE_BYTES);
        memory::ensure(needed.saturating_sub(bytes.len() as u64)).map_err(FileError::memory(path, WAY))?;
    }
}

/// Passes every element of an array to `row`.
pub(super) fn each_element<E: From<DataError>>(
    path: &Path,
    text: &str,
    stop: &Stop,
    row: &mut impl FnMut(&RawRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let elements = rows::of_array(text).map_err(|wrong: Wrong| wrong.at(path, 1, "", text.as_bytes()))?;
    let (mut line, mut line_start) = (1, 0);
    for element in elements {
        stop.check().map_err(DataError::from)?;
        // Both slices are in the same text, so the difference of their addresses is the position of the row.
        let start = (element.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let passed = text.get(line_start..start).unwrap_or_default();
        line += passed.matches('\n').count() as u64;
        line_start += passed.rfind('\n').map_or(0, |at| at + 1);
        let before = text.get(line_start..start).unwrap_or_default();
        row(&RawRow { bytes: element.as_bytes(), path, line, before })?;
    }
    Ok(())
}
