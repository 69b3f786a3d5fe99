//! `samara plan`: the resources that a training will take. Nothing is written.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use samara_core::graph::Recompute;
use serde::Serialize;

use super::args::ConfigArgs;
use super::training::Training;
use super::{Command, Console, Error, output};
use crate::config::Invalid;
use crate::data::config::{DataConfig, TokenizerChoice};
use crate::data::prepare::shards_of;
use crate::data::shards::Tokens;
use crate::data::source::DataRequest;
use crate::data::splits::Splits;
use crate::files::IoError;
use crate::lm::peak::Peak;
use crate::lm::plan::TrainingPlan;
use crate::lm::step::StepShape;
use crate::model::architecture::Architecture;
use crate::session::{CpuDevice, Engine, Session};
use crate::train::config::{ImageRunConfig, RunConfig, TrainConfig};
use crate::train::contrast;
use crate::train::contrast_config::ContrastRunConfig;
use crate::train::detection::{self, DetectRunConfig};
use crate::train::image_data::Images;
use crate::train::image_plan;
use crate::train::objectives::lm::Lm;
use crate::train::progress::human;
use crate::train::recompute::Policies;
use crate::train::shape::{shape_of, update_numbers};
use crate::train::step::Stepper;
use crate::train::tokenizer::named;
use crate::vision::weights::tuned;

const EXAMPLES: &str = "\
Examples:
  samara plan --preset gpt2-124m
  samara plan --preset gpt2-124m --set train.memory_budget_mib=8000 --peak
  samara plan --preset gpt2-124m --set train.recompute=blocks --time";

/// Report what a training would take: memory, work, time. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Measure the time of three steps.
    #[arg(long)]
    time: bool,
    /// List the contents of the arena at its peak.
    #[arg(long)]
    peak: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Memory of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Bytes {
    /// The class: "weights", "frozen" (weights that are not trained), "gradients", "optimizer" (moments), "activations", "scratch", or "mapped" (pages
    /// of files).
    class: &'static str,
    /// Its size in bytes.
    bytes: u64,
}

/// Memory with a policy of recomputation.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct PolicyBytes {
    /// The value of `train.recompute`.
    recompute: &'static str,
    /// Memory in all.
    bytes: u64,
    /// Whether it is the chosen policy.
    chosen: bool,
}

/// The resources of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Outcome {
    /// Parameters.
    parameters: u64,
    /// Parameters that are trained.
    trainable_parameters: u64,
    /// Memory by class.
    memory: Vec<Bytes>,
    /// Their sum without mapped files.
    resident_bytes: u64,
    /// The same with every policy of recomputation.
    policies: Vec<PolicyBytes>,
    /// The memory peak of the arena, if requested.
    peak: Option<Peak>,
    /// Floating-point operations of a training step for each token.
    flops_per_token: f64,
    /// Tokens of a step.
    tokens_per_step: u64,
    /// Tokens of the training split, if the data is prepared.
    train_tokens: Option<u64>,
    /// A checkpoint on disk.
    checkpoint_bytes: u64,
    /// Seconds per step, if requested.
    seconds_per_step: Option<f64>,
    /// What a batch consists of: "token", "image" or "pair", which then stands for a token in the keys above.
    unit: &'static str,
    /// Steps of the training. Not part of the JSON.
    #[serde(skip)]
    steps: u64,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let training = self.config.training(None, None)?;
        if (self.time || self.peak) && !matches!(training, Training::Text(..)) {
            return Err(Error::usage("--time and --peak are for language models: leave them out"));
        }
        let outcome = Outcome::of_training(&training, self.time, self.peak)?;
        output::show(self.json, &outcome, || outcome.text())
    }
}

/// Prints the resources of a training; for `--plan`.
pub(super) fn print(training: &Training) -> Result<(), Error> {
    output::write(Outcome::of_training(training, false, false)?.text().as_bytes())
}

/// The same of a language model with steps of a fixed shape.
pub(super) fn print_text(config: &RunConfig, shape: StepShape) -> Result<(), Error> {
    output::write(Outcome::of(config, shape, false, false)?.text().as_bytes())
}

