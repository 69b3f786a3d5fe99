//! The training loop, for any objective on any device.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::time::Instant;

use samara_core::schedule::Schedule;

use super::config::TrainConfig;
use super::error::TrainingError as Error;
use super::folder::{BEST_FOLDER, METRICS_FILE, RunFolder, SAMPLES_FILE};
use super::objective::{Direction, Objective};
use super::progress::{Progress, View};
use super::request::Measure;
use super::scalars::Scalars;
use super::shape::update_numbers;
use super::state::{self, RunState};
use super::step::Stepper;
use crate::data::dataset::HostBatch;
use crate::files::text_if_there;
use crate::lm::RunError;
use crate::run::events::EventWriter;
use crate::run::metrics::{self, MetricsWriter};
use crate::run::plot;
use crate::say;
use crate::session::{Device, Session};
use crate::stop::Stop;

/// A finished training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finished {
    /// Steps done, those before a resumption included.
    pub steps: u64,
    /// The scalar that evaluations are compared by.
    pub measure: Measure,
    /// The scalars of the last step of this run.
    pub last: Vec<(&'static str, Option<f64>)>,
    /// The value of the last evaluation.
    pub validation: Option<f64>,
    /// The best value of an evaluation.
    pub best: Option<f64>,
}

/// The columns of the metrics file, in order, with their tags in TensorBoard.
struct Columns {
    names: Vec<String>,
    tags: Vec<Option<String>>,
    values: Vec<Option<f64>>,
    /// The number of the objective's scalars: their training values come first, then those of the validation.
    scalars: usize,
    /// Their indices.
    evaluated: Vec<bool>,
}

impl Columns {
    fn new<D: Device>(stepper: &Stepper<D>, evaluated: Vec<bool>) -> Self {
        let mut columns = Self { names: Vec::new(), tags: Vec::new(), values: Vec::new(), scalars: 0, evaluated };
        let evaluated = columns.evaluated.clone();
        let mut add = |name: String, tag: Option<String>| {
            columns.names.push(name);
            columns.tags.push(tag);
            columns.values.push(None);
        };
        for part in ["train", "val"] {
            for ((name, _), evaluated) in stepper.scalars().iter().zip(&evaluated) {
                if part == "train" || *evaluated {
                    let (column, tag) = named(part, name);
                    add(column, Some(tag));
                }
            }
        }
        add("lr".to_owned(), Some("lr".to_owned()));
        for (i, (set, ..)) in stepper.trained().enumerate() {
            // The norm of a single set needs no name.
            let (name, tag) = if i == 0 { (String::new(), String::new()) } else { (format!("_{set}"), format!("/{set}")) };
            add(format!("grad_norm{name}"), Some(format!("grad_norm{tag}")));
        }
        add("tokens_per_s".to_owned(), Some("tokens_per_s".to_owned()));
        add("wall_s".to_owned(), None);
        columns.scalars = stepper.scalars().iter().count();
        columns
    }

    fn clear(&mut self) {
        self.values.fill(None);
    }

    /// Sets the values of a step.
    fn set_step<D: Device>(&mut self, stepper: &Stepper<D>, lr: f64, tokens_per_s: f64) {
        let training = stepper.scalars().iter().map(|(_, value)| value);
        let others = [Some(lr)].into_iter().chain(stepper.norms().map(Some)).chain([Some(tokens_per_s)]);
        let of_validation = self.evaluated.iter().filter(|evaluated| **evaluated).map(|_| None);
        let values = training.chain(of_validation).chain(others);
        self.values.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    }

    /// Sets the values of an evaluation.
    fn set_validation(&mut self, scalars: &Scalars) {
        let to = self.values.iter_mut().skip(self.scalars);
        let evaluated = scalars.iter().zip(&self.evaluated).filter(|(_, evaluated)| **evaluated);
        to.zip(evaluated).for_each(|(to, ((_, value), _))| *to = value);
    }

    fn set_wall(&mut self, seconds: f64) {
        if let Some(last) = self.values.last_mut() {
            *last = Some(seconds);
        }
    }
}

