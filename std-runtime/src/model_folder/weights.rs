//! Parameters of GPT models to and from the tensors of `GPT2LMHeadModel` and `OpenAIGPTLMHeadModel`.
//!
//! The matrices of blocks are (out, in) here and (in, out) in the files (`Conv1D`). Files of bare models lack the prefix `transformer.`; old
//! files hold masks, which are passed over. The head is tied to the token embedding: a file may repeat it. A model without biases is written
//! with biases of zero, so that `transformers` opens it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use samara_core::model::gpt::GptConfig;
use samara_core::params::{ParamInfo, Params};
use samara_core::quant::quantise_row;

use super::safetensors::{SINGLE_FILE, Values, Weights, WeightsWriter};
use super::{FolderConfig, FolderError};
use crate::files::IoError;
use crate::model_folder::safetensors::WeightsError;

const PREFIX: &str = "transformer.";
const HEAD: &str = "lm_head.weight";

/// Names and shapes of the tensors that [`write_weights`] writes, in its order.
pub fn tensors(params: &Params<'_>, config: &GptConfig) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    for info in trainable(params) {
        tensors.push((format!("{PREFIX}{}", info.name), file_shape(info)));
        if let Some((bias, len)) = absent_bias(info, config) {
            tensors.push((format!("{PREFIX}{bias}"), vec![len]));
        }
    }
    tensors
}

/// Writes all parameters into a file that was begun with [`tensors`]. `values` has the layout of the registry.
pub fn write_weights<W: Write>(
    writer: &mut WeightsWriter<W>,
    params: &Params<'_>,
    config: &GptConfig,
    values: &[f32],
) -> Result<(), WeightsError> {
    let mut turned = Vec::new();
    for info in trainable(params) {
        let name = format!("{PREFIX}{}", info.name);
        let own = values.get(info.range()).unwrap_or(&[]);
        if is_turned(info) {
            turned.resize(own.len(), 0.0);
            transpose(own, info.shape.cols(), &mut turned);
            writer.values(&name, &turned)?;
        } else {
            writer.values(&name, own)?;
        }
        if let Some((bias, len)) = absent_bias(info, config) {
            writer.values(&format!("{PREFIX}{bias}"), &vec![0.0; len])?;
        }
    }
    Ok(())
}

/// Writes `config.json`, `generation_config.json` and `model.safetensors`, each durably; the folder is made if need be. `values` has the layout
/// of the registry.
pub fn save_folder(folder: &Path, config: &FolderConfig, params: &Params<'_>, values: &[f32]) -> Result<(), FolderError> {
    let core = config.model.to_core()?;
    fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder"))?;
    config.write(folder)?;
    let mut writer = WeightsWriter::create(&folder.join(SINGLE_FILE), tensors(params, &core))?;
    write_weights(&mut writer, params, &core, values)?;
    writer.finish()?;
    Ok(())
}

/// Reads all parameters of a folder (or of a safetensors file) into `trainable` and `frozen`, which have the layout of the registry. What is
/// frozen is written in its element type a few rows at a time: a model in blocks never stands in memory as numbers of 32 bits.
pub fn load_weights(
    path: &Path,
    params: &Params<'_>,
    config: &GptConfig,
    trainable: &mut [f32],
    frozen: &mut [u8],
) -> Result<(), FolderError> {
    let weights = Weights::open(path)?;
    let prefix = if weights.names().any(|name| name.starts_with(PREFIX)) { PREFIX } else { "" };
    let mut used = BTreeSet::new();
    for info in params.infos() {
        let name = format!("{prefix}{}", info.name);
        let values = weights.values(&name, &file_shape(info))?;
        if info.frozen {
            store(&values, info, frozen.get_mut(info.frozen_bytes(size_of::<f32>())).unwrap_or(&mut []));
        } else {
            copy(&values, info, trainable.get_mut(info.range()).unwrap_or(&mut []));
        }
        used.insert(name);
        if let Some((bias, len)) = absent_bias(info, config) {
            let bias = format!("{prefix}{bias}");
            if weights.contains(&bias) {
                check_zeros(&weights, &bias, len)?;
                used.insert(bias);
            }
        }
    }
    check_head(&weights, prefix, params)?;
    let mut left = weights.names().filter(|name| !used.contains(*name) && *name != HEAD && !is_buffer(name));
    match left.next() {
        None => Ok(()),
        Some(first) => {
            let more = left.count();
            Err(FolderError::Unexpected { path: weights.path().to_path_buf(), name: first.to_owned(), more })
        }
    }
}

/// Rows of a parameter that are read at a time. A strip of a matrix that is turned takes this many neighbours from every row of the file.
const STRIP: usize = 64;

/// Reads a parameter as numbers.
fn copy(values: &Values<'_>, info: &ParamInfo, own: &mut [f32]) {
    for (i, strip) in own.chunks_mut(STRIP * info.shape.cols().max(1)).enumerate() {
        read_rows(values, info, i * STRIP, strip);
    }
}

