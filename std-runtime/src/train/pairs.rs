//! Training of a model of images with texts for the command line: images and captions, model, objective, trainer.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use samara_core::model::image::ImageDims;

use super::card::{self, Subject};
use super::config::TrainConfig;
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::launch::on_pool;
use super::objective::{Objective, Source};
use super::pair_data::{PairTables, RunPairs, StoredPairs};
use super::progress::View;
use super::request::{FolderRequest, TrainOutcome};
use super::run::{CONTENT_FILE, keep_content, keep_data, lost_data, outcome, say_steps};
use super::trainer::Trainer;
use crate::config::{Invalid, Tables};
use crate::data::batches::{Order, Sampler};
use crate::data::dataset::Dataset;
use crate::image_text::data::rows::PairRows;
use crate::image_text::data::tokens::CaptionEncoder;
use crate::lm::plan::TrainingPlan;
use crate::memory;
use crate::say;
use crate::session::{CpuDevice, Engine, Session};
use crate::stop::Stop;
use crate::tokenizer::Tokenizer;
use crate::vision::processor::Processor;

/// What messages call the command.
const COMMAND: &str = "samara train";

/// The configuration of such a training, which knows its model.
pub trait PairRun: Tables {
    /// What is trained.
    type Objective: Objective<CpuDevice>;

    /// The value of `model_type`.
    fn model_type(&self) -> &'static str;
    /// `[train]`
    fn train(&self) -> &TrainConfig;
    /// `[data] path`
    fn data_path(&mut self) -> &mut Option<PathBuf>;
    /// What of it is of pairs.
    fn pairs(&self) -> PairTables<'_>;
    /// The model's images, as they are stored.
    fn image_dims(&self) -> ImageDims;
    /// How images are prepared, with the processor of the initial folder if it has one.
    fn processor(&self, own: Option<Processor>) -> Processor {
        let size = self.image_dims().image;
        own.unwrap_or_else(|| Processor::usual(self.model_type(), size)).with_size(size)
    }
    /// Takes what a model that begins anew has of its tokenizer.
    fn fit(&mut self, tokenizer: &Tokenizer);
    /// How captions become the model's tokens.
    ///
    /// # Errors
    /// A tokenizer that the model cannot use.
    fn encoder<'t>(&'t self, tokenizer: &'t Tokenizer) -> Result<CaptionEncoder<'t>, Invalid>;
    /// The objective over the pairs of a source, whose rows have `text_len` tokens for training and for validation.
    ///
    /// # Errors
    /// A model that cannot be built, an initial folder that cannot be used.
    fn objective(
        &self,
        source: Source,
        text_len: [usize; 2],
        tokenizer: Tokenizer,
        processor: Processor,
    ) -> Result<Self::Objective, Error>;
    /// What a training on texts of so many tokens takes; `None` where that is not known before it.
    ///
    /// # Errors
    /// A model that cannot be planned.
    fn planned(&self, _planner: &Engine, _len: usize) -> Result<Option<TrainingPlan>, Error> {
        Ok(None)
    }
    /// How many parameters an objective trains.
    fn parameters(objective: &Self::Objective) -> usize;
}

