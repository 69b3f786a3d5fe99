//! The training loop.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use samara_core::schedule::Schedule;

use super::config::{RunConfig, TrainConfig};
use super::error::TrainingError as Error;
use super::progress::Progress;
use super::recompute::Policies;
use super::request::{TrainOutcome, TrainRequest};
use super::signal::Stop;
use super::state::{self, RunState, TrainedSet};
use crate::config::{Invalid, Layers, conflicts, to_toml};
use crate::data::batches::{Offsets, Order, Sampler};
use crate::data::config::DataOrder;
use crate::data::prepare::{Prepared, prepare};
use crate::data::shards::{Shard, Tokens};
use crate::data::source::DataRequest;
use crate::gpt::Gpt;
use crate::gpt::evaluate::Evaluation;
use crate::gpt::generate::Generator;
use crate::gpt::step::{Step, StepNumbers, StepResult};
use crate::model::ModelConfig;
use crate::model_folder::{self, Companions, FolderConfig};
use crate::run::checkpoint::{Checkpoint, Checkpoints};
use crate::run::durable;
use crate::run::events::EventWriter;
use crate::run::metrics::{self, Metrics, MetricsWriter};
use crate::run::plot;
use crate::say;
use crate::session::{Device, Engine, SetId};
use crate::tokenizer::{Tokenizer, prompt_ids};

/// Trains until the last step, a signal, or an error.
pub fn run(request: &TrainRequest) -> Result<TrainOutcome, Error> {
    let stop = Stop::install().map_err(Error::io(Path::new("signals"), "listen to"))?;
    let engine = Engine::new(request.config.train.threads, request.config.train.gemm)?;
    // The whole loop stands on a thread of the pool: a step from outside it would allocate.
    Arc::clone(&engine).install(|| run_on(engine, request, &stop))
}

fn run_on(engine: Arc<Engine>, request: &TrainRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let mut run = Run::open(engine, request)?;
    let mut progress = Progress::new(request.quiet, run.config.train.steps, run.state.step);
    progress.say(&run.describe());
    if run.state.step == 0 {
        run.sample(&mut progress)?;
    }
    let signal = loop {
        if run.state.step >= run.config.train.steps || run.out_of_patience() {
            break None;
        }
        if let Some(signal) = stop.signal() {
            break Some(signal);
        }
        run.advance(&mut progress)?;
    };
    run.finish(&mut progress, signal)
}

struct Run {
    /// With the way of recomputation that is used, so that a resumed run uses it too.
    config: RunConfig,
    policies: Policies,
    folder_config: FolderConfig,
    companions: Companions,
    out: PathBuf,
    gpt: Gpt,
    averages: Vec<SetId>,
    step: Step,
    evaluation: Option<Evaluation>,
    tokenizer: Option<Tokenizer>,
    train: Shard,
    val: Option<Shard>,
    sampler: Sampler,
    schedule: Schedule,
    checkpoints: Checkpoints,
    metrics: MetricsWriter,
    events: EventWriter,
    state: RunState,
    last: Option<StepResult>,
    saved_step: Option<u64>,
}

