//! Language-model training: the mean of −ln p(token | all before it) over all tokens of a step, in nats (Radford et al. 2019).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use serde_json::Value;

use crate::data::batches::{Order, Sampler};
use crate::data::dataset::HostBatch;
use crate::data::shards::{TokenList, Tokens};
use crate::decoding::generator::Generator;
use crate::lm::evaluate::Evaluation;
use crate::lm::generation::GenerateConfig;
use crate::lm::set_weights::{begin, leave};
use crate::lm::step::{DropoutNumbers, Step, StepShape};
use crate::lm::{Bound, Caches, RunError, register};
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::model::tune::peft::Base;
use crate::model_folder::{Companions, ExtraTensors, Reading};
use crate::run::durable;
use crate::session::{BuildError, Device, OwnedParams, OwnedProgram, Session, SetId};
use crate::stop::Stop;
use crate::tokenizer::{Tokenizer, prompt_ids};
use crate::train::config::TrainConfig;
use crate::train::error::TrainingError;
use crate::train::objective::{Direction, Objective, SetSpec, Source, StepBatch, ignored_tensors};
use crate::train::scalars::{Combine, ScalarId, Scalars};

/// The model folder that a training writes, and its samples.
pub struct ModelFolder {
    /// The contents of `config.json`.
    pub config: FolderConfig,
    /// The files of the folder that the run began with.
    pub companions: Companions,
    /// The tokenizer, unless the data came as token ids alone.
    pub tokenizer: Option<Tokenizer>,
    /// How samples are generated.
    pub generate: GenerateConfig,
    /// The chat template and its files of a model that answers; `None`: samples continue the prompt of `generate`.
    pub chat: Option<Chat>,
}

/// The additions of a model that answers.
pub struct Chat {
    /// The tokens that a sample answers.
    pub prompt: Vec<i32>,
    /// The tokens that end an answer.
    pub stops: Vec<i32>,
    /// Files of the folder with their content, replacing those of the initial folder.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// The programs.
struct Built {
    step: Step,
    evaluation: Option<Evaluation>,
    set: SetId,
    average: Option<SetId>,
    caches: Caches,
}

/// Training of a language model.
pub struct Lm {
    architecture: Arc<dyn Architecture>,
    layers: Arc<dyn LanguageModel>,
    registry: Arc<OwnedParams>,
    shape: StepShape,
    train: TrainConfig,
    source: Option<Source>,
    init: Option<PathBuf>,
    /// Token ids of the initial folder, where the model has more.
    token_ids: Option<usize>,
    /// The source of frozen weights.
    base: Option<Base>,
    folder: Option<ModelFolder>,
    about: String,
    built: Option<Built>,
    loss: Option<ScalarId>,
    /// Tensors of the folder that training began with which were left out.
    ignored: Vec<String>,
}

impl Lm {
    /// Training of a model on rows with `input_ids` and `labels`; packed rows also have `segments` and `position_ids`. Shape and source must agree on
    /// rows and tokens.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn of_source(
        architecture: Arc<dyn Architecture>,
        shape: StepShape,
        train: &TrainConfig,
        source: Source,
    ) -> Result<Self, BuildError> {
        let (registry, layers) = register(&*architecture, 0, |_, _| ())?;
        let (source, train, about) = (Some(source), train.clone(), String::new());
        Ok(Self {
            architecture,
            layers,
            registry,
            shape,
            train,
            source,
            init: None,
            token_ids: None,
            base: None,
            folder: None,
            about,
            built: None,
            loss: None,
            ignored: Vec::new(),
        })
    }

    /// Training of a model from initial weights on tokens. Shape and configuration must agree on rows and tokens.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn new(
        architecture: Arc<dyn Architecture>,
        shape: StepShape,
        train: &TrainConfig,
        tokens: impl Tokens + Send + 'static,
        order: Sampler,
        held_out: Option<Box<dyn Tokens + Send>>,
    ) -> Result<Self, BuildError> {
        Self::of_source(architecture, shape, train, Source::windows(tokens, order, held_out, train))
    }

    /// Training on arbitrary tokens, for timing.
    ///
    /// # Errors
    /// The registry cannot hold the parameters.
    pub fn on_noise(architecture: Arc<dyn Architecture>, shape: StepShape, train: &TrainConfig) -> Result<Self, RunError> {
        let (_, layers) = register(&*architecture, 0, |_, _| ())?;
        let (len, vocab_size) = (4 * shape.block as u32 + 2, layers.dims().vocab_size as u32);
        let ids = (0..len).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size).collect();
        let order = Sampler::new(Order::Random, train.seed, shape.block, u64::from(len), "noise")?;
        Ok(Self::new(architecture, shape, train, TokenList::new("noise", ids), order, None)?)
    }

    /// The same with the weights of a model folder at the beginning, which has `token_ids` where the model has more.
    pub fn with_init(self, init: Option<PathBuf>, token_ids: Option<usize>) -> Self {
        Self { init, token_ids, ..self }
    }

    /// The same with a model folder as its result, and with words about it.
    pub fn with_folder(self, folder: ModelFolder, about: String) -> Self {
        Self { folder: Some(folder), about, ..self }
    }

    /// Writes the files that accompany the model: those of the initial folder, or the tokenizer.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save_companions(&self, folder: &Path) -> Result<(), TrainingError> {
        let Some(model) = &self.folder else { return Ok(()) };
        if let Some(tokenizer) = model.tokenizer.as_ref().filter(|_| !model.companions.have_tokenizer()) {
            tokenizer.save(folder, Some(self.layers.dims().n_positions))?;
        }
        model.companions.copy_to(folder)?;
        for (name, content) in model.chat.iter().flat_map(|chat| &chat.files) {
            let path = folder.join(name);
            durable::write(&path, content).map_err(TrainingError::io(&path, "write"))?;
        }
        Ok(())
    }

    /// The program of a micro-batch, after it is built.
    pub fn program(&self) -> Option<&OwnedProgram> {
        self.built.as_ref().map(|built| built.step.program())
    }

    /// The model on its weights, or on their average.
    fn bound<'s, D: Device>(&self, session: &'s mut Session<D>, averaged: bool) -> Bound<'s, D> {
        let Built { set, average, caches, .. } = self.built();
        let set = average.filter(|_| averaged).unwrap_or(*set);
        Bound { dims: self.layers.dims(), layers: Arc::clone(&self.layers), session, set, caches: *caches }
    }

    fn built(&self) -> &Built {
        self.built.as_ref().expect("the trainer builds an objective before it uses it")
    }

    fn dropout(&self, step: u64) -> DropoutNumbers {
        let of_adapters = self.architecture.adapter_dropout();
        DropoutNumbers { probability: self.train.dropout, of_adapters, seed: self.train.seed, step }
    }

    /// Whether some weights are frozen: these are read from the initial folder on every resume.
    fn has_frozen(&self) -> bool {
        self.registry.view().frozen_bytes() > 0
    }
}

