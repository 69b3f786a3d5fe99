//! Supervised fine-tuning on dialogues (Ouyang et al. 2022, step 1): the mean of −ln p(token | all before it) over the tokens of the assistant's turns.

use std::path::Path;
use std::sync::Arc;

use super::card;
use super::config::SftConfig;
use super::dialogues::{RowsOfRun, answering, changed_files, check_tokens, content_before, encoder, refuse_other_rows};
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::objective::Source;
use super::objectives::lm::{Chat, Lm, ModelFolder};
use super::recompute::Policies;
use super::request::{SftRequest, TrainOutcome};
use super::run::{companions, effective, fits_into_memory, keep_content, outcome, say_steps, trained, tuned};
use super::shape::shape_of;
use super::trainer::Trainer;
use crate::data::DataError;
use crate::data::batches::{Order, Sampler};
use crate::data::dataset::Dataset;
use crate::dialogue::config::DialogueConfig;
use crate::dialogue::encode::Encoder;
use crate::dialogue::examples::{ExampleRows, Examples};
use crate::dialogue::read::Wanted;
use crate::dialogue::row::Kind;
use crate::dialogue::turn::Turn;
use crate::lm::step::StepShape;
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::model_folder;
use crate::say;
use crate::session::{CpuDevice, Engine, Session};
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;

/// What messages call the command.
pub const COMMAND: &str = "samara sft";

/// Trains until the last step, a signal, or an error.
///
/// # Errors
/// An invalid configuration, rows, template, weights or folder; a training that diverges; a signal.
pub fn run(request: &SftRequest) -> Result<TrainOutcome, Error> {
    let (config, quiet) = (&request.train.config, request.train.is_quiet());
    let stop = Stop::install(quiet).map_err(Error::io(Path::new("signals"), "listen to"))?;
    let engine = Engine::new(config.train.threads, config.train.gemm)?;
    // The whole loop runs on a thread of the pool: a step from outside would allocate.
    Arc::clone(&engine).install(|| run_on(engine, request, &stop))
}

/// The error for a run without an initial model.
pub const NO_INIT: &str = "samara sft fine-tunes an existing model: give it with --init DIR";

fn run_on(engine: Arc<Engine>, request: &SftRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let (asked, quiet) = (&request.train, request.train.is_quiet());
    let before = asked.out.as_deref().filter(|out| asked.resume && Tokenizer::is_in(out));
    let from = before.or(asked.init.as_deref()).ok_or_else(|| Error::Usage(NO_INIT.to_owned()))?;
    let base = [Some(from), asked.init.as_deref()].into_iter().flatten().find(|folder| model_folder::is_model_folder(folder));
    let base = FolderConfig::read(base.unwrap_or(from))?;
    let wanted = Wanted { command: COMMAND, kinds: &[Kind::Dialogue] };
    let rows = RowsOfRun::read(wanted, &asked.config.data, &request.dialogue, stop)?;
    let mut config = SftConfig {
        model: base.model.clone(),
        data: asked.config.data.clone(),
        dialogue: request.dialogue.clone(),
        train: asked.config.train.clone(),
        tune: asked.config.tune.clone(),
        generate: asked.config.generate.clone(),
    };
    let encoder = encoder(&config.data, &mut config.dialogue, (from, &base), rows.train.format())?;
    config.model = config.model.with_vocab_size(encoder.vocab_size());
    let data = Data::new(&rows, &encoder, &config)?;
    stop.check().map_err(DataError::from)?;
    if !quiet {
        data.say(&rows, &encoder, &config);
    }
    let folder = RunFolder::of_request(&asked.folder(COMMAND))?;
    let (out, content) = (folder.out.clone(), rows.content(&encoder));
    let former = former(&folder, &config, &content)?;
    config.train.steps = data.steps(&config);
    let shape = StepShape { packed: config.dialogue.packing, ..shape_of(&config.training()) };
    let architecture = tuned(&config.training(), &config.model)?;
    check_tokens(&*architecture, &encoder)?;
    let policies = Policies::of(&engine, &*architecture, shape, &config.train)?;
    let trained = trained(&config.training(), &*architecture, &policies);
    fits_into_memory(&policies, quiet)?;
    config.train = effective(&config.training(), &policies).train;
    if let Some(former) = former.filter(|_| !quiet) {
        say_steps(former.train.steps, config.train.steps, folder.step());
    }
    let objective = objective(&config, &policies, architecture, (base, from), encoder, &rows, data)?;
    objective.save_companions(&out)?;
    let token_ids = asked.init.as_deref().map(FolderConfig::read).transpose()?.and_then(|folder| folder.model.vocab_size());
    let objective = objective.with_init(asked.init.clone(), token_ids);
    let threads = engine.threads();
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, &config.train, folder, request.train.view)?;
    keep_content(&out, &content)?;
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let finished = trainer.run(stop)?;
    let outcome = outcome(&finished, out);
    card::write(&config.training(), [&format!("{} parameters", policies.plan.parameters), &trained], &content, &outcome)?;
    Ok(outcome)
}

/// The examples of a run.
struct Data {
    train: Examples,
    val: Option<Examples>,
    /// Those of the training as rows of tokens.
    rows: ExampleRows,
}

