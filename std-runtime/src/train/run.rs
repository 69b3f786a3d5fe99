//! Training of a language model for the command line: data, model, objective, trainer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::card;
use super::config::{RunConfig, TrainConfig};
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::launch::on_pool;
use super::objectives::lm::{Lm, ModelFolder};
use super::recompute::Policies;
use super::request::{TrainOutcome, TrainRequest};
use super::tokenizer::Named;
use super::trainer::{Finished, Trainer};
use crate::config::{Invalid, Table};
use crate::data::DataError;
use crate::data::batches::{Offsets, Order, Sampler};
use crate::data::config::DataOrder;
use crate::data::prepare::{Prepared, content_of, prepare, shards_of};
use crate::data::shards::{Shard, Tokens};
use crate::data::source::DataRequest;
use crate::data::stamp::stamp;
use crate::memory;
use crate::model::ModelConfig;
use crate::model::architecture::Architecture;
use crate::model::folder::FolderConfig;
use crate::model::tune::config::Method;
use crate::model_folder::{self, Companions};
use crate::run::durable;
use crate::say;
use crate::session::{CpuDevice, Engine, Session};
use crate::stop::Stop;
use crate::tokenizer::{Tokenizer, prompt_ids};

const COMMAND: &str = "samara train";

/// Trains until the last step, a signal, or an error.
///
/// # Errors
/// An invalid configuration, data, weights or folder; a training that diverges; a signal.
pub fn run(request: &TrainRequest) -> Result<TrainOutcome, Error> {
    on_pool(request.view, &request.config.train, |engine, stop| run_on(engine, request, stop))
}

fn run_on(engine: Arc<Engine>, request: &TrainRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let config = &request.config;
    let mut data = DataRequest::new(&config.data).until(stop);
    data.vocab_size = config.model.vocab_size();
    // Before the folder is created, so that an error about the tokenizer leaves none behind.
    let named = if request.resume { None } else { Some(Named::of_request(&data, request.init.as_deref(), request.is_quiet())?) };
    let folder = RunFolder::of_request(&request.folder(COMMAND))?;
    let former = former(&folder, config, &data)?;
    let out = folder.out.clone();
    let resumed = folder.checkpoint.is_some();
    let from = if resumed { Some(out.as_path()) } else { request.init.as_deref() };
    let named = match named {
        Some(named) => named,
        None if resumed => Named::of_run(&out, &data, request.is_quiet())?,
        None => Named::of_request(&data, request.init.as_deref(), request.is_quiet())?,
    };
    // Before the text is read: a change in the meantime is seen when the run is resumed.
    let files = if shards_of(&data)?.is_some() { None } else { stamp(&data)? };
    let prepared = prepare(&data, named.tokenizer, &out.join(DATA_FOLDER), resumed)?;
    refuse_other_shards(&prepared, &out, resumed)?;
    stop.check().map_err(DataError::from)?;
    say_prepared(&prepared, config, request.is_quiet())?;
    let model = model_config(config, &prepared)?;
    let architecture = tuned(config, &model)?;
    let policies = Policies::new(&engine, &*architecture, config)?;
    let trained = trained(config, &*architecture, &policies);
    fits_into_memory(&policies, request.is_quiet())?;
    let config = effective(config, &policies);
    if let Some(former) = former.filter(|_| !request.is_quiet()) {
        say_steps(former.train.steps, config.train.steps, folder.step());
    }
    // With token ids the folder's tokenizer is kept; text is encoded with it, or with another one.
    let is_another = prepared.tokenizer.is_some() && !named.of_folder;
    let folder_config = folder_config(model, &config, &prepared, from, is_another)?;
    let companions = companions(from, is_another)?;
    let content = prepared.content.clone();
    let objective = objective(&config, &policies, architecture, folder_config, companions, prepared)?;
    objective.save_companions(&out)?;
    let objective = objective.with_init(request.init.clone().or_else(|| config.train.init.clone()), None);
    let threads = engine.threads();
    let session = Session::new(CpuDevice::new(engine));
    let trainer = Trainer::open(session, objective, &config.train, folder, request.view)?;
    if let Some(content) = content {
        keep_content(&out, &content)?;
        keep_stamp(&out, files.as_deref())?;
    }
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let finished = trainer.run(stop)?;
    let outcome = outcome(&finished, out);
    let content = fs::read_to_string(outcome.out.join(CONTENT_FILE)).unwrap_or_default();
    card::write(&config, [&format!("{} parameters", policies.plan.parameters), &trained], &content, &outcome)?;
    Ok(outcome)
}

