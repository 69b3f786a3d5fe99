//! Weights in safetensors files: one `model.safetensors`, or several with `model.safetensors.index.json`.
//!
//! Reading maps the file and converts f16, bf16, f32 and f64 to f32 directly into the caller's memory, whole tensors or parts of them. Writing
//! streams f32 values in portions of any size. Neither needs a second copy of a model. The `safetensors` crate checks the header: offsets without
//! holes or overlaps up to the end of the file, sizes equal to dtype times shape, no overflow.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;

use crate::data::DataError;
use crate::data::mapped::Mapped;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::run::durable::DurableFile;

/// The file of a model folder that holds its weights.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The index file of a model folder: it maps tensors to files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Weights that cannot be read or written.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be opened, or changed while it was read.
    #[error(transparent)]
    File(#[from] DataError),
    /// The operating system refused to write.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The header does not describe the file.
    #[error("{path}: expected a safetensors file, found: {found}{hint}")]
    Header {
        /// The file.
        path: PathBuf,
        /// The problem.
        found: String,
        /// A likely reason.
        hint: &'static str,
    },
    /// Weights of PyTorch alone.
    #[error("{}: pytorch_model*.bin, expected {SINGLE_FILE}; write it with: {}", path.display(), of_pickles(path))]
    Pickled {
        /// The folder.
        path: PathBuf,
    },
    /// The index of a sharded model does not describe its files.
    #[error("{path}: expected {expected}, found {found}")]
    Index {
        /// The index file.
        path: PathBuf,
        /// The expected form.
        expected: String,
        /// What was found.
        found: String,
    },
    /// No tensor of that name.
    #[error("{path}: no tensor {name:?}{hint}")]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The nearest existing name, if any.
        hint: String,
    },
    /// A tensor of another shape.
    #[error("{path}: tensor {name:?} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Expected shape.
        expected: Vec<usize>,
    },
    /// A tensor of a type that is not read.
    #[error("{path}: tensor {name:?} has dtype {found}, expected {expected}")]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Dtype in the file.
        found: String,
        /// Dtypes that are read.
        expected: &'static str,
    },
    /// The caller's buffer or portions do not have the size of the tensor.
    #[error("tensor {name:?} of shape {shape:?}: {found} values given, expected {expected}")]
    Count {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Number of values given.
        found: usize,
        /// Values of the shape.
        expected: usize,
    },
    /// Tensors were written in another order than announced.
    #[error("tensor {found:?} was written, expected {expected} next")]
    Order {
        /// The tensor given.
        found: String,
        /// The one that is due.
        expected: String,
    },
}

/// Whether a folder has weights in PyTorch's own format, in one file or several.
fn has_pickles(folder: &Path) -> bool {
    let is_one = |name: &str| name.starts_with("pytorch_model") && name.ends_with(".bin");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_one))
}

/// The command that converts them. Tied weights are one tensor there, of which safetensors takes a copy for each name.
fn of_pickles(folder: &Path) -> String {
    let folder = folder.display().to_string();
    format!(
        "python -c 'import glob, torch, safetensors.torch as s; d = {folder:?}; s.save_file({{k: v.contiguous().clone() for f in glob.glob(d + \
         \"/pytorch_model*.bin\") for k, v in torch.load(f, map_location=\"cpu\", weights_only=True).items()}}, d + \"/{SINGLE_FILE}\", \
         metadata={{\"format\": \"pt\"}})'"
    )
}

impl Failure for WeightsError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Write { .. } => Kind::Io,
            _ => Kind::Data,
        }
    }
}

/// The weights of a model: one mapped file or several.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    files: Vec<Mapped>,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

