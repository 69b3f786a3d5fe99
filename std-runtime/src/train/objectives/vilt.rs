//! Training of a ViLT (Kim et al. 2021): masked tokens are restored beside their image; texts are told from those with another image; words are aligned with
//! patches by optimal transport on the host, between forward and backward pass; texts are ranked for an image. Every term is a switch.

use std::path::Path;
use std::sync::Arc;

use samara_core::model::vilt::Vilt;
use samara_core::params::Params;

use super::supervised::TaskFolder;
use super::vilt_passes::{Built, Extents, Passes, Step, Terms};
use crate::data::dataset::HostBatch;
use crate::encoder::masking::Masking;
use crate::image_text::config::ViltTerms;
use crate::lm::RunError;
use crate::model_folder::ParamValues;
use crate::session::{BuildError, Device, On, OwnedParams, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetSpec, Source, StepBatch};
use crate::train::scalars::{Combine, ScalarId, Scalars};

/// The scalars by name; the first is the weighted sum of the terms, and always there.
const SCALARS: [&str; 6] = ["loss", "mlm_loss", "itm_loss", "itm_accuracy", "wpa_distance", "rank_loss"];

/// What a training knows of its model.
pub struct Model {
    /// The layers.
    pub vilt: Vilt,
    /// Their parameters.
    pub registry: Arc<OwnedParams>,
    /// The sizes of its batches.
    pub extents: Extents,
    /// Hides tokens, for the term that restores them.
    pub masking: Option<Masking>,
    /// Reads and writes its folder.
    pub folder: Box<dyn TaskFolder + Send>,
}

/// The training of a ViLT.
pub struct FuseOne {
    model: Model,
    terms: ViltTerms,
    train: TrainConfig,
    source: Option<Source>,
    sets: Option<(SetId, Option<SetId>)>,
    built: Option<[Option<Built>; 2]>,
    ids: Vec<(usize, ScalarId)>,
    step: Terms,
    /// Held-out rows so far.
    evaluated: u64,
}

impl FuseOne {
    /// Trains a model on the pairs of a source.
    pub fn new(model: Model, terms: &ViltTerms, source: Source, train: &TrainConfig) -> Self {
        Self {
            model,
            terms: terms.clone(),
            train: train.clone(),
            source: Some(source),
            sets: None,
            built: None,
            ids: Vec::new(),
            step: Terms::default(),
            evaluated: 0,
        }
    }

    /// How many parameters there are.
    pub fn parameters(&self) -> usize {
        self.model.registry.view().trainable_count()
    }

    fn set(&self, averaged: bool) -> SetId {
        let (set, average) = self.sets.expect("the trainer builds an objective before it uses it");
        average.filter(|_| averaged).unwrap_or(set)
    }

    fn built(&self, evaluation: bool) -> Option<&Built> {
        self.built.as_ref().and_then(|built| built[usize::from(evaluation)].as_ref())
    }

    fn passes(&self, patches: usize) -> Passes<'_> {
        let Model { vilt, masking, extents, .. } = &self.model;
        let TrainConfig { seed, dropout, .. } = self.train;
        Passes { vilt, masking: masking.as_ref(), terms: &self.terms, extents, patches, seed, dropout }
    }

    /// Patches that a step of training sees.
    fn seen(&self) -> usize {
        let all = self.model.extents.patches;
        if self.terms.max_patches == 0 { all } else { all.min(self.terms.max_patches) }
    }

    fn add(&self, terms: &Terms, out: &mut Scalars) {
        for &(scalar, id) in &self.ids {
            let [sum, weight] = terms.scalar(scalar, &self.terms);
            if weight > 0.0 {
                out.add_sum(id, sum, weight);
            }
        }
    }
}

impl<D: Device> Objective<D> for FuseOne {
    fn sets(&self) -> Vec<SetSpec> {
        SetSpec::of_training(&self.model.registry, self.train.averages() > 0)
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let (Some(&set), average, Some(source)) = (sets.first(), sets.get(1).copied(), &self.source) else { return Ok(()) };
        self.sets = Some((set, average));
        let (rows, [len, val_len]) = (source.rows, self.model.extents.text_len);
        let recompute = self.train.recompute.without_budget();
        let training = self.passes(self.seen()).build(session, set, [rows, len], Some(recompute))?;
        let all = self.passes(self.model.extents.patches);
        let evaluation = source.validation.as_ref().map(|_| all.build(session, set, [rows, val_len], None)).transpose()?;
        self.built = Some([Some(training), evaluation]);
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        let ViltTerms { mlm_weight, itm_weight, wpa_weight, rank_weight, .. } = self.terms;
        let has = [1.0, mlm_weight, itm_weight, itm_weight, wpa_weight, rank_weight].map(|weight| weight > 0.0);
        let named = SCALARS.iter().zip(has).enumerate().filter(|(_, (_, has))| *has);
        self.ids = named.map(|(scalar, (name, _))| (scalar, scalars.register(name, Combine::Mean))).collect();
    }

    fn sources(&mut self) -> Vec<Source> {
        self.source.take().into_iter().collect()
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let (set, device) = session.set_mut(self.set(false));
        set.initialise(device, self.train.seed).map_err(RunError::from)?;
        if resumed {
            return Ok(());
        }
        let (params, mut read) = (self.model.registry.view(), Ok(()));
        let load = &mut |values: &mut [f32]| read = self.model.folder.read(&params, values, &mut []);
        device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
        read
    }

    fn begin(&mut self, _: &mut Session<D>, _: &StepBatch) -> Result<u32, RunError> {
        self.evaluated = 0;
        Ok(1)
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        let (set, batches) = (self.set(false), batch.micro_batches(0));
        let rows = batches.iter().map(|batch| batch.rows() as u64).sum::<u64>();
        let Some(built) = self.built(false) else { return Ok(()) };
        let step = Step::new(batches, batch.step * rows, batch.step);
        let passes = self.passes(self.seen());
        self.step = passes.run(session, set, built, &step, Some(&batch.stop))?;
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        self.add(&self.step, out);
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        /// Rows of evaluations have draws of their own, the same every time.
        const HELD_OUT: u64 = 1 << 60;
        let set = self.set(averaged);
        let Some(built) = self.built(true) else { return Ok(()) };
        let step = Step::new(std::slice::from_ref(batch), HELD_OUT + self.evaluated, 0);
        let found = self.passes(self.model.extents.patches).run(session, set, built, &step, None)?;
        self.add(&found, out);
        self.evaluated += batch.tokens;
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("loss", Direction::Smaller)
    }

    fn unit(&self, scalar: &str) -> &'static str {
        if scalar.ends_with("loss") { "nats" } else { "" }
    }

    fn counted(&self) -> &'static str {
        "pairs"
    }

    fn first_non_finite(&mut self, session: &mut Session<D>, _: u32, _: &StepBatch) -> Result<Option<String>, RunError> {
        let (set, Some(built)) = (self.set(false), self.built(false)) else { return Ok(None) };
        for program in built.programs() {
            if let Some(found) = session.first_non_finite(program, On::set(set), 0..program.view().nodes().len())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        std::fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        let (set, device) = session.set_mut(self.set(averaged));
        let (params, mut saved): (Params<'_>, _) = (self.model.registry.view(), Ok(()));
        let save = &mut |trainable: &[f32]| {
            saved = self.model.folder.write(folder, &params, ParamValues { trainable, frozen: &[] });
        };
        device.lend(&set.weights, save).map_err(RunError::from)?;
        saved
    }

    fn describe(&self, _: &Session<D>) -> String {
        self.model.folder.describe()
    }
}