/// Train a model of images with texts.
#[derive(Clone, Debug)]
pub struct PairRequest<C> {
    /// The effective configuration.
    pub config: C,
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
pub fn run<C: PairRun + Sync>(request: &PairRequest<C>) -> Result<TrainOutcome, Error> {
    on_pool(request.view, request.config.train(), |engine, stop| run_on(engine, request, stop))
}

fn run_on<C: PairRun>(engine: Arc<Engine>, request: &PairRequest<C>, stop: &Stop) -> Result<TrainOutcome, Error> {
    let (mut config, quiet) = (request.config.clone(), request.view == View::Quiet);
    let folder = RunFolder::of_request(&FolderRequest {
        command: COMMAND,
        out: config.train().out.as_deref(),
        name: config.model_type(),
        keep: config.train().keep_checkpoints,
        resume: request.resume,
        begins: request.begins,
        tokenizer: None,
        quiet,
    })?;
    let (out, resumed) = (folder.out.clone(), folder.checkpoint.is_some());
    let size = config.image_dims().image;
    let from = if resumed { Some(out.as_path()) } else { config.train().init.as_deref() };
    let own = from.map(Processor::read).transpose()?.flatten();
    let processor = config.processor(own);
    let data = match RunPairs::open(&out)?.filter(|_| resumed) {
        Some(data) => data,
        None if resumed => return Err(lost_data(&out)),
        None => RunPairs::store(&out, &config.pairs(), (&processor, size), (stop, quiet))?,
    };
    if config.train().init.is_none() {
        let size = |config: &C| config.tables().iter().find(|(name, _)| *name == "model")?.1.show("vocab_size");
        let given = size(&config);
        config.fit(&data.tokenizer);
        if !quiet && given != size(&config) && given != size(&C::default()) {
            let found = data.tokenizer.vocab_size();
            let given = given.unwrap_or_default();
            say::line(&format!(
                "note: model.vocab_size = {given} has no effect: the tokenizer of the captions has {found} tokens"
            ));
        }
    }
    if let Some(mut former) = former(&folder, &mut config)? {
        keep_data(former.data_path().clone().as_ref(), config.data_path(), quiet);
        if !quiet {
            say_steps(former.train().steps, config.train().steps, folder.step());
        }
    }
    let (content, threads) = (data.content(), engine.threads());
    let objective = objective(&engine, &config, data, processor, quiet)?;
    let parameters = C::parameters(&objective);
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, config.train(), folder, request.view)?;
    keep_content(&out, &content)?;
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let outcome = outcome(&trainer.run(stop)?, out);
    let content = fs::read_to_string(outcome.out.join(CONTENT_FILE)).unwrap_or_default();
    card::write(subject(&config), [&format!("{parameters} parameters"), "all"], &content, &outcome)?;
    Ok(outcome)
}

fn subject<C: PairRun>(config: &C) -> Subject<'_> {
    let path = config.pairs().data.path.as_deref();
    Subject {
        model_type: config.model_type(),
        train: config.train(),
        corpus: path.map_or_else(|| "the generated world of captions".to_owned(), |path| format!("`{}`", path.display())),
        limits: "on pairs held out from the same data. How the model compares other images and texts is not known.",
    }
}

/// The configuration at the start of a resumed run, if it gives the same results. Its data is in the run folder, so that it may have moved.
fn former<C: PairRun>(folder: &RunFolder, config: &mut C) -> Result<Option<C>, Error> {
    let Some(former) = folder.former::<C>()? else { return Ok(None) };
    let mut expected = former.clone();
    expected.data_path().clone_from(config.data_path());
    folder.refuse_changes(&expected, config)?;
    Ok(Some(former))
}

/// The objective of a run.
fn objective<C: PairRun>(
    engine: &Engine,
    config: &C,
    data: RunPairs,
    processor: Processor,
    quiet: bool,
) -> Result<C::Objective, Error> {
    let (train_config, dims) = (config.train(), config.image_dims());
    let encoder = config.encoder(&data.tokenizer)?;
    let rows = |StoredPairs { store, pairs }: StoredPairs| -> Result<PairRows, Error> {
        let captions = encoder.encode(pairs.pairs.iter().map(|pair| pair.caption.as_str()))?;
        if captions.cut > 0 && !quiet {
            let most = config.pairs().longest;
            say::line(&format!("note: {} captions have more than {most} tokens and are cut before their last", captions.cut));
        }
        Ok(PairRows::new(store, &pairs, captions, &dims, &processor))
    };
    let (train, val) = (rows(data.train)?, data.val.map(rows).transpose()?);
    let (pairs, of_step) = (Dataset::len(&train), (train_config.batch_size * train_config.grad_accumulation) as u64);
    if of_step > pairs {
        let expected = format!(
            "at most the {pairs} pairs for training in a step, train.grad_accumulation included: a pair would be compared with itself"
        );
        return Err(Invalid::new("train.batch_size", expected, of_step).into());
    }
    let text_len = [train.tokens(), val.as_ref().map_or(0, PairRows::tokens)];
    if let Some(plan) = config.planned(engine, text_len[0].max(text_len[1]))? {
        let way = "lower train.batch_size and raise train.grad_accumulation: the pairs of a step stay, in the memory of fewer";
        memory::ensure(plan.total_bytes).map_err(|error| Error::Memory { error, way: way.to_owned() })?;
    }
    let order = Sampler::over_rows(Order::Shuffled, train_config.seed, pairs, "the pairs")?;
    let source = Source::rows(train, order, val, train_config);
    config.objective(source, text_len, data.tokenizer, processor)
}