/// Reads a parameter into its element type.
fn store(values: &Values<'_>, info: &ParamInfo, own: &mut [u8]) {
    let (rows, cols) = (info.shape.rows().max(1), info.shape.cols().max(1));
    let row_bytes = (own.len() / rows).max(1);
    let mut numbers = vec![0.0; STRIP.min(rows) * cols];
    for (i, strip) in own.chunks_mut(STRIP * row_bytes).enumerate() {
        read_rows(values, info, i * STRIP, &mut numbers);
        for (row, bytes) in numbers.chunks_exact(cols).zip(strip.chunks_exact_mut(row_bytes)) {
            quantise_row(info.dtype, row, bytes);
        }
    }
}

/// Reads at most [`STRIP`] rows of a parameter, from row `first` on, into `out` (rows, cols).
fn read_rows(values: &Values<'_>, info: &ParamInfo, first: usize, out: &mut [f32]) {
    let (rows, cols) = (info.shape.rows(), info.shape.cols().max(1));
    if !is_turned(info) {
        return values.read(first * cols, out);
    }
    let taken = (out.len() / cols).min(rows - first);
    // A square at a time, which stays in the nearest cache while it is turned.
    let mut square = [[0.0; STRIP]; STRIP];
    for start in (0..cols).step_by(STRIP) {
        for (k, line) in (start..cols).zip(&mut square) {
            values.read(k * rows + first, line.get_mut(..taken).unwrap_or_default());
        }
        for (r, row) in out.chunks_exact_mut(cols).take(taken).enumerate() {
            for (place, line) in row.iter_mut().skip(start).zip(&square) {
                *place = line.get(r).copied().unwrap_or(0.0);
            }
        }
    }
}

/// A bias that the model does not have must be 0.
fn check_zeros(weights: &Weights, bias: &str, len: usize) -> Result<(), FolderError> {
    let mut values = vec![0.0; len];
    weights.read(bias, &[len], &mut values)?;
    if values.iter().any(|&b| b != 0.0) {
        return Err(FolderError::Bias { path: weights.path().to_path_buf(), name: bias.to_owned() });
    }
    Ok(())
}

/// A head in the file must be the token embedding, which is the first parameter.
fn check_head(weights: &Weights, prefix: &str, params: &Params<'_>) -> Result<(), FolderError> {
    let Some(embedding) = params.infos().first().filter(|_| weights.contains(HEAD)) else { return Ok(()) };
    let name = format!("{prefix}{}", embedding.name);
    let (head, own) = (weights.values(HEAD, &file_shape(embedding))?, weights.values(&name, &file_shape(embedding))?);
    let (mut a, mut b) = ([0.0; 1024], [0.0; 1024]);
    let same = (0..embedding.shape.len()).step_by(a.len()).all(|start| {
        head.read(start, &mut a);
        own.read(start, &mut b);
        a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits())
    });
    if same {
        return Ok(());
    }
    Err(FolderError::Untied { path: weights.path().to_path_buf(), name: HEAD.to_owned(), embedding: name })
}

fn trainable<'p>(params: &Params<'p>) -> impl Iterator<Item = &'p ParamInfo> {
    params.infos().iter().filter(|info| !info.frozen)
}

/// Matrices of blocks are turned; embeddings are not.
fn is_turned(info: &ParamInfo) -> bool {
    info.shape.rank() == 2 && info.name.template.starts_with("h.")
}

fn file_shape(info: &ParamInfo) -> Vec<usize> {
    let shape = info.shape.dims().iter().map(|&dim| dim as usize);
    if is_turned(info) { shape.rev().collect() } else { shape.collect() }
}

/// The bias that belongs to a weight in the file when the model has none, and its length.
fn absent_bias(info: &ParamInfo, config: &GptConfig) -> Option<(String, usize)> {
    let is_embedding = info.shape.rank() == 2 && !is_turned(info);
    if config.bias || is_embedding {
        return None;
    }
    let name = info.name.to_string();
    name.strip_suffix(".weight").map(|layer| (format!("{layer}.bias"), info.shape.dim(0)))
}

/// Masks and positions that old versions of `transformers` saved.
fn is_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias")
        || name.ends_with(".attn.masked_bias")
        || name == "position_ids"
        || name.ends_with(".position_ids")
}

/// `to` (cols, rows) = `from` (rows, cols), turned. In strips of rows, so that a cache line of `to` is filled before it leaves the cache.
fn transpose(from: &[f32], cols: usize, to: &mut [f32]) {
    const STRIP: usize = 16;
    let cols = cols.max(1);
    let rows = from.len() / cols;
    for (strip_index, strip) in from.chunks(STRIP * cols).enumerate() {
        for (col, column) in to.chunks_exact_mut(rows.max(1)).enumerate() {
            let places = column.iter_mut().skip(strip_index * STRIP);
            for (place, row) in places.zip(strip.chunks_exact(cols)) {
                *place = row.get(col).copied().unwrap_or(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn transpose_turns(rows in 1_usize..40, cols in 1_usize..40) {
            let from: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let mut to = vec![-1.0; from.len()];
            transpose(&from, cols, &mut to);
            for r in 0..rows {
                for c in 0..cols {
                    prop_assert_eq!(to[c * rows + r], from[r * cols + c]);
                }
            }
        }
    }
}
