//! Training on rows that stand in memory: a model's numbers of the rows of a micro-batch, a loss of them on the host, and its gradient. What is learnt
//! from the numbers is a [`RowsLoss`]; the loop is the same for all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_core::exec::Gradients;
use serde_json::Value;

use super::base::{check_state, state_of};
use super::completion::sums;
use super::guard::begins_as_reference;
use super::reference::{CachedReference, Reference};
use super::rows_loss::{Forward, Learner, Numbers, Part, RowsLoss};
use super::source::numbered;
use crate::data::dataset::{HostBatch, RowNumbers};
use crate::lm::RunError;
use crate::lm::step::DropoutNumbers;
use crate::lm::tokenwise::{Tokenwise, Trained};
use crate::session::{BuildError, Device, Session, SetId};
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use crate::train::scalars::Scalars;

struct Built {
    trained: SetId,
    reference: Option<SetId>,
    average: Option<SetId>,
    program: Tokenwise,
    /// For the reference, which has no gradient, and for evaluations.
    forward: Tokenwise,
}

impl Built {
    /// The weights that are looked at.
    fn set(&self, averaged: bool) -> SetId {
        self.average.filter(|_| averaged).unwrap_or(self.trained)
    }
}

/// Training by a loss of rows.
pub struct RowsTraining<L: RowsLoss> {
    pub(super) loss: L,
    pub(super) reference: Reference,
    built: Option<Built>,
    folder: Option<PathBuf>,
    upstream: Vec<f32>, // (B, R)
    found: Vec<L::Found>,
}

impl<L: RowsLoss> RowsTraining<L> {
    pub(super) fn of(loss: L, reference: Reference) -> Self {
        let upstream = vec![0.0; loss.rows().mask().len()];
        Self { loss, reference, built: None, folder: None, upstream, found: Vec::new() }
    }

    /// The same with log-probs of the reference that are computed once and kept in the run folder, so that its weights are not in memory while it is
    /// trained; for a loss without a reference nothing changes. Results are the same to the bit.
    #[must_use]
    pub fn with_cached_reference(self, cached: CachedReference) -> Self {
        let reference = if matches!(self.reference, Reference::Absent) { Reference::Absent } else { Reference::Cached(cached) };
        Self { reference, ..self }
    }

    /// The numbers of a batch's rows.
    fn numbers(&self, part: Part, batch: &HostBatch) -> Vec<usize> {
        let count = part.of(self.loss.counts());
        RowNumbers::of(batch).filter(|&row| row < count).collect()
    }

    /// What the loss reads beside the trained model's own numbers: sums by the reference, and by the weights of `set`. They come first: programs
    /// share a workspace.
    fn others<D: Device>(&mut self, session: &mut Session<D>, set: SetId) -> Result<[Vec<f32>; 2], RunError> {
        let Built { forward: program, reference, .. } = self.built.as_mut().expect("built before");
        let mut forward = Forward { session, set: reference.unwrap_or(set), program };
        let reference = self.reference.sums(&mut forward, &self.loss.compared())?;
        forward.set = set;
        let beside = self.loss.beside().map_or(Ok(Vec::new()), |rows| forward.sums(rows))?;
        Ok([reference, beside])
    }

    /// Shows the loss all micro-batches of a step.
    fn gather<D: Device>(&mut self, session: &mut Session<D>, step: &StepBatch) -> Result<(), RunError> {
        let trained = self.built.as_ref().expect("built before").trained;
        for (micro, batch) in step.micro_batches(0).iter().enumerate() {
            step.stop.check()?;
            let numbers = self.numbers(Part::Train, batch);
            self.loss.fill(Part::Train, &numbers);
            let [reference, beside] = self.others(session, trained)?;
            self.loss.gather(micro, &Numbers { own: &[], beside: &beside, reference: &reference });
        }
        Ok(())
    }

    /// The losses of a micro-batch of a step, and their gradient over `rows` rows.
    fn micro_batch<D: Device>(
        &mut self,
        session: &mut Session<D>,
        rows: usize,
        (step, micro): (u64, usize),
    ) -> Result<L::Found, RunError> {
        let trained = self.built.as_ref().expect("built before").trained;
        let [reference, beside] = self.others(session, trained)?;
        let (of_adapters, seed) = (self.loss.learner().adapter_dropout, self.loss.train().seed);
        let program = &mut self.built.as_mut().expect("built before").program;
        program.set_dropout(&DropoutNumbers { probability: 0.0, of_adapters, seed, step }, micro);
        let own = program.forward(session, trained, self.loss.rows())?;
        if step == 0 && !reference.is_empty() {
            begins_as_reference(&sums(self.loss.rows(), own), &reference)?;
        }
        let found = self.loss.losses(&Numbers { own, beside: &beside, reference: &reference }, &mut self.upstream)?;
        self.upstream.iter_mut().for_each(|x| *x /= rows as f32);
        let gradients = if micro == 0 { Gradients::Overwrite } else { Gradients::Add };
        program.backward(session, trained, &self.upstream, gradients)?;
        Ok(found)
    }
}