impl<D: Device> Objective<D> for Lm {
    fn sets(&self) -> Vec<SetSpec> {
        SetSpec::of_training(&self.registry, self.train.averages() > 0)
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let caches = Caches::new(session);
        let (Some(&set), average) = (sets.first(), sets.get(1).copied()) else { return Ok(()) };
        let mut model = Bound { dims: self.layers.dims(), layers: Arc::clone(&self.layers), session, set, caches };
        let step = Step::new(&mut model, self.shape)?;
        let evaluated = self.source.as_ref().is_some_and(|source| source.validation.is_some());
        let evaluation = if evaluated {
            Some(Evaluation::new(&mut model, self.shape.batch, self.shape.block, self.shape.packed)?)
        } else {
            None
        };
        self.built = Some(Built { step, evaluation, set, average, caches });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        self.loss = Some(scalars.register("loss", Combine::Mean));
    }

    fn sources(&mut self) -> Vec<Source> {
        self.source.take().into_iter().collect()
    }

    fn initialise(&mut self, session: &mut Session<D>, resumed: bool) -> Result<(), TrainingError> {
        if resumed && !self.has_frozen() {
            return Ok(());
        }
        let &Built { set: id, .. } = self.built();
        let Some(folder) = &self.init else {
            let (set, device) = session.set_mut(id);
            return Ok(set.initialise(device, self.train.seed).map_err(RunError::from)?);
        };
        let extra = ExtraTensors::ignore_if(self.train.ignore_extra);
        let reading = Reading { extra, token_ids: self.token_ids, optional: None };
        let begun = begin(session, id, &*self.architecture, (folder, reading), self.train.seed)?;
        (self.base, self.ignored) = (begun.base, begun.ignored);
        Ok(())
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        let dropout = self.dropout(batch.step);
        let mut model = self.bound(session, false);
        self.built.as_mut().map_or(Ok(()), |built| built.step.queue(&mut model, batch.micro_batches(0), &dropout, &batch.stop))
    }

    fn collect(&mut self, session: &Session<D>, _: u32, out: &mut Scalars) {
        if let Some(loss) = self.loss {
            out.add(loss, self.built().step.loss(session));
        }
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        let mut model = self.bound(session, averaged);
        if let (Some(evaluation), Some(loss)) = (&self.built().evaluation, self.loss) {
            out.add_sum(loss, evaluation.batch(&mut model, batch)?, batch.tokens as f64);
        }
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("loss", Direction::Smaller)
    }

    fn unit(&self, _: &str) -> &'static str {
        "nats per token"
    }

    fn first_non_finite(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<Option<String>, RunError> {
        let dropout = self.dropout(batch.step);
        let mut model = self.bound(session, false);
        self.built().step.first_non_finite(&mut model, batch.micro_batches(0), &dropout)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        let set = self.bound(session, averaged).set;
        let Some(model) = &self.folder else { return Ok(()) };
        fs::create_dir_all(folder).map_err(TrainingError::io(folder, "create"))?;
        self.save_companions(folder)?;
        Ok(leave(session, set, &*self.architecture, self.base.as_ref(), (folder, &model.config))?)
    }

    fn sample(&mut self, session: &mut Session<D>, stop: &Stop) -> Result<Option<String>, TrainingError> {
        let Some(ModelFolder { tokenizer: Some(tokenizer), generate, chat, .. }) = &self.folder else { return Ok(None) };
        if generate.max_new_tokens == 0 {
            return Ok(None);
        }
        let (prompt, stops) = match chat {
            Some(Chat { prompt, stops, .. }) => (prompt.clone(), stops.as_slice()),
            None => (prompt_ids(tokenizer, &generate.prompt, generate.specials, self.layers.dims().vocab_size)?, &[][..]),
        };
        let mut model = self.bound(session, false);
        let mut generator = Generator::new(&mut model, &prompt, generate.sampling(), generate.seed)?;
        let mut bytes = Vec::new();
        for _ in 0..generate.max_new_tokens {
            stop.check().map_err(RunError::from)?;
            let token = generator.next(&mut model)?;
            if stops.contains(&token) {
                break;
            }
            tokenizer.push_token(token as u32, &mut bytes);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn describe(&self, _: &Session<D>) -> String {
        format!("{}{}", ignored_tensors(&self.ignored), self.about)
    }

    fn save(&self) -> Value {
        self.base.as_ref().map_or(Value::Null, Base::to_state)
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        self.base.as_ref().map_or(Ok(()), |base| base.check_state(state))
    }
}
