//! What a run must remember to go on to the bit: weights, moments, and a few numbers.

use std::io::{self, Write};
use std::path::Path;

use samara_core::params::Params;
use serde::{Deserialize, Serialize};

use super::error::TrainingError as Error;
use crate::model_folder::safetensors::{Weights, WeightsWriter};
use crate::run::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use crate::session::{Buffers, Session};

/// The file of a checkpoint that holds weights and moments.
const FILE: &str = "training.safetensors";

/// The numbers of a run. Everything random is a function of the seed and the step, so that nothing else needs to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps done.
    pub step: u64,
    /// Tokens used.
    pub tokens: u64,
    /// Seconds of training, earlier parts included.
    pub wall_s: f64,
    /// The smallest validation loss so far.
    pub best_val_loss: Option<f64>,
    /// The step of that loss.
    pub best_step: u64,
    /// Evaluations since then.
    pub evaluations_without_improvement: u64,
    /// The last validation loss.
    pub val_loss: Option<f64>,
}

/// Writes a checkpoint. Weights and moments stand under the names of the parameters, moments with a suffix.
pub fn save(checkpoints: &Checkpoints, state: &RunState, session: &Session) -> Result<(), CheckpointError> {
    let state_json = serde_json::to_value(state).unwrap_or_default();
    let (params, buffers) = (session.params(), &session.buffers);
    checkpoints.write(state.step, &layout_hash(&params), state_json, |writer| {
        writer.file(FILE, |file| write_tensors(file, &params, buffers))
    })?;
    Ok(())
}

/// A checksum of the names and shapes of all parameters.
fn layout_hash(params: &Params<'_>) -> String {
    let text: String = params.infos().iter().map(|p| format!("{} {}\n", p.name, p.shape)).collect();
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

/// Every tensor of a checkpoint: its name, its shape, and its values.
fn tensors<'b>(params: &Params<'_>, buffers: &'b Buffers) -> Vec<(String, Vec<usize>, &'b [f32])> {
    let all = params.trainable_len().max(1);
    let mut sets = vec![("weight", buffers.trainable.get())];
    for (i, moment) in buffers.moments.get().chunks_exact(all).enumerate() {
        sets.push((SUFFIXES.get(i).copied().unwrap_or("moment"), moment));
    }
    let of_set = |(suffix, values): (&str, &'b [f32])| -> Vec<(String, Vec<usize>, &'b [f32])> {
        let trainable = params.infos().iter().filter(|p| !p.frozen);
        trainable
            .map(|p| (format!("{}/{suffix}", p.name), p.shape.dims().iter().map(|&d| d as usize).collect(), &values[p.range()]))
            .collect()
    };
    sets.into_iter().flat_map(of_set).collect()
}

/// What stands behind a parameter's name for its moments: AdamW's two and the moving average.
const SUFFIXES: [&str; 3] = ["exp_avg", "exp_avg_sq", "ema"];

fn write_tensors(file: &mut dyn Write, params: &Params<'_>, buffers: &Buffers) -> io::Result<()> {
    let tensors = tensors(params, buffers);
    let names = tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    let mut writer = WeightsWriter::new(file, Path::new(FILE), names).map_err(io::Error::other)?;
    for (name, _, values) in &tensors {
        writer.values(name, values).map_err(io::Error::other)?;
    }
    writer.into_inner().map_err(io::Error::other)?.flush()
}

/// Reads weights and moments back. The buffers must have their sizes already.
pub fn load(checkpoint: &Checkpoint, session: &mut Session) -> Result<RunState, Error> {
    let (params, buffers) = session.params_and_buffers();
    let weights = Weights::open(&checkpoint.path(FILE))?;
    let all = params.trainable_len().max(1);
    let shape_of = |p: &samara_core::params::ParamInfo| -> Vec<usize> { p.shape.dims().iter().map(|&d| d as usize).collect() };
    let moments = buffers.moments.get_mut().chunks_exact_mut(all).enumerate();
    let moments = moments.map(|(i, values)| (SUFFIXES.get(i).copied().unwrap_or("moment"), values));
    for (suffix, values) in std::iter::once(("weight", buffers.trainable.get_mut())).chain(moments) {
        for p in params.infos().iter().filter(|p| !p.frozen) {
            weights.read(&format!("{}/{suffix}", p.name), &shape_of(p), &mut values[p.range()])?;
        }
    }
    serde_json::from_value(checkpoint.manifest.state.clone()).map_err(|error| {
        let (path, expected) = (checkpoint.path("manifest.json"), "the state of a run".to_owned());
        CheckpointError::Damaged { path, expected, found: error.to_string() }.into()
    })
}
