//! Parameters of a model to and from the tensors of a folder, through the family's name map.
//!
//! A folder is read a few rows at a time. Matrices that are transposed in the file are transposed in tiles that fit the L1 cache, directly into their
//! destination, as f32 or quantised.

use std::collections::BTreeSet;
use std::path::Path;

use samara_core::graph::DType;
use samara_core::params::{ParamInfo, Params, Part};
use samara_core::quant::quantise_row;

use super::error::FolderError;
use super::map::{Layout, NameMap, STRIP};
use super::safetensors::{SINGLE_FILE, TensorValues, Weights, WeightsWriter};

/// The name map applied to a registry, without adapters, which are not in the model's own tensors.
///
/// # Errors
/// The map does not fit the parameters.
pub fn layout(map: &NameMap, params: &Params<'_>) -> Result<Layout, FolderError> {
    Ok(Stored::of(map, params, |info| !info.adapter)?.layout)
}

/// The treatment of tensors in a file that the model does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtraTensors {
    /// The file is refused: it is probably that of another model.
    #[default]
    Refuse,
    /// They are left out.
    Ignore,
}

impl ExtraTensors {
    /// They are ignored if the user requested it.
    pub fn ignore_if(asked: bool) -> Self {
        if asked { Self::Ignore } else { Self::Refuse }
    }
}

/// How a folder is read whose model is not quite that of the registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// What is done with tensors that the model has no place for.
    pub extra: ExtraTensors,
    /// Token ids of the folder, where the model has more of them: rows of the new ones are the mean of the folder's.
    pub token_ids: Option<usize>,
    /// The beginning of names of tensors that the folder may lack, all of them at once; parameters of these names then keep their values.
    pub optional: Option<&'static str>,
}

impl From<ExtraTensors> for Reading {
    fn from(extra: ExtraTensors) -> Self {
        Self { extra, ..Self::default() }
    }
}

/// Values of parameters, with the layout of their registry.
#[derive(Clone, Copy, Debug)]
pub struct ParamValues<'v> {
    /// Of the trainable parameters.
    pub trainable: &'v [f32],
    /// Bytes of the frozen ones.
    pub frozen: &'v [u8],
}

impl<'v> From<&'v [f32]> for ParamValues<'v> {
    fn from(trainable: &'v [f32]) -> Self {
        Self { trainable, frozen: &[] }
    }
}

impl<'v> ParamValues<'v> {
    /// A parameter's values as they are written.
    fn of(&self, info: &ParamInfo) -> Result<&'v [f32], FolderError> {
        let values = match (info.frozen, info.dtype) {
            (false, _) => self.trainable.get(info.range()),
            (true, DType::Real) => {
                self.frozen.get(info.frozen_bytes(size_of::<f32>())).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            }
            (true, _) => None,
        };
        values.ok_or_else(|| FolderError::Frozen { name: info.name.to_string() })
    }
}

/// Parameters of a registry, and the tensors that they are in a file.
pub struct Stored<'p> {
    infos: Vec<&'p ParamInfo>,
    layout: Layout,
}

impl<'p> Stored<'p> {
    /// The parameters selected by `keep`, under the names of a map.
    ///
    /// # Errors
    /// The map does not fit them.
    pub fn of(map: &NameMap, params: &Params<'p>, keep: impl Fn(&ParamInfo) -> bool) -> Result<Self, FolderError> {
        Self::of_tokens(map, params, None, keep)
    }

    /// The same in a folder that may have fewer token ids than the registry.
    fn of_tokens(
        map: &NameMap,
        params: &Params<'p>,
        ids: Option<usize>,
        keep: impl Fn(&ParamInfo) -> bool,
    ) -> Result<Self, FolderError> {
        let infos: Vec<&ParamInfo> = params.infos().iter().filter(|info| keep(info)).collect();
        let parameters: Vec<_> = infos.iter().map(|info| (info.name.to_string(), dims(info, ids))).collect();
        Ok(Self { layout: map.bind(&parameters)?, infos })
    }

