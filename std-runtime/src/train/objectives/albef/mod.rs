//! ALBEF's training: contrast with queues, matching with hard negatives, masked tokens, and distillation by momentum encoders. Li et al. 2021, section 3.

mod programs;
mod queue;
mod step;
mod terms;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::albef::Albef;
use serde_json::Value;

pub use self::terms::Terms;

use self::programs::{Evaluation, Momentum, Sizes, Training};
use self::queue::Queues;
use crate::data::dataset::HostBatch;
use crate::encoder::masking::Masking;
use crate::lm::RunError;
use crate::model_folder::ParamValues;
use crate::session::update::UpdateNumbers;
use crate::session::{BuildError, Device, On, OwnedParams, Session, SetId};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use crate::train::objectives::held_out::{HeldOut, RECALLS};
use crate::train::objectives::supervised::TaskFolder;
use crate::train::scalars::{Combine, ScalarId, Scalars};

/// The scalars of a step, of which those of its terms are reported: the loss, its terms, the shares of pairs and mismatches that are told right, τ and α.
const SCALARS: [(&str, Combine); 7] = [
    ("loss", Combine::Mean),
    ("itc_loss", Combine::Mean),
    ("itm_loss", Combine::Mean),
    ("mlm_loss", Combine::Mean),
    (MATCHED, Combine::Mean),
    ("temperature", Combine::Last),
    ("alpha", Combine::Last),
];

/// The share of pairs, and of their texts with other images, that are told right; chance is ½.
const MATCHED: &str = "match_accuracy";

/// What the training knows of its model.
pub struct Model {
    /// The layers.
    pub albef: Albef,
    /// Their parameters.
    pub registry: Arc<OwnedParams>,
    /// Tokens of a row of texts for training, and for validation.
    pub text_len: [usize; 2],
    /// Hides tokens.
    pub masking: Masking,
    /// The share of tokens that is hidden.
    pub masked: f64,
    /// Reads and writes its folder.
    pub folder: Box<dyn TaskFolder + Send>,
}

/// The training of an ALBEF.
pub struct AlignFuse {
    model: Model,
    terms: Terms,
    train: TrainConfig,
    source: Option<Source>,
    built: Option<Built>,
    /// The values of [`SCALARS`] of the last step.
    step: Option<[f64; SCALARS.len()]>,
    /// Vectors and pairs that enter the queues when the weights have changed.
    pending: Option<([Vec<f32>; 2], Vec<i32>)>,
    evaluated: HeldOut,
}

struct Built {
    set: SetId,
    /// The trained set with the queues.
    on: On,
    training: Training,
    /// The momentum encoders.
    momentum: Option<(SetId, Momentum)>,
    queues: Option<Queues>,
    evaluation: Option<Evaluation>,
    /// Batches of an evaluation.
    eval_batches: u64,
    ids: Vec<ScalarId>,
}

impl AlignFuse {
    /// Trains a model on the pairs of a source.
    pub fn new(model: Model, terms: Terms, source: Source, train: &TrainConfig) -> Self {
        let train = train.clone();
        let evaluated = HeldOut::default();
        Self { model, terms, train, source: Some(source), built: None, step: None, pending: None, evaluated }
    }

    /// How many parameters there are.
    pub fn parameters(&self) -> usize {
        self.model.registry.view().trainable_count()
    }

    fn built(&self) -> &Built {
        self.built.as_ref().expect("the trainer builds an objective before it uses it")
    }

    /// Room for masked tokens: six standard deviations above their mean number.
    fn room(&self, tokens: usize) -> usize {
        let (n, p) = (tokens as f64, self.model.masked);
        let most = n * p + 6.0 * (n * p * (1.0 - p)).sqrt() + 1.0;
        (most.ceil() as usize).min(tokens).max(1)
    }