/// The location of a tensor.
#[derive(Clone, Debug)]
struct Tensor {
    file: usize,
    start: usize,
    bytes: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// The values of a tensor, borrowed from the mapped file, by element type.
#[derive(Clone, Copy, Debug)]
pub enum TensorValues<'w> {
    /// 32 bits.
    F32(&'w [[u8; 4]]),
    /// Half precision.
    F16(&'w [[u8; 2]]),
    /// The upper half of 32 bits.
    Bf16(&'w [[u8; 2]]),
    /// 64 bits.
    F64(&'w [[u8; 8]]),
}

/// A value of a tensor, by its position in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueAt {
    /// Position, counted from 0.
    pub position: usize,
    /// The value in the file's element type.
    pub value: f64,
}

impl ValueAt {
    /// The place in a tensor of this shape, an index for each extent.
    pub fn index_in(&self, shape: &[usize]) -> Vec<usize> {
        let mut rest = self.position;
        let mut index: Vec<usize> = shape
            .iter()
            .rev()
            .map(|&extent| {
                let own = rest % extent.max(1);
                rest /= extent.max(1);
                own
            })
            .collect();
        index.reverse();
        index
    }
}

/// Names that two sides do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Wanted, and not in the file.
    pub missing: Vec<String>,
    /// In the file, and not wanted.
    pub unexpected: Vec<String>,
}

impl Weights {
    /// Opens a safetensors file, an index file, or a model folder with one of them.
    ///
    /// # Errors
    /// A file that cannot be read, a header or an index that does not describe it.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            let (single, index) = (path.join(SINGLE_FILE), path.join(INDEX_FILE));
            if !single.exists() && !index.exists() && has_pickles(path) {
                return Err(WeightsError::Pickled { path: path.to_path_buf() });
            }
            return if !single.exists() && index.exists() { Self::open_index(&index) } else { Self::open_single(&single) };
        }
        if path.extension().is_some_and(|e| e == "json") { Self::open_index(path) } else { Self::open_single(path) }
    }

