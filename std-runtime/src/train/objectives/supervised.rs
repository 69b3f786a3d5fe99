//! Supervised learning: a loss that is one graph over a batch, averaged over the tokens of a step.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use samara_core::exec::{Gradients, WriteError};
use samara_core::graph::{Graph, Recompute, Tensor, Wrt};
use samara_core::params::Params;

use crate::config::Invalid;
use crate::data::dataset::HostBatch;
use crate::device::Planner;
use crate::lm::RunError;
use crate::lm::set_weights::frozen_values;
use crate::model_folder::map::NameMap;
use crate::model_folder::{ExtraTensors, ParamValues, load_weights_with, save_weights};
use crate::session::{BuildError, Device, On, OwnedParams, OwnedProgram, Session, SetId, Ticket};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetSpec, Source, StepBatch, ignored_tensors};
use crate::train::scalars::{Combine, ScalarId, Scalars};

/// A model and its loss.
pub trait Task {
    /// Appends the model's outputs and losses over a batch to a graph.
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms;

    /// What [`HostBatch::tokens`] counts, for the display of the speed.
    fn counted(&self) -> &'static str {
        "tok"
    }

    /// The same as [`Self::terms`] for evaluations: without what only training has, such as smoothed labels, and possibly with more terms behind those of
    /// the same names.
    fn evaluated(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        self.terms(g, inputs)
    }
}

/// Where a task's weights come from and go to, if not by their own names. It is needed for frozen parameters.
pub trait TaskFolder {
    /// Fills parameters, which have their initial values, with the weights that the training begins with: trained ones, and the bytes of frozen ones, in
    /// two calls, the other buffer empty. A checkpoint overwrites the trained ones of a resumed run.
    ///
    /// # Errors
    /// Weights that cannot be read.
    fn read(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), TrainingError>;

    /// Writes the model with its description.
    ///
    /// # Errors
    /// Files that cannot be written.
    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), TrainingError>;

    /// A description of the model and its data, for display.
    fn describe(&self) -> String;
}

