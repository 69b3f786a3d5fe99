//! Training of a CLIP or SigLIP for the command line: images and captions, model, objective, trainer.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::clip::Clip;
use samara_core::params::Params;

use super::card::{self, Subject};
use super::contrast_config::ContrastRunConfig;
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::launch::on_pool;
use super::objective::Source;
use super::objectives::contrast::{Contrast, Model};
use super::objectives::supervised::TaskFolder;
use super::pair_data::{PairTables, RunPairs, StoredPairs};
use super::progress::View;
use super::request::{FolderRequest, TrainOutcome};
use super::run::{CONTENT_FILE, keep_content, keep_data, lost_data, outcome, say_steps};
use super::trainer::Trainer;
use crate::config::Invalid;
use crate::data::batches::{Order, Sampler};
use crate::data::dataset::Dataset;
use crate::image_text::data::rows::PairRows;
use crate::image_text::data::tokens::CaptionEncoder;
use crate::image_text::folder::DualFolder;
use crate::model_folder::{ExtraTensors, ParamValues, load_weights_with, maps, save_weights};
use crate::say;
use crate::session::{CpuDevice, Engine, OwnedParams, Session};
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;
use crate::vision::folder::own_first;
use crate::vision::processor::Processor;

/// What messages call the command.
const COMMAND: &str = "samara train";

/// Train a CLIP or SigLIP.
#[derive(Clone, Debug)]
pub struct ContrastRequest {
    /// The effective configuration.
    pub config: ContrastRunConfig,
    /// Go on from the newest valid checkpoint of `train.out`.
    pub resume: bool,
    /// Start a new run when there is nothing to resume.
    pub begins: bool,
    /// How a person follows the run.
    pub view: View,
}

impl<'s> From<&'s ContrastRunConfig> for Subject<'s> {
    fn from(config: &'s ContrastRunConfig) -> Self {
        let path = config.data.path.as_ref();
        Self {
            model_type: config.model.model_type.word(),
            train: &config.train,
            corpus: path.map_or_else(|| "the generated world of captions".to_owned(), |path| format!("`{}`", path.display())),
            limits: "on pairs held out from the same data. How the model compares other images and texts is not known.",
        }
    }
}

/// Trains until the last step, a signal, or an error.
///
/// # Errors
/// An invalid configuration, data, weights or folder; a training that diverges; a signal.
pub fn run(request: &ContrastRequest) -> Result<TrainOutcome, Error> {
    on_pool(request.view, &request.config.train, |engine, stop| run_on(engine, request, stop))
}

fn run_on(engine: Arc<Engine>, request: &ContrastRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let (mut config, quiet) = (request.config.clone(), request.view == View::Quiet);
    let folder = RunFolder::of_request(&FolderRequest {
        command: COMMAND,
        out: config.train.out.as_deref(),
        name: config.model.model_type.word(),
        keep: config.train.keep_checkpoints,
        resume: request.resume,
        begins: request.begins,
        tokenizer: None,
        quiet,
    })?;
    let (out, resumed) = (folder.out.clone(), folder.checkpoint.is_some());
    let size = [config.model.image_size; 2];
    let from = if resumed { Some(out.as_path()) } else { config.train.init.as_deref() };
    let own = from.map(Processor::read).transpose()?.flatten();
    let processor = own.unwrap_or_else(|| Processor::usual(config.model.model_type.word(), size)).with_size(size);
    let data = match RunPairs::open(&out)?.filter(|_| resumed) {
        Some(data) => data,
        None if resumed => return Err(lost_data(&out)),
        None => RunPairs::store(&out, &PairTables::from(&config), (&processor, size), (stop, quiet))?,
    };
    if config.train.init.is_none() {
        config.model.vocab_size = data.tokenizer.vocab_size();
        config.model.eos_token_id = data.tokenizer.end_of_text().map_or(0, |id| id as usize);
    }
    if let Some(former) = former(&folder, &config)? {
        keep_data(former.data.path.as_ref(), &mut config.data.path, quiet);
        if !quiet {
            say_steps(former.train.steps, config.train.steps, folder.step());
        }
    }
    let (content, threads) = (data.content(), engine.threads());
    let objective = objective(&config, data, processor, quiet)?;
    let parameters = objective.parameters();
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, &config.train, folder, request.view)?;
    keep_content(&out, &content)?;
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let outcome = outcome(&trainer.run(stop)?, out);
    let content = fs::read_to_string(outcome.out.join(CONTENT_FILE)).unwrap_or_default();
    card::write(&config, [&format!("{parameters} parameters"), "all"], &content, &outcome)?;
    Ok(outcome)
}

