//! The state that a run needs to resume bit-exactly: a file per trained set, one per lasting state, and a few values.

use std::io::{self, Write};
use std::path::Path;

use samara_core::graph::Rule;
use samara_core::params::{ParamInfo, Params};
use serde::{Deserialize, Serialize};

use super::error::TrainingError as Error;
use super::step::Stepper;
use crate::lm::RunError;
use crate::model_folder::safetensors::{Weights, WeightsWriter};
use crate::run::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use crate::session::update::moment_names;
use crate::session::{Device, DeviceError, Session, SetId};

/// The counters of a run. All random numbers are functions of the seed and the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps done.
    pub step: u64,
    /// Tokens used.
    pub tokens: u64,
    /// Seconds of training, earlier parts included.
    pub wall_s: f64,
    /// The best value of the scalar by which evaluations are compared.
    #[serde(rename = "best_val_loss")]
    pub best: Option<f64>,
    /// The step of that value.
    pub best_step: u64,
    /// Evaluations since then.
    pub evaluations_without_improvement: u64,
    /// The value of the last evaluation.
    #[serde(rename = "val_loss")]
    pub last: Option<f64>,
    /// Updates of each trained set; absent in checkpoints of runs with one update per step.
    #[serde(default)]
    pub updates: Option<Vec<u64>>,
    /// The record of the last step, if a signal arrived before its evaluation was finished.
    #[serde(default)]
    pub pending: Option<Vec<Option<f64>>>,
    /// The objective's own state.
    #[serde(default)]
    pub objective: serde_json::Value,
}

/// Values with the layout of a set's trainable parameters, and the suffix of parameter names for them.
struct Part {
    suffix: String,
    set: SetId,
    /// A moment; `None` for the weights.
    moment: Option<usize>,
}

/// Weights, moments and averages of a trained set; an average is named after its set.
fn parts<D: Device>(session: &Session<D>, rule: Rule, set: SetId, averages: &[SetId]) -> Vec<Part> {
    let part = |suffix: &str, set, moment| Part { suffix: suffix.to_owned(), set, moment };
    let moments = moment_names(rule).iter().enumerate().map(|(i, name)| part(name, set, Some(i)));
    let averages = averages.iter().map(|&average| part(session.set(average).name(), average, None));
    [part("weight", set, None)].into_iter().chain(moments).chain(averages).collect()
}

/// The trainable parameters of a registry, with their shapes.
fn trainable<'p>(params: &Params<'p>) -> impl Iterator<Item = (&'p ParamInfo, Vec<usize>)> {
    let shape = |p: &ParamInfo| p.shape.dims().iter().map(|&d| d as usize).collect();
    params.infos().iter().filter(|p| !p.frozen).map(move |p| (p, shape(p)))
}

/// The file of a set.
fn set_file(name: &str) -> String {
    format!("{name}.safetensors")
}

/// The file of a state.
fn state_file(name: &str) -> String {
    format!("{name}.state")
}

/// Writes a checkpoint. Weights and moments are named by their parameters with a suffix.
///
/// # Errors
/// The operating system refuses, or the device failed.
pub fn save<D: Device>(checkpoints: &Checkpoints, state: &RunState, stepper: &mut Stepper<D>) -> Result<(), CheckpointError> {
    let state_json = serde_json::to_value(state).unwrap_or_default();
    let hash = layout_hash(stepper);
    let trained: Vec<(&str, SetId, Vec<SetId>)> = stepper.trained().map(|(name, set, of)| (name, set, of.to_vec())).collect();
    let (rule, session) = (stepper.rule(), &mut stepper.session);
    checkpoints.write(state.step, &hash, state_json, |writer| {
        for (name, set, averages) in &trained {
            writer.file(&set_file(name), |file| write_set(file, session, rule, *set, averages))?;
        }
        for id in session.lasting_states() {
            let (state, device) = session.state_mut(id);
            let name = state_file(state.name());
            writer.file(&name, |file| {
                let mut written = Ok(());
                device
                    .lend(&state.mem, &mut |values| written = file.write_all(bytemuck::cast_slice(values)))
                    .map_err(io::Error::other)?;
                written
            })?;
        }
        Ok(())
    })?;
    Ok(())
}

