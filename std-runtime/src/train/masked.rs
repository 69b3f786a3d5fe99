//! Training of an encoder of text for the command line: text, masks, model, objective, trainer.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::bert::{Bert, MaskedLmHead};
use samara_core::params::Params;
use serde_json::{Map, Value};

use super::card::{self, Subject};
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::launch::on_pool;
use super::masked_config::MaskedRunConfig;
use super::objective::Source;
use super::objectives::masked::Restore;
use super::objectives::supervised::{Supervised, TaskFolder};
use super::progress::View;
use super::request::{FolderRequest, TrainOutcome};
use super::run::{CONTENT_FILE, keep_content, keep_data, outcome, say_steps};
use super::tokenizer::Named;
use super::trainer::Trainer;
use crate::config::Invalid;
use crate::data::batches::{Order, Sampler};
use crate::data::dataset::Dataset;
use crate::data::prepare::{Prepared, prepare};
use crate::data::shards::Tokens;
use crate::data::source::DataRequest;
use crate::encoder::bert::BertModel;
use crate::encoder::folder::EncoderFolder;
use crate::encoder::masking::{Masking, Separators};
use crate::encoder::rows::{Chance, MaskedRows};
use crate::model_folder::safetensors::Weights;
use crate::model_folder::{ExtraTensors, ParamValues, Reading, load_weights_with, maps, save_weights};
use crate::say;
use crate::session::{CpuDevice, Engine, OwnedParams, Session};
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;

/// What messages call the command.
const COMMAND: &str = "samara train";
/// The names of the head's tensors begin so.
const HEAD: &str = "cls.predictions.";

/// Train a BERT on text.
#[derive(Clone, Debug)]
pub struct MaskedRequest {
    /// The effective configuration.
    pub config: MaskedRunConfig,
    /// Go on from the newest valid checkpoint of `train.out`.
    pub resume: bool,
    /// Start a new run when there is nothing to resume.
    pub begins: bool,
    /// How a person follows the run.
    pub view: View,
}

/// Trains until the last step, a signal, or an error.
///
/// # Errors
/// An invalid configuration, data, weights or folder; a training that diverges; a signal.
pub fn run(request: &MaskedRequest) -> Result<TrainOutcome, Error> {
    on_pool(request.view, &request.config.train, |engine, stop| run_on(engine, request, stop))
}

fn run_on(engine: Arc<Engine>, request: &MaskedRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let (mut config, quiet) = (request.config.clone(), request.view == View::Quiet);
    let folder = RunFolder::of_request(&FolderRequest {
        command: COMMAND,
        out: config.train.out.as_deref(),
        name: BertModel::TYPE,
        keep: config.train.keep_checkpoints,
        resume: request.resume,
        begins: request.begins,
        tokenizer: None,
        quiet,
    })?;
    let (out, resumed) = (folder.out.clone(), folder.checkpoint.is_some());
    let former = folder.former::<MaskedRunConfig>()?;
    if let Some(former) = &former {
        keep_data(former.data.path.as_ref(), &mut config.data.path, quiet);
    }
    let (prepared, tokenizer) = data(&config, (&out, resumed), stop, quiet)?;
    if config.train.init.is_none() {
        config.model.vocab_size = fitting(config.model.vocab_size, &tokenizer)?;
    }
    if let Some(former) = &former {
        folder.refuse_changes(former, &config)?;
        if !quiet {
            say_steps(former.train.steps, config.train.steps, folder.step());
        }
    }
    let (content, threads) = (prepared.content.clone(), engine.threads());
    let (objective, parameters) = objective(&config, prepared, tokenizer, quiet)?;
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, &config.train, folder, request.view)?;
    if let Some(content) = content {
        keep_content(&out, &content)?;
    }
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let outcome = outcome(&trainer.run(stop)?, out);
    let content = fs::read_to_string(outcome.out.join(CONTENT_FILE)).unwrap_or_default();
    card::write(subject(&config), [&format!("{parameters} parameters"), "all"], &content, &outcome)?;
    Ok(outcome)
}

/// The ids of a new model, which are those of its tokenizer. `given` is the default, or as many.
fn fitting(given: usize, tokenizer: &Tokenizer) -> Result<usize, Invalid> {
    let ids = tokenizer.vocab_size();
    if given != ids && given != BertModel::default().vocab_size {
        let expected = format!(
            "no value, or {ids}, the ids of its tokenizer; data.tokenizer_vocab_size changes how many one that is trained has"
        );
        return Err(Invalid::new("model.vocab_size", expected, given));
    }
    Ok(ids)
}

fn subject(config: &MaskedRunConfig) -> Subject<'_> {
    let path = config.data.path.as_deref();
    Subject {
        model_type: BertModel::TYPE,
        train: &config.train,
        corpus: path.map_or_else(|| "the built-in corpus of tales".to_owned(), |path| format!("`{}`", path.display())),
        limits: "on hidden tokens of text held out from the same data. How the model reads other text is not known.",
    }
}

