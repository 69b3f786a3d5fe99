//! `samara sweep`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::ConfigArgs;
use super::training::{Start, Training};
use super::{Command, Console, Error, output};
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::run::lock::FolderLock;
use crate::say;
use crate::session::Engine;
use crate::stop::Stop;
use crate::sweep::grid::{Axis, Protocol, cells, vpt};
use crate::sweep::record::{Cell, Chosen, Record, Spread};
use crate::train::error::TrainingError;
use crate::train::folder::BEST_FOLDER;
use crate::train::progress::{View, human};
use crate::vision::accuracy;
use crate::vision::tune::Method;

const EXAMPLES: &str = "\
Cells are trained one after another with the first seed. The best on the
validation rows is chosen, of equal ones the first, and trained with all seeds;
of image classifiers its accuracy on the test images is measured. A finished
cell is not trained again: the same command resumes a sweep, and one with more
values extends it. DIR/sweep.json and DIR/sweep.csv have every cell.

Examples:
  samara sweep --data tales.txt --set train.steps=200 --grid train.lr=1e-3,3e-3 --out sweeps/lr
  samara sweep --init runs/photos --data flowers --set tune.method=vpt-deep --set train.batch_size=64 --grid vpt --out sweeps/deep";

/// Train over a grid of settings, choose by validation, and measure the chosen with several seeds.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// A key with its values, for every key of the grid; "vpt": the learning rates and weight decays of visual prompt tuning, with its optimizer and
    /// seeds.
    #[arg(long, value_name = "KEY=VALUE,...", required = true, allow_hyphen_values = true)]
    grid: Vec<String>,
    /// Seeds of the chosen cell, the first of them that of every cell [default: --seed].
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "seed")]
    seeds: Vec<u64>,
    /// The folder of the sweep.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Keep the run folders of cells that are not chosen.
    #[arg(long)]
    keep: bool,
    /// Print {"schema", "measure", "cells", "chosen"}.
    #[arg(long)]
    json: bool,
}

/// A training of a cell.
struct Job {
    settings: Vec<String>,
    seed: u64,
    /// A checksum of its configuration, and its folder.
    config: u32,
    out: PathBuf,
    training: Training,
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let protocol = self.protocol()?;
        let first = *protocol.seeds.first().unwrap_or(&0);
        let grid = cells(&protocol.axes);
        let jobs = grid.iter().map(|cell| self.job(&protocol, cell, first)).collect::<Result<Vec<_>, _>>()?;
        fs::create_dir_all(&self.out).map_err(IoError::at(&self.out, "create the folder"))?;
        let _lock = FolderLock::take(&self.out)?;
        let stop = Stop::install(console.quiet).map_err(|error| Error::failed(error.to_string()))?;
        let mut sweep = Sweep::open(self, &stop, console.quiet, jobs.len() + protocol.seeds.len() - 1)?;
        for job in &jobs {
            sweep.train(job)?;
        }
        let chosen = sweep.best(&jobs)?;
        let settings = chosen.settings.clone();
        let seeds = protocol.seeds.iter().map(|&seed| self.job(&protocol, &settings, seed)).collect::<Result<Vec<_>, _>>()?;
        for job in &seeds {
            sweep.train(job)?;
            sweep.test(job)?;
        }
        sweep.finish(&settings, &seeds)?;
        let record = &sweep.record;
        output::show(self.json, record, || text(record))
    }
}

impl Args {
    /// The settings, the grid and the seeds.
    fn protocol(&self) -> Result<Protocol, Error> {
        let own = self.grid.iter().filter(|grid| *grid != VPT).map(|grid| Axis::read(grid));
        let own = own.collect::<Result<Vec<_>, _>>().map_err(|text| Error::usage(format!("--grid {text}")))?;
        let mut protocol = Protocol { settings: Vec::new(), axes: Vec::new(), seeds: Vec::new() };
        if self.grid.iter().any(|grid| grid == VPT) {
            let Training::Images(config) = self.config.training(None, None)? else {
                return Err(Error::usage(
                    "--grid vpt is a protocol of image classifiers: set model.model_type=vit or --init, or name keys: --grid KEY=VALUES",
                ));
            };
            protocol = vpt(config.tune.method == Method::Full, config.train.batch_size, config.train.steps);
        }
        // A key of the user replaces that of the protocol.
        protocol.axes.retain(|axis| own.iter().all(|other| other.key != axis.key));
        protocol.axes.extend(own);
        if let Some(twice) =
            protocol.axes.iter().enumerate().find(|(i, axis)| protocol.axes[..*i].iter().any(|o| o.key == axis.key))
        {
            return Err(Error::usage(format!("--grid {}: the key is there twice; name all its values at once", twice.1.key)));
        }
        for Axis { key, .. } in &protocol.axes {
            if ["train.seed", "train.out"].contains(&key.as_str()) {
                let instead = if key == "train.seed" { "--seeds names the seeds" } else { "every cell has a folder in --out" };
                return Err(Error::usage(format!("--grid {key}: {instead}; leave it out")));
            }
            if self.config.set.iter().any(|set| set.split_once('=').is_some_and(|(name, _)| name.trim() == key)) {
                return Err(Error::usage(format!(
                    "--set {key}: --grid has it too, and its values would replace this one; leave one of them out"
                )));
            }
        }
        if let Some(twice) = self.seeds.iter().enumerate().find(|(i, seed)| self.seeds[..*i].contains(seed)) {
            return Err(Error::usage(format!(
                "--seeds: {} is there twice, and the same run again tells nothing of the spread",
                twice.1
            )));
        }
        if !self.seeds.is_empty() {
            protocol.seeds.clone_from(&self.seeds);
        } else if protocol.seeds.is_empty() || self.config.seed.is_some() {
            let seed = self.config.seed.as_deref().unwrap_or("0").parse();
            protocol.seeds = vec![seed.map_err(|_| Error::usage("--seed: expected an integer"))?];
        }
        Ok(protocol)
    }