/// A checksum of the names and shapes of all parameters that are trained.
fn layout_hash<D: Device>(stepper: &Stepper<D>) -> String {
    let mut text = String::new();
    for (_, set, _) in stepper.trained() {
        let params = stepper.session.set(set).params();
        text.extend(params.infos().iter().map(|p| format!("{} {}\n", p.name, p.shape)));
    }
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn write_set<D: Device>(
    file: &mut dyn Write,
    session: &mut Session<D>,
    rule: Rule,
    set: SetId,
    averages: &[SetId],
) -> io::Result<()> {
    let registry = session.set(set).registry().clone();
    let (params, parts) = (registry.view(), parts(session, rule, set, averages));
    let names = parts.iter().flat_map(|part| {
        let suffix = &part.suffix;
        trainable(&params).map(move |(p, shape)| (format!("{}/{suffix}", p.name), shape))
    });
    let path = set_file(session.set(set).name());
    let mut writer = WeightsWriter::new(file, Path::new(&path), names.collect()).map_err(io::Error::other)?;
    for part in &parts {
        let mut written = Ok(());
        let lent = part.lend(session, &mut |values| {
            written = trainable(&params).try_for_each(|(p, _)| {
                let values = values.get(p.range()).unwrap_or(&[]);
                writer.values(&format!("{}/{}", p.name, part.suffix), values)
            });
        });
        lent.map_err(io::Error::other)?;
        written.map_err(io::Error::other)?;
    }
    writer.into_inner().map_err(io::Error::other)?.flush()
}

impl Part {
    fn lend<D: Device>(&self, session: &mut Session<D>, read: &mut dyn FnMut(&[f32])) -> Result<(), DeviceError> {
        let (set, device) = session.set_mut(self.set);
        let len = set.params().trainable_len();
        match self.moment {
            None => device.lend(&set.weights, read),
            Some(i) => device.lend(&set.moments, &mut |all| read(all.get(i * len..(i + 1) * len).unwrap_or(&[]))),
        }
    }

    fn lend_mut<D: Device>(&self, session: &mut Session<D>, write: &mut dyn FnMut(&mut [f32])) -> Result<(), DeviceError> {
        let (set, device) = session.set_mut(self.set);
        let len = set.params().trainable_len();
        match self.moment {
            None => device.lend_mut(&mut set.weights, write),
            Some(i) => {
                device.lend_mut(&mut set.moments, &mut |all| write(all.get_mut(i * len..(i + 1) * len).unwrap_or(&mut [])))
            }
        }
    }
}

/// Reads a checkpoint back into sets and states that have their sizes already.
///
/// # Errors
/// The checkpoint is that of other parameters, or a file cannot be read.
pub fn load<D: Device>(checkpoint: &Checkpoint, stepper: &mut Stepper<D>) -> Result<RunState, Error> {
    let manifest = checkpoint.path("manifest.json");
    let expected = layout_hash(stepper);
    if checkpoint.manifest.config_hash != expected {
        let found = format!("{}: resume with the model of the start of the run", checkpoint.manifest.config_hash);
        let expected = format!("checksum {expected} of the names and shapes of all trained parameters");
        return Err(CheckpointError::Damaged { path: manifest, expected, found }.into());
    }
    let trained: Vec<(&str, SetId, Vec<SetId>)> = stepper.trained().map(|(name, set, of)| (name, set, of.to_vec())).collect();
    let (rule, session) = (stepper.rule(), &mut stepper.session);
    for (name, set, averages) in trained {
        read_set(&checkpoint.path(&set_file(name)), session, rule, set, &averages)?;
    }
    for id in session.lasting_states() {
        let (state, device) = session.state_mut(id);
        let path = checkpoint.path(&state_file(state.name()));
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        let mut fits = false;
        let copy = &mut |values: &mut [f32]| {
            fits = size_of_val(values) == bytes.len();
            values
                .iter_mut()
                .zip(bytes.chunks_exact(4))
                .for_each(|(to, from)| *to = f32::from_le_bytes([from[0], from[1], from[2], from[3]]));
        };
        device.lend_mut(&mut state.mem, copy).map_err(RunError::from)?;
        if !fits {
            let expected = format!("{} bytes", 4 * D::len(&state.mem));
            return Err(CheckpointError::Damaged { path, expected, found: bytes.len().to_string() }.into());
        }
    }
    let state: RunState = serde_json::from_value(checkpoint.manifest.state.clone()).map_err(|error| {
        let expected = "the state of a run".to_owned();
        CheckpointError::Damaged { path: manifest, expected, found: error.to_string() }
    })?;
    let sets = stepper.trained().count();
    stepper.set_counts(state.updates.clone().unwrap_or_else(|| vec![state.step; sets]));
    Ok(state)
}

fn read_set<D: Device>(path: &Path, session: &mut Session<D>, rule: Rule, set: SetId, averages: &[SetId]) -> Result<(), Error> {
    let weights = Weights::open(path)?;
    let registry = session.set(set).registry().clone();
    let (params, parts) = (registry.view(), parts(session, rule, set, averages));
    let is_read = |name: &str| name.rsplit_once('/').is_some_and(|(_, suffix)| parts.iter().any(|part| part.suffix == suffix));
    if let Some(name) = weights.names().find(|name| !is_read(name)) {
        let expected =
            "what the optimizer and the averages of this run need; resume with those of the start of the run".to_owned();
        return Err(CheckpointError::Damaged { path: path.to_owned(), expected, found: name.to_owned() }.into());
    }
    for part in &parts {
        let mut read = Ok(());
        part.lend_mut(session, &mut |values| {
            read = trainable(&params).try_for_each(|(p, shape)| {
                weights.read(&format!("{}/{}", p.name, part.suffix), &shape, values.get_mut(p.range()).unwrap_or(&mut []))
            });
        })
        .map_err(RunError::from)?;
        read?;
    }
    Ok(())
}