impl Run {
    #[allow(clippy::too_many_lines, reason = "what a run holds, in the order in which it is made")]
    fn open(engine: Arc<Engine>, request: &TrainRequest) -> Result<Self, Error> {
        let config = &request.config;
        let out = run_folder(request)?;
        let checkpoints = Checkpoints::open(&out.join("checkpoints"), config.train.keep_checkpoints)?;
        let checkpoint = newest(&checkpoints, request.resume)?;
        if checkpoint.is_some() {
            refuse_changes(config, &out)?;
        }
        let from = if checkpoint.is_some() { Some(out.as_path()) } else { request.init.as_deref() };
        let prepared = prepare_data(config, from, &out, checkpoint.is_some())?;
        let model = model_config(config, &prepared)?;
        let policies = Policies::new(&engine, &model.to_core()?, config)?;
        let recompute = policies.shape.recompute.into();
        let config = RunConfig { train: TrainConfig { recompute, ..config.train.clone() }, ..config.clone() };
        let mut gpt = Gpt::new(engine, model.to_core()?)?;
        let folder_config = folder_config(model, &config, &prepared, from)?;
        let companions = from.map_or_else(|| Ok(Companions::default()), Companions::of)?;
        let averages = gpt.add_averages(config.train.averages());
        let step = Step::new(&mut gpt.bound(), policies.shape, &averages)?;
        let evaluation = match &prepared.val {
            Some(_) => Some(Evaluation::new(&mut gpt.bound(), config.train.batch_size, config.train.block_size)?),
            None => None,
        };
        let state = first_state(request, checkpoint.as_ref(), &mut gpt, &averages)?;
        let limit = gpt.config.vocab_size as u32;
        prepared.train.check_ids(limit)?;
        prepared.val.as_ref().map_or(Ok(()), |val| val.check_ids(limit))?;
        let sampler = sampler_of(&config, &prepared.train)?;
        durable::write(&out.join(CONFIG_FILE), to_toml(&config).as_bytes()).map_err(Error::io(&out, "write"))?;
        save_companions(&out, &companions, prepared.tokenizer.as_ref(), gpt.config.n_positions)?;
        let metrics = MetricsWriter::open(&out.join(METRICS_FILE), state.step)?;
        let events = EventWriter::create(&out, state.step).map_err(Error::io(&out, "write events into"))?;
        Ok(Self {
            schedule: config.train.lr_schedule(),
            config,
            policies,
            folder_config,
            companions,
            gpt,
            averages,
            step,
            evaluation,
            tokenizer: prepared.tokenizer,
            train: prepared.train,
            val: prepared.val,
            sampler,
            checkpoints,
            metrics,
            events,
            saved_step: checkpoint.is_some().then_some(state.step),
            state,
            last: None,
            out,
        })
    }

    fn describe(&self) -> String {
        let params = self.gpt.weights().params();
        format!(
            "{} parameters, {} training tokens, {} validation tokens, {} -> {}\n{}",
            params.trainable_count(),
            self.train.len(),
            self.val.as_ref().map_or(0, Tokens::len),
            self.gpt.session.device().describe(),
            self.out.display(),
            self.policies.describe()
        )
    }

    fn out_of_patience(&self) -> bool {
        self.config.train.patience > 0 && self.state.evaluations_without_improvement >= self.config.train.patience
    }

    /// One step and what is due after it.
    fn advance(&mut self, progress: &mut Progress) -> Result<(), Error> {
        if self.state.step == 0 && self.config.train.eval_every > 0 {
            self.evaluate(progress)?;
            self.write_metrics(None, 0.0, 0.0)?;
        }
        let begun = Instant::now();
        let lr = self.schedule.at(self.state.step);
        let numbers = StepNumbers::new(&self.config.train, self.state.step, lr);
        let result = self.step.run(&mut self.gpt.bound(), &self.sampler, &self.train, &numbers)?;
        let seconds = begun.elapsed().as_secs_f64();
        let tokens = self.step.shape().tokens();
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.wall_s += seconds;
        self.last = Some(result);
        let tokens_per_s = tokens as f64 / seconds.max(1e-9);
        progress.step(self.state.step, result.loss, lr, tokens_per_s);
        let train = &self.config.train;
        let due = |every: u64| every > 0 && self.state.step.is_multiple_of(every);
        let (evaluate, sample, checkpoint) = (due(train.eval_every), due(train.sample_every), due(train.checkpoint_every));
        let last = self.state.step == train.steps;
        self.state.val_loss = None;
        if evaluate || last {
            self.evaluate(progress)?;
        }
        self.write_metrics(Some(result), lr, tokens_per_s)?;
        if sample && !last {
            self.sample(progress)?;
        }
        if checkpoint && !last {
            self.save()?;
        }
        Ok(())
    }