impl Outcome {
    /// Plans a training.
    fn of_training(training: &Training, time: bool, peak: bool) -> Result<Self, Error> {
        match training {
            Training::Images(config) => Self::of_images(config),
            Training::Detector(config) => Self::of_detector(config),
            Training::Pairs(config) => Self::of_pairs(config),
            Training::Vilt(_) | Training::Albef(_) => Err(Error::usage("the plan of a model of images with texts is not there")),
            Training::Masked(_) => Err(Error::usage("the plan of an encoder of text is not there")),
            Training::Text(config, _) => Self::of(config, shape_of(config), time, peak),
        }
    }

    /// Plans the training of a detector. Classes and objects are those of the data, which is listed.
    fn of_detector(config: &DetectRunConfig) -> Result<Self, Error> {
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let policy = |recompute: Recompute| -> Result<_, Error> {
            let train = TrainConfig { recompute: recompute.into(), ..config.train.clone() };
            Ok((recompute, detection::plan(&*engine, &DetectRunConfig { train, ..config.clone() })?))
        };
        let all = detection::POLICIES.into_iter().map(policy).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { unit: "image", ..Self::of_policies(&all, &config.train) })
    }

    /// Plans the training of a model of images with texts. Captions count as long as the model reads; pairs are listed.
    fn of_pairs(config: &ContrastRunConfig) -> Result<Self, Error> {
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let policy = |recompute: Recompute| -> Result<_, Error> {
            let train = TrainConfig { recompute: recompute.into(), ..config.train.clone() };
            Ok((recompute, contrast::plan(&engine, &ContrastRunConfig { train, ..config.clone() })?))
        };
        let all = detection::POLICIES.into_iter().map(policy).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { unit: "pair", ..Self::of_policies(&all, &config.train) })
    }

    /// The plans of all policies, with the number of rows of the data.
    fn of_policies(all: &[(Recompute, (TrainingPlan, u64))], train: &TrainConfig) -> Self {
        let chosen = train.recompute.without_budget();
        let of_policy = |(recompute, (plan, _)): &(Recompute, (TrainingPlan, u64))| PolicyBytes {
            recompute: recompute.name(),
            bytes: plan.total_bytes,
            chosen: *recompute == chosen,
        };
        let (plan, rows) = all.iter().find(|(recompute, _)| *recompute == chosen).map(|(_, plan)| *plan).unwrap_or_default();
        Self {
            policies: all.iter().map(of_policy).collect(),
            train_tokens: Some(rows),
            steps: train.steps,
            ..Self::of_plan(&plan)
        }
    }

    /// Plans the training of an image classifier. The number of classes is that of the data, which is listed.
    fn of_images(config: &ImageRunConfig) -> Result<Self, Error> {
        let mut config = config.clone();
        let has_images = config.data.path.is_some() || config.shapes.target.is_some();
        let images = has_images.then(|| Images::of(&config)).transpose()?;
        if let Some(images) = &images {
            config.model = config.model.with_classes(images.classes().len())?;
        }
        let ((registry, model), _) = tuned(&config.model, &config.tune)?;
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let task = image_plan::task(&config, model);
        let policy = |recompute: Recompute| -> Result<_, Error> {
            let config =
                ImageRunConfig { train: TrainConfig { recompute: recompute.into(), ..config.train.clone() }, ..config.clone() };
            Ok((recompute, image_plan::plan(&*engine, &registry, &task, &config)?))
        };
        let all =
            [Recompute::None, Recompute::Cheap, Recompute::Blocks].into_iter().map(policy).collect::<Result<Vec<_>, _>>()?;
        let chosen = image_plan::recompute(&config);
        let plan = all.iter().find(|(recompute, _)| *recompute == chosen).map(|(_, plan)| *plan).unwrap_or_default();
        let of_policy = |(recompute, plan): &(Recompute, TrainingPlan)| PolicyBytes {
            recompute: recompute.name(),
            bytes: plan.total_bytes,
            chosen: *recompute == chosen,
        };
        Ok(Self {
            unit: "image",
            policies: all.iter().map(of_policy).collect(),
            train_tokens: images.map(|images| images.training()),
            steps: config.train.steps,
            ..Self::of_plan(&plan)
        })
    }

    fn of_plan(plan: &TrainingPlan) -> Self {
        Self {
            unit: "token",
            parameters: plan.parameters,
            trainable_parameters: plan.trainable_parameters,
            memory: classes(plan),
            resident_bytes: plan.total_bytes,
            flops_per_token: plan.flops_per_token as f64,
            tokens_per_step: plan.tokens_per_step,
            checkpoint_bytes: plan.checkpoint_bytes,
            ..Self::default()
        }
    }

    /// Plans a training; if requested, measures the time of three steps and lists the memory peak of the arena.
    fn of(config: &RunConfig, shape: StepShape, time: bool, peak: bool) -> Result<Self, Error> {
        let train_tokens = train_tokens(&config.data)?;
        let model = config.model.clone().with_vocab_size(vocabulary(config)?).architecture()?;
        let model = config.tune.applied_to(model)?;
        let engine = Engine::new(config.train.threads, config.train.gemm)?;
        let Policies { all, shape, plan } = Policies::of(&engine, &*model, shape, &config.train)?;
        let peak = if peak { Some(Peak::of_step(&*engine, &*model, &shape)?) } else { None };
        let seconds_per_step = if time { Some(timed(&config.train, engine, model, shape)?) } else { None };
        let policy = |(recompute, plan): &(Recompute, TrainingPlan)| PolicyBytes {
            recompute: recompute.name(),
            bytes: plan.total_bytes,
            chosen: *recompute == shape.recompute,
        };
        Ok(Self {
            policies: all.iter().map(policy).collect(),
            peak,
            train_tokens,
            seconds_per_step,
            steps: config.train.steps_of(plan.tokens_per_step, plan.flops_per_token),
            ..Self::of_plan(&plan)
        })
    }

    fn text(&self) -> String {
        let plan = self;
        let mut rows = vec![
            vec!["parameters".to_owned(), plan.parameters.to_string(), output::count(plan.parameters as f64)],
            vec!["trainable".to_owned(), plan.trainable_parameters.to_string(), output::count(plan.trainable_parameters as f64)],
        ];
        if plan.trainable_parameters < plan.parameters {
            let frozen = plan.parameters - plan.trainable_parameters;
            rows.push(vec!["frozen".to_owned(), frozen.to_string(), output::count(frozen as f64)]);
        }
        for class in plan.memory.iter().filter(|class| class.class != FROZEN || class.bytes > 0) {
            rows.push(vec![class_name(class.class), class.bytes.to_string(), output::bytes(class.bytes)]);
        }
        rows.push(vec!["total memory".to_owned(), plan.resident_bytes.to_string(), output::bytes(plan.resident_bytes)]);
        for policy in &plan.policies {
            let chosen = if policy.chosen { "chosen" } else { "" };
            let name = format!("  train.recompute={}", policy.recompute);
            rows.push(vec![name, policy.bytes.to_string(), output::bytes(policy.bytes), chosen.to_owned()]);
        }
        rows.push(vec!["checkpoint".to_owned(), plan.checkpoint_bytes.to_string(), output::bytes(plan.checkpoint_bytes)]);
        rows.push(vec![
            format!("FLOP per {}", plan.unit),
            format!("{:.0}", plan.flops_per_token),
            output::count(plan.flops_per_token),
        ]);
        rows.push(vec![
            format!("{}s per step", plan.unit),
            plan.tokens_per_step.to_string(),
            output::count(plan.tokens_per_step as f64),
        ]);
        if let Some(tokens) = plan.train_tokens {
            rows.push(vec![format!("training {}s", plan.unit), tokens.to_string(), output::count(tokens as f64)]);
        }
        if let Some(seconds) = plan.seconds_per_step {
            let all = seconds * plan.steps as f64;
            rows.push(vec!["time per step".to_owned(), format!("{seconds:.3} s"), String::new()]);
            rows.push(vec![
                format!("time of {} steps", plan.steps),
                format!("{all:.0} s"),
                human(Duration::from_secs_f64(all.clamp(0.0, 1e15))),
            ]);
        }
        match &plan.peak {
            Some(peak) => output::table(&rows) + &peak_text(peak),
            None => output::table(&rows),
        }
    }
}