/// The batch inputs of a task, declared by their names in its dataset.
#[derive(Debug)]
pub struct Inputs {
    rows: usize,
    ints: Vec<(&'static str, Tensor)>,
    reals: Vec<(&'static str, Tensor)>,
    /// Integers that are the same in every batch.
    fixed: Vec<(Tensor, Vec<i32>)>,
}

impl Inputs {
    fn new(rows: usize) -> Self {
        Self { rows, ints: Vec::new(), reals: Vec::new(), fixed: Vec::new() }
    }

    /// Rows of a batch, B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Integers in a range, with the extents `row` per row; result (B, …).
    #[track_caller]
    pub fn ints(&mut self, g: &Graph<'_>, name: &'static str, row: &[usize], range: RangeInclusive<i32>) -> Tensor {
        let t = g.ints(&self.shape(row), *range.start(), *range.end());
        self.ints.push((name, t));
        t
    }

    /// f32 values, with the extents `row` in every row; result (B, …).
    #[track_caller]
    pub fn reals(&mut self, g: &Graph<'_>, name: &'static str, row: &[usize]) -> Tensor {
        let t = g.input(&self.shape(row));
        self.reals.push((name, t));
        t
    }

    /// The positions 0, 1, …, `len` − 1 of every row, without a dataset column; result (B, len).
    #[track_caller]
    pub fn positions(&mut self, g: &Graph<'_>, len: usize) -> Tensor {
        let values: Vec<i32> = (0..self.rows).flat_map(|_| 0..len as i32).collect();
        let t = g.ints(&[self.rows, len], 0, len.saturating_sub(1) as i32);
        self.fixed.push((t, values));
        t
    }

    /// The first declared input that a batch lacks, as text.
    fn lacking(&self, program: &OwnedProgram, batch: &HostBatch) -> Option<String> {
        let len = |t| program.view().tensor(t).map_or(0, |record| record.shape.len());
        let ints = self.ints.iter().map(|&(name, t)| (name, len(t), batch.ints(name).len()));
        let reals = self.reals.iter().map(|&(name, t)| (name, len(t), batch.reals(name).len()));
        let (name, expected, _) = ints.chain(reals).find(|(_, expected, found)| expected != found)?;
        let all: Vec<String> = batch.inputs().map(|(name, len)| format!("{name} ({len})")).collect();
        Some(format!("the loss reads {name} ({expected} values in a batch), and the dataset fills {}", all.join(", ")))
    }

    fn shape(&self, row: &[usize]) -> Vec<usize> {
        [&[self.rows], row].concat()
    }

    /// Writes a batch into the inputs of a program.
    fn write<D: Device>(&self, session: &mut Session<D>, program: &OwnedProgram, batch: &HostBatch) -> Result<(), RunError> {
        let named = |what| move |error: WriteError| RunError::Input { what, error };
        for &(name, t) in &self.ints {
            session.write_ints(program, t, batch.ints(name)).map_err(named(name))?;
        }
        for &(name, t) in &self.reals {
            session.write(program, t, batch.reals(name)).map_err(named(name))?;
        }
        for (t, values) in &self.fixed {
            session.write_ints(program, *t, values).map_err(named("position"))?;
        }
        Ok(())
    }
}

/// The outputs of a task's graph. Values may have any shape; they are summed over a step and divided by its [`HostBatch::tokens`], so they must be 0
/// in padding.
#[derive(Debug)]
pub struct Terms {
    /// The first is minimised.
    all: Vec<Term>,
    best: (&'static str, Direction),
}

#[derive(Debug)]
struct Term {
    name: &'static str,
    values: Tensor,
    unit: &'static str,
    sum: Sum,
}

/// How values become their sum over a batch.
#[derive(Clone, Copy, Debug)]
enum Sum {
    /// Added.
    Values,
    /// Rows (B, V) of scores: how many have their label among the `best`.
    Ranks { labels: &'static str, best: usize },
}

impl Sum {
    /// `labels` of an earlier batch have this length.
    fn of(self, values: &[f32], labels: &[i32]) -> f64 {
        let Self::Ranks { best, .. } = self else { return values.iter().map(|&x| f64::from(x)).sum() };
        let rows = values.chunks((values.len() / labels.len().max(1)).max(1));
        rows.zip(labels).filter(|(scores, label)| rank(scores, **label).is_some_and(|rank| rank < best)).count() as f64
    }
}

/// How many scores are above that of a label, and how many of those before it are equal; `None` for a label that does not count.
fn rank(scores: &[f32], label: i32) -> Option<usize> {
    let label = usize::try_from(label).ok()?;
    let own = scores.get(label)?;
    Some(scores.iter().enumerate().filter(|&(i, score)| score > own || score == own && i < label).count())
}

impl Terms {
    /// The values whose mean is minimised, and by which evaluations are compared.
    pub fn minimise(name: &'static str, values: Tensor) -> Self {
        Self { all: vec![Term { name, values, unit: "", sum: Sum::Values }], best: (name, Direction::Smaller) }
    }

    /// The same with values that are reported in addition.
    pub fn report(mut self, name: &'static str, values: Tensor) -> Self {
        self.all.push(Term { name, values, unit: "", sum: Sum::Values });
        self
    }

    /// The same with the share of rows whose label, an integer input (B), is among the `best` largest of its scores (B, V).
    pub fn ranks(mut self, name: &'static str, scores: Tensor, labels: &'static str, best: usize) -> Self {
        self.all.push(Term { name, values: scores, unit: "share", sum: Sum::Ranks { labels, best } });
        self
    }

    /// The same, compared in evaluations by a scalar that is reported.
    pub fn judge_by(self, name: &'static str, better: Direction) -> Self {
        Self { best: (name, better), ..self }
    }

    /// Labels that its ranks read, for each.
    fn labels<'b>(&self, batch: &'b HostBatch) -> impl Iterator<Item = &'b [i32]> {
        self.all.iter().map(|term| match term.sum {
            Sum::Values => &[][..],
            Sum::Ranks { labels, .. } => batch.ints(labels),
        })
    }

    /// The same with values by which evaluations are compared instead.
    pub fn judge(self, name: &'static str, values: Tensor, better: Direction) -> Self {
        Self { best: (name, better), ..self.report(name, values) }
    }

    /// The same with a unit for all values that have none yet, for the axes of plots.
    pub fn unit(mut self, unit: &'static str) -> Self {
        self.all.iter_mut().filter(|term| term.unit.is_empty()).for_each(|term| term.unit = unit);
        self
    }
}

/// Appends a task over a batch to a graph, with gradients if a recomputation policy is given.
fn append(g: &Graph<'_>, rows: usize, task: &impl Task, gradients: Option<Recompute>) -> (Inputs, Terms, Option<Tensor>) {
    let mut inputs = Inputs::new(rows);
    let upstream = gradients.map(|recompute| (g.input(&[1]), recompute));
    let terms = if gradients.is_some() { task.terms(g, &mut inputs) } else { task.evaluated(g, &mut inputs) };
    terms.all.iter().for_each(|term| _ = g.output(term.values));
    if let (Some((upstream, recompute)), Some(loss)) = (upstream, terms.all.first()) {
        g.backward(&[(loss.values, upstream)], Wrt::Trainable, recompute);
    }
    (inputs, terms, upstream.map(|(t, _)| t))
}

/// The programs of a task's training and evaluation on a batch of rows, planned and not allocated.
///
/// # Errors
/// A program cannot be planned.
pub fn programs(
    planner: &impl Planner,
    registry: &Arc<OwnedParams>,
    rows: usize,
    task: &impl Task,
    recompute: Recompute,
) -> Result<[OwnedProgram; 2], BuildError> {
    let of = |gradients| OwnedProgram::new(planner, registry, |g| append(g, rows, task, gradients)).map(|(program, _)| program);
    Ok([of(Some(recompute))?, of(None)?])
}

/// A task as a program over one batch.
struct Pass {
    program: OwnedProgram,
    inputs: Inputs,
    terms: Terms,
    upstream: Option<Tensor>, // (1)
}

impl Pass {
    /// Builds the program, with gradients if a recomputation policy is given.
    fn new<D: Device>(
        session: &mut Session<D>,
        set: SetId,
        rows: usize,
        task: &impl Task,
        gradients: Option<Recompute>,
    ) -> Result<Self, BuildError> {
        let append = |g: &Graph<'_>| append(g, rows, task, gradients);
        let (program, (inputs, terms, upstream)) = session.prepare(On::set(set), append)?;
        Ok(Self { program, inputs, terms, upstream })
    }

    /// The first parameter that the minimised values do not depend on, as text.
    fn idle_parameter(&self) -> Option<String> {
        let view = self.program.view();
        let info = view.untouched().find_map(|id| view.params().infos().get(id.index()))?;
        Some(format!(
            "parameter {} has no gradient: the loss does not depend on it; use it in the loss, remove it, or name its field in `repeat!`",
            info.name
        ))
    }

    /// Writes a batch, whose values have the weight `scale` in the minimised sum.
    fn write<D: Device>(&self, session: &mut Session<D>, batch: &HostBatch, scale: f64) -> Result<(), RunError> {
        self.inputs.write(session, &self.program, batch)?;
        let Some(upstream) = self.upstream else { return Ok(()) };
        let written = session.write(&self.program, upstream, &[scale as f32]);
        written.map_err(|error| RunError::Input { what: "upstream gradient", error })
    }

    /// Queues a written batch, and the transfer of its values.
    fn queue<D: Device>(&self, session: &mut Session<D>, set: SetId, gradients: Gradients, tickets: &mut Vec<Ticket>) {
        session.run_all(&self.program, On::set(set), gradients);
        tickets.extend(self.terms.all.iter().map(|term| session.fetch(&self.program, term.values)));
    }
}

/// The programs.
struct Built {
    set: SetId,
    average: Option<SetId>,
    training: Pass,
    evaluation: Option<Pass>,
    ids: Vec<ScalarId>,
}

/// The training of a [`Task`].
pub struct Supervised<T> {
    task: T,
    registry: Arc<OwnedParams>,
    train: TrainConfig,
    source: Option<Source>,
    /// Values of the queued micro-batches, concatenated.
    tickets: Vec<Ticket>,
    /// The labels that they are ranked by.
    labels: Vec<Vec<i32>>,
    folder: Option<Box<dyn TaskFolder + Send>>,
    /// The token count of the queued step.
    tokens: u64,
    built: Option<Built>,
    /// The error in the task that the programs show.
    fault: Option<String>,
    /// Tensors of the folder that training began with which were left out.
    ignored: Vec<String>,
}

impl<T: Task> Supervised<T> {
    /// A task over a registry of parameters, on the rows of a source.
    ///
    /// # Errors
    /// A setting of `[train]` that a task does not use.
    pub fn new(task: T, registry: Arc<OwnedParams>, source: Source, train: &TrainConfig) -> Result<Self, TrainingError> {
        for (key, value) in [
            ("train.tokens", train.tokens as f64),
            ("train.flops", train.flops),
            ("train.dropout", train.dropout),
            ("train.memory_budget_mib", train.memory_budget_mib as f64),
            ("train.sample_every", train.sample_every as f64),
        ] {
            if value != 0.0 {
                return Err(Invalid::new(key, "0: a supervised task does not read it", value).into());
            }
        }
        let (source, train, tickets) = (Some(source), train.clone(), Vec::new());
        let (labels, folder, built, fault, ignored) = (Vec::new(), None, None, None, Vec::new());
        Ok(Self { task, registry, train, source, tickets, labels, folder, tokens: 0, built, fault, ignored })
    }

    /// The same with a folder that its weights come from and go to.
    pub fn with_folder(self, folder: impl TaskFolder + Send + 'static) -> Self {
        Self { folder: Some(Box::new(folder)), ..self }
    }

    /// What is wrong with a task whose frozen parameters nothing fills.
    fn unfilled(&self) -> Option<String> {
        let frozen = self.registry.view().infos().iter().find(|info| info.frozen).filter(|_| self.folder.is_none())?;
        Some(format!("parameter {} is frozen, and nothing fills it: give the task a folder", frozen.name))
    }

    /// Fills a set with initial values, and from the task's folder.
    fn read<D: Device>(&self, session: &mut Session<D>, folder: &dyn TaskFolder) -> Result<(), TrainingError> {
        let (params, (set, device)) = (self.registry.view(), session.set_mut(self.set(false)));
        set.initialise(device, self.train.seed).map_err(RunError::from)?;
        let (mut trained, mut frozen) = (Ok(()), Ok(()));
        let read = &mut |values: &mut [f32]| trained = folder.read(&params, values, &mut []);
        device.lend_mut(&mut set.weights, read).map_err(RunError::from)?;
        let read = &mut |bytes: &mut [u8]| frozen = folder.read(&params, &mut [], bytes);
        device.lend_mut(&mut set.frozen, read).map_err(RunError::from)?;
        trained.and(frozen)
    }

    fn built(&self) -> &Built {
        self.built.as_ref().expect("the trainer builds an objective before it uses it")
    }

    fn scale(&self) -> f64 {
        1.0 / self.tokens.max(1) as f64
    }

    /// The set of the weights, or of their average.
    fn set(&self, averaged: bool) -> SetId {
        let Built { set, average, .. } = self.built();
        average.filter(|_| averaged).unwrap_or(*set)
    }
}

impl<D: Device, T: Task> Objective<D> for Supervised<T> {
    fn sets(&self) -> Vec<SetSpec> {
        SetSpec::of_training(&self.registry, self.train.averages() > 0)
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let (Some(&set), average, Some(source)) = (sets.first(), sets.get(1).copied(), &self.source) else { return Ok(()) };
        let recompute = self.train.recompute.without_budget();
        let training = Pass::new(session, set, source.rows, &self.task, Some(recompute))?;
        let evaluation =
            source.validation.as_ref().map(|_| Pass::new(session, set, source.rows, &self.task, None)).transpose()?;
        let batch = source.train.batch(source.rows);
        let lacking = training.inputs.lacking(&training.program, &batch);
        self.fault = self.unfilled().or(lacking).or_else(|| training.idle_parameter());
        let fetched = source.micro_batches * training.terms.all.len();
        self.tickets.reserve(fetched);
        self.labels = vec![Vec::with_capacity(source.rows); fetched];
        self.built = Some(Built { set, average, training, evaluation, ids: Vec::new() });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        if let Some(built) = &mut self.built {
            let evaluated = built.evaluation.as_ref().map_or(&built.training.terms, |pass| &pass.terms);
            built.ids = evaluated.all.iter().map(|term| scalars.register(term.name, Combine::Mean)).collect();
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        self.source.take().into_iter().collect()
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        if let Some(fault) = self.fault.take() {
            return Err(TrainingError::Usage(fault));
        }
        if let Some(folder) = &self.folder {
            return self.read(session, &**folder);
        }
        let (set, device) = session.set_mut(self.set(false));
        match &self.train.init {
            _ if resumed => Ok(()),
            None => Ok(set.initialise(device, self.train.seed).map_err(RunError::from)?),
            Some(folder) => {
                let extra = ExtraTensors::ignore_if(self.train.ignore_extra);
                let (params, map, mut loaded) = (self.registry.view(), NameMap::default(), Ok(Vec::new()));
                let load = &mut |values: &mut [f32]| loaded = load_weights_with(folder, &params, &map, extra, values, &mut []);
                device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
                self.ignored = loaded?;
                Ok(())
            }
        }
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        let batches = batch.micro_batches(0);
        self.tokens = batches.iter().map(|batch| batch.tokens).sum();
        let (scale, Some(Built { set, training, .. })) = (self.scale(), &self.built) else { return Ok(()) };
        self.tickets.clear();
        let all = batches.iter().flat_map(|batch| training.terms.labels(batch));
        self.labels.iter_mut().zip(all).for_each(|(to, labels)| {
            to.clear();
            to.extend_from_slice(labels);
        });
        session.clear_untouched(&training.program, On::set(*set));
        for (i, micro) in batches.iter().enumerate() {
            batch.stop.check()?;
            training.write(session, micro, scale)?;
            let gradients = if i == 0 { Gradients::Overwrite } else { Gradients::Add };
            training.queue(session, *set, gradients, &mut self.tickets);
        }
        Ok(())
    }

    fn collect(&mut self, session: &Session<D>, _: u32, out: &mut Scalars) {
        let Built { ids, training, .. } = self.built();
        for (k, (&id, term)) in ids.iter().zip(&training.terms.all).enumerate() {
            let fetched = self.tickets.iter().zip(&self.labels).skip(k).step_by(training.terms.all.len());
            let sums = fetched.map(|(ticket, labels)| term.sum.of(session.fetched(ticket), labels));
            out.add_sum(id, sums.sum(), self.tokens as f64);
        }
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let set = self.set(averaged);
        let Some(Built { evaluation: Some(pass), ids, .. }) = &self.built else { return Ok(()) };
        self.tickets.clear();
        pass.write(session, batch, 0.0)?;
        pass.queue(session, set, Gradients::Overwrite, &mut self.tickets);
        session.sync()?;
        for (((&id, ticket), term), labels) in ids.iter().zip(&self.tickets).zip(&pass.terms.all).zip(pass.terms.labels(batch)) {
            out.add_sum(id, term.sum.of(session.fetched(ticket), labels), batch.tokens as f64);
        }
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        self.built().training.terms.best
    }

    fn counted(&self) -> &'static str {
        self.task.counted()
    }

    fn unit(&self, scalar: &str) -> &'static str {
        let Built { training, evaluation, .. } = self.built();
        let terms = &evaluation.as_ref().unwrap_or(training).terms.all;
        terms.iter().find(|term| term.name == scalar).map_or("", |term| term.unit)
    }

    fn first_non_finite(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<Option<String>, RunError> {
        let Built { set, training, .. } = self.built();
        let Some(last) = batch.micro_batches(0).last() else { return Ok(None) };
        training.write(session, last, self.scale())?;
        let nodes = 0..training.program.view().nodes().len();
        Ok(session.first_non_finite(&training.program, On::set(*set), nodes)?)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        let id = self.set(averaged);
        let frozen = if self.registry.view().frozen_bytes() > 0 { frozen_values(session, id)? } else { Vec::new() };
        let (set, device) = session.set_mut(id);
        let (params, mut saved) = (self.registry.view(), Ok(()));
        if let Some(own) = &self.folder {
            let (mut written, frozen) = (Ok(()), bytemuck::cast_slice(&frozen));
            let write = &mut |trainable: &[f32]| written = own.write(folder, &params, ParamValues { trainable, frozen });
            device.lend(&set.weights, write).map_err(RunError::from)?;
            return written;
        }
        let save = &mut |values: &[f32]| saved = save_weights(folder, &params, &NameMap::default(), values);
        device.lend(&set.weights, save).map_err(RunError::from)?;
        Ok(saved?)
    }

    fn describe(&self, _: &Session<D>) -> String {
        match &self.folder {
            Some(folder) => folder.describe(),
            None => format!("{}{} parameters; ", ignored_tensors(&self.ignored), self.registry.view().trainable_count()),
        }
    }
}

#[cfg(test)]
mod tests {
    use samara_core::params::{Init, ParamId};

    use super::*;
    use crate::data::batches::{Order, Sampler};
    use crate::data::dataset::MadeRows;
    use crate::kernels::gemm::Gemm;
    use crate::session::{CpuDevice, Engine};
    use crate::stop::Stop;
    use crate::train::launch::launch;
    use crate::train::step::Stepper;

    /// (w x − y)² with x = row + 1 and y = 2 x, so that rows are points of a line; padding has x = y = 0.
    struct Line(ParamId);

    impl Task for Line {
        fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
            let (x, y) = (inputs.reals(g, "x", &[1]), inputs.reals(g, "y", &[1])); // (B, 1)
            let apart = g.add(g.linear(x, g.param(self.0), None), g.scale(y, -1.0)); // (B, 1)
            Terms::minimise("square", g.mul(apart, apart)).judge("x", x, Direction::Larger).unit("metres")
        }
    }

    fn line(train: &TrainConfig) -> Result<Supervised<Line>, TrainingError> {
        let (registry, w) = OwnedParams::of(|s| s.add("w", &[1, 1], Init::Ones))?;
        let rows = |len| {
            MadeRows::new(len, [("x", 1), ("y", 1)], |row, [x, y]: [&mut [f32]; 2]| {
                x.fill(row as f32 + 1.0);
                y.fill(2.0 * (row as f32 + 1.0));
            })
        };
        let order = Sampler::over_rows(Order::Shuffled, 0, 6, "line")?;
        Supervised::new(Line(w), registry, Source::rows(rows(6), order, Some(rows(7)), train), train)
    }

    fn session() -> Session {
        Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()))
    }

    #[test]
    fn a_signal_gives_a_step_up_before_its_weights_change() {
        let train = TrainConfig { batch_size: 2, grad_accumulation: 3, lr: 0.1, warmup_steps: 0, ..TrainConfig::default() };
        let mut objective = line(&train).unwrap();
        let mut stepper = Stepper::new(session(), &mut objective, train.rule()).unwrap();
        objective.initialise(&mut stepper.session, false).unwrap();
        let (stop, numbers) = (Stop::new(), crate::train::shape::update_numbers(&train, 0.1));
        stepper.listen(&stop);
        stop.raise(15);
        let given_up = stepper.step(&mut objective, 0, &numbers);
        assert!(matches!(given_up, Err(RunError::Interrupted(interrupted)) if interrupted.signal == 15), "{given_up:?}");
        let set = objective.set(false);
        assert_eq!((stepper.session.set(set).weights.get()[0], stepper.counts().next()), (1.0, Some(0)));
    }

    /// Σ x² (w − 2)² / 6 over six rows with w = 1 is 91 / 6, its slope −2 · 91 / 6; micro-batches are one batch.
    #[test]
    fn loss_and_gradient_are_means_over_all_that_counts() {
        for (batch_size, grad_accumulation) in [(6, 1), (2, 3), (1, 6)] {
            let train = TrainConfig { batch_size, grad_accumulation, ..TrainConfig::default() };
            let mut objective = line(&train).unwrap();
            let mut stepper = Stepper::new(session(), &mut objective, train.rule()).unwrap();
            objective.initialise(&mut stepper.session, false).unwrap();
            stepper.step(&mut objective, 0, &crate::train::shape::update_numbers(&train, 0.0)).unwrap();
            let close = |x: Option<f64>, y: f64| assert!(x.is_some_and(|x| (x - y).abs() < 1e-5), "{x:?} {y}");
            close(stepper.scalars().get("square"), 91.0 / 6.0);
            close(stepper.scalars().get("x"), 3.5);
            close(stepper.norms().next(), 91.0 / 3.0);
            // Seven rows are held out, two batches of six.
            let mut scalars = stepper.scalars().clone();
            scalars.reset();
            for rows in [&[0, 1, 2, 3, 4, 5][..], &[6]].iter().filter(|_| batch_size == 6) {
                let held_out = stepper.source(0).unwrap().validation.as_ref().unwrap();
                let mut batch = held_out.batch(6);
                held_out.fill(rows, &mut batch).unwrap();
                objective.evaluate(&mut stepper.session, false, &batch, &mut scalars).unwrap();
            }
            if batch_size == 6 {
                close(scalars.get("square"), 140.0 / 7.0);
                close(scalars.get("x"), 4.0);
            }
            assert_eq!(Objective::<CpuDevice>::best(&objective), ("x", Direction::Larger));
            assert_eq!(["square", "x", "z"].map(|name| Objective::<CpuDevice>::unit(&objective, name)), ["metres", "metres", ""]);
        }
    }

    /// A run in a folder of another configuration is refused, as are settings without effect.
    #[test]
    fn what_does_not_fit_is_refused_with_its_key() {
        let error = |train: &TrainConfig| line(train).map(|_| ()).unwrap_err().to_string();
        let train = TrainConfig { dropout: 0.1, ..TrainConfig::default() };
        assert_eq!(error(&train), "train.dropout: expected 0: a supervised task does not read it, found 0.1");
        let train = TrainConfig { tokens: 5, ..TrainConfig::default() };
        assert!(error(&train).starts_with("train.tokens: expected 0"));
        let out = tempfile::tempdir().unwrap();
        let run = |train: &TrainConfig| launch(out.path(), line(train)?, train).map(|finished| finished.steps);
        let train = TrainConfig { steps: 3, batch_size: 2, threads: 1, ..TrainConfig::default() };
        assert_eq!(run(&train).unwrap(), 3);
        assert_eq!(run(&TrainConfig { steps: 5, ..train.clone() }).unwrap(), 5);
        let message = run(&TrainConfig { lr: 0.5, ..train }).unwrap_err().to_string();
        assert!(message.contains("train.lr = 0.001, now 0.5") && message.contains("resume with the same values"), "{message}");
    }

    /// An input that the dataset lacks and an unused parameter are named before the first step.
    #[test]
    fn a_task_that_does_not_fit_is_refused() {
        let train = TrainConfig { batch_size: 2, ..TrainConfig::default() };
        let error = |mut objective: Supervised<Line>| {
            let mut stepper = Stepper::new(session(), &mut objective, train.rule()).unwrap();
            objective.initialise(&mut stepper.session, false).unwrap_err().to_string()
        };
        let source = |name| {
            let rows = || MadeRows::new(4, [("x", 1), (name, 3)], |_, _: [&mut [f32]; 2]| {});
            Source::rows(rows(), Sampler::over_rows(Order::Shuffled, 0, 4, "rows").unwrap(), Some(rows()), &train)
        };
        let (registry, w) = OwnedParams::of(|s| s.add("w", &[1, 1], Init::Ones)).unwrap();
        for (name, expected) in [("y", "x (2), y (6)"), ("z", "x (2), z (6)")] {
            let objective = Supervised::new(Line(w), Arc::clone(&registry), source(name), &train).unwrap();
            assert_eq!(error(objective), format!("the loss reads y (2 values in a batch), and the dataset fills {expected}"));
        }
        let (registry, w) = OwnedParams::of(|s| {
            s.add("idle", &[3], Init::Ones);
            s.add("w", &[1, 1], Init::Ones)
        })
        .unwrap();
        let Supervised { source, .. } = line(&train).unwrap();
        let message = error(Supervised::new(Line(w), registry, source.unwrap(), &train).unwrap());
        assert!(message.starts_with("parameter idle has no gradient") && message.contains("`repeat!`"), "{message}");
    }
}