    /// The training of a cell, whose configuration is checked.
    fn job(&self, protocol: &Protocol, cell: &[String], seed: u64) -> Result<Job, Error> {
        let training = self.training(protocol, cell, seed, None)?;
        let config = training.checksum();
        let out = self.out.join("cells").join(format!("{config:08x}"));
        let training = self.training(protocol, cell, seed, Some(&out))?;
        Ok(Job { settings: cell.to_vec(), seed, config, out, training })
    }

    fn training(&self, protocol: &Protocol, cell: &[String], seed: u64, out: Option<&Path>) -> Result<Training, Error> {
        let mut args = self.config.clone();
        args.set = [&protocol.settings[..], &args.set, cell].concat();
        args.seed = Some(seed.to_string());
        args.training(None, out)
    }
}

/// The name of the protocol of visual prompt tuning.
const VPT: &str = "vpt";

/// A sweep at work.
struct Sweep<'a> {
    args: &'a Args,
    stop: &'a Stop,
    quiet: bool,
    record: Record,
    /// Trainings in all, and how many are done.
    all: usize,
    done: usize,
    /// Of the trainings of this process.
    begun: Instant,
    trained: u32,
    /// Configurations that were trained or found finished.
    shown: BTreeSet<u32>,
    is_larger_better: bool,
}

impl<'a> Sweep<'a> {
    fn open(args: &'a Args, stop: &'a Stop, quiet: bool, all: usize) -> Result<Self, Error> {
        let record = Record::open(&args.out)?;
        let is_larger_better = record.measure != LOSS;
        Ok(Self {
            args,
            stop,
            quiet,
            record,
            all,
            done: 0,
            begun: Instant::now(),
            trained: 0,
            shown: BTreeSet::new(),
            is_larger_better,
        })
    }

    /// Trains a cell, unless it is finished.
    fn train(&mut self, job: &Job) -> Result<(), Error> {
        if !self.shown.insert(job.config) {
            return Ok(());
        }
        if self.record.find(job.config).is_none() {
            self.stop.check()?;
            let begun = Instant::now();
            let validation = match job.training.run(&self.args.config, START) {
                Ok(outcome) => {
                    self.record.measure = outcome.measure.word().to_owned();
                    self.is_larger_better = outcome.measure.is_larger_better;
                    outcome.best_val_loss
                }
                Err(error) if matches!(error.kind(), Kind::Diverged) => None,
                Err(error) => return Err(self.described(error)),
            };
            let (settings, seed, config) = (job.settings.clone(), job.seed, job.config);
            let seconds = begun.elapsed().as_secs_f64();
            self.record.cells.push(Cell { settings, seed, config, validation, test: None, seconds });
            self.record.write(&self.args.out)?;
            self.trained += 1;
        }
        self.done += 1;
        if let Some(cell) = self.record.find(job.config).filter(|_| !self.quiet) {
            let value = cell.validation.map_or_else(|| "diverged".to_owned(), |value| format!("{value:.4}"));
            let shown = cell.settings.join(" ");
            say::line(&format!(
                "{:>4}/{} | {shown} seed={} | validation {} {value} | {:.1} s{}",
                self.done,
                self.all,
                cell.seed,
                self.record.measure,
                cell.seconds,
                self.eta()
            ));
        }
        Ok(())
    }

    /// A signal's message names the command that resumes the sweep, not the cell.
    fn described(&self, error: TrainingError) -> Error {
        match self.stop.check() {
            Err(stopped) => {
                if !self.quiet {
                    let done = self.record.cells.len();
                    say::line(&format!(
                        "{done} cells are finished: the same command resumes the sweep in {}",
                        self.args.out.display()
                    ));
                }
                stopped.into()
            }
            Ok(()) => error.into(),
        }
    }