impl Data {
    fn new(rows: &RowsOfRun, encoder: &Encoder, config: &SftConfig) -> Result<Self, Error> {
        let (max_length, bad_row) = (config.dialogue.kept(config.train.block_size), config.data.on_bad_row);
        let train = Examples::of(&rows.train, encoder, max_length, bad_row)?;
        let val = if rows.val.rows.is_empty() { None } else { Some(Examples::of(&rows.val, encoder, max_length, bad_row)?) };
        let rows = ExampleRows::new(Arc::clone(&train.encoded), config.train.block_size, config.dialogue.packing);
        Ok(Self { train, val, rows })
    }

    /// The steps of the configured passes over the rows, or the configured steps.
    fn steps(&self, config: &SftConfig) -> u64 {
        let rows_per_step = (config.train.batch_size * config.train.grad_accumulation).max(1) as f64;
        if config.dialogue.epochs == 0.0 {
            return config.train.steps;
        }
        ((config.dialogue.epochs * self.rows.len() as f64 / rows_per_step).ceil() as u64).max(1)
    }

    /// Prints notes before the training: rows, examples, and the first of them with its trained tokens.
    fn say(&self, rows: &RowsOfRun, encoder: &Encoder, config: &SftConfig) {
        let DialogueConfig { packing, .. } = config.dialogue;
        let max_length = config.dialogue.kept(config.train.block_size);
        let mut lines = rows.train.lines();
        if config.dialogue.val.is_some() {
            lines.extend(rows.val.lines());
        }
        lines.extend(self.train.lines("training", max_length));
        lines.extend(self.val.iter().flat_map(|val| val.lines("validation", max_length)));
        if packing {
            let (count, filled) = (self.rows.len(), 100.0 * self.rows.filled());
            lines.push(format!("packing: {count} rows of {} tokens, {filled:.1} % filled", config.train.block_size));
        }
        lines.push(format!("chat template: {}", encoder.template().name()));
        lines.extend(encoder.lines());
        if let Some(stop) = encoder.new_stop() {
            let text = String::from_utf8_lossy(&encoder.tokenizer().token_bytes(stop)).into_owned();
            lines.push(format!("note: {text:?} ends the answers of the template: it becomes a stop token of the model"));
        }
        if let Some(first) = self.train.encoded.first() {
            let (learnt, shown) = (first.loss_tokens(), encoder.show(first));
            lines.push(format!(
                "--- first example: {} tokens, {learnt} to learn between ‹ and › ---\n{}\n---",
                first.ids.len(),
                say::printable(&shown)
            ));
        }
        lines.iter().for_each(|line| say::line(line));
    }
}

/// The configuration at the start of a resumed run, if it gives the same results. The data may have moved: it is identified by its content.
fn former(folder: &RunFolder, config: &SftConfig, content: &str) -> Result<Option<SftConfig>, Error> {
    let Some(former) = folder.former::<SftConfig>()? else { return Ok(None) };
    let was = content_before(&folder.out);
    let mut expected = former.clone();
    if was == content {
        expected.data.path.clone_from(&config.data.path);
        expected.dialogue.val.clone_from(&config.dialogue.val);
    }
    folder.refuse_changes(&expected, config)?;
    refuse_other_rows(&folder.out, config.data.path.as_ref(), &was, content)?;
    Ok(Some(former))
}

/// The objective of a run: the model and its examples.
fn objective(
    config: &SftConfig,
    policies: &Policies,
    architecture: Arc<dyn Architecture>,
    (base, from): (FolderConfig, &Path),
    encoder: Encoder,
    rows: &RowsOfRun,
    data: Data,
) -> Result<Lm, Error> {
    let DialogueConfig { packing, .. } = config.dialogue;
    let held_out = data.val.as_ref().map(|val| ExampleRows::new(Arc::clone(&val.encoded), config.train.block_size, packing));
    let about = format!(
        "{} parameters, {} training examples, {} validation examples; {}; ",
        policies.plan.trainable_parameters,
        data.train.encoded.len(),
        data.val.as_ref().map_or(0, |val| val.encoded.len()),
        policies.describe(),
    );
    let order = Sampler::over_rows(Order::Shuffled, config.train.seed, data.rows.len(), &rows.train.path.display().to_string())?;
    let source = Source::rows(data.rows, order, held_out, &config.train);
    let chat = Chat {
        prompt: sample_prompt(config, &encoder, rows)?,
        stops: encoder.stops().iter().map(|&id| id as i32).collect(),
        files: changed_files(&encoder),
    };
    let folder = ModelFolder {
        config: FolderConfig { dropout: config.train.dropout, ..answering(&base, &encoder) },
        companions: companions(Some(from), false)?,
        tokenizer: Some(encoder.tokenizer().clone()),
        generate: config.generate.clone(),
        chat: Some(chat),
    };
    Ok(Lm::of_source(architecture, policies.shape, &config.train, source)?.with_folder(folder, about))
}

/// The prompt of samples: the configured one, or that of the first row.
fn sample_prompt(config: &SftConfig, encoder: &Encoder, rows: &RowsOfRun) -> Result<Vec<i32>, Error> {
    let prompt = match (config.generate.prompt.as_str(), rows.train.rows.first()) {
        ("", Some(first)) => encoder.encode_prompt(first.row.prompt())?,
        (text, _) => encoder.encode_prompt(&[Turn::user(text)])?,
    };
    Ok(prompt.into_iter().map(|id| id as i32).collect())
}