/// The column and the tag of a training or validation scalar.
fn named(part: &str, name: &str) -> (String, String) {
    let tag = match (part, name.contains('/')) {
        (_, false) => format!("{name}/{part}"),
        ("train", true) => name.to_owned(),
        (_, true) => format!("{part}/{name}"),
    };
    (metrics::key_of(part, name), tag)
}

/// What evaluations of an objective are compared by.
fn measure_of<D: Device>(objective: &impl Objective<D>) -> Measure {
    let (name, direction) = objective.best();
    Measure { name, unit: objective.unit(name), is_larger_better: direction == Direction::Larger }
}

/// Deletes the samples of a run that ended before its first checkpoint.
fn forget_samples(folder: &RunFolder) -> Result<(), Error> {
    let path = folder.out.join(SAMPLES_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&path, "remove")(error)),
        _ => Ok(()),
    }
}

/// A training of an objective in a folder.
pub struct Trainer<D: Device, O> {
    objective: O,
    stepper: Stepper<D>,
    config: TrainConfig,
    schedule: Schedule,
    folder: RunFolder,
    metrics: MetricsWriter,
    events: EventWriter,
    columns: Columns,
    progress: Progress,
    validation: Scalars,
    /// The source with the validation rows, and a batch of them.
    held_out: Option<(usize, HostBatch)>,
    state: RunState,
    /// The step of the last checkpoint, and of the model in the run folder: a run killed between writing the two left an older model.
    saved_step: Option<u64>,
    exported_step: Option<u64>,
    /// Whether this run has a checkpoint to resume from.
    has_checkpoint: bool,
}

impl<D: Device, O: Objective<D>> Trainer<D, O> {
    /// Builds everything, fills the sets, and resumes from the folder's checkpoint if it has one.
    ///
    /// # Errors
    /// A program cannot be built, weights cannot be read, or the folder cannot be written.
    pub fn open(
        session: Session<D>,
        mut objective: O,
        config: &TrainConfig,
        mut folder: RunFolder,
        view: View,
    ) -> Result<Self, Error> {
        let mut stepper = Stepper::new(session, &mut objective, config.rule())?;
        objective.enter(&folder.out);
        objective.initialise(&mut stepper.session, folder.checkpoint.is_some())?;
        let state = match &folder.checkpoint {
            Some(checkpoint) => state::load(checkpoint, &mut stepper)?,
            None => RunState::default(),
        };
        objective.load(&state.objective).map_err(|found| {
            Error::Usage(format!(
                "{}: the state of the objective in the newest checkpoint: {found}; resume with the same objective",
                folder.out.display()
            ))
        })?;
        // An incomplete record is written again.
        let recorded = state.step.saturating_sub(u64::from(state.pending.is_some()));
        folder.keep();
        if folder.checkpoint.is_none() {
            forget_samples(&folder)?;
        }
        // A run without the evaluation before the first step has no record to keep: it is made again.
        let kept = (folder.checkpoint.is_some() && (state.step > 0 || state.last.is_some())).then_some(recorded);
        let path = folder.out.join(METRICS_FILE);
        let metrics = MetricsWriter::open(&path, kept)?;
        let progress = Progress::new(view, objective.followed(), config.steps, state.step).counting(objective.counted());
        if view == View::Curves && folder.checkpoint.is_some() {
            metrics::read(&path)?.iter().for_each(|record| progress.record(record.step, |key| record.get(key)));
        }
        let events = EventWriter::create(&folder.out, recorded).map_err(Error::io(&folder.out, "write events into"))?;
        let evaluated = stepper.scalars().iter().map(|(name, _)| objective.is_evaluated(name)).collect();
        let mut columns = Columns::new(&stepper, evaluated);
        if let Some(pending) = &state.pending {
            columns.values.iter_mut().zip(pending).for_each(|(to, value)| *to = *value);
        }
        let mut sources = stepper.sources().iter().enumerate();
        let held_out = sources.find_map(|(i, source)| Some((i, source.validation.as_ref()?.batch(source.rows))));
        Ok(Self {
            validation: stepper.scalars().clone(),
            progress,
            saved_step: (folder.checkpoint.is_some() && state.pending.is_none()).then_some(state.step),
            exported_step: None,
            has_checkpoint: folder.checkpoint.is_some(),
            schedule: config.lr_schedule(),
            config: config.clone(),
            objective,
            stepper,
            folder,
            metrics,
            events,
            columns,
            held_out,
            state,
        })
    }

