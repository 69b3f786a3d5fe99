//! The folder of a run, and the checkpoint to resume from.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::TrainingError as Error;
use super::request::FolderRequest;
use crate::config::{self, Layers, Tables, conflicts, to_toml_of};
use crate::files::IoError;
use crate::model_folder::{self, GENERATION_FILE};
use crate::run::checkpoint::{Checkpoint, Checkpoints};
use crate::run::durable;
use crate::run::lock::{FolderLock, LockError};
use crate::run::metrics;
use crate::say;
use crate::tokenizer::Tokenizer;

/// The effective configuration in the run folder.
pub const CONFIG_FILE: &str = "run.toml";
/// One record per step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The file of samples during training.
pub const SAMPLES_FILE: &str = "samples.txt";
/// The model with the best evaluation.
pub const BEST_FOLDER: &str = "best";

/// An open run folder, locked against other processes. Unless it is [kept](RunFolder::keep), files created in it are deleted when this is dropped.
pub struct RunFolder {
    /// Its path.
    pub out: PathBuf,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
    /// The checkpoint to go on from.
    pub checkpoint: Option<Checkpoint>,
    /// The command that resumes the run after a signal.
    pub resume: String,
    // Fields are dropped in this order: the folder is cleaned while it is locked.
    made: Made,
    _lock: FolderLock,
}

impl RunFolder {
    /// Opens a folder, creating it if necessary, with this number of checkpoints to keep. With `resume`, the newest valid checkpoint is the one to
    /// resume from; problems of newer ones are printed.
    ///
    /// # Errors
    /// The operating system refuses; another process has the folder; every checkpoint is damaged, or there is none although the folder contains a
    /// run's files, which starting again would destroy.
    pub fn open(out: &Path, keep: usize, resume: bool) -> Result<Self, Error> {
        let mut made = Made::new(out)?;
        fs::create_dir_all(out).map_err(Error::io(out, "create the folder"))?;
        let lock = FolderLock::take(out)?;
        made.is_ours = true;
        let held = Held::of(out)?;
        if !resume && held.is_run() {
            return Err(held.refuse_to_begin(out));
        }
        let checkpoints = Checkpoints::open(&out.join("checkpoints"), keep)?;
        let checkpoint = if resume { newest(&checkpoints)? } else { None };
        if checkpoint.is_none() && held.is_run() && !held.is_young {
            return Err(held.refuse_to_resume(out));
        }
        let resume = format!("the same command, which resumes from its checkpoint in {}", out.display());
        Ok(Self { out: out.to_owned(), checkpoints, checkpoint, resume, made, _lock: lock })
    }

    /// The requested folder, or the next free `runs/NAME-NNN`.
    ///
    /// # Errors
    /// As [`RunFolder::open`]; a folder that contains another run, or a model without a run; nothing to resume, and nothing to start.
    pub fn of_request(request: &FolderRequest<'_>) -> Result<Self, Error> {
        let keep = request.keep;
        let Some(out) = request.out else { return Self::next_free(request) };
        let shown = out.display();
        let has_config = out.join(CONFIG_FILE).exists();
        if (model_folder::is_model_folder(out) || model_folder::is_adapter_folder(out)) && !has_config {
            return Err(Error::Usage(format!(
                "{shown}: the folder contains a model without a run (no run.toml); choose another --out (--init {shown} starts from its weights)"
            )));
        }
        if request.resume && !has_config && !request.begins {
            return Err(Error::Usage(format!(
                "{shown}: no run to resume; check --out, or define a new run with --preset, --config or --data"
            )));
        }
        if let Some(file) = foreign(out, request.tokenizer) {
            return Err(Error::Usage(format!(
                "{shown}: the folder contains {file} and no run, which would replace it; choose another --out{}",
                if file == TOKENIZER { format!(", or train with it: --set data.tokenizer={shown}") } else { String::new() }
            )));
        }
        let folder = Self::open(out, keep, request.resume)?;
        if request.resume && folder.checkpoint.is_none() && !request.quiet {
            say::line(&format!("note: {shown} has no checkpoint to resume from: a new run begins"));
        }
        Ok(Self { resume: format!("{} --resume --out {shown}", request.command), ..folder })
    }

