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

use super::safetensors::{SINGLE_FILE, Weights, WeightsWriter};
use super::{FolderConfig, FolderError};
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
    fs::create_dir_all(folder).map_err(FolderError::io(folder, "create the folder"))?;
    config.write(folder)?;
    let mut writer = WeightsWriter::create(&folder.join(SINGLE_FILE), tensors(params, &core))?;
    write_weights(&mut writer, params, &core, values)?;
    writer.finish()?;
    Ok(())
}

/// Reads all parameters of a folder (or of a safetensors file) into `values`, which has the layout of the registry.
pub fn load_weights(path: &Path, params: &Params<'_>, config: &GptConfig, values: &mut [f32]) -> Result<(), FolderError> {
    let weights = Weights::open(path)?;
    let prefix = if weights.names().any(|name| name.starts_with(PREFIX)) { PREFIX } else { "" };
    let mut used = BTreeSet::new();
    let mut scratch = Vec::new();
    for info in trainable(params) {
        let name = format!("{prefix}{}", info.name);
        let own = values.get_mut(info.range()).unwrap_or(&mut []);
        let shape = file_shape(info);
        if is_turned(info) {
            scratch.resize(own.len(), 0.0);
            weights.read(&name, &shape, &mut scratch)?;
            transpose(&scratch, shape.last().copied().unwrap_or(1), own);
        } else {
            weights.read(&name, &shape, own)?;
        }
        used.insert(name);
        if let Some((bias, len)) = absent_bias(info, config) {
            let bias = format!("{prefix}{bias}");
            if weights.contains(&bias) {
                scratch.resize(len, 0.0);
                weights.read(&bias, &[len], &mut scratch)?;
                if scratch.iter().any(|&b| b != 0.0) {
                    return Err(FolderError::Bias { path: weights.path().to_path_buf(), name: bias });
                }
                used.insert(bias);
            }
        }
    }
    check_head(&weights, prefix, params, values, &mut scratch)?;
    let mut left = weights.names().filter(|name| !used.contains(*name) && *name != HEAD && !is_buffer(name));
    match left.next() {
        None => Ok(()),
        Some(first) => {
            let more = left.count();
            Err(FolderError::Unexpected { path: weights.path().to_path_buf(), name: first.to_owned(), more })
        }
    }
}

/// A head in the file must be the token embedding, which is the first parameter.
fn check_head(
    weights: &Weights,
    prefix: &str,
    params: &Params<'_>,
    values: &[f32],
    scratch: &mut Vec<f32>,
) -> Result<(), FolderError> {
    let Some(embedding) = trainable(params).next().filter(|_| weights.contains(HEAD)) else { return Ok(()) };
    let own = values.get(embedding.range()).unwrap_or(&[]);
    scratch.resize(own.len(), 0.0);
    weights.read(HEAD, &file_shape(embedding), scratch)?;
    if scratch.iter().zip(own).all(|(a, b)| a.to_bits() == b.to_bits()) {
        return Ok(());
    }
    let embedding = format!("{prefix}{}", embedding.name);
    Err(FolderError::Untied { path: weights.path().to_path_buf(), name: HEAD.to_owned(), embedding })
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
