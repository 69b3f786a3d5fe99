//! A training on preferences or prompts as the command line asks for it: rows, model, objective, trainer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_core::graph::Recompute;

use super::base::Base;
use crate::config::{Invalid, Table, Tables};
use crate::data::DataError;
use crate::data::config::DataConfig;
use crate::dialogue::config::DialogueConfig;
use crate::dialogue::encode::Encoder;
use crate::dialogue::read::Wanted;
use crate::dialogue::row::Kind;
use crate::lm::generation::GenerateConfig;
use crate::model::adapters::Adapters;
use crate::model::folder::FolderConfig;
use crate::model::tune::config::{Method, TuneConfig};
use crate::model::tune::peft::Source;
use crate::model_folder;
use crate::say;
use crate::session::{CpuDevice, Engine, Session};
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;
use crate::train::card;
use crate::train::config::{RecomputeChoice, RunConfig, TrainConfig};
use crate::train::dialogues::{RowsOfRun, check_tokens, content_before, encoder, refuse_other_rows};
use crate::train::error::TrainingError as Error;
use crate::train::folder::{RunFolder, write_config};
use crate::train::objective::Objective;
use crate::train::progress::View;
use crate::train::request::{FolderRequest, TrainOutcome};
use crate::train::run::{keep_content, outcome, say_steps};
use crate::train::trainer::Trainer;

/// The configuration of a training on rows of dialogues: what all of them have.
pub trait AlignConfig: Tables + Send + Sync {
    /// What messages call the command.
    const COMMAND: &'static str;
    /// Whether it writes samples while it trains: it completes prompts.
    const SAMPLES: bool;
    /// The rows that it takes.
    const ROWS: &'static [Kind];

    /// `[tune]`; that of everything for a command that trains nothing.
    fn tune(&self) -> TuneConfig;
    /// Gives keys that are absent the values that the other keys say, such as those of a preset: what a run writes down is what it does.
    fn resolve(&mut self);
    /// The tables that all have.
    fn parts(&self) -> Parts<'_>;
    /// The same, to change them.
    fn parts_mut(&mut self) -> PartsMut<'_>;
}

/// The tables that all trainings on dialogues have.
pub struct Parts<'c> {
    /// `[data]`
    pub data: &'c DataConfig,
    /// `[dialogue]`
    pub dialogue: &'c DialogueConfig,
    /// `[train]`
    pub train: &'c TrainConfig,
}

/// The same, to change them.
pub struct PartsMut<'c> {
    /// `[data]`
    pub data: &'c mut DataConfig,
    /// `[dialogue]`
    pub dialogue: &'c mut DialogueConfig,
    /// `[train]`
    pub train: &'c mut TrainConfig,
}

/// What is asked for.
pub struct AlignRequest<C> {
    /// The effective configuration.
    pub config: C,
    /// Go on from the newest valid checkpoint.
    pub resume: bool,
    /// Say what it takes, and do nothing.
    pub plan: bool,
    /// Print results only.
    pub quiet: bool,
}

/// What an objective is made of.
pub struct Context<C> {
    /// The configuration.
    pub config: C,
    /// The folder whose tokenizer and description the run begins with.
    pub from: PathBuf,
    /// What it says of its model.
    pub base: FolderConfig,
    /// From turns to tokens.
    pub encoder: Encoder,
    /// Rows to train on, and rows that are held out.
    pub rows: RowsOfRun,
    /// A signal ends the run.
    pub stop: Stop,
    /// Print results only.
    pub quiet: bool,
}

/// What a model folder is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening<'s> {
    /// A training from it.
    Train,
    /// A training that goes on.
    Resume,
    /// No training: the model is this one, which may be an adapter with its base.
    Run(&'s Source),
}