    /// The first of the folders `runs/NAME-001`, `runs/NAME-002`, … that does not exist.
    fn next_free(request: &FolderRequest<'_>) -> Result<Self, Error> {
        let FolderRequest { command, name, keep, .. } = *request;
        let mut number = 1;
        loop {
            let out = Path::new("runs").join(format!("{name}-{number:03}"));
            number += 1;
            if out.exists() {
                continue;
            }
            match Self::open(&out, keep, false) {
                // Another process was faster.
                Err(Error::Lock(LockError::Taken { .. })) => {}
                opened => return Ok(Self { resume: format!("{command} --resume --out {}", out.display()), ..opened? }),
            }
        }
    }

    /// Optimizer steps that are done.
    pub fn step(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.manifest.step)
    }

    /// Marks the run as started: its files are kept from now on.
    pub fn keep(&mut self) {
        self.made.is_ours = false;
    }

    /// The configuration at the start of the run; `None` without a checkpoint to resume from.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn former<C: Tables>(&self) -> Result<Option<C>, Error> {
        if self.checkpoint.is_none() {
            return Ok(None);
        }
        let mut layers = Layers::<C>::new();
        layers.file(&self.out.join(CONFIG_FILE))?;
        Ok(Some(layers.finish()?))
    }

    /// Refuses to resume with a configuration that would have given other results.
    ///
    /// # Errors
    /// The differences.
    pub fn refuse_changes<C: Tables>(&self, former: &C, config: &C) -> Result<(), Error> {
        let differences = conflicts(former, config);
        if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch { path: self.out.join(CONFIG_FILE), differences }) }
    }
}

/// Writes the configuration of a run of a command into its folder.
///
/// # Errors
/// The operating system refuses.
pub fn write_config(out: &Path, command: &str, config: &impl Tables) -> Result<(), Error> {
    durable::write(&out.join(CONFIG_FILE), to_toml_of(command, config).as_bytes()).map_err(Error::io(out, "write"))
}

/// The command of the run in a folder, such as `samara train`, if there is one and it is recorded.
pub fn command_of(out: &Path) -> Option<String> {
    let toml = fs::read_to_string(out.join(CONFIG_FILE)).ok()?;
    config::command_of(&toml).map(str::to_owned)
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

/// What messages call the files of a tokenizer.
const TOKENIZER: &str = "a tokenizer";
/// Other files that a run would replace.
const REPLACED: [&str; 5] = [GENERATION_FILE, SAMPLES_FILE, "MODEL_CARD.md", "data/train.bin", "data/val.bin"];

/// What a run would replace in a folder that is not a run's. The tokenizer that the run takes from there stays as it is.
fn foreign(out: &Path, tokenizer: Option<&Path>) -> Option<&'static str> {
    // A run that was killed before it wrote its configuration has a folder for checkpoints.
    if out.join(CONFIG_FILE).exists() || out.join("checkpoints").exists() {
        return None;
    }
    let same = |path: &Path| {
        [path, path.parent().unwrap_or(path)].iter().any(|path| path.canonicalize().ok() == out.canonicalize().ok())
    };
    if Tokenizer::is_in(out) && !tokenizer.is_some_and(same) {
        return Some(TOKENIZER);
    }
    REPLACED.into_iter().find(|name| out.join(name).exists())
}

/// The contents of an earlier run in a folder.
struct Held {
    /// In words.
    what: Vec<String>,
    /// A model folder among it.
    model: Option<PathBuf>,
    /// Whether the run ended before its first checkpoint, and has only metrics to lose.
    is_young: bool,
}