impl<D: Device, L: RowsLoss> Objective<D> for RowsTraining<L> {
    fn sets(&self) -> Vec<SetSpec> {
        let Learner { name, registry, .. } = self.loss.learner();
        let own = |name, role| SetSpec { name, registry: Arc::clone(registry), role };
        let reference = matches!(self.reference, Reference::Computed).then(|| own("reference", SetRole::Reference { of: 0 }));
        let average = (self.loss.train().ema_decay > 0.0).then(|| own("ema", SetRole::Average { of: 0 }));
        [own(name, SetRole::Trained)].into_iter().chain(reference).chain(average).collect()
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let mut sets = sets.iter().copied();
        let trained = sets.next().ok_or_else(|| BuildError::Unsupported("a training without a set".to_owned()))?;
        let reference = if matches!(self.reference, Reference::Computed) { sets.next() } else { None };
        let (Learner { layers, number, adapter_dropout, .. }, shape) = (self.loss.learner(), self.loss.rows().shape());
        let how = Trained { adapter_dropout: *adapter_dropout > 0.0, ..Trained::PLAIN };
        let program = Tokenwise::new(session, trained, layers, shape, (*number, Some(how)))?;
        let forward = Tokenwise::new(session, reference.unwrap_or(trained), layers, shape, (*number, None))?;
        self.built = Some(Built { trained, reference, average: sets.next(), program, forward });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        L::SCALARS.iter().for_each(|&(name, combine)| {
            scalars.register(name, combine);
        });
    }

    fn sources(&mut self) -> Vec<Source> {
        let [rows, held_out] = self.loss.counts();
        numbered(rows, held_out, self.loss.tokens_of_row(), self.loss.train())
    }

    fn enter(&mut self, folder: &Path) {
        self.folder = Some(folder.to_owned());
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let Some(Built { trained, reference, forward: program, .. }) = &mut self.built else { return Ok(()) };
        // What is kept of the reference is computed by the policy, before anything is learnt.
        let is_cached = matches!(self.reference, Reference::Cached(_));
        self.loss.begin(session, (*trained, *reference), resumed && !is_cached)?;
        if let Reference::Cached(cached) = &mut self.reference {
            cached.fill(&mut self.loss, Forward { session, set: *trained, program }, self.folder.as_deref())?;
        }
        Ok(())
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, step: &StepBatch) -> Result<(), RunError> {
        self.found.clear();
        let batches = step.micro_batches(0);
        let rows = batches.iter().map(|batch| self.numbers(Part::Train, batch).len()).sum();
        if self.loss.reads_step() {
            self.gather(session, step)?;
        }
        for (micro, batch) in batches.iter().enumerate() {
            step.stop.check()?;
            let numbers = self.numbers(Part::Train, batch);
            self.loss.fill(Part::Train, &numbers);
            let found = self.micro_batch(session, rows, (step.step, micro))?;
            self.found.push(found);
        }
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        self.found.iter().for_each(|found| self.loss.report(found, out));
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let numbers = self.numbers(Part::HeldOut, batch);
        self.loss.fill(Part::HeldOut, &numbers);
        let Some(set) = self.built.as_ref().map(|built| built.set(averaged)) else { return Ok(()) };
        let [reference, beside] = self.others(session, set)?;
        let own = self.built.as_mut().expect("built before").forward.forward(session, set, self.loss.rows())?;
        let found = self.loss.losses(&Numbers { own, beside: &beside, reference: &reference }, &mut self.upstream)?;
        self.loss.report(&found, out);
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("loss", Direction::Smaller)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        let Some(built) = &mut self.built else { return Ok(()) };
        let set = built.set(averaged);
        self.loss.save(Forward { session, set, program: &mut built.forward }, folder)
    }

    fn save(&self) -> Value {
        state_of(self.loss.frozen())
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        check_state(self.loss.frozen(), state)
    }
}