    /// Optimizer steps that are done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Trains until the last step, a signal, or an error.
    ///
    /// # Errors
    /// Values that are not finite, files that cannot be read or written, or a signal, after a checkpoint.
    pub fn run(mut self, stop: &Stop) -> Result<Finished, Error> {
        self.say_beginning();
        self.stepper.listen(stop);
        // A sample that a signal came before.
        if self.state.pending.is_none() && (self.state.step == 0 || self.is_due(self.config.sample_every)) {
            self.sample(stop)?;
        }
        let signal = loop {
            if let Some(signal) = stop.signal() {
                break Some(signal);
            }
            if stop.take_checkpoint() {
                self.save()?;
                self.progress.say(&format!("step {:>6} | checkpoint", self.state.step));
            }
            if self.state.pending.is_some() {
                self.complete(stop)?;
                continue;
            }
            if self.state.step >= self.config.steps || self.out_of_patience() {
                break None;
            }
            self.advance(stop)?;
        };
        self.finish(signal, stop)
    }

    /// Prints what is trained, and the state of the run.
    fn say_beginning(&self) {
        self.progress.say(&format!(
            "{}{} -> {}",
            self.objective.describe(&self.stepper.session),
            self.stepper.session.device().describe(),
            self.folder.out.display()
        ));
        if let Some((batches, all)) = self.held_out_batches().filter(|(batches, all)| batches < all) {
            self.progress.say(&format!(
                "validation: {batches} of {all} batches, the same every time (train.eval_batches; 0: all of them)"
            ));
        }
        let (step, steps, out) = (self.state.step, self.config.steps, self.folder.out.display());
        if self.folder.checkpoint.is_some() && step >= steps {
            let done = if step == steps {
                format!("all its {step} steps are done")
            } else {
                format!("{step} steps are done, and train.steps is {steps}")
            };
            self.progress.say(&format!(
                "{out} is finished: {done}; to continue: {} --set train.steps={}",
                self.folder.resume,
                2 * step
            ));
        } else if self.folder.checkpoint.is_some() {
            self.progress.say(&format!("{out} resumes at step {step} of {steps}"));
        }
    }

    /// Whether a periodic action is due after the last step.
    fn is_due(&self, every: u64) -> bool {
        every > 0 && self.state.step.is_multiple_of(every)
    }

    fn out_of_patience(&self) -> bool {
        self.config.patience > 0 && self.state.evaluations_without_improvement >= self.config.patience
    }

    /// One step and its periodic actions.
    fn advance(&mut self, stop: &Stop) -> Result<(), Error> {
        // A run that a signal ended in its first step has that evaluation already.
        if self.state.step == 0 && self.config.eval_every > 0 && self.state.last.is_none() {
            self.columns.clear();
            if !self.evaluate(stop)? {
                return Ok(());
            }
            self.write_metrics()?;
        }
        let begun = Instant::now();
        let lr = self.schedule.at(self.state.step);
        match self.stepper.step(&mut self.objective, self.state.step, &update_numbers(&self.config, lr)) {
            // The step is cancelled: the resumed run makes it.
            Err(RunError::Interrupted(_)) => return Ok(()),
            done => done?,
        }
        let seconds = begun.elapsed().as_secs_f64();
        let tokens = self.stepper.batch().tokens();
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.wall_s += seconds;
        self.state.last = None;
        let tokens_per_s = tokens as f64 / seconds.max(1e-9);
        let name = self.objective.followed();
        self.progress.step(self.state.step, self.stepper.scalars().get(name), lr, tokens_per_s);
        self.columns.clear();
        self.columns.set_step(&self.stepper, lr, tokens_per_s);
        self.complete(stop)
    }

