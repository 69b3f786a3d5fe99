//! A recorded batch: inputs and outputs of another implementation of a model.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::ParityError;
use crate::files::IoError;
use crate::model_folder::safetensors::Weights;

/// The label of a position without a target, as in `transformers`.
const IGNORED: i32 = -100;

/// Inputs that a language model takes, with the names of `transformers`.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "position_ids", "labels"];

/// One batch of B sequences of T tokens.
pub(super) struct Recording {
    path: PathBuf,
    file: Weights,
    /// B.
    pub(super) batch: usize,
    /// T.
    pub(super) len: usize,
    /// Token ids (B, T).
    pub(super) tokens: Vec<i32>,
    /// Positions (B, T).
    pub(super) positions: Vec<i32>,
    /// Whether a token is live (B, T): the others are padding.
    pub(super) live: Vec<bool>,
    /// The target of every position (B, T): the label to its right, negative for none. `None` without labels.
    pub(super) targets: Option<Vec<i32>>,
    /// The recorded loss: the mean over targets, in nats.
    pub(super) loss: Option<f64>,
}

impl Recording {
    /// Opens `in.NAME` and `out.NAME` of a safetensors file, and the loss of a `meta.json` in the same folder.
    ///
    /// # Errors
    /// Files that cannot be read; inputs that a language model does not have, or of other shapes.
    pub(super) fn open(path: &Path) -> Result<Self, ParityError> {
        let file = Weights::open(path)?;
        let found = |name: &str, expected: String, found: String| ParityError::Found {
            path: path.to_path_buf(),
            name: name.to_owned(),
            expected,
            found,
        };
        for name in file.names() {
            if let Some(input) = name.strip_prefix("in.").filter(|input| !INPUTS.contains(input)) {
                return Err(found(name, format!("an input of a language model: {}", INPUTS.join(", ")), input.to_owned()));
            }
        }
        let (shape, _) = file.integers("in.input_ids")?;
        let &[batch, len] = shape.as_slice() else {
            return Err(found("in.input_ids", "shape (batch, tokens)".to_owned(), format!("shape {shape:?}")));
        };
        let integers = |name: &str| -> Result<Option<Vec<i32>>, ParityError> {
            if !file.contains(name) {
                return Ok(None);
            }
            let (other, values) = file.integers(name)?;
            if other != shape {
                return Err(found(name, format!("shape {shape:?}, that of in.input_ids"), format!("shape {other:?}")));
            }
            let narrow = |x: &i64| i32::try_from(*x).map_err(|_| found(name, "32-bit integers".to_owned(), x.to_string()));
            values.iter().map(narrow).collect::<Result<_, _>>().map(Some)
        };
        let tokens = integers("in.input_ids")?.unwrap_or_default();
        let counted = || (0..batch).flat_map(|_| 0..len as i32).collect();
        let positions = integers("in.position_ids")?.unwrap_or_else(counted);
        let mask = integers("in.attention_mask")?;
        let live = mask.map_or_else(|| vec![true; tokens.len()], |mask| mask.iter().map(|&x| x != 0).collect());
        let targets = integers("in.labels")?.map(|labels| shifted(&labels, len));
        let loss = recorded_loss(&path.with_file_name("meta.json"))?;
        Ok(Self { path: path.to_path_buf(), batch, len, tokens, positions, live, targets, loss, file })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the recorded outputs, without `out.`.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &str> {
        self.file.names().filter_map(|name| name.strip_prefix("out."))
    }

    /// Names of tensors that are neither inputs nor outputs.
    pub(super) fn strangers(&self) -> impl Iterator<Item = &str> {
        self.file.names().filter(|name| !name.starts_with("in.") && !name.starts_with("out."))
    }

    /// The values of an output of a known shape.
    ///
    /// # Errors
    /// Another shape, or a type that is not floating point.
    pub(super) fn output(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ParityError> {
        let mut values = vec![0.0; shape.iter().product()];
        self.file.read(&format!("out.{name}"), shape, &mut values)?;
        Ok(values)
    }

    /// Whether there is padding.
    pub(super) fn is_padded(&self) -> bool {
        self.live.iter().any(|live| !live)
    }

    /// Whether a padding position has a target. Its loss depends on how an implementation treats fully masked positions.
    pub(super) fn padding_has_targets(&self) -> bool {
        let targets = self.targets.iter().flatten();
        targets.zip(&self.live).any(|(&target, &live)| target >= 0 && !live)
    }
}

/// The target of every position: the label to its right.
fn shifted(labels: &[i32], len: usize) -> Vec<i32> {
    let row = |row: &[i32]| row.iter().skip(1).copied().chain([IGNORED]).collect::<Vec<_>>();
    labels.chunks(len.max(1)).flat_map(row).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_predicts_the_label_to_its_right() {
        assert_eq!(shifted(&[1, 2, 3, -100, 5, 6], 3), [2, 3, -100, 5, 6, -100]);
        assert_eq!(shifted(&[], 0), [0; 0]);
    }
}
