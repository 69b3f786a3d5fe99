//! The training loop.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use samara_core::model::gpt::GptConfig;
use samara_core::schedule::Schedule;

use super::error::TrainError;
use super::prepare::{DataRequest, Prepared, prepare, prompt_ids};
use super::progress::Progress;
use super::signal::Stop;
use super::state::{self, RunState};
use crate::config::{DataOrder, Layers, ModelConfig, RunConfig};
use crate::data::batches::{Offsets, Order, Sampler};
use crate::data::shards::{Shard, Tokens};
use crate::gpt::Gpt;
use crate::gpt::evaluate::Evaluation;
use crate::gpt::generate::Generator;
use crate::gpt::step::{EMA_SLOT, Step, StepNumbers, StepResult, StepShape};
use crate::model_folder;
use crate::run::checkpoint::{Checkpoint, Checkpoints};
use crate::run::durable;
use crate::run::events::EventWriter;
use crate::run::metrics::{self, Metrics, MetricsWriter};
use crate::run::plot;
use crate::session::Engine;
use crate::tokenizer::Tokenizer;

/// What to train, where.
pub struct TrainRequest {
    /// The effective configuration.
    pub config: RunConfig,
    /// The run folder.
    pub out: PathBuf,
    /// Whether to go on with what the run folder holds.
    pub resume: bool,
    /// Whether to say nothing but errors.
    pub quiet: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOutcome {
    /// The run folder.
    pub out: PathBuf,
    /// Steps done.
    pub step: u64,
    /// Tokens used.
    pub tokens: u64,
    /// Seconds of training.
    pub wall_s: f64,
    /// The last training loss.
    pub train_loss: Option<f64>,
    /// The last validation loss.
    pub val_loss: Option<f64>,
    /// The smallest validation loss.
    pub best_val_loss: Option<f64>,
    /// The step of that loss.
    pub best_step: u64,
    /// The signal that stopped the run, if one did.
    pub signal: Option<i32>,
}

/// Trains until the last step, a signal, or an error.
pub fn run(request: &TrainRequest) -> Result<TrainOutcome, TrainError> {
    let stop = Stop::install().map_err(TrainError::io(Path::new("signals"), "listen to"))?;
    let mut run = Run::open(request)?;
    let mut progress = Progress::new(request.quiet, run.config.train.steps, run.state.step);
    progress.say(&run.describe());
    run.sample(&mut progress)?;
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

struct Run<'r> {
    config: &'r RunConfig,
    out: PathBuf,
    gpt: Gpt,
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

impl<'r> Run<'r> {
    fn open(request: &'r TrainRequest) -> Result<Self, TrainError> {
        let (config, out) = (&request.config, request.out.clone());
        fs::create_dir_all(&out).map_err(TrainError::io(&out, "create"))?;
        if !request.resume && out.join(METRICS_FILE).exists() {
            return Err(TrainError::Occupied { path: out });
        }
        let checkpoints = Checkpoints::open(&out.join("checkpoints"), config.train.keep_checkpoints)?;
        let checkpoint = newest(&checkpoints, request.resume)?;
        if checkpoint.is_some() {
            refuse_changes(config, &out)?;
        }
        let from = if checkpoint.is_some() { Some(out.as_path()) } else { config.train.init.as_deref() };
        let prepared = prepare_data(config, from, &out, checkpoint.is_some())?;
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let mut gpt = Gpt::new(engine, model_config(config, &prepared)?)?;
        let step = Step::new(&mut gpt, shape_of(config))?;
        let evaluation = match &prepared.val {
            Some(_) => Some(Evaluation::new(&mut gpt, config.train.batch_size, config.train.block_size)?),
            None => None,
        };
        let state = first_state(config, checkpoint.as_ref(), &mut gpt)?;
        let limit = gpt.config.vocab_size as u32;
        prepared.train.check_ids(limit)?;
        prepared.val.as_ref().map_or(Ok(()), |val| val.check_ids(limit))?;
        let sampler = sampler_of(config, &prepared.train)?;
        durable::write(&out.join(CONFIG_FILE), config.to_toml().as_bytes()).map_err(TrainError::io(&out, "write"))?;
        if let Some(tokenizer) = &prepared.tokenizer {
            tokenizer.save(&out, Some(gpt.config.n_positions))?;
        }
        let metrics = MetricsWriter::open(&out.join(METRICS_FILE), state.step)?;
        let events = EventWriter::create(&out, state.step).map_err(TrainError::io(&out, "write events into"))?;
        Ok(Self {
            config,
            gpt,
            step,
            evaluation,
            tokenizer: prepared.tokenizer,
            train: prepared.train,
            val: prepared.val,
            sampler,
            schedule: config.train.lr_schedule(),
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
        let params = self.gpt.session.params();
        format!(
            "{} parameters, {} training tokens, {} validation tokens, {} kernels, {} threads -> {}",
            params.trainable_count(),
            self.train.len(),
            self.val.as_ref().map_or(0, Tokens::len),
            self.gpt.session.engine().gemm_name(),
            self.gpt.session.engine().threads(),
            self.out.display()
        )
    }

    fn out_of_patience(&self) -> bool {
        self.config.train.patience > 0 && self.state.evaluations_without_improvement >= self.config.train.patience
    }

    /// One step and what is due after it.
    fn advance(&mut self, progress: &mut Progress) -> Result<(), TrainError> {
        if self.state.step == 0 && self.config.train.eval_every > 0 {
            self.evaluate(progress)?;
            self.write_metrics(None, 0.0, 0.0)?;
        }
        let begun = Instant::now();
        let lr = self.schedule.at(self.state.step);
        let numbers = self.numbers(lr);
        let result = self.step.run(&mut self.gpt, &self.sampler, &self.train, &numbers)?;
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

    fn numbers(&self, lr: f64) -> StepNumbers {
        let t = &self.config.train;
        StepNumbers {
            step: self.state.step,
            lr,
            beta1: t.beta1,
            beta2: t.beta2,
            eps: t.eps,
            weight_decay: t.weight_decay,
            grad_clip: t.grad_clip,
            dropout: t.dropout,
            seed: t.seed,
            ema_decay: t.ema_decay,
        }
    }

    /// The validation loss; a new best one writes `best/`. With a moving average, it is the average that is evaluated.
    fn evaluate(&mut self, progress: &mut Progress) -> Result<(), TrainError> {
        let (Some(evaluation), Some(val)) = (&mut self.evaluation, &self.val) else { return Ok(()) };
        let begun = Instant::now();
        let averaged = self.config.train.ema_decay > 0.0 && self.state.step > 0;
        if averaged {
            self.gpt.session.swap_with_moment(EMA_SLOT);
        }
        let note = |done: u64, all: u64| progress.note(&format!("validation {done}/{all}"));
        let result = evaluation.run(&mut self.gpt, val, self.config.train.eval_batches, &mut { note });
        let improved = match &result {
            Ok(mean) => self.state.best_val_loss.is_none_or(|best| mean.loss < best),
            Err(_) => false,
        };
        if improved && self.state.step > 0 {
            self.save_model(&self.out.join("best"))?;
        }
        if averaged {
            self.gpt.session.swap_with_moment(EMA_SLOT);
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

    fn write_metrics(&mut self, result: Option<StepResult>, lr: f64, tokens_per_s: f64) -> Result<(), TrainError> {
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
                self.events.scalar(record.step, tag, value as f32).map_err(TrainError::io(self.events.path(), "write"))?;
            }
        }
        Ok(())
    }

    /// Shows and keeps a short text from the model as it is.
    fn sample(&mut self, progress: &mut Progress) -> Result<(), TrainError> {
        let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| self.config.generate.max_new_tokens > 0) else { return Ok(()) };
        let settings = &self.config.generate;
        let prompt = prompt_ids(tokenizer, &settings.prompt)?;
        let mut generator = Generator::new(&mut self.gpt, &prompt, settings.sampling(), settings.seed)?;
        let mut bytes = Vec::new();
        for _ in 0..settings.max_new_tokens {
            let token = generator.next(&mut self.gpt)?;
            tokenizer.push_token(token as u32, &mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let shown = format!("--- sample at step {} ---\n{text}\n---", self.state.step);
        progress.say(&shown);
        let path = self.out.join("samples.txt");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(TrainError::io(&path, "open"))?;
        writeln!(file, "{shown}").map_err(TrainError::io(&path, "write"))
    }

    /// Writes a checkpoint, and the weights into the run folder, which is a model folder.
    fn save(&mut self) -> Result<(), TrainError> {
        if self.saved_step == Some(self.state.step) {
            return Ok(());
        }
        self.metrics.sync()?;
        state::save(&self.checkpoints, &self.state, &self.gpt.session)?;
        self.save_model(&self.out)?;
        self.saved_step = Some(self.state.step);
        Ok(())
    }

    fn save_model(&self, folder: &Path) -> Result<(), TrainError> {
        fs::create_dir_all(folder).map_err(TrainError::io(folder, "create"))?;
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.save(folder, Some(self.gpt.config.n_positions))?;
        }
        Ok(model_folder::save(folder, &self.gpt)?)
    }

    fn finish(mut self, progress: &mut Progress, signal: Option<i32>) -> Result<TrainOutcome, TrainError> {
        self.save()?;
        if signal.is_none() {
            self.sample(progress)?;
        }
        progress.finish();
        let records = metrics::read(&self.out.join(METRICS_FILE))?;
        let path = self.out.join("loss.svg");
        plot::write_loss_curve(&path, "loss", &records).map_err(TrainError::io(&path, "write"))?;
        Ok(TrainOutcome {
            step: self.state.step,
            tokens: self.state.tokens,
            wall_s: self.state.wall_s,
            train_loss: self.last.map(|r| r.loss),
            val_loss: self.state.val_loss,
            best_val_loss: self.state.best_val_loss,
            best_step: self.state.best_step,
            signal,
            out: self.out,
        })
    }
}

/// The effective configuration in the run folder.
const CONFIG_FILE: &str = "run.toml";
/// One record per step.
const METRICS_FILE: &str = "metrics.jsonl";

/// The newest checkpoint to go on with. What is wrong with newer ones is said aloud.
fn newest(checkpoints: &Checkpoints, resume: bool) -> Result<Option<Checkpoint>, TrainError> {
    if !resume {
        return Ok(None);
    }
    let newest = checkpoints.newest_valid()?;
    for rejected in &newest.rejected {
        eprintln!("warning: {rejected}; falling back to an older checkpoint");
    }
    Ok(newest.checkpoint)
}

/// Refuses to go on with a configuration that would have given other results.
fn refuse_changes(config: &RunConfig, out: &Path) -> Result<(), TrainError> {
    let path = out.join(CONFIG_FILE);
    let mut layers = Layers::new();
    layers.file(&path)?;
    let former = layers.finish()?;
    let differences = former.conflicts(config);
    if differences.is_empty() {
        return Ok(());
    }
    let value = |v: &Option<String>| v.clone().unwrap_or_else(|| "absent".to_owned());
    let lines = differences.iter().map(|d| format!("  {}: {} before, {} now\n", d.key, value(&d.first), value(&d.second)));
    Err(TrainError::ConfigChanged { path: out.to_path_buf(), differences: lines.collect() })
}

/// The tokens of a run, with the tokenizer of the model that it begins with.
fn prepare_data(config: &RunConfig, from: Option<&Path>, out: &Path, reuse: bool) -> Result<Prepared, TrainError> {
    let tokenizer = match from.map(|folder| folder.join("tokenizer.json")) {
        Some(path) if path.is_file() => Some(Tokenizer::load(&path)?),
        _ => None,
    };
    Ok(prepare(&DataRequest::new(&config.data), tokenizer, &out.join("data"), reuse)?)
}

/// The model of the configuration, with the vocabulary of its data; or that of the folder that the run begins with.
fn model_config(config: &RunConfig, prepared: &Prepared) -> Result<GptConfig, TrainError> {
    let needed = prepared.vocab_size;
    let vocab_size = config.model.vocab_size.or(needed).ok_or_else(|| TrainError::Config {
        key: "model.vocab_size",
        message: "token shards without a tokenizer do not say how many ids there are: set it, or data.tokenizer = PATH"
            .to_owned(),
    })?;
    if let Some(needed) = needed.filter(|&n| n > vocab_size) {
        let message =
            format!("{vocab_size} ids, but the tokenizer has {needed}: use the model's own tokenizer, or a larger vocabulary");
        return Err(TrainError::Config { key: "model.vocab_size", message });
    }
    Ok(ModelConfig { vocab_size: Some(vocab_size), ..config.model.clone() }.to_core()?)
}

fn shape_of(config: &RunConfig) -> StepShape {
    let t = &config.train;
    StepShape {
        batch: t.batch_size,
        block: t.block_size,
        accumulation: t.grad_accumulation,
        dropout: t.dropout > 0.0,
        ema: t.ema_decay > 0.0,
        recompute: t.recompute,
    }
}

fn sampler_of(config: &RunConfig, train: &Shard) -> Result<Sampler, TrainError> {
    let order = match (&config.data.batches, config.data.order) {
        (Some(path), _) => {
            let offsets = Offsets::read(path)?;
            let rows = config.train.batch_size * config.train.grad_accumulation;
            if offsets.batch() != rows {
                let message = format!("{} has {} rows per step, the run {rows}", path.display(), offsets.batch());
                return Err(TrainError::Config { key: "train.batch_size", message });
            }
            Order::Given(offsets)
        }
        (None, DataOrder::Random) => Order::Random,
        (None, DataOrder::Shuffled) => Order::Shuffled,
    };
    Ok(Sampler::new(order, config.train.seed, config.train.block_size, train.len(), &train.name())?)
}

/// Weights and numbers at the beginning: of a checkpoint, of a model folder, or from the seed.
fn first_state(config: &RunConfig, checkpoint: Option<&Checkpoint>, gpt: &mut Gpt) -> Result<RunState, TrainError> {
    if let Some(checkpoint) = checkpoint {
        return Ok(state::load(checkpoint, &mut gpt.session)?);
    }
    match &config.train.init {
        Some(folder) => model_folder::load_weights(folder, gpt)?,
        None => gpt.session.initialise(config.train.seed),
    }
    Ok(RunState::default())
}