    fn open_single(path: &Path) -> Result<Self, WeightsError> {
        let mut weights =
            Self { path: path.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        weights.add_file(path)?;
        Ok(weights)
    }

    fn open_index(path: &Path) -> Result<Self, WeightsError> {
        let index = |expected: &str, found: String| WeightsError::Index {
            path: path.to_path_buf(),
            expected: expected.to_owned(),
            found,
        };
        let text = std::fs::read(path).map_err(IoError::at(path, "read")).map_err(DataError::from)?;
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let Index { weight_map } = serde_json::from_slice(&text)
            .map_err(|e| index("JSON with a \"weight_map\" of tensor to file names", e.to_string()))?;
        let mut weights =
            Self { path: path.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        let mut names: Vec<&String> = weight_map.values().collect();
        names.sort();
        names.dedup();
        for name in names {
            if Path::new(name).file_name().is_none_or(|plain| plain != name.as_str()) {
                return Err(index("file names without a folder", format!("{name:?}")));
            }
            weights.add_file(&path.with_file_name(name))?;
        }
        for (tensor, file) in &weight_map {
            let holder = weights.tensors.get(tensor).and_then(|t| weights.files.get(t.file));
            if holder.is_none_or(|holder| holder.path().file_name().is_none_or(|name| name != file.as_str())) {
                return Err(index(&format!("tensor {tensor:?} in {file}"), "no such tensor there".to_owned()));
            }
        }
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), WeightsError> {
        let file = Mapped::open(path)?;
        let bytes = file.bytes()?;
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| header_error(path, bytes, &error))?;
        let file_index = self.files.len();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let tensor = Tensor {
                file: file_index,
                start: start + header + 8,
                bytes: end - start,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if self.tensors.insert(name.clone(), tensor).is_some() {
                let found = format!("tensor {name:?}, which another file has as well");
                return Err(WeightsError::Header { path: path.to_path_buf(), found, hint: "" });
            }
        }
        self.metadata.extend(metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        self.files.push(file);
        Ok(())
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// Element type of a tensor as the file names it, such as `"BF16"`.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|t| t.dtype.to_string())
    }

    /// Free text that the writer left in the header (`__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Compares the names in the file with the names of a model; both lists are sorted.
    pub fn differences<'n>(&self, wanted: impl IntoIterator<Item = &'n str>) -> Differences {
        let wanted: std::collections::BTreeSet<&str> = wanted.into_iter().collect();
        let missing = wanted.iter().filter(|name| !self.contains(name)).map(|&name| name.to_owned()).collect();
        let unexpected = self.names().filter(|name| !wanted.contains(name)).map(str::to_owned).collect();
        Differences { missing, unexpected }
    }

    /// Copies a tensor of a known shape into `out`, converted to f32 (f64 is rounded to the nearest). Allocates only for an error.
    ///
    /// # Errors
    /// No such tensor, one of another shape or type, a buffer of another length, or a file that has changed.
    pub fn read(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<(), WeightsError> {
        let values = self.values(name, shape)?;
        let expected = shape.iter().product();
        if out.len() != expected {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            return Err(WeightsError::Count { name, shape, found: out.len(), expected });
        }
        values.read(0, out);
        Ok(())
    }

    /// The values of a tensor of a known shape, to be read in parts. Allocates only for an error.
    ///
    /// # Errors
    /// No such tensor, one of another shape or type, or a file that has changed.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<TensorValues<'_>, WeightsError> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        let file = self.files.get(tensor.file).ok_or_else(|| self.missing(name))?;
        if tensor.shape != shape {
            let (found, expected) = (tensor.shape.clone(), shape.to_vec());
            return Err(WeightsError::Shape { path: file.path().to_path_buf(), name: name.to_owned(), found, expected });
        }
        let bytes = file.range(tensor.start, tensor.bytes)?;
        match tensor.dtype {
            Dtype::F32 => Ok(TensorValues::F32(bytes.as_chunks().0)),
            Dtype::F16 => Ok(TensorValues::F16(bytes.as_chunks().0)),
            Dtype::BF16 => Ok(TensorValues::Bf16(bytes.as_chunks().0)),
            Dtype::F64 => Ok(TensorValues::F64(bytes.as_chunks().0)),
            other => {
                let (path, name) = (file.path().to_path_buf(), name.to_owned());
                Err(WeightsError::Dtype { path, name, found: other.to_string(), expected: "F32, F16, BF16 or F64" })
            }
        }
    }

    /// The values of an integer or boolean tensor, row by row, and its shape.
    ///
    /// # Errors
    /// No such tensor, or one of another type.
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), WeightsError> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        let file = self.files.get(tensor.file).ok_or_else(|| self.missing(name))?;
        let bytes = file.range(tensor.start, tensor.bytes)?;
        let values = match tensor.dtype {
            Dtype::I64 => bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
            Dtype::I16 => bytes.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b).into()).collect(),
            Dtype::U8 | Dtype::BOOL => bytes.iter().map(|&b| b.into()).collect(),
            other => {
                let (path, name) = (file.path().to_path_buf(), name.to_owned());
                let (found, expected) = (other.to_string(), "I64, I32, I16, U8 or BOOL");
                return Err(WeightsError::Dtype { path, name, found, expected });
            }
        };
        Ok((tensor.shape.clone(), values))
    }

    fn missing(&self, name: &str) -> WeightsError {
        let last = |name: &str| name.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        let near = self.names().find(|other| other.ends_with(name) || name.ends_with(other));
        let near = near.or_else(|| self.names().find(|other| last(other) == last(name)));
        let hint = near.map_or_else(String::new, |near| format!(" (there is {near:?})"));
        WeightsError::Missing { path: self.path.clone(), name: name.to_owned(), hint }
    }
}

