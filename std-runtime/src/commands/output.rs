//! Standard output, and the format of numbers there.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::Error;
use crate::files::{IoError, STDOUT};

/// Writes bytes to standard output.
pub(super) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(bytes).and_then(|()| out.flush()).map_err(IoError::at(Path::new(STDOUT), "write"))?)
}

/// Writes text and a line break to standard output.
pub(super) fn line(text: &str) -> Result<(), Error> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Error> {
    line(&serde_json::to_string(value).map_err(|error| Error::failed(error.to_string()))?)
}

/// Writes an outcome: as one line of JSON, or as text for people.
pub(super) fn show(as_json: bool, outcome: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
    if as_json { json(outcome) } else { write(text().as_bytes()) }
}

/// Bytes as people read them.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = (count.max(1).ilog2() / 10).min(5);
    let scaled = count as f64 / f64::from(power * 10).exp2();
    let unit = units.get(power as usize).copied().unwrap_or("B");
    if power == 0 { format!("{count} B") } else { format!("{scaled:.1} {unit}") }
}

/// A count with a unit of thousands: 124.4M.
pub(super) fn count(n: f64) -> String {
    let units = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let unit = units.iter().find(|(size, _)| n >= *size);
    unit.map_or_else(|| n.to_string(), |(size, unit)| format!("{:.1}{unit}", n / size))
}

/// The difference between a loss and another, in brackets; empty without another.
pub(super) fn cost(loss: f64, f32_loss: Option<f64>) -> String {
    f32_loss.map_or_else(String::new, |other| format!(" (f32 {other:.6}, {:+.6})", loss - other))
}

/// Rows in columns as wide as their widest cell; the first column is left-aligned, the others right-aligned.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let padded: Vec<String> =
            cells.map(|(i, (cell, &width))| if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }).collect();
        text += padded.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 1, 1023, 1024, 1536, 1 << 40].map(bytes), ["0 B", "1 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 TiB"]);
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!([0.0, 999.0, 1000.0, 124_439_808.0].map(count), ["0", "999", "1.0k", "124.4M"]);
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "2".to_owned()]];
        assert_eq!(table(&rows), "a    10\nbcd   2\n");
    }
}
