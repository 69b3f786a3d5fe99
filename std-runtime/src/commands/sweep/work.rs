//! A sweep at work: cells are trained, the best is chosen and measured.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Error;
use super::super::args::ConfigArgs;
use super::super::training::{Start, Training};
use super::job::Job;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::say;
use crate::session::Engine;
use crate::stop::Stop;
use crate::sweep::record::{Cell, Chosen, Record, Spread};
use crate::train::error::TrainingError;
use crate::train::folder::BEST_FOLDER;
use crate::train::progress::{View, human};
use crate::vision::accuracy;

/// Where a sweep is, and what it keeps.
pub(super) struct Place<'a> {
    pub(super) out: &'a Path,
    /// Whether cells that are not chosen stay.
    pub(super) keep: bool,
    /// The command line that cells are made from.
    pub(super) config: &'a ConfigArgs,
}

/// A sweep at work.
pub(super) struct Sweep<'a> {
    place: Place<'a>,
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
    pub(super) fn open(place: Place<'a>, stop: &'a Stop, quiet: bool, all: usize) -> Result<Self, Error> {
        let record = Record::open(place.out)?;
        let is_larger_better = record.measure != LOSS;
        Ok(Self {
            place,
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

    /// What it has given.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Trains a cell, unless it is finished.
    pub(super) fn train(&mut self, job: &Job) -> Result<(), Error> {
        if !self.shown.insert(job.config) {
            return Ok(());
        }
        if self.record.find(job.config).is_none() {
            self.stop.check()?;
            let begun = Instant::now();
            let validation = match job.training.run(self.place.config, START) {
                Ok(outcome) => {
                    self.record.measure = outcome.measure.word().to_owned();
                    self.is_larger_better = outcome.measure.is_larger_better;
                    outcome.best_val_loss
                }
                Err(error) if matches!(error.kind(), Kind::Diverged) => None,
                Err(error) => return Err(self.described(error)),
            };
            let (settings, set, seed, config) = (job.settings.clone(), job.set.clone(), job.seed, job.config);
            let seconds = begun.elapsed().as_secs_f64();
            self.record.cells.push(Cell { settings, set, seed, config, validation, test: None, seconds });
            self.record.write(self.place.out)?;
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
                        self.place.out.display()
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
    pub(super) fn best<'j>(&self, jobs: &'j [Job]) -> Result<&'j Job, Error> {
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
    pub(super) fn test(&mut self, job: &Job) -> Result<(), Error> {
        let Training::Images(config) = &job.training else { return Ok(()) };
        if self.record.find(job.config).is_none_or(|cell| cell.test.is_some() || cell.validation.is_none()) {
            return Ok(());
        }
        let best = job.out.join(BEST_FOLDER);
        if !best.is_dir() {
            // It was not the chosen one when its folder was removed.
            job.training.run(self.place.config, START).map_err(|error| self.described(error))?;
        }
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let (shapes, folder) = (config.shapes.world(), if best.is_dir() { &best } else { &job.out });
        let test = accuracy::of_test(&engine, folder, shapes.as_ref(), &config.data, self.stop)?;
        if let (Some((accuracy, _)), Some(cell)) = (test, self.record.find_mut(job.config)) {
            cell.test = Some(accuracy);
            self.record.write(self.place.out)?;
        }
        Ok(())
    }

    /// Records the outcome, and removes the folders of cells that were not chosen.
    pub(super) fn finish(&mut self, settings: &[String], seeds: &[Job]) -> Result<(), Error> {
        let cells: Vec<&Cell> = seeds.iter().filter_map(|job| self.record.find(job.config)).collect();
        let of = |value: fn(&Cell) -> Option<f64>| Spread::of(&cells.iter().filter_map(|cell| value(cell)).collect::<Vec<_>>());
        let (validation, test) = (of(|cell| cell.validation), of(|cell| cell.test));
        let seeds_of = seeds.iter().map(|job| job.seed).collect();
        self.record.chosen = Some(Chosen { settings: settings.to_vec(), seeds: seeds_of, validation, test });
        self.record.write(self.place.out)?;
        if self.place.keep {
            return Ok(());
        }
        for cell in self.record.cells.iter().filter(|cell| seeds.iter().all(|job| job.config != cell.config)) {
            let folder = self.place.out.join("cells").join(format!("{:08x}", cell.config));
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