impl TensorValues<'_> {
    /// Values from `start` on, in row-major order, until `out` is full; empty beyond the end of the tensor.
    pub fn read(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => convert(values, start, out, f32::from_le_bytes),
            Self::F16(values) => convert(values, start, out, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16(values) => convert(values, start, out, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F64(values) => convert(values, start, out, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// The first of `len` values that is not finite as f32.
    pub fn first_not_finite(&self, len: usize) -> Option<ValueAt> {
        let mut part = [0.0; 1024];
        let position = (0..len).step_by(part.len()).find_map(|start| {
            let part = part.get_mut(..(len - start).min(1024))?;
            self.read(start, part);
            part.iter().position(|x| !x.is_finite()).map(|at| start + at)
        })?;
        let value = match self {
            Self::F64(values) => f64::from_le_bytes(*values.get(position)?),
            _ => {
                let mut value = [0.0];
                self.read(position, &mut value);
                f64::from(value[0])
            }
        };
        Some(ValueAt { position, value })
    }
}

fn convert<const N: usize>(values: &[[u8; N]], start: usize, out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (out, &bytes) in out.iter_mut().zip(values.get(start..).unwrap_or(&[])) {
        *out = value(bytes);
    }
}

fn header_error(path: &Path, bytes: &[u8], error: &SafeTensorError) -> WeightsError {
    let truncated = matches!(
        error,
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer
    );
    let hint = if bytes.starts_with(b"version https://git-lfs") {
        " (this is a Git LFS pointer: fetch the file itself)"
    } else if bytes.starts_with(b"PK") || bytes.starts_with(b"\x80") {
        " (this looks like a PyTorch checkpoint: save it with safetensors)"
    } else if truncated {
        " (is the file truncated?)"
    } else {
        ""
    };
    WeightsError::Header { path: path.to_path_buf(), found: error.to_string(), hint }
}

/// Writes an f32 safetensors file in portions; it appears under its name when [`WeightsWriter::finish`] returns.
#[derive(Debug)]
pub struct WeightsWriter<W> {
    out: W,
    path: PathBuf,
    tensors: Vec<(String, Vec<usize>)>,
    current: usize,
    written: usize,
}

impl WeightsWriter<DurableFile> {
    /// Starts a file at `path` for tensors of these names and shapes, written in this order, and synced to disk at the end.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn create(path: &Path, tensors: Vec<(String, Vec<usize>)>) -> Result<Self, WeightsError> {
        Self::create_with(path, tensors, &[])
    }

    /// The same with more metadata than `{"format": "pt"}`.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn create_with(
        path: &Path,
        tensors: Vec<(String, Vec<usize>)>,
        metadata: &[(&str, String)],
    ) -> Result<Self, WeightsError> {
        let file = DurableFile::create(path).map_err(|source| WeightsError::Write { path: path.to_path_buf(), source })?;
        Self::begin(file, path, tensors, metadata)
    }

    /// Makes the file durable; an error when a tensor is not complete.
    ///
    /// # Errors
    /// A tensor that is not complete, or a refusal of the operating system.
    pub fn finish(self) -> Result<(), WeightsError> {
        let path = self.path.clone();
        self.into_inner()?.commit().map_err(|source| WeightsError::Write { path, source })
    }
}

impl<W: Write> WeightsWriter<W> {
    /// Writes the header to `out` (a file of a checkpoint, a buffer); errors name it `path`. The metadata is `{"format": "pt"}`, which `transformers`
    /// requires.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn new(out: W, path: &Path, tensors: Vec<(String, Vec<usize>)>) -> Result<Self, WeightsError> {
        Self::begin(out, path, tensors, &[])
    }

    fn begin(
        mut out: W,
        path: &Path,
        tensors: Vec<(String, Vec<usize>)>,
        metadata: &[(&str, String)],
    ) -> Result<Self, WeightsError> {
        let header = header(&tensors, metadata)?;
        let length = (header.len() as u64).to_le_bytes();
        let written = out.write_all(&length).and_then(|()| out.write_all(header.as_bytes()));
        written.map_err(|source| WeightsError::Write { path: path.to_path_buf(), source })?;
        let mut writer = Self { out, path: path.to_path_buf(), tensors, current: 0, written: 0 };
        writer.skip_complete();
        Ok(writer)
    }

    /// Appends values of a tensor. A tensor may come in several portions; the next tensor begins when it is complete.
    ///
    /// # Errors
    /// Another tensor than the one that is due, more values than it has, or a refusal of the operating system.
    pub fn values(&mut self, name: &str, values: &[f32]) -> Result<(), WeightsError> {
        if values.is_empty() && self.tensors.iter().any(|(announced, _)| announced == name) {
            return Ok(());
        }
        let order = |expected: String| WeightsError::Order { found: name.to_owned(), expected };
        let (due, shape) = self.tensors.get(self.current).ok_or_else(|| order("the end of the file".to_owned()))?;
        if due != name {
            return Err(order(format!("{due:?}")));
        }
        let expected = shape.iter().product();
        let found = self.written + values.len();
        if found > expected {
            return Err(WeightsError::Count { name: name.to_owned(), shape: shape.clone(), found, expected });
        }
        // A portion of values as bytes: no copy of the whole tensor, and the same bytes on a big-endian machine.
        for portion in values.chunks(1024) {
            let mut bytes = [0_u8; 4096];
            for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(portion) {
                *bytes = value.to_le_bytes();
            }
            let used = bytes.get(..portion.len() * 4).unwrap_or(&bytes);
            self.out.write_all(used).map_err(|source| WeightsError::Write { path: self.path.clone(), source })?;
        }
        self.written = found;
        self.skip_complete();
        Ok(())
    }

    /// The output, when all tensors are complete.
    ///
    /// # Errors
    /// A tensor that is not complete.
    pub fn into_inner(self) -> Result<W, WeightsError> {
        match self.tensors.get(self.current) {
            None => Ok(self.out),
            Some((name, shape)) => {
                let expected = shape.iter().product();
                Err(WeightsError::Count { name: name.clone(), shape: shape.clone(), found: self.written, expected })
            }
        }
    }

    /// Advances to the next incomplete tensor.
    fn skip_complete(&mut self) {
        while self.tensors.get(self.current).is_some_and(|(_, shape)| self.written == shape.iter().product::<usize>()) {
            self.current += 1;
            self.written = 0;
        }
    }
}