/// The class of weights that are not trained.
const FROZEN: &str = "frozen";

/// The row label of a class in a table that has a row for frozen parameters.
fn class_name(class: &str) -> String {
    if class == FROZEN { "frozen weights".to_owned() } else { class.to_owned() }
}

/// Memory by class.
fn classes(plan: &TrainingPlan) -> Vec<Bytes> {
    let class = |class, bytes| Bytes { class, bytes };
    vec![
        class("weights", plan.weights_bytes),
        class(FROZEN, plan.frozen_bytes),
        class("gradients", plan.gradients_bytes),
        class("optimizer", plan.optimizer_bytes),
        class("activations", plan.activations_bytes - plan.scratch_bytes),
        class("scratch", plan.scratch_bytes),
        class("tables", plan.tables_bytes),
        class("mapped", plan.mapped_bytes),
    ]
}

/// Tokens of the training split, if they are prepared: a plan does not encode text, but the text file must exist.
fn train_tokens(data: &DataConfig) -> Result<Option<u64>, Error> {
    if let Some(path) = &data.path {
        fs::metadata(path).map_err(IoError::at(path, "read"))?;
    }
    Ok(shards_of(&DataRequest::new(data))?.map(|(train, _)| train.len()))
}

/// The vocabulary, without reading the data where that can be avoided.
fn vocabulary(config: &RunConfig) -> Result<usize, Error> {
    let (model, data) = (&config.model, &config.data);
    match (model.vocab_size(), &data.tokenizer) {
        (Some(size), _) => Ok(size),
        (None, TokenizerChoice::Byte) => Ok(256),
        (None, TokenizerChoice::Bpe | TokenizerChoice::WordPiece) => Ok(data.tokenizer_vocab_size),
        (None, TokenizerChoice::Path(path)) => Ok(named(path)?.vocab_size()),
        (None, TokenizerChoice::Char) if data.path.is_some() => {
            let data = DataRequest::new(data);
            Ok(Splits::load(&data)?.tokenizer(&data)?.vocab_size())
        }
        (None, TokenizerChoice::Char) => Err(Invalid {
            key: "model.vocab_size",
            expected: "a number of token ids, or --data".to_owned(),
            found: "neither".to_owned(),
        }
        .into()),
    }
}