    /// The validation loss; a new best one writes `best/`. With a moving average, it is the average that is evaluated.
    fn evaluate(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let (Some(evaluation), Some(val)) = (&mut self.evaluation, &self.val) else { return Ok(()) };
        let begun = Instant::now();
        let set = self.averages.first().copied().filter(|_| self.state.step > 0).unwrap_or(self.gpt.set());
        let note = |done: u64, all: u64| progress.note(&format!("validation {done}/{all}"));
        let result = evaluation.run(&mut self.gpt.bound_to(set), val, self.config.train.eval_batches, &mut { note });
        let improved = match &result {
            Ok(mean) => self.state.best_val_loss.is_none_or(|best| mean.loss < best),
            Err(_) => false,
        };
        if improved && self.state.step > 0 {
            self.save_model(&self.out.join("best"), set)?;
        }
        let loss = result?.loss;
        self.state.val_loss = Some(loss);
        if improved {
            (self.state.best_val_loss, self.state.best_step, self.state.evaluations_without_improvement) =
                (Some(loss), self.state.step, 0);
        } else {
            self.state.evaluations_without_improvement += 1;
        }
        self.state.wall_s += begun.elapsed().as_secs_f64();
        progress.say(&format!(
            "step {:>6} | validation loss {loss:.4}{}",
            self.state.step,
            if improved { " (best)" } else { "" }
        ));
        Ok(())
    }

    fn write_metrics(&mut self, result: Option<StepResult>, lr: f64, tokens_per_s: f64) -> Result<(), Error> {
        let record = Metrics {
            step: self.state.step,
            tokens: self.state.tokens,
            train_loss: result.map(|r| r.loss),
            val_loss: self.state.val_loss,
            lr: result.map(|_| lr),
            grad_norm: result.map(|r| r.grad_norm),
            tokens_per_s: result.map(|_| tokens_per_s),
            wall_s: Some(self.state.wall_s),
        };
        self.metrics.write(&record)?;
        let scalars = [
            ("loss/train", record.train_loss),
            ("loss/val", record.val_loss),
            ("lr", record.lr),
            ("grad_norm", record.grad_norm),
            ("tokens_per_s", record.tokens_per_s),
        ];
        for (tag, value) in scalars {
            if let Some(value) = value {
                self.events.scalar(record.step, tag, value as f32).map_err(Error::io(self.events.path(), "write"))?;
            }
        }
        Ok(())
    }

    /// Shows and keeps a short text from the model as it is.
    fn sample(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| self.config.generate.max_new_tokens > 0) else { return Ok(()) };
        let settings = &self.config.generate;
        let prompt = prompt_ids(tokenizer, &settings.prompt)?;
        let mut generator = Generator::new(&mut self.gpt.bound(), &prompt, settings.sampling(), settings.seed)?;
        let mut bytes = Vec::new();
        for _ in 0..settings.max_new_tokens {
            let token = generator.next(&mut self.gpt.bound())?;
            tokenizer.push_token(token as u32, &mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let shown = format!("--- sample at step {} ---\n{text}\n---", self.state.step);
        progress.say(&shown);
        let path = self.out.join("samples.txt");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path, "open"))?;
        writeln!(file, "{shown}").map_err(Error::io(&path, "write"))
    }

    /// Writes a checkpoint, and the weights into the run folder, which is a model folder.
    fn save(&mut self) -> Result<(), Error> {
        if self.saved_step == Some(self.state.step) {
            return Ok(());
        }
        self.metrics.sync()?;
        let trained = TrainedSet { set: self.gpt.set(), averages: &self.averages };
        state::save(&self.checkpoints, &self.state, &mut self.gpt.session, &trained)?;
        self.save_model(&self.out, self.gpt.set())?;
        self.saved_step = Some(self.state.step);
        Ok(())
    }

    fn save_model(&self, folder: &Path, set: SetId) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        save_companions(folder, &self.companions, self.tokenizer.as_ref(), self.gpt.config.n_positions)?;
        Ok(model_folder::save_folder(
            folder,
            &self.folder_config,
            &self.gpt.session.set(set).params(),
            self.gpt.session.set(set).weights.get(),
        )?)
    }

    fn finish(mut self, progress: &mut Progress, signal: Option<i32>) -> Result<TrainOutcome, Error> {
        self.save()?;
        if signal.is_none() {
            self.sample(progress)?;
        }
        progress.finish();
        let records = metrics::read(&self.out.join(METRICS_FILE))?;
        let path = self.out.join("loss.svg");
        plot::write_loss_curve(&path, "loss", &records).map_err(Error::io(&path, "write"))?;
        if let Some(signal) = signal {
            let resume = format!("samara train --resume --out {}", self.out.display());
            return Err(Error::Interrupted { signal: signal as u8, resume });
        }
        Ok(TrainOutcome {
            steps: self.state.step,
            train_loss: self.last.map(|r| r.loss),
            val_loss: self.state.val_loss,
            best_val_loss: self.state.best_val_loss,
            out: self.out,
        })
    }
}

