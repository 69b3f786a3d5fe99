//! One training step: data, gradients, one sync per update, and the update of every trained set.

use std::sync::Arc;

use samara_core::graph::Rule;

use super::objective::{Objective, SetRole, SetSpec, Source, StepBatch};
use super::scalars::Scalars;
use crate::lm::RunError;
use crate::session::update::{Update, UpdateNumbers};
use crate::session::{Device, Session, SetId, Ticket};
use crate::stop::Stop;

/// A trained set with its update.
struct Trained {
    spec: usize,
    update: Update,
    averages: Vec<SetId>,
    /// Updates made.
    count: u64,
    norm: f32,
    ticket: Ticket,
}

/// A session with everything that a step of an objective needs. A step after the first allocates nothing.
pub struct Stepper<D: Device> {
    /// The sets and their device.
    pub session: Session<D>,
    specs: Vec<SetSpec>,
    sets: Vec<SetId>,
    trained: Vec<Trained>,
    sources: Vec<Source>,
    batch: StepBatch,
    /// The stop request that may cancel a step before its first update, and its replacement afterwards.
    stop: Stop,
    never: Stop,
    rows: Vec<u64>,
    scalars: Scalars,
    rule: Rule,
}

/// Adds the sets of an objective to a session; averages and references stand beside the sets that they are of.
fn add_sets<D: Device>(session: &mut Session<D>, specs: &[SetSpec]) -> Result<Vec<SetId>, RunError> {
    let mut sets: Vec<SetId> = Vec::new();
    for spec in specs {
        let (SetRole::Average { of } | SetRole::Reference { of }) = spec.role else {
            sets.push(session.add_set(spec.name, &spec.registry)?);
            continue;
        };
        let source =
            specs.get(of).filter(|source| source.role == SetRole::Trained && Arc::ptr_eq(&source.registry, &spec.registry));
        let source = source.and(sets.get(of).copied());
        let source =
            source.unwrap_or_else(|| panic!("set {:?} follows set {of}, which is not a trained set of its registry", spec.name));
        sets.push(session.add_set_beside(spec.name, source)?);
    }
    Ok(sets)
}

impl<D: Device> Stepper<D> {
    /// Adds the sets of an objective to a session, and builds its programs and the update programs, all with the optimizer `rule`.
    ///
    /// # Errors
    /// A program cannot be built.
    ///
    /// # Panics
    /// An average or a reference is not that of a trained set before it, of its registry.
    pub fn new(mut session: Session<D>, objective: &mut impl Objective<D>, rule: Rule) -> Result<Self, RunError> {
        let specs = objective.sets();
        let sets = add_sets(&mut session, &specs)?;
        objective.build(&mut session, &sets)?;
        let mut trained = Vec::new();
        for (i, &set) in sets.iter().enumerate().filter(|(i, _)| specs[*i].role == SetRole::Trained) {
            let follows = |spec: &SetSpec| spec.role == SetRole::Average { of: i };
            let averages: Vec<SetId> = specs.iter().zip(&sets).filter(|(spec, _)| follows(spec)).map(|(_, &set)| set).collect();
            let groups = specs[i].registry.view().groups();
            let scales = groups.map(|(group, _)| (group, objective.lr_scale(i, group))).filter(|(_, scale)| *scale != 1.0);
            let update = Update::new(&mut session, set, rule, &scales.collect::<Vec<_>>(), &averages)?;
            trained.push(Trained { spec: i, update, averages, count: 0, norm: 0.0, ticket: Ticket::default() });
        }
        let mut scalars = Scalars::default();
        objective.scalars(&mut scalars);
        let sources = objective.sources();
        let batches = |source: &Source| vec![source.train.batch(source.rows); source.micro_batches];
        let batch = StepBatch { step: 0, stop: Stop::new(), sources: sources.iter().map(batches).collect() };
        let rows = Vec::with_capacity(sources.iter().map(|source| source.rows).max().unwrap_or(0));
        let (stop, never) = (Stop::new(), Stop::new());
        Ok(Self { session, specs, sets, trained, sources, batch, stop, never, rows, scalars, rule })
    }

    /// The rule of all updates.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The sets of the objective, with their ids.
    pub fn sets(&self) -> impl Iterator<Item = (&SetSpec, SetId)> {
        self.specs.iter().zip(self.sets.iter().copied())
    }