/// An objective with what a person should know before it begins.
pub struct Prepared<O> {
    /// The objective.
    pub objective: O,
    /// Lines for people.
    pub lines: Vec<String>,
    /// What tells other data than the rows from other such data; empty without any.
    pub content: String,
    /// Rows that an epoch has.
    pub rows: usize,
    /// Rows that a step takes.
    pub rows_per_step: usize,
}

/// Trains until the last step, a signal, or an error. `prepare` makes the objective.
///
/// # Errors
/// A configuration, rows, a template, weights or a folder that are not as they should be; a training that diverges; a signal.
pub fn run<C: AlignConfig, O: Objective<CpuDevice> + Send>(
    request: AlignRequest<C>,
    prepare: impl FnOnce(&Context<C>) -> Result<Prepared<O>, Error> + Send,
) -> Result<Option<TrainOutcome>, Error> {
    let stop = Stop::install(request.quiet).map_err(Error::io(Path::new("signals"), "listen to"))?;
    let train = request.config.parts().train;
    let engine = Engine::new(train.threads, train.gemm)?;
    // The whole loop stands on a thread of the pool: a step from outside it would allocate.
    Arc::clone(&engine).install(|| run_on(engine, request, prepare, &stop))
}

fn run_on<C: AlignConfig, O: Objective<CpuDevice> + Send>(
    engine: Arc<Engine>,
    request: AlignRequest<C>,
    prepare: impl FnOnce(&Context<C>) -> Result<Prepared<O>, Error>,
    stop: &Stop,
) -> Result<Option<TrainOutcome>, Error> {
    let AlignRequest { config, resume, plan, quiet } = request;
    refuse_unread(config.parts().train)?;
    let opening = if resume { Opening::Resume } else { Opening::Train };
    let mut context = Context::new(config, opening, (stop, quiet))?;
    let Prepared { objective, lines, content, rows, rows_per_step } = prepare(&context)?;
    if rows == 0 {
        let path = context.rows.train.path.as_path();
        let expected = "a row to train on; lower data.val_fraction, or give rows that are not all ties";
        return Err(DataError::format(path, expected, "none").into());
    }
    set_steps(&mut context.config, rows, rows_per_step);
    if plan {
        print_plan(engine, objective, context.config.parts().train)?;
        return Ok(None);
    }
    if !quiet {
        context.say(lines)?;
    }
    let config = &context.config;
    let train = config.parts().train;
    let folder = RunFolder::of_request(&FolderRequest {
        command: C::COMMAND,
        out: train.out.as_deref(),
        name: C::COMMAND.rsplit(' ').next().unwrap_or("align"),
        keep: train.keep_checkpoints,
        resume,
        tokenizer: None,
        begins: train.init.is_some() && config.parts().data.path.is_some(),
        quiet,
    })?;
    let (out, content) = (folder.out.clone(), context.rows.content(&context.encoder) + &content);
    if let Some(former) = former(&folder, config, &content)?.filter(|_| !quiet) {
        say_steps(former.parts().train.steps, train.steps, folder.step());
    }
    let threads = engine.threads();
    let trainer = Trainer::open(
        Session::new(CpuDevice::new(engine)),
        objective,
        train,
        folder,
        if quiet { View::Quiet } else { View::Line },
    )?;
    keep_content(&out, &content)?;
    write_config(&out, C::COMMAND, config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let finished = trainer.run(stop)?;
    let outcome = outcome(&finished, out);
    write_card(&context, &content, &outcome)?;
    Ok(Some(outcome))
}

/// The model card of a finished run.
fn write_card<C: AlignConfig>(context: &Context<C>, content: &str, outcome: &TrainOutcome) -> Result<(), Error> {
    let Parts { data, train, .. } = context.config.parts();
    let run = RunConfig {
        model: context.base.model.clone(),
        data: data.clone(),
        train: train.clone(),
        tune: context.config.tune(),
        generate: GenerateConfig::default(),
    };
    let parameters = format!("{} parameters", context.base.model.parameters().unwrap_or(0));
    card::write(&run, [&parameters, &context.trained()?], content, outcome)
}

impl<C: AlignConfig> Context<C> {
    /// Reads rows, the description of the model and its tokenizer.
    ///
    /// # Errors
    /// One of them is not as it should be.
    pub fn new(mut config: C, opening: Opening<'_>, (stop, quiet): (&Stop, bool)) -> Result<Self, Error> {
        let Parts { data, dialogue, train } = config.parts();
        let resume = opening == Opening::Resume;
        let before = train.out.as_deref().filter(|out| resume && Tokenizer::is_in(out) && model_folder::is_model_folder(out));
        let no_model = || Error::Usage(format!("{} trains a model further: say which one with --init DIR", C::COMMAND));
        let from = train.init.as_deref().or(before).ok_or_else(no_model)?.to_path_buf();
        let source = match opening {
            Opening::Run(source) => source.clone(),
            Opening::Train | Opening::Resume => Source { base: from.clone(), adapter: None },
        };
        let mut base = source.config()?;
        let rows = RowsOfRun::read(Wanted { command: C::COMMAND, kinds: C::ROWS }, data, dialogue, stop)?;
        stop.check().map_err(DataError::from)?;
        let PartsMut { data, dialogue, .. } = config.parts_mut();
        let encoder = encoder(data, dialogue, (source.tokenizer(Tokenizer::is_in), &base), rows.train.format())?;
        base.model = base.model.with_vocab_size(encoder.vocab_size());
        Ok(Self { config, from, base, encoder, rows, stop: stop.clone(), quiet })
    }

    /// What is trained, in words.
    fn trained(&self) -> Result<String, Invalid> {
        let tune = self.config.tune();
        let method = || format!("tune.method = {}", tune.show("method").unwrap_or_default());
        Ok(match tune.method {
            Method::Full => "all parameters".to_owned(),
            Method::Lora => {
                let tuned = tune.applied_to(self.base.model.architecture()?)?;
                tuned.adapters().map_or_else(method, Adapters::describe)
            }
            Method::LastBlock | Method::Bias | Method::Linear => method(),
        })
    }

    /// The policy, of which `[tune]` says what is trained.
    ///
    /// # Errors
    /// A part that the model does not have; tokens that its base does not have.
    pub fn policy(&self) -> Result<Base, Invalid> {
        let architecture = self.config.tune().applied_to(self.base.model.architecture()?)?;
        check_tokens(&*architecture, &self.encoder)?;
        Ok(Base { architecture, init: self.config.parts().train.init.clone() })
    }

    fn say(&self, lines: Vec<String>) -> Result<(), Invalid> {
        self.rows.train.lines().iter().for_each(|line| say::line(line));
        if self.config.parts().dialogue.val.is_some() {
            self.rows.val.lines().iter().for_each(|line| say::line(line));
        }
        say::line(&format!("chat template: {}", self.encoder.template().name()));
        self.encoder.lines().iter().for_each(|line| say::line(line));
        let (asked, kept) = (self.asked_length(), self.max_length());
        if asked > kept {
            say::line(&format!(
                "note: rows are cut to {kept} tokens, the positions of the model, below the {asked} of {}",
                self.asked_by()
            ));
        }
        lines.iter().for_each(|line| say::line(line));
        if self.config.tune().method != Method::Full {
            say::line(&format!("trained: {}", self.trained()?));
        }
        Ok(())
    }

    /// The most tokens that are kept of a row.
    pub fn max_length(&self) -> usize {
        self.asked_length().min(self.base.model.positions())
    }

    /// The tokens of a row that the configuration would keep, whatever the model.
    fn asked_length(&self) -> usize {
        let Parts { dialogue, train, .. } = self.config.parts();
        dialogue.kept(train.block_size)
    }

    /// The key that says so.
    fn asked_by(&self) -> &'static str {
        if self.config.parts().dialogue.max_length == 0 { "train.block_size" } else { "dialogue.max_length" }
    }
}