    /// The actions after a step: an evaluation, the record, a sample, a checkpoint. When a signal arrives during the evaluation, the record is left
    /// pending, and the resumed run completes it.
    fn complete(&mut self, stop: &Stop) -> Result<(), Error> {
        let TrainConfig { eval_every, sample_every, checkpoint_every, .. } = self.config;
        let [evaluate, sample, checkpoint] = [eval_every, sample_every, checkpoint_every].map(|every| self.is_due(every));
        let last = self.state.step == self.config.steps;
        self.state.pending = None;
        if (evaluate || last) && !self.evaluate(stop)? {
            self.state.pending = Some(self.columns.values.clone());
            return self.write_metrics();
        }
        self.write_metrics()?;
        if sample && !last {
            self.sample(stop)?;
        }
        if checkpoint && !last {
            self.save()?;
        }
        Ok(())
    }

    /// Evaluates the held-out rows; a new best value exports `best/`. Returns false when a signal arrived before the end.
    fn evaluate(&mut self, stop: &Stop) -> Result<bool, Error> {
        let begun = Instant::now();
        let averaged = self.state.step > 0;
        let done = self.evaluate_batches(averaged, stop)?;
        if !done || self.held_out.is_none() {
            return Ok(done);
        }
        let (name, direction) = self.objective.best();
        let value = self.validation.get(name);
        let better = |value: f64| self.state.best.is_none_or(|best| direction.is_better(value, best));
        let improved = value.is_some_and(better);
        if improved && self.state.step > 0 {
            self.save_before_first_best()?;
            self.objective.export(&mut self.stepper.session, averaged, &self.folder.out.join(BEST_FOLDER))?;
        }
        self.state.last = value;
        if improved {
            (self.state.best, self.state.best_step, self.state.evaluations_without_improvement) = (value, self.state.step, 0);
        } else {
            self.state.evaluations_without_improvement += 1;
        }
        self.state.wall_s += begun.elapsed().as_secs_f64();
        self.columns.set_validation(&self.validation);
        let best = if improved { " (best)" } else { "" };
        let value = value.unwrap_or(f64::NAN);
        let remarks = self.objective.remarks(self.stepper.scalars(), &self.validation);
        self.progress.say(&format!("step {:>6} | validation {name} {value:.4}{best}{remarks}", self.state.step));
        Ok(true)
    }

    /// Writes a checkpoint before the first best model of a run: without one, a run that is killed between the two could not resume. The record of the
    /// step is pending in it, so that the resumed run evaluates again.
    fn save_before_first_best(&mut self) -> Result<(), Error> {
        if self.has_checkpoint {
            return Ok(());
        }
        self.state.pending = Some(self.columns.values.clone());
        let saved = self.checkpoint();
        self.state.pending = None;
        saved
    }

    /// How many batches an evaluation reads, and how many there are; `None` without held-out rows.
    fn held_out_batches(&self) -> Option<(u64, u64)> {
        let (source, batch) = self.held_out.as_ref()?;
        let data = self.stepper.source(*source)?.validation.as_deref()?;
        let all = data.len().div_ceil(batch.rows().max(1) as u64);
        Some((if self.config.eval_batches == 0 { all } else { self.config.eval_batches.min(all) }, all))
    }

    /// Evaluates batches, spread evenly over the held-out rows when there is a limit.
    fn evaluate_batches(&mut self, averaged: bool, stop: &Stop) -> Result<bool, Error> {
        self.validation.reset();
        let Some((count, all)) = self.held_out_batches() else { return Ok(true) };
        let Some((source, batch)) = &mut self.held_out else { return Ok(true) };
        let Some(data) = self.stepper.source(*source).and_then(|source| source.validation.as_deref()) else { return Ok(true) };
        let (rows, len) = (batch.rows() as u64, data.len());
        if all == 0 {
            return Err(RunError::TooShort { found: 0, expected: 1 }.into());
        }
        let mut numbers = Vec::with_capacity(batch.rows());
        for i in 0..count {
            if stop.signal().is_some() {
                return Ok(false);
            }
            let first = i * all / count * rows;
            numbers.clear();
            numbers.extend(first..len.min(first + rows));
            let data = self.stepper.source(*source).and_then(|source| source.validation.as_deref());
            data.map_or(Ok(()), |data| data.fill(&numbers, batch))?;
            self.objective.evaluate(&mut self.stepper.session, averaged, batch, &mut self.validation)?;
            self.progress.note(&format!("validation {}/{count}", i + 1));
        }
        Ok(true)
    }