    /// The trained sets: name, id, and the averages that follow each.
    pub fn trained(&self) -> impl Iterator<Item = (&'static str, SetId, &[SetId])> {
        self.trained.iter().map(|t| (self.specs[t.spec].name, self.sets[t.spec], t.averages.as_slice()))
    }

    /// The session, and the update programs of the trained sets.
    pub fn session_and_updates(&mut self) -> (&mut Session<D>, impl Iterator<Item = &Update>) {
        (&mut self.session, self.trained.iter().map(|t| &t.update))
    }

    /// Fills the trained sets with initial values.
    ///
    /// # Errors
    /// The device failed before.
    pub fn initialise(&mut self, seed: u64) -> Result<(), RunError> {
        for trained in &self.trained {
            let (set, device) = self.session.set_mut(trained.update.set());
            set.initialise(device, seed)?;
        }
        Ok(())
    }

    /// How many updates each trained set has had.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.trained.iter().map(|t| t.count)
    }

    /// Resumes after this many updates of each trained set.
    pub fn set_counts(&mut self, counts: impl IntoIterator<Item = u64>) {
        self.trained.iter_mut().zip(counts).for_each(|(trained, count)| trained.count = count);
    }

    /// The norm of each trained set's gradient in the last update, before clipping.
    pub fn norms(&self) -> impl Iterator<Item = f64> {
        self.trained.iter().map(|t| f64::from(t.norm))
    }

    /// The scalars of the last step.
    pub fn scalars(&self) -> &Scalars {
        &self.scalars
    }

    /// The data of the last step.
    pub fn batch(&self) -> &StepBatch {
        &self.batch
    }

    /// The data that is read.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// A source by its position.
    pub fn source(&self, i: usize) -> Option<&Source> {
        self.sources.get(i)
    }

    /// From now on a signal before the first update of a step cancels it.
    pub fn listen(&mut self, stop: &Stop) {
        self.stop = stop.clone();
    }

    /// Makes a step, numbered from 0. An update whose scalars or gradients are not finite leaves the weights unchanged, and so does a cancelled step.
    ///
    /// # Errors
    /// Data that cannot be read, a device failure, a value that is not finite, or a signal.
    pub fn step(&mut self, objective: &mut impl Objective<D>, step: u64, numbers: &UpdateNumbers) -> Result<(), RunError> {
        self.collate(step)?;
        self.scalars.reset();
        let updates = objective.begin(&mut self.session, &self.batch)?;
        for update in 0..updates {
            self.batch.stop = if update == 0 { self.stop.clone() } else { self.never.clone() };
            objective.gradients(&mut self.session, update, &self.batch)?;
            for trained in &mut self.trained {
                trained.ticket = trained.update.norm(&mut self.session);
            }
            self.session.sync()?;
            objective.collect(&self.session, update, &mut self.scalars);
            for trained in &mut self.trained {
                trained.norm = self.session.fetched(&trained.ticket).first().copied().unwrap_or(0.0);
            }
            self.check(objective, update)?;
            for trained in &mut self.trained {
                trained.count += 1;
                let numbers = objective.numbers(trained.spec, UpdateNumbers { count: trained.count, ..*numbers });
                trained.update.apply(&mut self.session, &numbers, trained.norm);
            }
            if objective.after_update(&mut self.session, update)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reads the rows of a step.
    fn collate(&mut self, step: u64) -> Result<(), RunError> {
        self.batch.step = step;
        for (source, batches) in self.sources.iter().zip(&mut self.batch.sources) {
            let mut row = step * (source.micro_batches * source.rows) as u64;
            for batch in batches {
                self.rows.clear();
                for _ in 0..source.rows {
                    self.rows.push(source.order.start(row)?);
                    row += 1;
                }
                source.train.fill(&self.rows, batch)?;
            }
        }
        Ok(())
    }

    /// Refuses values that are not finite.
    fn check(&mut self, objective: &mut impl Objective<D>, update: u32) -> Result<(), RunError> {
        let scalar = self.scalars.first_non_finite();
        let norm = self.trained.iter().find(|t| !t.norm.is_finite());
        let what = match (scalar, norm) {
            (None, None) => return Ok(()),
            (Some((name, value)), _) => format!("{name} is {value}"),
            (None, Some(t)) => format!("the norm of the gradient of {:?} is {}", self.specs[t.spec].name, t.norm),
        };
        let tensor = objective.first_non_finite(&mut self.session, update, &self.batch)?;
        Err(RunError::Diverged { step: self.batch.step + 1, what: tensor.unwrap_or(what) })
    }
}
