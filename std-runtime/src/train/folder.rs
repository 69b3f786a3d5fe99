//! The folder of a run, and the checkpoint from which it goes on.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::TrainingError as Error;
use super::request::TrainRequest;
use crate::config::{Layers, Tables, conflicts};
use crate::model_folder;
use crate::run::checkpoint::{Checkpoint, Checkpoints};
use crate::say;

/// The effective configuration in the run folder.
pub const CONFIG_FILE: &str = "run.toml";
/// One record per step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// What the model did now and then.
pub const SAMPLES_FILE: &str = "samples.txt";

/// An open run folder.
pub struct RunFolder {
    /// Where it is.
    pub out: PathBuf,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
    /// The checkpoint to go on from.
    pub checkpoint: Option<Checkpoint>,
    /// What a person does to go on after a signal.
    pub resume: String,
}

impl RunFolder {
    /// Opens a folder, which is made if need be, and keeps so many checkpoints in it. With `resume` the newest valid checkpoint is the one to
    /// go on from; what is wrong with newer ones is said aloud.
    ///
    /// # Errors
    /// The operating system refuses, or every checkpoint is damaged: to begin again would throw them away.
    pub fn open(out: &Path, keep: usize, resume: bool) -> Result<Self, Error> {
        fs::create_dir_all(out).map_err(Error::io(out, "create the folder"))?;
        let checkpoints = Checkpoints::open(&out.join("checkpoints"), keep)?;
        let checkpoint = if resume { newest(&checkpoints)? } else { None };
        let resume = format!("the same command, which finds its checkpoint in {}", out.display());
        Ok(Self { out: out.to_owned(), checkpoints, checkpoint, resume })
    }

    /// The folder that is asked for, or the next free `runs/NAME-NNN`.
    ///
    /// # Errors
    /// As [`RunFolder::open`]; a folder that holds another run, or a model of no run.
    pub fn of_request(request: &TrainRequest) -> Result<Self, Error> {
        let out = match &request.out {
            Some(out) => out.clone(),
            None => {
                let free = (1..).map(|n| Path::new("runs").join(format!("{}-{n:03}", request.name))).find(|path| !path.exists());
                free.unwrap_or_else(|| PathBuf::from("runs"))
            }
        };
        if !request.resume && out.join(METRICS_FILE).exists() {
            let out = out.display();
            return Err(Error::Usage(format!(
                "{out}: the folder already holds a run; add --resume to go on with it, or choose another --out"
            )));
        }
        if model_folder::is_model_folder(&out) && !out.join(CONFIG_FILE).exists() {
            let out = out.display();
            return Err(Error::Usage(format!(
                "{out}: the folder holds a model and no run.toml of a run that wrote it; choose another --out (--init {out} begins with its weights)"
            )));
        }
        let resume = format!("samara train --resume --out {}", out.display());
        Ok(Self { resume, ..Self::open(&out, request.config.train.keep_checkpoints, request.resume)? })
    }

    /// Refuses to go on with a configuration that would have given other results.
    ///
    /// # Errors
    /// The run's configuration cannot be read, or differs.
    pub fn refuse_changes<C: Tables>(&self, config: &C) -> Result<(), Error> {
        if self.checkpoint.is_none() {
            return Ok(());
        }
        let path = self.out.join(CONFIG_FILE);
        let mut layers = Layers::<C>::new();
        layers.file(&path)?;
        let former = layers.finish()?;
        let differences = conflicts(&former, config);
        if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch { path, differences }) }
    }
}

/// The newest checkpoint to go on with.
fn newest(checkpoints: &Checkpoints) -> Result<Option<Checkpoint>, Error> {
    let newest = checkpoints.newest_valid()?;
    if newest.checkpoint.is_none() {
        return newest.rejected.into_iter().next().map_or(Ok(None), |rejected| Err(rejected.into()));
    }
    for rejected in &newest.rejected {
        say::line(&format!("warning: {rejected}; falling back to an older checkpoint"));
    }
    Ok(newest.checkpoint)
}