    /// The temperature of the trained set.
    fn temperature<D: Device>(&self, session: &mut Session<D>) -> Result<f32, RunError> {
        let place = self.model.registry.view().infos().get(self.model.albef.temp().index()).map(|info| info.range());
        let (set, device) = session.set_mut(self.built().set);
        let mut found = None;
        device.lend(&set.weights, &mut |values: &[f32]| {
            found = place.clone().and_then(|place| values.get(place)?.first().copied())
        })?;
        Ok(found.unwrap_or(f32::NAN))
    }
}

impl<D: Device> Objective<D> for AlignFuse {
    fn sets(&self) -> Vec<SetSpec> {
        let spec = |name, role| SetSpec { name, registry: Arc::clone(&self.model.registry), role };
        let momentum = self.terms.has_momentum().then(|| spec("momentum", SetRole::Average { of: 0 }));
        [spec("training", SetRole::Trained)].into_iter().chain(momentum).collect()
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let (Some(&set), momentum_set, Some(source)) = (sets.first(), sets.get(1).copied(), &self.source) else { return Ok(()) };
        let ([len, val_len], rows) = (self.model.text_len, source.rows);
        let sizes = Sizes { rows, len, masked: self.room(rows * len) };
        let (model, recompute) = ((&self.model.albef, &self.terms), self.train.recompute.without_budget());
        let state = session.add_lasting_state("queues");
        let on = On::set(set).with_state(state);
        let training = programs::training(session, on, model, sizes, recompute)?;
        let momentum = match momentum_set {
            None => None,
            Some(set) => Some((set, programs::momentum(session, On::set(set), model, sizes)?)),
        };
        let queues = training.itc.and_then(|itc| itc.queues).map(|queues| Queues::new(&training.program, queues, state));
        let of_val = Sizes { len: val_len, ..sizes };
        let validation = source.validation.as_ref();
        let evaluation = validation.map(|_| programs::evaluation(session, On::set(set), model, of_val)).transpose()?;
        let all = validation.map_or(0, |rows_of| rows_of.len().div_ceil(rows.max(1) as u64));
        let eval_batches = if self.train.eval_batches == 0 { all } else { self.train.eval_batches.min(all) };
        self.built = Some(Built { set, on, training, momentum, queues, evaluation, eval_batches, ids: Vec::new() });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        if let Some(built) = &mut self.built {
            let of_evaluations = RECALLS.map(|name| (name, Combine::Last));
            built.ids =
                SCALARS.into_iter().chain(of_evaluations).map(|(name, combine)| scalars.register(name, combine)).collect();
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        self.source.take().into_iter().collect()
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        let (set, device) = session.set_mut(self.built().set);
        set.initialise(device, self.train.seed).map_err(RunError::from)?;
        let (params, mut read) = (self.model.registry.view(), Ok(()));
        if !resumed {
            let load = &mut |values: &mut [f32]| read = self.model.folder.read(&params, values, &mut []);
            device.lend_mut(&mut set.weights, load).map_err(RunError::from)?;
        }
        read?;
        let Built { set, momentum, queues, .. } = self.built();
        if let Some((momentum, _)) = momentum {
            session.copy_weights(*set, *momentum).map_err(RunError::from)?;
        }
        queues.as_ref().map_or(Ok(()), |queues| queues.fill(session, self.train.seed))?;
        Ok(())
    }

    fn numbers(&self, _: usize, of_train: UpdateNumbers) -> UpdateNumbers {
        UpdateNumbers { ema_decay: self.terms.momentum, ema_copies: 0, ..of_train }
    }

    fn begin(&mut self, _: &mut Session<D>, _: &StepBatch) -> Result<u32, RunError> {
        self.evaluated = HeldOut::default();
        Ok(1)
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        batch.stop.check()?;
        let Some(pairs) = batch.micro_batches(0).first() else { return Ok(()) };
        self.step = Some(self.train_on(session, pairs, batch.step)?);
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        let reported = [
            true,
            self.terms.contrasts(),
            self.terms.matches(),
            self.terms.masks(),
            self.terms.matches(),
            true,
            self.terms.distils(),
        ];
        let values = self.step.into_iter().flatten().zip(reported);
        self.built().ids.iter().zip(values).filter(|(_, (_, is))| *is).for_each(|(&id, (value, _))| out.add(id, value));
    }

    fn after_update(&mut self, session: &mut Session<D>, _: u32) -> Result<ControlFlow<()>, RunError> {
        let place = self.model.registry.view().infos().get(self.model.albef.temp().index()).map(|info| info.range());
        let (set, device) = session.set_mut(self.built().set);
        let [least, most] = Albef::TEMPERATURES;
        let clamp = &mut |values: &mut [f32]| {
            place.clone().and_then(|place| values.get_mut(place)).into_iter().flatten().for_each(|x| *x = x.clamp(least, most));
        };
        device.lend_mut(&mut set.weights, clamp)?;
        if let (Some((vectors, same)), Some(Built { queues: Some(queues), .. })) = (self.pending.take(), &mut self.built) {
            queues.push(session, &vectors, &same)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn evaluate(&mut self, session: &mut Session<D>, _: bool, batch: &HostBatch, out: &mut Scalars) -> Result<(), RunError> {
        let set = self.built().set;
        let Some(Built { evaluation: Some(evaluation), ids, eval_batches, .. }) = &self.built else { return Ok(()) };
        let (vectors, matched) = step::evaluate(session, On::set(set), evaluation, batch)?;
        let at = |name: &str| SCALARS.iter().position(|(other, _)| *other == name).and_then(|at| ids.get(at).copied());
        if let (Some((right, all)), Some(id)) = (matched, at(MATCHED)) {
            out.add_sum(id, right, all);
        }
        let width = self.model.albef.config().embed_dim;
        let vectors = [0, 1].map(|n| session.fetched(&vectors[n]));
        if let Some(found) = self.evaluated.add(vectors, width, batch, *eval_batches).filter(|_| self.terms.contrasts()) {
            ids.iter().skip(SCALARS.len()).zip(found).for_each(|(&id, recall)| out.add(id, recall));
        }
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        (if self.terms.contrasts() { RECALLS[0] } else { MATCHED }, Direction::Larger)
    }

    fn followed(&self) -> &'static str {
        "loss"
    }

    fn is_evaluated(&self, scalar: &str) -> bool {
        RECALLS.contains(&scalar) && self.terms.contrasts() || scalar == MATCHED && self.terms.matches()
    }

    fn unit(&self, scalar: &str) -> &'static str {
        if scalar.ends_with("loss") { "nats" } else { "" }
    }

    fn counted(&self) -> &'static str {
        "pairs"
    }