/// The other files of the initial folder; without its tokenizer's files if the run has another one.
pub(crate) fn companions(from: Option<&Path>, is_another: bool) -> Result<Companions, Error> {
    let companions = from.map_or_else(|| Ok(Companions::default()), Companions::of)?;
    Ok(if is_another { companions.without_tokenizer() } else { companions })
}

/// The scalar of a policy's KL from its reference.
const OBJECTIVE_KL: &str = "objective/kl";

/// The outcome of a finished training in a folder.
pub(crate) fn outcome(finished: &Finished, out: PathBuf) -> TrainOutcome {
    let last = |scalar: &str| finished.last.iter().find(|(name, _)| *name == scalar).and_then(|(_, value)| *value);
    TrainOutcome {
        steps: finished.steps,
        measure: finished.measure,
        train_loss: last(finished.measure.name),
        kl: last(OBJECTIVE_KL),
        val_loss: finished.validation,
        best_val_loss: finished.best,
        out,
    }
}

/// Prints notes about the data, and about a prompt that exceeds the model's context.
fn say_prepared(prepared: &Prepared, config: &RunConfig, quiet: bool) -> Result<(), Error> {
    prepared.warnings.iter().for_each(|warning| say::line(warning));
    if quiet {
        return Ok(());
    }
    prepared.notes.iter().for_each(|note| say::line(note));
    if let Some(tokenizer) = prepared.tokenizer.as_ref().filter(|_| config.generate.max_new_tokens > 0) {
        let (generate, vocab_size) = (&config.generate, config.model.vocab_size().unwrap_or_else(|| tokenizer.vocab_size()));
        let tokens = prompt_ids(tokenizer, &generate.prompt, generate.specials, vocab_size)?.len();
        say::cut_prompt(tokens, config.model.positions()).iter().for_each(|note| say::line(note));
    }
    Ok(())
}

/// Prints a note that another number of steps changes the schedule, if steps are left.
pub(crate) fn say_steps(before: u64, now: u64, done: u64) {
    if before != now && now > done {
        say::line(&format!("note: train.steps was {before} and is {now}: the learning rate follows the schedule of {now} steps"));
    }
}

/// Prints a note that the data's number of classes replaces another one that was given, `usual` being the default.
pub(super) fn say_classes(given: usize, usual: usize, found: usize) {
    if given != found && given != usual {
        say::line(&format!("note: model.num_labels = {given} has no effect: the data has {found} classes"));
    }
}

/// A resumed run reads the data that it has stored in its folder: another path that is given is said not to be read, and not written down.
pub(super) fn keep_data(former: Option<&PathBuf>, given: &mut Option<PathBuf>, quiet: bool) {
    if given.as_ref() == former {
        return;
    }
    if let Some(given) = given.as_ref().filter(|_| !quiet) {
        let from = former.map_or_else(|| "a generated world".to_owned(), |path| path.display().to_string());
        say::line(&format!(
            "note: --data {} is not read: the run goes on with the data in its folder, from {from}",
            given.display()
        ));
    }
    *given = former.cloned();
}

/// The error of a resumed run whose stored data is gone.
pub(super) fn lost_data(out: &Path) -> Error {
    let shown = out.display();
    Error::Usage(format!(
        "{shown}: the data that the run stored in {shown}/data is gone, and a resumed run reads no other; begin a new run, with another --out"
    ))
}

/// Stores the fingerprint of the run's data.
pub(crate) fn keep_content(out: &Path, content: &str) -> Result<(), Error> {
    fs::create_dir_all(out.join(DATA_FOLDER)).map_err(Error::io(out, "create a folder in"))?;
    let path = out.join(CONTENT_FILE);
    durable::write(&path, content.as_bytes()).map_err(Error::io(&path, "write"))
}

