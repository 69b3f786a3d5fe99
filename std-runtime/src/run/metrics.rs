//! `metrics.jsonl`: one JSON object per step, flushed line by line.
//!
//! Keys: `step`, `tokens`, then those of the training, in a fixed order per run: `train_NAME` and `val_NAME` for every scalar of its objective (`NAME`
//! alone in the training for one with a prefix, such as `policy/approxkl`), `lr`, `grad_norm`, `tokens_per_s`, `wall_s`. Language models have one
//! scalar, `loss`. Every value is a finite number or `null`: values that were not measured at a step, or were not finite, are `null`, so that any JSON
//! reader can read the file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::durable;
use crate::error::{Failure, Kind};
use crate::files::IoError;

/// The metrics of one step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Metrics {
    /// Optimizer steps done, this one included.
    pub step: u64,
    /// Training tokens used since the start of the run.
    pub tokens: u64,
    /// All other keys with their values.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
}

impl Metrics {
    /// The value of a key, if it was measured.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied().flatten()
    }
}

/// The key of a scalar of the training ("train") or of the validation ("val"). A name that says what it belongs to, such as policy/approxkl, stays as
/// the field knows it.
pub fn key_of(part: &str, name: &str) -> String {
    if part == "train" && name.contains('/') { name.to_owned() } else { format!("{part}_{name}") }
}

/// A metrics file that could not be written or read.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A line that is not a record.
    #[error("{path}:{line}:{column}: expected a JSON object with the keys of a metrics record, found {found}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// The parser's message.
        found: String,
    },
}

impl Failure for MetricsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            _ => Kind::Data,
        }
    }
}

/// Appends records to a metrics file.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl MetricsWriter {
    /// Opens the file for a run that resumes after step `resumed`, or begins. Records of later steps, which the run will write again, and incomplete
    /// lines after a crash are dropped; a new run keeps nothing.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn open(path: &Path, resumed: Option<u64>) -> Result<Self, MetricsError> {
        let former = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(IoError::at(path, "read")(error).into()),
        };
        let kept: Vec<u8> =
            former.split_inclusive(|&b| b == b'\n').filter(|line| is_kept(line, resumed)).flatten().copied().collect();
        if kept != former {
            durable::write(path, &kept).map_err(IoError::at(path, "write"))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(IoError::at(path, "open"))?;
        Ok(Self { path: path.to_path_buf(), file, line: Vec::with_capacity(512) })
    }

    /// Writes one line and flushes it to the operating system. JSON has no NaN and no infinity: they are written as `null`. Allocates nothing.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&mut self, step: u64, tokens: u64, names: &[String], values: &[Option<f64>]) -> Result<(), MetricsError> {
        self.line.clear();
        let result = line(&mut self.line, step, tokens, names, values).and_then(|()| self.file.write_all(&self.line));
        result.map_err(IoError::at(&self.path, "write")).map_err(MetricsError::from)
    }

    /// Syncs all lines to disk; called when a checkpoint is written.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn sync(&self) -> Result<(), MetricsError> {
        Ok(self.file.sync_data().map_err(IoError::at(&self.path, "write"))?)
    }
}

/// One record as a line of JSON.
fn line(to: &mut Vec<u8>, step: u64, tokens: u64, names: &[String], values: &[Option<f64>]) -> io::Result<()> {
    write!(to, "{{\"step\":{step},\"tokens\":{tokens}")?;
    for (name, value) in names.iter().zip(values) {
        to.push(b',');
        serde_json::to_writer(&mut *to, name)?;
        to.push(b':');
        serde_json::to_writer(&mut *to, value)?;
    }
    to.extend(b"}\n");
    Ok(())
}

/// Whether a line is a complete record of a step up to the one after which the run resumes.
fn is_kept(line: &[u8], resumed: Option<u64>) -> bool {
    let is_former = |resumed| line.ends_with(b"\n") && serde_json::from_slice::<Metrics>(line).is_ok_and(|m| m.step <= resumed);
    resumed.is_some_and(is_former)
}

/// Reads all records of a metrics file. Skips an incomplete last line, left by a crash or still being written.
///
/// # Errors
/// A file that cannot be read, or a line that is no record.
pub fn read(path: &Path) -> Result<Vec<Metrics>, MetricsError> {
    let bytes = fs::read(path).map_err(IoError::at(path, "read"))?;
    let mut records = Vec::new();
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        if !line.ends_with(b"\n") || line.trim_ascii().is_empty() {
            continue;
        }
        records.push(serde_json::from_slice(line).map_err(|e| MetricsError::Line {
            path: path.to_path_buf(),
            line: i + 1,
            column: e.column(),
            found: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of a language model.
    fn names() -> Vec<String> {
        ["train_loss", "val_loss", "lr", "grad_norm", "tokens_per_s", "wall_s"].map(str::to_owned).to_vec()
    }

    fn values() -> [Option<f64>; 6] {
        [Some(4.25), None, Some(1e-3), None, None, Some(0.5)]
    }

    fn record(step: u64) -> Metrics {
        Metrics { step, tokens: step * 768, values: names().into_iter().zip(values()).collect() }
    }

    fn write(writer: &mut MetricsWriter, step: u64) {
        writer.write(step, step * 768, &names(), &values()).unwrap();
    }

    #[test]
    fn a_line_has_all_keys_and_no_nan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::open(&path, None).unwrap();
        let [train_loss, _, lr, _, tokens_per_s, wall_s] = values();
        let values = [train_loss, Some(f64::INFINITY), lr, Some(f64::NAN), tokens_per_s, wall_s];
        writer.write(1, 768, &names(), &values).unwrap();
        let expected = "{\"step\":1,\"tokens\":768,\"train_loss\":4.25,\"val_loss\":null,\"lr\":0.001,\"grad_norm\":null,\
                        \"tokens_per_s\":null,\"wall_s\":0.5}\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        writer.sync().unwrap();
        assert_eq!(read(&path).unwrap(), [record(1)]);
        assert_eq!((record(1).get("train_loss"), record(1).get("val_loss"), record(1).get("kl")), (Some(4.25), None, None));
    }

    #[test]
    fn resuming_drops_later_and_torn_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::open(&path, None).unwrap();
        (1..=5).for_each(|step| write(&mut writer, step));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\":6,\"tok").unwrap();
        assert_eq!(read(&path).unwrap().len(), 5);
        let mut writer = MetricsWriter::open(&path, Some(3)).unwrap();
        write(&mut writer, 4);
        assert_eq!(read(&path).unwrap(), [1, 2, 3, 4].map(record));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
        fs::write(&path, "{\"step\":0,\"tokens\":0}\n{\"step\":1,\"tokens\":2}\n").unwrap();
        MetricsWriter::open(&path, None).unwrap();
        assert!(read(&path).unwrap().is_empty());
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1,\"tokens\":2}\n\n{\"step\":-1,\"tokens\":2}\n").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl:3:10: ") && message.contains("-1"), "{message}");
        assert!(read(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