    fn first_non_finite(&mut self, session: &mut Session<D>, _: u32, _: &StepBatch) -> Result<Option<String>, RunError> {
        let Built { on, training: Training { program, .. }, .. } = self.built();
        Ok(session.first_non_finite(program, *on, 0..program.view().nodes().len())?)
    }

    fn export(&mut self, session: &mut Session<D>, _: bool, folder: &Path) -> Result<(), TrainingError> {
        std::fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        let (set, device) = session.set_mut(self.built().set);
        let (params, mut saved) = (self.model.registry.view(), Ok(()));
        let save = &mut |trainable: &[f32]| {
            saved = self.model.folder.write(folder, &params, ParamValues { trainable, frozen: &[] });
        };
        device.lend(&set.weights, save).map_err(RunError::from)?;
        saved
    }

    fn describe(&self, _: &Session<D>) -> String {
        self.model.folder.describe()
    }

    fn save(&self) -> Value {
        let ring = self.built().queues.as_ref().map(Queues::ring);
        serde_json::to_value(ring).unwrap_or_default()
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        // A run that begins, or one without queues.
        let Some(ring) = serde_json::from_value(state.clone()).map_err(|error| error.to_string())? else { return Ok(()) };
        let queues = self.built.as_mut().and_then(|built| built.queues.as_mut());
        queues.map_or(Ok(()), |queues| queues.resume(ring))
    }
}