    fn eta(&self) -> String {
        let left = self.all.saturating_sub(self.done) as u32;
        if left == 0 || self.trained == 0 {
            return String::new();
        }
        format!(" | ETA {}", human(Duration::from_secs(self.begun.elapsed().as_secs()) / self.trained * left))
    }

    /// The best cell of the grid; of equal ones the first.
    fn best<'j>(&self, jobs: &'j [Job]) -> Result<&'j Job, Error> {
        let value = |job: &Job| self.record.find(job.config).and_then(|cell| cell.validation);
        let mut best: Option<(&Job, f64)> = None;
        for job in jobs {
            let Some(value) = value(job) else { continue };
            let is_better = |than: f64| if self.is_larger_better { value > than } else { value < than };
            if best.is_none_or(|(_, than)| is_better(than)) {
                best = Some((job, value));
            }
        }
        let none = "no cell has a validation value to choose by: hold rows out (data.val_fraction), or lower the learning rates";
        best.map(|(job, _)| job).ok_or_else(|| Error::failed(none))
    }

    /// Measures the accuracy of a finished cell on the test images, if it is a classifier and there are some.
    fn test(&mut self, job: &Job) -> Result<(), Error> {
        let Training::Images(config) = &job.training else { return Ok(()) };
        if self.record.find(job.config).is_none_or(|cell| cell.test.is_some() || cell.validation.is_none()) {
            return Ok(());
        }
        let best = job.out.join(BEST_FOLDER);
        if !best.is_dir() {
            // It was not the chosen one when its folder was removed.
            job.training.run(&self.args.config, START).map_err(|error| self.described(error))?;
        }
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let (shapes, folder) = (config.shapes.world(), if best.is_dir() { &best } else { &job.out });
        let test = accuracy::of_test(&engine, folder, shapes.as_ref(), &config.data, self.stop)?;
        if let (Some((accuracy, _)), Some(cell)) = (test, self.record.find_mut(job.config)) {
            cell.test = Some(accuracy);
            self.record.write(&self.args.out)?;
        }
        Ok(())
    }

    /// Records the outcome, and removes the folders of cells that were not chosen.
    fn finish(&mut self, settings: &[String], seeds: &[Job]) -> Result<(), Error> {
        let cells: Vec<&Cell> = seeds.iter().filter_map(|job| self.record.find(job.config)).collect();
        let of = |value: fn(&Cell) -> Option<f64>| Spread::of(&cells.iter().filter_map(|cell| value(cell)).collect::<Vec<_>>());
        let (validation, test) = (of(|cell| cell.validation), of(|cell| cell.test));
        let seeds_of = seeds.iter().map(|job| job.seed).collect();
        self.record.chosen = Some(Chosen { settings: settings.to_vec(), seeds: seeds_of, validation, test });
        self.record.write(&self.args.out)?;
        if self.args.keep {
            return Ok(());
        }
        for cell in self.record.cells.iter().filter(|cell| seeds.iter().all(|job| job.config != cell.config)) {
            let folder = self.args.out.join("cells").join(format!("{:08x}", cell.config));
            if folder.is_dir() {
                fs::remove_dir_all(&folder).map_err(IoError::at(&folder, "remove"))?;
            }
        }
        Ok(())
    }
}

/// A cell goes on where it was stopped.
const START: Start = Start { resume: true, begins: true, view: View::Quiet };

/// The measure of which smaller values are better.
const LOSS: &str = "loss";

/// The table of cells, and the chosen one.
fn text(record: &Record) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let value = |setting: &String| setting.split_once('=').map_or_else(String::new, |(_, value)| value.to_owned());
    let keys = record.cells.first().map(|cell| cell.settings.as_slice()).unwrap_or_default();
    let keys = keys.iter().filter_map(|setting| setting.split_once('=')).map(|(key, _)| key.to_owned());
    let mut rows: Vec<Vec<String>> =
        vec![keys.chain(["seed".to_owned(), format!("validation {}", record.measure), "test accuracy".to_owned()]).collect()];
    for cell in &record.cells {
        let values = cell.settings.iter().map(value);
        rows.push(values.chain([cell.seed.to_string(), shown(cell.validation), shown(cell.test)]).collect());
    }
    let mut text = output::table(&rows);
    if let Some(chosen) = &record.chosen {
        let spread = |spread: Option<Spread>| match spread {
            Some(Spread { mean, sd: Some(sd), n }) => format!("{mean:.4} ± {sd:.4} ({n} seeds)"),
            Some(Spread { mean, .. }) => format!("{mean:.4}"),
            None => "not measured".to_owned(),
        };
        text += &format!("\nchosen by validation: {}\n", chosen.settings.join(" "));
        text += &format!("validation {}: {}\n", record.measure, spread(chosen.validation));
        text += &format!("test accuracy: {}\n", spread(chosen.test));
    }
    text
}