/// Stores the stamp of the files of a text.
fn keep_stamp(out: &Path, files: Option<&str>) -> Result<(), Error> {
    let path = out.join(STAMP_FILE);
    files.map_or(Ok(()), |files| durable::write(&path, files.as_bytes()).map_err(Error::io(&path, "write")))
}

/// Refuses a training that needs more memory than this process can have, and warns if it is not free now.
pub(super) fn fits_into_memory(policies: &Policies, quiet: bool) -> Result<(), Error> {
    let bytes = policies.plan.total_bytes;
    memory::ensure(bytes)
        .map_err(|error| Error::Memory { error, way: policies.in_less(error.left.map_or(0, |left| left.bytes)) })?;
    if let Some(free) = memory::scarce(bytes).filter(|_| !quiet) {
        let [needed, free_mib] = [bytes, free.bytes].map(|bytes| bytes >> 20);
        say::line(&format!("warning: this training takes {needed} MiB, and {free_mib} MiB of {} are free now", free.of));
    }
    Ok(())
}

/// The configuration with derived values: the recomputation policy, so that a resumed run uses it too, and the number of steps.
pub(super) fn effective(config: &RunConfig, policies: &Policies) -> RunConfig {
    let plan = &policies.plan;
    let steps = config.train.steps_of(plan.tokens_per_step, plan.flops_per_token);
    let train = TrainConfig { recompute: policies.shape.recompute.into(), steps, ..config.train.clone() };
    RunConfig { train, ..config.clone() }
}

/// The objective of a run: the model and its data.
fn objective(
    config: &RunConfig,
    policies: &Policies,
    architecture: Arc<dyn Architecture>,
    folder: FolderConfig,
    companions: Companions,
    prepared: Prepared,
) -> Result<Lm, Error> {
    let limit = folder.model.vocab_size().unwrap_or(0) as u32;
    prepared.train.check_ids(limit)?;
    if let Some(val) = &prepared.val {
        val.check_ids(limit)?;
        let needed = config.train.block_size as u64 + 1;
        if val.len() < needed {
            return Err(DataError::HeldOut { what: val.name(), found: val.len(), expected: needed }.into());
        }
    }
    let order = sampler_of(config, &prepared.train)?;
    let about = format!(
        "{} parameters, {} training tokens, {} validation tokens; {}; ",
        policies.plan.trainable_parameters,
        prepared.train.len(),
        prepared.val.as_ref().map_or(0, Tokens::len),
        policies.describe(),
    );
    let Prepared { tokenizer, train, val, .. } = prepared;
    let held_out = val.map(|val| -> Box<dyn Tokens + Send> { Box::new(val) });
    let folder = ModelFolder { config: folder, companions, tokenizer, generate: config.generate.clone(), chat: None };
    Ok(Lm::new(architecture, policies.shape, &config.train, train, order, held_out)?.with_folder(folder, about))
}

/// The trained parameters: all, adapters, or a part, with its share.
pub(super) fn trained(config: &RunConfig, architecture: &dyn Architecture, policies: &Policies) -> String {
    let what = match (config.tune.method, architecture.adapters()) {
        (Method::Full, _) => return "all parameters".to_owned(),
        (_, Some(adapters)) => adapters.describe(),
        (_, None) => format!("tune.method = {}", config.tune.show("method").unwrap_or_default()),
    };
    format!("{what}: {} of {} parameters", policies.plan.trainable_parameters, policies.plan.parameters)
}

/// The model with its tuning. Frozen weights come from an existing model.
pub(super) fn tuned(config: &RunConfig, model: &ModelConfig) -> Result<Arc<dyn Architecture>, Invalid> {
    if config.tune.method != Method::Full && config.train.init.is_none() {
        let expected = "\"full\" for a model with random weights, or an initial model: --init DIR";
        return Err(Invalid::new("tune.method", expected, config.tune.show("method").unwrap_or_default()));
    }
    config.tune.applied_to(model.architecture()?)
}

/// The shards of a run.
const DATA_FOLDER: &str = "data";
/// The file with the stamp of a run's text files.
const STAMP_FILE: &str = "data/files.txt";
/// The file with the fingerprint of a run's data.
pub(crate) const CONTENT_FILE: &str = "data/content.txt";

