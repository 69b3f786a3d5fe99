//! What the cells of a sweep have given, in `sweep.json` and `sweep.csv`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{FileError, IoError};
use crate::run::durable;

/// A finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// `KEY=VALUE` of its point of the grid.
    pub settings: Vec<String>,
    /// `KEY=VALUE` of the command line beside the grid.
    #[serde(default)]
    pub set: Vec<String>,
    /// The seed of its training.
    pub seed: u64,
    /// A checksum of its whole configuration.
    pub config: u32,
    /// The best value on the validation rows.
    pub validation: Option<f64>,
    /// The accuracy on the test images, which only chosen cells have.
    pub test: Option<f64>,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Cell {
    /// The settings in order, the grid's before others.
    fn pairs(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .chain(&self.set)
            .filter_map(|setting| setting.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
    }

    /// The value of a key that was set, the last one.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs().rev().find(|(own, _)| *own == key).map(|(_, value)| value)
    }
}

/// Mean and sample deviation over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// √(Σ (x − mean)² / (n − 1)); absent for a single value.
    pub sd: Option<f64>,
    /// How many values there are.
    pub n: usize,
}

impl Spread {
    /// That of some values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let square: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        let sd = (n > 1).then(|| (square / (n - 1) as f64).sqrt());
        (n > 0).then_some(Self { mean, sd, n })
    }
}

/// The chosen point of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Its `KEY=VALUE`.
    pub settings: Vec<String>,
    /// The seeds that it was trained with.
    pub seeds: Vec<u64>,
    /// Over them, on the validation rows.
    pub validation: Option<Spread>,
    /// Over them, on the test images, if there are any.
    pub test: Option<Spread>,
}

/// A sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this object.
    pub schema: u32,
    /// What cells are compared by.
    pub measure: String,
    /// Finished cells in the order in which they were trained.
    pub cells: Vec<Cell>,
    /// What they led to, once all are finished.
    pub chosen: Option<Chosen>,
}

const JSON: &str = "sweep.json";
const CSV: &str = "sweep.csv";

impl Record {
    /// Reads the record of a folder; an empty one if it has none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(out: &Path) -> Result<Self, FileError> {
        let path = out.join(JSON);
        if !path.is_file() {
            return Ok(Self { schema: 1, ..Self::default() });
        }
        let bytes = fs::read(&path).map_err(IoError::at(&path, "read"))?;
        let wrong = |error: serde_json::Error| FileError::format(&path, "the record of a sweep", error.to_string());
        serde_json::from_slice(&bytes).map_err(wrong)
    }

    /// Writes both files.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&self, out: &Path) -> Result<(), IoError> {
        let write = |name: &str, text: String| -> Result<(), IoError> {
            let path: PathBuf = out.join(name);
            durable::write(&path, text.as_bytes()).map_err(IoError::at(&path, "write"))
        };
        write(JSON, serde_json::to_string_pretty(self).unwrap_or_default() + "\n")?;
        write(CSV, self.csv())
    }

    /// The cell of a configuration, if it is finished.
    pub fn find(&self, config: u32) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.config == config)
    }

    /// The same for changing.
    pub fn find_mut(&mut self, config: u32) -> Option<&mut Cell> {
        self.cells.iter_mut().find(|cell| cell.config == config)
    }

    /// The keys of the grid, those of the first cell; then every other key that was set for some cell.
    pub fn keys(&self) -> [Vec<&str>; 2] {
        let of_grid: Vec<&str> = self.cells.first().map_or_else(Vec::new, |cell| keys(&cell.settings).collect());
        let mut others = Vec::new();
        for key in self.cells.iter().flat_map(|cell| cell.pairs().map(|(key, _)| key)) {
            if !of_grid.contains(&key) && !others.contains(&key) {
                others.push(key);
            }
        }
        [of_grid, others]
    }

    /// The cells as a table: the grid, what was measured, other keys that were set.
    fn csv(&self) -> String {
        let quoted = |text: &str| match text.contains([',', '"']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let [of_grid, others] = self.keys();
        let measured = ["seed".to_owned(), format!("validation {}", self.measure), "test accuracy".to_owned()];
        let names = |keys: &[&str]| keys.iter().map(|key| quoted(key)).collect::<Vec<_>>();
        let header = [names(&of_grid), measured.to_vec(), names(&others)].concat();
        let row = |cell: &Cell| {
            let values = |keys: &[&str]| keys.iter().map(|key| cell.value(key).map_or_else(String::new, quoted)).collect();
            let measured = vec![cell.seed.to_string(), number(cell.validation), number(cell.test)];
            [values(&of_grid), measured, values(&others)].concat().join(",")
        };
        let lines = [header.join(",")].into_iter().chain(self.cells.iter().map(row)).map(|row| row + "\n");
        lines.collect()
    }
}

fn keys(settings: &[String]) -> impl Iterator<Item = &str> {
    settings.iter().filter_map(|setting| setting.split_once('=')).map(|(key, _)| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_again_and_its_table_has_a_row_for_each_cell() {
        let out = tempfile::tempdir().unwrap();
        let cell = |seed, test| Cell {
            settings: vec!["train.lr=1e-3".to_owned(), "model.depths=[1,2]".to_owned()],
            set: if seed == 3 { Vec::new() } else { vec!["train.steps=9".to_owned()] },
            seed,
            config: seed as u32,
            validation: Some(0.5),
            test,
            seconds: 1.0,
        };
        let cells = vec![cell(3, None), cell(4, Some(0.25))];
        let record = Record { schema: 1, measure: "accuracy".to_owned(), cells, chosen: None };
        record.write(out.path()).unwrap();
        assert_eq!(Record::open(out.path()).unwrap(), record);
        let csv = fs::read_to_string(out.path().join(CSV)).unwrap();
        let expected = "train.lr,model.depths,seed,validation accuracy,test accuracy,train.steps\n1e-3,\"[1,2]\",3,0.5,,\n1e-3,\"[1,2]\",4,0.5,0.25,9\n";
        assert_eq!(csv, expected);
        fs::write(out.path().join(JSON), "{").unwrap();
        assert!(Record::open(out.path()).unwrap_err().to_string().contains("expected the record of a sweep"));
    }

    #[test]
    fn a_spread_has_the_sample_deviation() {
        let spread = Spread::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert_eq!((spread.mean, spread.n), (3.0, 4));
        assert!((spread.sd.unwrap() - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!((Spread::of(&[2.0]).unwrap().sd, Spread::of(&[])), (None, None));
    }
}