/// Measured steps; one warm-up step precedes them.
const TIMED_STEPS: u64 = 3;

/// Seconds per step, on arbitrary tokens.
fn timed(train: &TrainConfig, engine: Arc<Engine>, model: Arc<dyn Architecture>, shape: StepShape) -> Result<f64, Error> {
    let mut lm = Lm::on_noise(model, shape, train)?;
    let mut stepper = Stepper::new(Session::new(CpuDevice::new(engine)), &mut lm, train.rule())?;
    stepper.initialise(train.seed)?;
    let mut begun = Instant::now();
    for i in 0..=TIMED_STEPS {
        if i == 1 {
            begun = Instant::now();
        }
        stepper.step(&mut lm, i, &update_numbers(train, 0.0))?;
    }
    Ok(begun.elapsed().as_secs_f64() / TIMED_STEPS as f64)
}

/// Rows of the fullest moment that are shown one by one.
const PEAK_ROWS: usize = 12;

/// The contents of the arena at its peak.
fn peak_text(peak: &Peak) -> String {
    let row =
        |what: &str, count: usize, bytes: u64| vec![what.to_owned(), count.to_string(), bytes.to_string(), output::bytes(bytes)];
    let (shown, rest) = peak.rows.split_at(peak.rows.len().min(PEAK_ROWS));
    let mut rows: Vec<Vec<String>> = shown.iter().map(|r| row(&r.what, r.count, r.bytes)).collect();
    if !rest.is_empty() {
        rows.push(row("others", rest.iter().map(|r| r.count).sum(), rest.iter().map(|r| r.bytes).sum()));
    }
    format!("\nThe memory peak of the arena is at {}:\n{}", peak.node, output::table(&rows))
}