/// The configuration at the start of a resumed run, if it gives the same results. The data may have moved: it is identified by its content.
fn former(folder: &RunFolder, config: &RunConfig, data: &DataRequest) -> Result<Option<RunConfig>, Error> {
    let Some(former) = folder.former::<RunConfig>()? else { return Ok(None) };
    let mut expected = former.clone();
    let is_elsewhere = former.data.path != config.data.path;
    let mut others = None;
    if let Ok(content) = fs::read_to_string(folder.out.join(CONTENT_FILE))
        && (is_elsewhere || has_changed(&folder.out, data)?)
    {
        match content_of(data)? {
            now if now == content => expected.data.path.clone_from(&config.data.path),
            now => others = Some((content, now)),
        }
    }
    folder.refuse_changes(&expected, config)?;
    match (others, &config.data.path) {
        (Some((content, now)), Some(path)) => Err(other_data(path, &content, now)),
        _ => Ok(Some(former)),
    }
}

/// Whether the files of a text differ from those at the start of the run. Text that is not there any more is not needed: the run folder has its tokens.
fn has_changed(out: &Path, data: &DataRequest) -> Result<bool, Error> {
    // Shards are compared when they are opened.
    if shards_of(data)?.is_some() {
        return Ok(false);
    }
    Ok(stamp(data)?.is_some_and(|now| fs::read_to_string(out.join(STAMP_FILE)).ok() != Some(now)))
}

/// The error for other data than at the start of the run.
fn other_data(path: &Path, content: &str, found: String) -> Error {
    let expected = format!("the data of the start of the run ({content}); restore it, or choose another --out");
    DataError::format(path, expected, found).into()
}

/// Refuses to resume with other token shards than at the start. Encoded text is stored in the run folder.
fn refuse_other_shards(prepared: &Prepared, out: &Path, resumed: bool) -> Result<(), Error> {
    let path = out.join(CONTENT_FILE);
    match (&prepared.content, fs::read_to_string(&path)) {
        (Some(found), Ok(expected)) if resumed && *found != expected => {
            Err(other_data(Path::new(&prepared.train.name()), &expected, found.clone()))
        }
        _ => Ok(()),
    }
}

/// The model of the configuration, with the vocabulary of its data; or that of the initial folder.
fn model_config(config: &RunConfig, prepared: &Prepared) -> Result<ModelConfig, Error> {
    let vocab_size = config.model.vocab_size().or(prepared.vocab_size).ok_or_else(|| Invalid {
        key: "model.vocab_size",
        expected: "the number of ids of these token shards, or data.tokenizer = PATH".to_owned(),
        found: "neither".to_owned(),
    })?;
    Ok(config.model.clone().with_vocab_size(vocab_size))
}

/// The contents of the run's `config.json`: the model, with the other keys of the initial folder, except for the token ids of another tokenizer.
fn folder_config(
    model: ModelConfig,
    config: &RunConfig,
    prepared: &Prepared,
    from: Option<&Path>,
    is_another: bool,
) -> Result<FolderConfig, Error> {
    // A run that ended before it saved its first model has a folder without a description.
    let init = [from, config.train.init.as_deref()].into_iter().flatten().find(|folder| model_folder::is_model_folder(folder));
    let mut base = init.map_or_else(|| Ok(FolderConfig::new(model.clone(), config.train.dropout)), FolderConfig::read)?;
    if is_another {
        base.forget_tokens();
    }
    if model.clone().with_vocab_size(0) != base.model.clone().with_vocab_size(0) {
        // The folder's word for an activation is that of its own.
        base.others.remove("activation_function");
    }
    let vocab_size = model.vocab_size().unwrap_or(usize::MAX);
    // A folder that names no token ids still names none: its tokenizer does.
    let names_it = init.is_none() || is_another;
    let end = prepared.tokenizer.as_ref().filter(|_| names_it).and_then(Tokenizer::end_of_text);
    let end = end.filter(|&id| (id as usize) < vocab_size);
    let eos_token_ids = if base.eos_token_ids.is_empty() { end.into_iter().collect() } else { base.eos_token_ids };
    let bos_token_id = base.bos_token_id.or(end);
    Ok(FolderConfig { model, bos_token_id, eos_token_ids, ..base })
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