/// The tokens of a run in its folder, and their tokenizer, which is kept there.
fn data(
    config: &MaskedRunConfig,
    (out, resumed): (&Path, bool),
    stop: &Stop,
    quiet: bool,
) -> Result<(Prepared, Tokenizer), Error> {
    let mut request = DataRequest::new(&config.data).until(stop);
    let init = config.train.init.as_deref();
    request.vocab_size = init.map(|_| config.model.vocab_size);
    let named = match resumed {
        true => Named::of_run(out, &request, quiet)?,
        false => Named::of_request(&request, init, quiet)?,
    };
    let mut prepared = prepare(&request, named.tokenizer, &out.join("data"), resumed)?;
    prepared.warnings.iter().for_each(|warning| say::line(warning));
    prepared.notes.iter().filter(|_| !quiet).for_each(|note| say::line(note));
    let Some(tokenizer) = prepared.tokenizer.take() else {
        let expected = "the tokenizer.json that made these token ids, because masked training needs its [MASK]";
        return Err(Invalid::new("data.tokenizer", expected, "none").into());
    };
    if !resumed {
        tokenizer.save(out, Some(config.model.max_position_embeddings))?;
    }
    Ok((prepared, tokenizer))
}

/// The objective of a run, and how many parameters it trains.
fn objective(
    config: &MaskedRunConfig,
    prepared: Prepared,
    tokenizer: Tokenizer,
    quiet: bool,
) -> Result<(Supervised<Restore>, usize), Error> {
    let (core, train) = (config.model.to_core()?, &config.train);
    let masking = Masking::new(&config.mlm, &tokenizer, core.vocab_size, Separators::Kept)?;
    let around = tokenizer.ids_before().len() + tokenizer.ids_after().len();
    if train.block_size <= around {
        let expected = format!("more than {around}, the tokens around a text");
        return Err(Invalid::new("train.block_size", expected, train.block_size).into());
    }
    let Prepared { train: tokens, val, .. } = prepared;
    for shard in [Some(&tokens), val.as_ref()].into_iter().flatten() {
        shard.check_ids(core.vocab_size as u32)?;
    }
    let lengths = [tokens.len(), val.as_ref().map_or(0, Tokens::len)];
    let chance = val.as_ref().map(|val| Chance::of(&tokens, val, core.vocab_size)).transpose()?;
    let rows = |tokens| MaskedRows::new(tokens, masking.clone(), &tokenizer, train.block_size, train.seed);
    let (rows_of_train, rows_of_val) = (rows(tokens), val.map(rows));
    let order = Sampler::over_rows(Order::Counted, train.seed, Dataset::len(&rows_of_train), "the training text")?;
    let slots = rows_of_train.slots();
    let source = Source::rows(rows_of_train, order, rows_of_val, train);
    let (registry, (bert, head)) = OwnedParams::of(|s| {
        let bert = Bert::register(&core, &mut s.at("bert"));
        (bert, MaskedLmHead::register(&core, bert.words(), &mut s.at("cls.predictions")))
    })?;
    let parameters = registry.view().trainable_count();
    let chance = chance.map_or_else(String::new, |Chance { loss, accuracy }| {
        format!("; by frequency alone: loss {loss:.4}, accuracy {accuracy:.4}")
    });
    let about = format!("{parameters} parameters, {} training tokens, {} validation tokens{chance}; ", lengths[0], lengths[1]);
    let others = train.init.as_deref().map(EncoderFolder::open).transpose()?.map(|folder| folder.others).unwrap_or_default();
    let own = Own { config: config.clone(), others, bert, tokenizer, about, quiet };
    let task = Restore { bert, head, block: train.block_size, slots };
    Ok((Supervised::new(task, registry, source, train)?.with_folder(own), parameters))
}

/// The folder of a run as a `BertForMaskedLM`.
struct Own {
    config: MaskedRunConfig,
    others: Map<String, Value>,
    bert: Bert,
    tokenizer: Tokenizer,
    about: String,
    quiet: bool,
}

impl TaskFolder for Own {
    fn read(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), Error> {
        let Some(init) = self.config.train.init.as_deref().filter(|_| !trained.is_empty()) else { return Ok(()) };
        let reading = Reading {
            extra: ExtraTensors::ignore_if(self.config.train.ignore_extra),
            optional: Some(HEAD),
            ..Reading::default()
        };
        let has_head = Weights::open(init)?.names().any(|name| name.starts_with(HEAD));
        let map = if has_head { maps::bert::masked_lm } else { maps::bert::encoder };
        load_weights_with(init, params, &map(self.bert.config()), reading, trained, frozen)?;
        if !self.quiet && !has_head {
            let init = init.display();
            say::line(&format!("note: {init} has no head that restores tokens ({HEAD}*): it begins with random weights"));
        }
        Ok(())
    }

    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), Error> {
        save_weights(folder, params, &maps::bert::masked_lm(self.bert.config()), values)?;
        EncoderFolder { model: self.config.model.clone(), others: self.others.clone() }.write(folder)?;
        Ok(self.tokenizer.save(folder, Some(self.config.model.max_position_embeddings))?)
    }

    fn describe(&self) -> String {
        self.about.clone()
    }
}