/// Settings of `[train]` that no alignment reads.
fn refuse_unread(train: &TrainConfig) -> Result<(), Error> {
    let wrong = |key, expected: &str, found: String| Err(Invalid { key, expected: expected.to_owned(), found }.into());
    if train.dropout > 0.0 {
        return wrong("train.dropout", "0: log-probs that are compared must not be random", train.dropout.to_string());
    }
    if train.tokens > 0 {
        return wrong("train.tokens", "0: train.steps or dialogue.epochs says when the run ends", train.tokens.to_string());
    }
    if train.flops > 0.0 {
        return wrong("train.flops", "0: train.steps or dialogue.epochs says when the run ends", train.flops.to_string());
    }
    const LESS: &str =
        "its trainings keep all activations; smaller ones: a smaller train.batch_size with more train.grad_accumulation";
    if !matches!(train.recompute, RecomputeChoice::Auto | RecomputeChoice::Fixed(Recompute::None)) {
        let found = train.show("recompute").unwrap_or_default();
        return wrong("train.recompute", &format!("\"none\" or \"auto\": {LESS}"), found);
    }
    if train.memory_budget_mib > 0 {
        return wrong("train.memory_budget_mib", &format!("0: {LESS}"), train.memory_budget_mib.to_string());
    }
    Ok(())
}