/// The effective configuration in the run folder.
const CONFIG_FILE: &str = "run.toml";
/// One record per step.
const METRICS_FILE: &str = "metrics.jsonl";

/// The run folder, made when it is not there: the one asked for, or the next free `runs/NAME-NNN`.
fn run_folder(request: &TrainRequest) -> Result<PathBuf, Error> {
    let out = match &request.out {
        Some(out) => out.clone(),
        None => {
            let free = (1..).map(|n| Path::new("runs").join(format!("{}-{n:03}", request.name))).find(|path| !path.exists());
            free.unwrap_or_else(|| PathBuf::from("runs"))
        }
    };
    if !request.resume && out.join(METRICS_FILE).exists() {
        let out = out.display();
        return Err(Error::Usage(format!(
            "{out}: the folder already holds a run; add --resume to go on with it, or choose another --out"
        )));
    }
    if model_folder::is_model_folder(&out) && !out.join(CONFIG_FILE).exists() {
        let out = out.display();
        return Err(Error::Usage(format!(
            "{out}: the folder holds a model and no run.toml of a run that wrote it; choose another --out (--init {out} begins with its weights)"
        )));
    }
    fs::create_dir_all(&out).map_err(Error::io(&out, "create the folder"))?;
    Ok(out)
}

/// The newest checkpoint to go on with. What is wrong with newer ones is said aloud; an error when all are damaged.
fn newest(checkpoints: &Checkpoints, resume: bool) -> Result<Option<Checkpoint>, Error> {
    if !resume {
        return Ok(None);
    }
    let newest = checkpoints.newest_valid()?;
    if newest.checkpoint.is_none() {
        // To begin again would throw the damaged ones away.
        return newest.rejected.into_iter().next().map_or(Ok(None), |rejected| Err(rejected.into()));
    }
    for rejected in &newest.rejected {
        say::line(&format!("warning: {rejected}; falling back to an older checkpoint"));
    }
    Ok(newest.checkpoint)
}

/// Refuses to go on with a configuration that would have given other results.
fn refuse_changes(config: &RunConfig, out: &Path) -> Result<(), Error> {
    let path = out.join(CONFIG_FILE);
    let mut layers = Layers::<RunConfig>::new();
    layers.file(&path)?;
    let former = layers.finish()?;
    let differences = conflicts(&former, config);
    if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch { path, differences }) }
}

/// The tokens of a run, with the tokenizer of the model that it begins with.
fn prepare_data(config: &RunConfig, from: Option<&Path>, out: &Path, reuse: bool) -> Result<Prepared, Error> {
    let tokenizer = match from.map(|folder| folder.join("tokenizer.json")) {
        Some(path) if path.is_file() => Some(Tokenizer::load(&path)?),
        _ => None,
    };
    Ok(prepare(&DataRequest::new(&config.data), tokenizer, &out.join("data"), reuse)?)
}