    /// The tensors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes a safetensors file, synced to disk, with additional metadata.
    ///
    /// # Errors
    /// A file that cannot be written; frozen parameters in another element type than f32.
    pub fn save(&self, path: &Path, metadata: &[(&str, String)], values: ParamValues<'_>) -> Result<(), FolderError> {
        let values: Vec<&[f32]> = self.infos.iter().map(|info| values.of(info)).collect::<Result<_, _>>()?;
        let tensors = self.layout.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
        let mut writer = WeightsWriter::create_with(path, tensors, metadata)?;
        let mut strip = Vec::new();
        for (number, tensor) in self.layout.tensors().iter().enumerate() {
            for first in (0..tensor.rows()).step_by(STRIP) {
                strip.resize(STRIP.min(tensor.rows() - first) * tensor.row_len(), 0.0);
                self.layout.write_rows(number, first, &mut strip, |parameter| values.get(parameter).copied().unwrap_or(&[]));
                writer.values(&tensor.name, &strip)?;
            }
        }
        Ok(writer.finish()?)
    }

    /// Reads a folder or a safetensors file into `trainable` and `frozen`, which have the layout of the registry. Frozen parameters are converted to
    /// their element type a few rows at a time, so that a quantised model is never in memory as f32. Returns the names of the ignored tensors,
    /// sorted.
    ///
    /// # Errors
    /// A file that cannot be read, or whose tensors are not these; a weight that is not finite as f32, with its position.
    pub fn load(
        &self,
        path: &Path,
        extra: ExtraTensors,
        trainable: &mut [f32],
        frozen: &mut [u8],
    ) -> Result<Vec<String>, FolderError> {
        let weights = Weights::open(path)?;
        let file = OpenedFile::new(&weights, &self.layout)?;
        for (number, info) in self.infos.iter().enumerate() {
            if info.frozen {
                file.store(number, info, frozen.get_mut(info.frozen_bytes(size_of::<f32>())).unwrap_or(&mut []))?;
            } else {
                file.copy(number, trainable.get_mut(info.range()).unwrap_or(&mut []))?;
            }
        }
        file.check_ties()?;
        match (file.extra(), extra) {
            (names, ExtraTensors::Ignore) => Ok(names),
            (names, ExtraTensors::Refuse) => match names.split_first() {
                None => Ok(names),
                Some((name, more)) => {
                    Err(FolderError::Unexpected { path: weights.path().to_path_buf(), name: name.clone(), more: more.len() })
                }
            },
        }
    }
}

/// Writes `model.safetensors` into a folder, synced to disk, with the names of a map: everything that a custom model needs besides its `config.json`.
///
/// # Errors
/// Files that cannot be written; frozen parameters in another element type than f32.
pub fn save_weights<'v>(
    folder: &Path,
    params: &Params<'_>,
    map: &NameMap,
    values: impl Into<ParamValues<'v>>,
) -> Result<(), FolderError> {
    Stored::of(map, params, |info| !info.adapter)?.save(&folder.join(SINGLE_FILE), &[], values.into())
}

/// Reads all parameters of a folder (or of a safetensors file) except those of adapters; see [`Stored::load`].
///
/// # Errors
/// As [`Stored::load`].
pub fn load_weights(
    path: &Path,
    params: &Params<'_>,
    map: &NameMap,
    trainable: &mut [f32],
    frozen: &mut [u8],
) -> Result<(), FolderError> {
    load_weights_with(path, params, map, ExtraTensors::Refuse, trainable, frozen).map(|_| ())
}

/// The same of a folder whose model may be another in what `reading` says. Returns the names of tensors that were left out, sorted.
///
/// # Errors
/// As [`Stored::load`].
pub fn load_weights_with(
    path: &Path,
    params: &Params<'_>,
    map: &NameMap,
    reading: impl Into<Reading>,
    trainable: &mut [f32],
    frozen: &mut [u8],
) -> Result<Vec<String>, FolderError> {
    let Reading { extra, token_ids, optional } = reading.into();
    let absent = match optional {
        Some(start) if !Weights::open(path)?.names().any(|name| name.starts_with(start)) => Some(start),
        _ => None,
    };
    let is_there = |info: &ParamInfo| absent.is_none_or(|start| !info.name.to_string().starts_with(start));
    let stored = Stored::of_tokens(map, params, token_ids, |info| !info.adapter && is_there(info))?;
    stored.load(path, extra, trainable, frozen)
}

