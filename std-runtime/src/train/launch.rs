//! Training of a custom objective, such as one of a program outside of this crate.

use std::path::Path;
use std::sync::Arc;

use super::config::{ObjectiveConfig, TrainConfig};
use super::error::TrainingError as Error;
use super::folder::{CONFIG_FILE, RunFolder};
use super::objective::Objective;
use super::progress::View;
use super::trainer::{Finished, Trainer};
use crate::config::{Tables, to_toml};
use crate::run::durable;
use crate::session::{CpuDevice, Engine, Session};
use crate::stop::Stop;

/// Trains an objective on this machine in the folder `out`, as `samara train` does: checkpoints, metrics, TensorBoard events, plots, progress,
/// Ctrl-C. If the folder has a checkpoint the run resumes from it, with the same bits as one that was never interrupted.
///
/// # Errors
/// A folder of a run with another `[train]`, files, a value that is not finite, or a signal, after a checkpoint.
pub fn launch(out: &Path, objective: impl Objective<CpuDevice> + Send, train: &TrainConfig) -> Result<Finished, Error> {
    let config = ObjectiveConfig { train: train.clone() };
    config.check()?;
    let stop = Stop::install(false).map_err(Error::io(Path::new("signals"), "listen to"))?;
    let engine = Engine::new(train.threads, train.gemm)?;
    let folder = RunFolder::open(out, train.keep_checkpoints, true)?;
    folder.former()?.map_or(Ok(()), |former| folder.refuse_changes(&former, &config))?;
    // The whole loop runs on a thread of the pool: a step from outside would allocate.
    Arc::clone(&engine).install(|| {
        let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, train, folder, View::Line)?;
        durable::write(&out.join(CONFIG_FILE), to_toml(&config).as_bytes()).map_err(Error::io(out, "write"))?;
        trainer.run(&stop)
    })
}

/// Runs a training on this machine's pool, for the whole loop: a step from outside would allocate. Signals are answered as the view needs it.
///
/// # Errors
/// Signals or threads that cannot be had, and those of `run`.
pub(super) fn on_pool<T: Send>(
    view: View,
    train: &TrainConfig,
    run: impl FnOnce(Arc<Engine>, &Stop) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let stop = match view {
        View::Curves => Stop::install_under_view(),
        view => Stop::install(view == View::Quiet),
    };
    let stop = stop.map_err(Error::io(Path::new("signals"), "listen to"))?;
    let engine = Engine::new(train.threads, train.gemm)?;
    Arc::clone(&engine).install(|| run(engine, &stop))
}