/// The JSON header, padded with spaces to a multiple of eight bytes.
fn header(tensors: &[(String, Vec<usize>)], metadata: &[(&str, String)]) -> Result<String, WeightsError> {
    let mut map = serde_json::Map::new();
    let mut own = serde_json::json!({ "format": "pt" });
    metadata.iter().for_each(|(key, value)| own[*key] = value.as_str().into());
    map.insert("__metadata__".to_owned(), own);
    let mut start = 0_usize;
    for (name, shape) in tensors {
        let bytes = shape.iter().try_fold(4_usize, |n, &axis| n.checked_mul(axis));
        let end = bytes.and_then(|bytes| start.checked_add(bytes)).ok_or_else(|| WeightsError::Count {
            name: name.clone(),
            shape: shape.clone(),
            found: 0,
            expected: usize::MAX,
        })?;
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        if map.insert(name.clone(), entry).is_some() {
            return Err(WeightsError::Order { found: name.clone(), expected: "a name that is not yet used".to_owned() });
        }
        start = end;
    }
    let mut text = serde_json::Value::Object(map).to_string();
    let padding = text.len().next_multiple_of(8) - text.len();
    text.extend(std::iter::repeat_n(' ', padding));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
    use std::collections::HashMap;
    use std::fs;

    fn two_tensors() -> Vec<(String, Vec<usize>)> {
        vec![("wte.weight".to_owned(), vec![3, 2]), ("none".to_owned(), vec![0, 5]), ("ln_f.bias".to_owned(), vec![2])]
    }

    fn save(path: &Path) {
        let mut writer = WeightsWriter::create(path, two_tensors()).unwrap();
        writer.values("wte.weight", &[1.0, 2.0]).unwrap();
        writer.values("wte.weight", &[3.0, 4.0, 5.0, 6.0]).unwrap();
        writer.values("none", &[]).unwrap();
        writer.values("ln_f.bias", &[-1.0, f32::NAN]).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn round_trip_and_the_crate_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        save(&folder.path().join(SINGLE_FILE));
        let weights = Weights::open(folder.path()).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["ln_f.bias", "none", "wte.weight"]);
        assert_eq!(weights.metadata()["format"], "pt");
        let mut out = [0.0; 6];
        weights.read("wte.weight", &[3, 2], &mut out).unwrap();
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        weights.read("ln_f.bias", &[2], &mut out[..2]).unwrap();
        assert!(out[0] == -1.0 && out[1].is_nan());
        let bytes = fs::read(folder.path().join(SINGLE_FILE)).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("wte.weight").unwrap().shape(), [3, 2]);
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    }

    #[test]
    fn every_float_type_becomes_f32() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let values = [0.5, -2.25, 65504.0];
        let f16s: Vec<u8> = values.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect();
        let bf16s: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect();
        let f64s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let i64s: Vec<u8> = [1_i64, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = |dtype, data| TensorView::new(dtype, vec![3], data).unwrap();
        let tensors = [
            ("h", view(Dtype::F16, &f16s)),
            ("b", view(Dtype::BF16, &bf16s)),
            ("d", view(Dtype::F64, &f64s)),
            ("i", view(Dtype::I64, &i64s)),
        ];
        safetensors::serialize_to_file(tensors, Some(HashMap::new()), &path).unwrap();
        let weights = Weights::open(&path).unwrap();
        let read = |name: &str| {
            let mut out = [0.0; 3];
            weights.read(name, &[3], &mut out).map(|()| out)
        };
        assert_eq!(read("h").unwrap(), [0.5, -2.25, 65504.0]);
        assert_eq!(read("d").unwrap(), [0.5, -2.25, 65504.0]);
        assert_eq!(read("b").unwrap(), [0.5, -2.25, 65536.0]);
        let message = read("i").unwrap_err().to_string();
        assert!(message.contains("\"i\" has dtype I64"), "{message}");
        assert_eq!(weights.dtype("b").as_deref(), Some("BF16"));
    }

    #[test]
    fn errors_name_the_tensor() {
        let folder = tempfile::tempdir().unwrap();
        save(&folder.path().join(SINGLE_FILE));
        let weights = Weights::open(folder.path()).unwrap();
        let message = weights.read("wte.weight", &[2, 3], &mut [0.0; 6]).unwrap_err().to_string();
        assert!(message.contains("tensor \"wte.weight\" has shape [3, 2], expected [2, 3]"), "{message}");
        let message = weights.read("transformer.wte.weight", &[3, 2], &mut [0.0; 6]).unwrap_err().to_string();
        assert!(message.contains("there is \"wte.weight\""), "{message}");
        assert!(weights.read("wte.weight", &[3, 2], &mut [0.0; 5]).unwrap_err().to_string().contains("5 values"));
        let differences = weights.differences(["wte.weight", "wpe.weight"]);
        assert_eq!(differences.missing, ["wpe.weight"]);
        assert_eq!(differences.unexpected, ["ln_f.bias", "none"]);
        fs::write(folder.path().join("x.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
        let message = Weights::open(&folder.path().join("x.safetensors")).unwrap_err().to_string();
        assert!(message.contains("Git LFS"), "{message}");
    }

    #[test]
    fn a_writer_takes_the_announced_tensors_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SINGLE_FILE);
        let start = || WeightsWriter::create(&path, two_tensors()).unwrap();
        assert!(start().values("ln_f.bias", &[1.0]).unwrap_err().to_string().contains("expected \"wte.weight\" next"));
        assert!(start().values("wte.weight", &[0.0; 7]).unwrap_err().to_string().contains("7 values given, expected 6"));
        let mut half = start();
        half.values("wte.weight", &[0.0; 6]).unwrap();
        half.values("ln_f.bias", &[0.0]).unwrap();
        assert!(half.finish().unwrap_err().to_string().contains("\"ln_f.bias\""));
        assert!(WeightsWriter::create(&path, vec![("a".into(), vec![1]), ("a".into(), vec![1])]).is_err());
        assert!(WeightsWriter::create(&path, vec![("a".into(), vec![usize::MAX, 2])]).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn sharded_models() {
        let folder = tempfile::tempdir().unwrap();
        for (file, name, value) in [("model-1.safetensors", "a", 1.0), ("model-2.safetensors", "b", 2.0)] {
            let mut writer = WeightsWriter::create(&folder.path().join(file), vec![(name.into(), vec![1])]).unwrap();
            writer.values(name, &[value]).unwrap();
            writer.finish().unwrap();
        }
        let index = folder.path().join(INDEX_FILE);
        let open = |map: &str| {
            fs::write(&index, format!("{{\"metadata\":{{\"total_size\":8}},\"weight_map\":{map}}}")).unwrap();
            Weights::open(folder.path())
        };
        let weights = open(r#"{"a":"model-1.safetensors","b":"model-2.safetensors"}"#).unwrap();
        let mut out = [0.0];
        weights.read("b", &[1], &mut out).unwrap();
        assert_eq!(out, [2.0]);
        for map in [
            r#"{"a":"model-2.safetensors","b":"model-1.safetensors"}"#,
            r#"{"a":"model-1.safetensors","c":"model-2.safetensors"}"#,
            r#"{"a":"../model-1.safetensors"}"#,
            r#"{"a":"model-3.safetensors"}"#,
            r#"{"a":7}"#,
            "7",
        ] {
            let message = open(map).unwrap_err().to_string();
            assert!(message.contains("model"), "{message}");
        }
    }
}
