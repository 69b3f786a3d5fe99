//! A recorded batch: inputs and outputs of another implementation of a model.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::ParityError;
use crate::files::IoError;
use crate::model_folder::safetensors::Weights;

/// A safetensors file with inputs `in.NAME` and outputs `out.NAME`.
pub(super) struct Recording {
    path: PathBuf,
    file: Weights,
    /// The recorded loss, in nats.
    pub(super) loss: Option<f64>,
}

/// A tensor of integers.
pub(super) struct Integers {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<i32>,
}

impl Recording {
    /// Opens a file, and takes the loss of a `meta.json` in the same folder.
    ///
    /// # Errors
    /// Files that cannot be read; inputs that are none of `inputs`, those of `what`.
    pub(super) fn open(path: &Path, what: &str, inputs: &[&str]) -> Result<Self, ParityError> {
        let file = Weights::open(path)?;
        let loss = recorded_loss(&path.with_file_name("meta.json"))?;
        let recording = Self { path: path.to_path_buf(), file, loss };
        for name in recording.file.names() {
            if let Some(input) = name.strip_prefix("in.").filter(|input| !inputs.contains(input)) {
                return Err(recording.found(name, format!("an input of {what}: {}", inputs.join(", ")), input));
            }
        }
        Ok(recording)
    }

    /// An error about a tensor or key.
    pub(super) fn found(&self, name: &str, expected: impl Into<String>, found: impl ToString) -> ParityError {
        let (path, name) = (self.path.clone(), name.to_owned());
        ParityError::Found { path, name, expected: expected.into(), found: found.to_string() }
    }

    /// Names of the recorded outputs, without `out.`.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &str> {
        self.file.names().filter_map(|name| name.strip_prefix("out."))
    }

    /// Names of tensors that are neither inputs nor outputs.
    pub(super) fn strangers(&self) -> impl Iterator<Item = &str> {
        self.file.names().filter(|name| !name.starts_with("in.") && !name.starts_with("out."))
    }

    /// The values of a tensor of a known shape.
    ///
    /// # Errors
    /// Another shape, or a type that is not floating point.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ParityError> {
        let mut values = vec![0.0; shape.iter().product()];
        self.file.read(name, shape, &mut values)?;
        Ok(values)
    }

    /// The extents of a tensor; `None` without it.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file.shape(name).map(<[usize]>::to_vec)
    }

    /// The integers of a tensor of `shape`, or of any shape without one; `None` if there is no such tensor.
    ///
    /// # Errors
    /// Another shape, a type that is not an integer, values beyond 32 bits.
    pub(super) fn integers(&self, name: &str, shape: Option<&[usize]>) -> Result<Option<Integers>, ParityError> {
        if !self.file.contains(name) {
            return Ok(None);
        }
        let (found, values) = self.file.integers(name)?;
        if let Some(shape) = shape.filter(|shape| *shape != found) {
            return Err(self.found(name, format!("shape {shape:?}"), format!("shape {found:?}")));
        }
        let narrow = |x: &i64| i32::try_from(*x).map_err(|_| self.found(name, "32-bit integers", x));
        Ok(Some(Integers { values: values.iter().map(narrow).collect::<Result<_, _>>()?, shape: found }))
    }
}

/// The key `loss` of a JSON file; `None` without a file or a key.
fn recorded_loss(path: &Path) -> Result<Option<f64>, ParityError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(IoError::at(path, "read"))?,
    };
    let found = |name: &str, expected: &str, found: String| ParityError::Found {
        path: path.to_path_buf(),
        name: name.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|error| found("the file", "JSON", error.to_string()))?;
    match json.get("loss") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(loss) => loss.as_f64().map(Some).ok_or_else(|| found("loss", "a number", loss.to_string())),
    }
}