impl Held {
    fn of(out: &Path) -> Result<Self, Error> {
        let mut what = Vec::new();
        let path = out.join(METRICS_FILE);
        // A run that ended before its first step has nothing to lose.
        match path.is_file().then(|| metrics::read(&path)) {
            Some(Ok(records)) => {
                let steps = records.last().map_or(0, |last| last.step);
                what.extend((steps > 0).then(|| format!("metrics of {steps} steps")));
            }
            Some(Err(_)) => what.push(METRICS_FILE.to_owned()),
            None => {}
        }
        let models = [("a model", out.to_owned()), ("a model in best/", out.join(BEST_FOLDER))];
        let is_model = |folder: &Path| {
            let holds = |name: &str| folder.join(name).exists();
            model_folder::is_model_folder(folder) || holds("model.safetensors") || holds(model_folder::ADAPTER_FILE)
        };
        let models = models.map(|(name, folder)| is_model(&folder).then_some((name, folder)));
        what.extend(models.iter().flatten().map(|(name, _)| (*name).to_owned()));
        let is_whole = |entry: &fs::DirEntry| entry.path().extension().is_none_or(|e| e != "tmp");
        let checkpoints = fs::read_dir(out.join("checkpoints")).map(|steps| steps.flatten().filter(is_whole).count());
        if checkpoints.as_ref().is_ok_and(|&count| count > 0) {
            what.push("checkpoints".to_owned());
        }
        let model = models.into_iter().flatten().next().map(|(_, folder)| folder);
        let is_young = model.is_none() && checkpoints.is_ok_and(|count| count == 0);
        Ok(Self { what, model, is_young })
    }

    fn is_run(&self) -> bool {
        !self.what.is_empty()
    }

    fn list(&self) -> String {
        self.what.join(", ")
    }

    fn refuse_to_begin(&self, out: &Path) -> Error {
        Error::Usage(format!(
            "{}: the folder already contains a run ({}); add --resume to resume it, or choose another --out",
            out.display(),
            self.list()
        ))
    }

    fn refuse_to_resume(&self, out: &Path) -> Error {
        let (list, shown) = (self.list(), out.display());
        let config = if out.join(CONFIG_FILE).is_file() { format!(" --config {shown}/{CONFIG_FILE}") } else { String::new() };
        let way = match &self.model {
            Some(model) => {
                let model = model.display();
                let command = command_of(out).unwrap_or_else(|| "samara train".to_owned());
                format!("start a new run from its weights: {command}{config} --init {model} --out {shown}-2")
            }
            None => format!("choose another --out, or remove {shown}"),
        };
        Error::Usage(format!("{shown}: no checkpoint to resume from, and a new run would overwrite {list}; {way}"))
    }
}

/// Files and folders created since the folder was opened.
struct Made {
    out: PathBuf,
    /// The earlier content; `None` if the folder did not exist.
    before: Option<BTreeSet<OsString>>,
    /// Created parent folders, lowest first.
    above: Vec<PathBuf>,
    /// Whether they are deleted when this is dropped.
    is_ours: bool,
}

impl Made {
    fn new(out: &Path) -> Result<Self, Error> {
        let before = match fs::read_dir(out) {
            Ok(entries) => Some(entries.flatten().map(|entry| entry.file_name()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(IoError::at(out, "list")(error).into()),
        };
        let parents = out.ancestors().skip(1).take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        Ok(Self { out: out.to_owned(), before, above: parents.map(Path::to_owned).collect(), is_ours: false })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        // What cannot be deleted is left: the error being returned is more important.
        let Some(before) = &self.before else {
            let _ = fs::remove_dir_all(&self.out);
            self.above.iter().for_each(|folder| drop(fs::remove_dir(folder)));
            return;
        };
        for entry in fs::read_dir(&self.out).into_iter().flatten().flatten().filter(|e| !before.contains(&e.file_name())) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}