    fn write_metrics(&mut self) -> Result<(), Error> {
        self.columns.set_wall(self.state.wall_s);
        let Columns { names, tags, values, .. } = &self.columns;
        self.metrics.write(self.state.step, self.state.tokens, names, values)?;
        let of_key = |key: &str| names.iter().zip(values).find(|(name, _)| *name == key).and_then(|(_, value)| *value);
        self.progress.record(self.state.step, of_key);
        for (tag, value) in tags.iter().zip(values) {
            if let (Some(tag), Some(value)) = (tag, value) {
                self.events.scalar(self.state.step, tag, *value as f32).map_err(Error::io(self.events.path(), "write"))?;
            }
        }
        Ok(())
    }

    /// Shows and stores a sample of the model's output, once per step. A signal cancels it.
    fn sample(&mut self, stop: &Stop) -> Result<(), Error> {
        let path = self.folder.out.join(SAMPLES_FILE);
        let title = format!("--- sample at step {} ---", self.state.step);
        let former = text_if_there(&path)?;
        if former.lines().any(|line| line == title) {
            return Ok(());
        }
        let text = match self.objective.sample(&mut self.stepper.session, stop) {
            Ok(Some(text)) => text,
            Ok(None) | Err(Error::Run(RunError::Interrupted(_))) => return Ok(()),
            Err(error) => return Err(error),
        };
        let shown = format!("{title}\n{}\n---", say::printable(&text));
        self.progress.say(&shown);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path, "open"))?;
        writeln!(file, "{shown}").map_err(Error::io(&path, "write"))
    }

    /// Writes a checkpoint.
    fn checkpoint(&mut self) -> Result<(), Error> {
        self.metrics.sync()?;
        self.state.objective = self.objective.save();
        self.state.updates = Some(self.stepper.counts().collect());
        state::save(&self.folder.checkpoints, &self.state, &mut self.stepper)?;
        self.has_checkpoint = true;
        Ok(())
    }

    /// Writes a checkpoint, and the model into the run folder.
    fn save(&mut self) -> Result<(), Error> {
        let step = Some(self.state.step);
        if self.saved_step != step {
            self.checkpoint()?;
            self.saved_step = step.filter(|_| self.state.pending.is_none());
        }
        if self.exported_step != step {
            self.objective.export(&mut self.stepper.session, false, &self.folder.out)?;
            self.exported_step = step;
        }
        Ok(())
    }

    fn finish(mut self, signal: Option<i32>, stop: &Stop) -> Result<Finished, Error> {
        self.save()?;
        if signal.is_none() {
            self.sample(stop)?;
        }
        // A sample that was complete before the signal was stored.
        let signal = signal.or(stop.signal());
        self.progress.finish();
        let out = &self.folder.out;
        let records = metrics::read(&out.join(METRICS_FILE))?;
        for (name, _) in self.stepper.scalars().iter() {
            // A name with a stroke is no folder.
            let path = out.join(format!("{}.svg", name.replace('/', "_")));
            plot::write_curve(&path, name, self.objective.unit(name), &records).map_err(Error::io(&path, "write"))?;
        }
        if let Some(pair) = self.objective.drawn_against() {
            let path = out.join(pair.file);
            plot::write_against(&path, pair, &records).map_err(Error::io(&path, "write"))?;
        }
        if let Some(signal) = signal {
            return Err(Error::Interrupted { signal: signal as u8, resume: self.folder.resume });
        }
        Ok(Finished {
            steps: self.state.step,
            measure: measure_of(&self.objective),
            last: self.stepper.scalars().iter().collect(),
            validation: self.state.last,
            best: self.state.best,
        })
    }
}