/// The shape of a parameter in a folder with so many token ids.
fn dims(info: &ParamInfo, ids: Option<usize>) -> Vec<usize> {
    let mut dims: Vec<usize> = info.shape.dims().iter().map(|&dim| dim as usize).collect();
    if let (Part::Tokens | Part::Head, Some(ids), Some(rows)) = (info.part, ids, dims.first_mut()) {
        *rows = (*rows).min(ids);
    }
    dims
}

/// The tensors of a file in the places of a layout.
struct OpenedFile<'w> {
    weights: &'w Weights,
    layout: &'w Layout,
    /// Prefixes that this file does without.
    absent: Vec<&'static str>,
    /// Of every tensor of the layout.
    values: Vec<Option<TensorValues<'w>>>,
}

impl<'w> OpenedFile<'w> {
    /// Finds every tensor of the layout.
    fn new(weights: &'w Weights, layout: &'w Layout) -> Result<Self, FolderError> {
        let mut file = Self { weights, layout, absent: layout.absent_prefixes(weights.names()), values: Vec::new() };
        for tensor in layout.tensors() {
            let name = file.name(&tensor.name);
            if !tensor.is_zero() {
                file.values.push(Some(weights.values(name, &tensor.shape)?));
                continue;
            }
            if weights.contains(name) {
                check_zeros(weights, name, tensor.len())?;
            }
            file.values.push(None);
        }
        Ok(file)
    }