/// The steps that the asked-for passes over the rows take.
fn set_steps<C: AlignConfig>(config: &mut C, rows: usize, rows_per_step: usize) {
    let PartsMut { dialogue, train, .. } = config.parts_mut();
    if dialogue.epochs > 0.0 {
        train.steps = ((dialogue.epochs * rows as f64 / rows_per_step.max(1) as f64).ceil() as u64).max(1);
    }
}

/// Says how much memory every parameter set and the workspace take: they are made, and nothing is written into them.
fn print_plan<O: Objective<CpuDevice>>(engine: Arc<Engine>, mut objective: O, train: &TrainConfig) -> Result<(), Error> {
    let stepper = crate::train::step::Stepper::new(Session::new(CpuDevice::new(engine)), &mut objective, train.rule())?;
    let mib = |elements: usize| (elements * size_of::<f32>()) as f64 / f64::from(1 << 20);
    let mut total = 0.0;
    let mut line = |what: String, elements: usize| {
        total += mib(elements);
        say::line(&format!("{what:<40} {:>12.1} MiB", mib(elements)));
    };
    for (spec, set) in stepper.sets() {
        let set = stepper.session.set(set);
        let grads: usize = set.grads.iter().map(|grads| grads.get().len()).sum();
        line(format!("{}: weights", spec.name), set.weights.get().len() + set.frozen.get().len().div_ceil(4));
        line(format!("{}: gradients, moments", spec.name), grads + set.moments.get().len());
    }
    line("workspace of all programs".to_owned(), stepper.session.workspace().arena.get().len());
    say::line(&format!("{:<40} {total:>12.1} MiB", "in all"));
    Ok(())
}

/// The configuration that a run was begun with, when it goes on with one that gives the same results. Data may have moved: it is known by its content.
fn former<C: AlignConfig>(folder: &RunFolder, config: &C, content: &str) -> Result<Option<C>, Error> {
    let Some(mut former) = folder.former::<C>()? else { return Ok(None) };
    // A run that was begun with fewer keys goes on with the values that they had.
    former.resolve();
    let was = content_before(&folder.out);
    let mut expected = former.clone();
    if was == content {
        let (to, from) = (expected.parts_mut(), config.parts());
        to.data.path.clone_from(&from.data.path);
        to.dialogue.val.clone_from(&from.dialogue.val);
    }
    folder.refuse_changes(&expected, config)?;
    refuse_other_rows(&folder.out, config.parts().data.path.as_ref(), &was, content)?;
    Ok(Some(former))
}