/// The configuration at the start of a resumed run, if it gives the same results. Its data is in the run folder, so that it may have moved.
fn former(folder: &RunFolder, config: &ContrastRunConfig) -> Result<Option<ContrastRunConfig>, Error> {
    let Some(former) = folder.former::<ContrastRunConfig>()? else { return Ok(None) };
    let mut expected = former.clone();
    expected.data.path.clone_from(&config.data.path);
    folder.refuse_changes(&expected, config)?;
    Ok(Some(former))
}

/// The objective of a run.
fn objective(config: &ContrastRunConfig, data: RunPairs, processor: Processor, quiet: bool) -> Result<Contrast, Error> {
    let core = config.model.to_core()?;
    let (registry, clip) = OwnedParams::of(|s| Clip::register(&core, s))?;
    let dims = config.model.image_dims();
    let encoder = CaptionEncoder::new(&data.tokenizer, &config.model);
    let rows = |StoredPairs { store, pairs }: StoredPairs| -> Result<PairRows, Error> {
        let captions = encoder.encode(pairs.pairs.iter().map(|pair| pair.caption.as_str()))?;
        if captions.cut > 0 && !quiet {
            let most = config.model.max_position_embeddings;
            say::line(&format!("note: {} captions have more than {most} tokens and are cut before their last", captions.cut));
        }
        Ok(PairRows::new(store, &pairs, captions, &dims, &processor))
    };
    let (train, val) = (rows(data.train)?, data.val.map(rows).transpose()?);
    let (pairs, of_step) = (Dataset::len(&train), (config.train.batch_size * config.train.grad_accumulation) as u64);
    if of_step > pairs {
        let expected = format!(
            "at most the {pairs} pairs for training in a step, train.grad_accumulation included: a pair would be compared with itself"
        );
        return Err(Invalid::new("train.batch_size", expected, of_step).into());
    }
    let text_len = [train.tokens(), val.as_ref().map_or(0, PairRows::tokens)];
    let order = Sampler::over_rows(Order::Shuffled, config.train.seed, pairs, "the pairs")?;
    let source = Source::rows(train, order, val, &config.train);
    let own = Own { config: config.clone(), others: others(config)?, clip, processor, tokenizer: data.tokenizer };
    let model = Model { clip, registry, text_len, folder: Box::new(own) };
    Ok(Contrast::new(model, &config.contrast, source, &config.train))
}

/// Keys of the initial folder without a meaning here.
fn others(config: &ContrastRunConfig) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
    let described = config.train.init.as_deref().map(DualFolder::read).transpose()?.flatten();
    Ok(described.map(|folder| folder.others).unwrap_or_default())
}

/// The folder of a run as one of `transformers`.
struct Own {
    config: ContrastRunConfig,
    others: serde_json::Map<String, serde_json::Value>,
    clip: Clip,
    processor: Processor,
    tokenizer: Tokenizer,
}

impl TaskFolder for Own {
    fn read(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), Error> {
        let Some(init) = &self.config.train.init else { return Ok(()) };
        let maps = own_first(init, maps::clip::name_maps(self.clip.config()))?;
        let extra = ExtraTensors::ignore_if(self.config.train.ignore_extra);
        let map = maps.into_iter().next().unwrap_or_default();
        load_weights_with(init, params, &map, extra, trained, frozen)?;
        Ok(())
    }

    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), Error> {
        let map = maps::clip::name_maps(self.clip.config()).into_iter().next().map(|(_, map)| map).unwrap_or_default();
        save_weights(folder, params, &map, values)?;
        DualFolder { model: self.config.model.clone(), others: self.others.clone() }.write(folder)?;
        self.tokenizer.save(folder, Some(self.config.model.max_position_embeddings))?;
        Ok(self.processor.write(folder)?)
    }

    fn describe(&self) -> String {
        let pairs = self.config.train.batch_size * self.config.train.grad_accumulation;
        format!("{pairs} pairs a step; ")
    }
}