    /// A tensor's name in this file.
    fn name<'n>(&self, name: &'n str) -> &'n str
    where
        'w: 'n,
    {
        let name = self.absent.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let former = self.layout.former_name(name).filter(|_| !self.weights.contains(name));
        former.and_then(|former| self.weights.names().find(|other| *other == former)).unwrap_or(name)
    }

    /// Reads rows of a parameter, and checks that they are finite while they are in cache.
    fn read_rows(&self, parameter: usize, first: usize, out: &mut [f32]) -> Result<(), FolderError> {
        self.layout.read_rows(parameter, first, out, |tensor| self.values.get(tensor).copied().flatten());
        if all_finite(out) { Ok(()) } else { self.first_not_finite().map_or(Ok(()), Err) }
    }

    /// The first value in the tensors of the model that is not finite as f32.
    fn first_not_finite(&self) -> Option<FolderError> {
        let mut tensors = self.layout.tensors().iter().zip(&self.values);
        tensors.find_map(|(tensor, values)| {
            let at = values.as_ref()?.first_not_finite(tensor.len())?;
            Some(not_finite(self.weights, self.name(&tensor.name), &at.index_in(&tensor.shape), at.value))
        })
    }

    /// Rows, and values of each.
    fn shape(&self, parameter: usize) -> (usize, usize) {
        self.layout.parameters().get(parameter).map_or((1, 1), |own| (own.rows.max(1), own.row_len.max(1)))
    }

    /// Reads a parameter as f32.
    fn copy(&self, parameter: usize, own: &mut [f32]) -> Result<(), FolderError> {
        let (rows, row_len) = self.shape(parameter);
        let (known, new) = own.split_at_mut(own.len().min(rows * row_len));
        known.chunks_mut(STRIP * row_len).enumerate().try_for_each(|(i, strip)| self.read_rows(parameter, i * STRIP, strip))?;
        if !new.is_empty() {
            let mean = self.mean(parameter)?;
            new.chunks_exact_mut(row_len).for_each(|row| row.copy_from_slice(&mean));
        }
        Ok(())
    }

    /// The mean of a parameter's rows, summed in f64: what the rows of new tokens begin with.
    fn mean(&self, parameter: usize) -> Result<Vec<f32>, FolderError> {
        let (rows, row_len) = self.shape(parameter);
        let (mut sums, mut strip) = (vec![0.0_f64; row_len], Vec::new());
        for first in (0..rows).step_by(STRIP) {
            strip.resize(STRIP.min(rows - first) * row_len, 0.0);
            self.read_rows(parameter, first, &mut strip)?;
            for row in strip.chunks_exact(row_len) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
        Ok(sums.iter().map(|sum| (sum / rows as f64) as f32).collect())
    }

    /// Reads a parameter into its element type.
    fn store(&self, parameter: usize, info: &ParamInfo, own: &mut [u8]) -> Result<(), FolderError> {
        let (rows, row_len) = self.shape(parameter);
        let row_bytes = info.dtype.bytes(row_len, size_of::<f32>()).unwrap_or(0).max(1);
        let put = |row: &[f32], bytes: &mut [u8]| match info.dtype {
            DType::Real => bytes.as_chunks_mut().0.iter_mut().zip(row).for_each(|(to, x)| *to = x.to_ne_bytes()),
            dtype => quantise_row(dtype, row, bytes),
        };
        let (known, new) = own.split_at_mut(own.len().min(rows * row_bytes));
        let mut values = vec![0.0; STRIP.min(rows) * row_len];
        for (i, strip) in known.chunks_mut(STRIP * row_bytes).enumerate() {
            self.read_rows(parameter, i * STRIP, &mut values)?;
            values.chunks_exact(row_len).zip(strip.chunks_exact_mut(row_bytes)).for_each(|(row, bytes)| put(row, bytes));
        }
        if !new.is_empty() {
            let mean = self.mean(parameter)?;
            new.chunks_exact_mut(row_bytes).for_each(|bytes| put(&mean, bytes));
        }
        Ok(())
    }

    /// A tensor that repeats another one must equal it.
    fn check_ties(&self) -> Result<(), FolderError> {
        for (name, tensor) in self.layout.ties() {
            let (name, to) = (self.name(name), self.name(&tensor.name));
            if !self.weights.contains(name) {
                continue;
            }
            let (a, b) = (self.weights.values(name, &tensor.shape)?, self.weights.values(to, &tensor.shape)?);
            if !same(&a, &b, tensor.len()) {
                let path = self.weights.path().to_path_buf();
                return Err(FolderError::Untied { path, name: name.to_owned(), embedding: to.to_owned() });
            }
        }
        Ok(())
    }

    /// The tensors of the file that do not belong to the model, neither as a repetition of another tensor nor by an ignore rule.
    fn extra(&self) -> Vec<String> {
        let own = self.layout.tensors().iter().map(|tensor| tensor.name.as_str());
        let used: BTreeSet<&str> = own.chain(self.layout.ties().map(|(name, _)| name)).map(|name| self.name(name)).collect();
        let left = self.weights.names().filter(|name| !used.contains(name) && !self.layout.ignores(name));
        left.map(str::to_owned).collect()
    }
}

/// Whether all values are finite: no exponent is the largest one.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(0, |largest: u32, x| largest.max(x.abs().to_bits())) < f32::INFINITY.to_bits()
}

fn not_finite(weights: &Weights, name: &str, index: &[usize], value: f64) -> FolderError {
    FolderError::NotFinite { path: weights.path().to_path_buf(), name: name.to_owned(), index: index.to_vec(), value }
}

/// A vector that the model does not have must be 0.
fn check_zeros(weights: &Weights, name: &str, len: usize) -> Result<(), FolderError> {
    let mut values = vec![0.0; len];
    weights.read(name, &[len], &mut values)?;
    if let Some((at, &value)) = values.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        return Err(not_finite(weights, name, &[at], value.into()));
    }
    if values.iter().any(|&x| x != 0.0) {
        return Err(FolderError::Bias { path: weights.path().to_path_buf(), name: name.to_owned() });
    }
    Ok(())
}

/// Whether two tensors have the same bits.
fn same(a: &TensorValues<'_>, b: &TensorValues<'_>, len: usize) -> bool {
    let (mut left, mut right) = ([0.0; 1024], [0.0; 1024]);
    (0..len).step_by(left.len()).all(|start| {
        a.read(start, &mut left);
        b.read(start, &mut right);
        left.iter().zip(&right).all(|(a, b)| a.to_bits() == b.to_bits())
    })
}