/// The model of the configuration, with the vocabulary of its data; or that of the folder that the run begins with.
fn model_config(config: &RunConfig, prepared: &Prepared) -> Result<ModelConfig, Error> {
    let needed = prepared.vocab_size;
    let vocab_size = config.model.vocab_size().or(needed).ok_or_else(|| Invalid {
        key: "model.vocab_size",
        expected: "the number of ids of these token shards, or data.tokenizer = PATH".to_owned(),
        found: "neither".to_owned(),
    })?;
    if let Some(needed) = needed.filter(|&n| n > vocab_size) {
        let expected =
            format!("at least {needed}, the ids of the tokenizer; use the model's own tokenizer, or a larger vocabulary");
        return Err(Invalid { key: "model.vocab_size", expected, found: vocab_size.to_string() }.into());
    }
    Ok(config.model.clone().with_vocab_size(vocab_size))
}

/// What the run's model folder says of its model: beside the model what the folder says that the run begins with.
fn folder_config(
    model: ModelConfig,
    config: &RunConfig,
    prepared: &Prepared,
    from: Option<&Path>,
) -> Result<FolderConfig, Error> {
    // A run that was ended before it saved its first model has a folder without a description.
    let init = [from, config.train.init.as_deref()].into_iter().flatten().find(|folder| model_folder::is_model_folder(folder));
    let base = init.map_or_else(|| Ok(FolderConfig::new(model.clone(), 0.0)), FolderConfig::read)?;
    let end = prepared.tokenizer.as_ref().and_then(Tokenizer::end_of_text);
    let eos_token_ids = if base.eos_token_ids.is_empty() { end.into_iter().collect() } else { base.eos_token_ids };
    let (dropout, bos_token_id) = (config.train.dropout, base.bos_token_id.or(end));
    Ok(FolderConfig { model, dropout, bos_token_id, eos_token_ids, ..base })
}

/// Writes what goes along with a model: the files of the folder that the run began with, or the tokenizer.
fn save_companions(folder: &Path, companions: &Companions, tokenizer: Option<&Tokenizer>, positions: usize) -> Result<(), Error> {
    if let Some(tokenizer) = tokenizer.filter(|_| !companions.have_tokenizer()) {
        tokenizer.save(folder, Some(positions))?;
    }
    Ok(companions.copy_to(folder)?)
}

fn sampler_of(config: &RunConfig, train: &Shard) -> Result<Sampler, Error> {
    let order = match (&config.data.batches, config.data.order) {
        (Some(path), _) => {
            let offsets = Offsets::read(path)?;
            let rows = config.train.batch_size * config.train.grad_accumulation;
            if offsets.batch() != rows {
                let expected = format!("{} rows per step (times grad_accumulation), as {} has", offsets.batch(), path.display());
                return Err(Invalid { key: "train.batch_size", expected, found: rows.to_string() }.into());
            }
            if (offsets.steps() as u64) < config.train.steps {
                let expected = format!("at most {}, the steps of {}", offsets.steps(), path.display());
                return Err(Invalid { key: "train.steps", expected, found: config.train.steps.to_string() }.into());
            }
            Order::Given(offsets)
        }
        (None, DataOrder::Random) => Order::Random,
        (None, DataOrder::Shuffled) => Order::Shuffled,
    };
    Ok(Sampler::new(order, config.train.seed, config.train.block_size, train.len(), &train.name())?)
}

/// Weights and numbers at the beginning: of a checkpoint, of a model folder, or from the seed.
fn first_state(
    request: &TrainRequest,
    checkpoint: Option<&Checkpoint>,
    gpt: &mut Gpt,
    averages: &[SetId],
) -> Result<RunState, Error> {
    if let Some(checkpoint) = checkpoint {
        let trained = TrainedSet { set: gpt.set(), averages };
        return state::load(checkpoint, &mut gpt.session, &trained);
    }
    match &request.init {
        Some(folder) => gpt.load(folder)?,
        None => gpt.initialise(request.config.train.seed),
    }
    Ok(RunState::default())
}
