//! What a run must remember to go on to the bit: weights, moments, and a few numbers.

use std::io::{self, Write};
use std::path::Path;

use samara_core::params::{ParamInfo, Params};
use serde::{Deserialize, Serialize};

use super::error::TrainingError as Error;
use crate::gpt::RunError;
use crate::model_folder::safetensors::{Weights, WeightsWriter};
use crate::run::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use crate::session::{Device, DeviceError, Session, SetId};

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

/// A trained set and the averages that follow it, which one file of a checkpoint holds.
pub struct TrainedSet<'a> {
    /// The set.
    pub set: SetId,
    /// The averages.
    pub averages: &'a [SetId],
}

/// Values that have the layout of a set's trainable parameters, and what stands behind a parameter's name for them.
struct Part {
    suffix: String,
    set: SetId,
    /// The weights, or a moment.
    moment: Option<usize>,
}

/// What stands behind a parameter's name for AdamW's moments.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

impl TrainedSet<'_> {
    /// Weights, moments, averages; an average goes by the name of its set.
    fn parts<D: Device>(&self, session: &Session<D>) -> Vec<Part> {
        let set = session.set(self.set);
        let count = D::len(&set.moments) / set.params().trainable_len().max(1);
        let mut parts = vec![Part { suffix: "weight".to_owned(), set: self.set, moment: None }];
        let name = |i| MOMENTS.get(i).map_or_else(|| format!("moment_{i}"), |name: &&str| (*name).to_owned());
        parts.extend((0..count).map(|i| Part { suffix: name(i), set: self.set, moment: Some(i) }));
        let average = |&set: &SetId| Part { suffix: session.set(set).name().to_owned(), set, moment: None };
        parts.extend(self.averages.iter().map(average));
        parts
    }
}

/// The trainable parameters of a registry, with their shapes.
fn trainable<'p>(params: &Params<'p>) -> impl Iterator<Item = (&'p ParamInfo, Vec<usize>)> {
    let shape = |p: &ParamInfo| p.shape.dims().iter().map(|&d| d as usize).collect();
    params.infos().iter().filter(|p| !p.frozen).map(move |p| (p, shape(p)))
}

/// Writes a checkpoint. Weights and moments stand under the names of the parameters with a suffix.
pub fn save<D: Device>(
    checkpoints: &Checkpoints,
    state: &RunState,
    session: &mut Session<D>,
    trained: &TrainedSet<'_>,
) -> Result<(), CheckpointError> {
    let state_json = serde_json::to_value(state).unwrap_or_default();
    let hash = layout_hash(&session.set(trained.set).params());
    checkpoints.write(state.step, &hash, state_json, |writer| writer.file(FILE, |file| write_tensors(file, session, trained)))?;
    Ok(())
}

/// A checksum of the names and shapes of all parameters.
fn layout_hash(params: &Params<'_>) -> String {
    let text: String = params.infos().iter().map(|p| format!("{} {}\n", p.name, p.shape)).collect();
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn write_tensors<D: Device>(file: &mut dyn Write, session: &mut Session<D>, trained: &TrainedSet<'_>) -> io::Result<()> {
    let registry = session.set(trained.set).registry().clone();
    let (params, parts) = (registry.view(), trained.parts(session));
    let names = parts.iter().flat_map(|part| {
        let suffix = &part.suffix;
        trainable(&params).map(move |(p, shape)| (format!("{}/{suffix}", p.name), shape))
    });
    let mut writer = WeightsWriter::new(file, Path::new(FILE), names.collect()).map_err(io::Error::other)?;
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

/// Reads weights and moments back. The sets must have their sizes already.
pub fn load<D: Device>(checkpoint: &Checkpoint, session: &mut Session<D>, trained: &TrainedSet<'_>) -> Result<RunState, Error> {
    let weights = Weights::open(&checkpoint.path(FILE))?;
    let registry = session.set(trained.set).registry().clone();
    for part in trained.parts(session) {
        let mut read = Ok(());
        part.lend_mut(session, &mut |values| {
            read = trainable(&registry.view()).try_for_each(|(p, shape)| {
                weights.read(&format!("{}/{}", p.name, part.suffix), &shape, values.get_mut(p.range()).unwrap_or(&mut []))
            });
        })
        .map_err(RunError::from)?;
        read?;
    }
    serde_json::from_value(checkpoint.manifest.state.clone()).map_err(|error| {
        let (path, expected) = (checkpoint.path("manifest.json"), "the state of a run".to_owned());
        CheckpointError::Damaged { path, expected, found: error.to_string() }.into()
    })
}
