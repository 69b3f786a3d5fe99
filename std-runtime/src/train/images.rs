//! Training of an image classifier for the command line: images, model, objective, trainer.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use samara_core::model::image::ImageModel;
use samara_core::params::Params;

use super::card;
use super::config::ImageRunConfig;
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::image_data::{Images, RunImages};
use super::image_plan::{plan, task};
use super::launch::on_pool;
use super::objective::Source;
use super::objectives::classify::Classify;
use super::objectives::supervised::{Supervised, TaskFolder};
use super::progress::View;
use super::request::{FolderRequest, TrainOutcome};
use super::run::{CONTENT_FILE, keep_content, keep_data, lost_data, outcome, say_classes, say_steps};
use super::trainer::Trainer;
use crate::config::{Invalid, Table};
use crate::data::batches::{Order, Sampler};
use crate::data::dataset::Dataset;
use crate::lm::RunError;
use crate::lm::plan::TrainingPlan;
use crate::memory;
use crate::model_folder::{ExtraTensors, ParamValues};
use crate::say;
use crate::session::{CpuDevice, Engine, OwnedParams, Session, SetId};
use crate::stop::Stop;
use crate::vision::data::augment::Augment;
use crate::vision::data::features::FeatureRows;
use crate::vision::data::rows::ImageRows;
use crate::vision::data::store::ImageStore;
use crate::vision::families::ImageConfig;
use crate::vision::folder::ImageFolder;
use crate::vision::image::CHANNELS;
use crate::vision::pixels::GREY;
use crate::vision::positions::PositionResize;
use crate::vision::processor::Processor;
use crate::vision::tune::{Added, Method};
use crate::vision::weights::{NamedWeights, save, tuned};
use crate::vision::{Registered, register};

/// What messages call the command.
const COMMAND: &str = "samara train";

/// Train an image classifier.
#[derive(Clone, Debug)]
pub struct ImageRequest {
    /// The effective configuration.
    pub config: ImageRunConfig,
    /// The name of a new run folder.
    pub name: String,
    /// Go on from the newest valid checkpoint of `train.out`.
    pub resume: bool,
    /// Start a new run when there is nothing to resume.
    pub begins: bool,
    /// How a person follows the run.
    pub view: View,
}

impl ImageRequest {
    fn folder(&self) -> FolderRequest<'_> {
        let train = &self.config.train;
        FolderRequest {
            command: COMMAND,
            out: train.out.as_deref(),
            name: &self.name,
            keep: train.keep_checkpoints,
            resume: self.resume,
            begins: self.begins,
            tokenizer: None,
            quiet: self.view == View::Quiet,
        }
    }
}

/// Trains until the last step, a signal, or an error.
///
/// # Errors
/// An invalid configuration, images, weights or folder; a training that diverges; a signal.
pub fn run(request: &ImageRequest) -> Result<TrainOutcome, Error> {
    on_pool(request.view, &request.config.train, |engine, stop| run_on(engine, request, stop))
}

fn run_on(engine: Arc<Engine>, request: &ImageRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let (mut config, quiet) = (request.config.clone(), request.view == View::Quiet);
    let folder = RunFolder::of_request(&request.folder())?;
    let (out, resumed) = (folder.out.clone(), folder.checkpoint.is_some());
    // A resumed run has its trained weights, and reads frozen ones again.
    let init = config.train.init.as_deref().filter(|_| !resumed || config.tune.method != Method::Full);
    let weights = init.map(|init| NamedWeights::read(init, ExtraTensors::ignore_if(config.train.ignore_extra))).transpose()?;
    let size = image_size(&config)?;
    let processor = processor(if resumed { Some(&out) } else { init }, &config, size)?;
    let images = match RunImages::open(&out)?.filter(|_| resumed) {
        Some(images) => images,
        None if resumed => return Err(lost_data(&out)),
        None => {
            let images = Images::of(&config)?;
            images.notes().iter().filter(|_| !quiet).for_each(|note| say::line(&format!("note: {note}")));
            RunImages::store(&out, &images, &config, (&processor, size), (stop, quiet))?
        }
    };
    say_other_classes(&config, quiet || init.is_some(), images.classes.len());
    config.model = config.model.with_classes(images.classes.len())?;
    if let Some(former) = former(&folder, &config)? {
        keep_data(former.data.path.as_ref(), &mut config.data.path, quiet);
        if !quiet {
            say_steps(former.train.steps, config.train.steps, folder.step());
        }
    }
    let content = images.content();
    let (registered, added) = tuned(&config.model, &config.tune)?;
    let written = ImageFolder {
        model: config.model.clone(),
        labels: images.classes.clone(),
        added: added.without_lora(),
        others: weights.as_ref().map(|weights| weights.folder.others.clone()).unwrap_or_default(),
    };
    if let Some(weights) = weights.as_ref().filter(|_| !quiet && !resumed) {
        weights.notes(&config.model, &added, &images.classes).iter().for_each(|note| say::line(&format!("note: {note}")));
    }
    let own = Own { folder: written, added, processor, weights, positions: config.data.positions, about: String::new() };
    let (objective, plan) = objective(&engine, &config, images, registered, own, stop)?;
    let threads = engine.threads();
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, &config.train, folder, request.view)?;
    keep_content(&out, &content)?;
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let finished = trainer.run(stop)?;
    let outcome = outcome(&finished, out);
    let content = fs::read_to_string(outcome.out.join(CONTENT_FILE)).unwrap_or_default();
    let method = config.tune.show("method").unwrap_or_default();
    let trained = format!("tune.method = {method}: {} of {} parameters", plan.trainable_parameters, plan.parameters);
    card::write(&config, [&format!("{} parameters", plan.parameters), &trained], &content, &outcome)?;
    Ok(outcome)
}

/// Says that the data's classes replace a number that was given.
fn say_other_classes(config: &ImageRunConfig, quiet: bool, found: usize) {
    let usual = ImageConfig::of_type(config.model.model_type()).map_or(0, |usual| usual.classes());
    if !quiet {
        say_classes(config.model.classes(), usual, found);
    }
}

/// Height and width of the model's images.
fn image_size(config: &ImageRunConfig) -> Result<[usize; 2], Error> {
    let (_, model) = register(&*config.model.architecture()?)?;
    let dims = model.dims();
    if ![CHANNELS, GREY].contains(&dims.channels) {
        return Err(Invalid::new("model.num_channels", "3, for colours, or 1, for grey", dims.channels).into());
    }
    Ok(dims.image)
}

/// The processor of the folder that a run begins with, for the model's image size; the family's without one.
fn processor(from: Option<&Path>, config: &ImageRunConfig, size: [usize; 2]) -> Result<Processor, Error> {
    let own = from.map(Processor::read).transpose()?.flatten();
    Ok(match own {
        Some(own) if own.size() == Some(size) => own,
        Some(own) => own.with_size(size),
        None => Processor::usual(config.model.model_type(), size),
    })
}

/// The configuration at the start of a resumed run, if it gives the same results. Its images are in the run folder, so the data may have moved.
fn former(folder: &RunFolder, config: &ImageRunConfig) -> Result<Option<ImageRunConfig>, Error> {
    let Some(former) = folder.former::<ImageRunConfig>()? else { return Ok(None) };
    let mut expected = former.clone();
    expected.data.path.clone_from(&config.data.path);
    folder.refuse_changes(&expected, config)?;
    Ok(Some(former))
}

/// The objective of a run, and what it takes.
fn objective(
    engine: &Arc<Engine>,
    config: &ImageRunConfig,
    images: RunImages,
    (registry, model): Registered,
    own: Own,
    stop: &Stop,
) -> Result<(Supervised<Classify>, TrainingPlan), Error> {
    let dims = model.dims();
    let task = task(config, model);
    let plan = plan(&**engine, &registry, &task, config)?;
    let way = "lower train.batch_size and raise train.grad_accumulation, or train with train.recompute=blocks".to_owned();
    memory::ensure(plan.total_bytes).map_err(|error| Error::Memory { error, way })?;
    let count = |store: &ImageStore| store.classes().len();
    let about = format!(
        "{} of {} parameters trained, {} training images, {} validation images; {} MiB; ",
        plan.trainable_parameters,
        plan.parameters,
        count(&images.train),
        images.val.as_ref().map_or(0, count),
        plan.total_bytes >> 20,
    );
    let augment = config.augment.changes().then(|| Augment { config: config.augment.clone(), seed: config.train.seed });
    let order = Sampler::over_rows(Order::Counted, config.train.seed, count(&images.train) as u64, "the images")?;
    let rows = |store, augment| ImageRows::new(store, &dims, &own.processor, augment);
    let held_out = images.val.map(|val| rows(val, None));
    let source = if task.cached {
        let mut cache = Cache::new(engine, &registry, &own, config.train.seed)?;
        let mut of = |rows: &ImageRows| cache.features(rows, &task.model, (config.train.batch_size, stop));
        let train = of(&rows(images.train, None))?;
        Source::rows(train, order, held_out.as_ref().map(of).transpose()?, &config.train)
    } else {
        Source::rows(rows(images.train, augment), order, held_out, &config.train)
    };
    Ok((Supervised::new(task, registry, source, &config.train)?.with_folder(Own { about, ..own }), plan))
}

/// A backbone with the weights that a run begins with, for features that are computed once.
struct Cache {
    session: Session<CpuDevice>,
    set: SetId,
}

impl Cache {
    fn new(engine: &Arc<Engine>, registry: &Arc<OwnedParams>, own: &Own, seed: u64) -> Result<Self, Error> {
        let mut session = Session::new(CpuDevice::new(Arc::clone(engine)));
        let set = session.add_set("backbone", registry).map_err(RunError::from)?;
        let (weights, device) = session.set_mut(set);
        weights.initialise(device, seed).map_err(RunError::from)?;
        own.read(&registry.view(), weights.weights.get_mut(), weights.frozen.get_mut())?;
        Ok(Self { session, set })
    }

    fn features(
        &mut self,
        rows: &ImageRows,
        model: &Arc<dyn ImageModel>,
        (batch, stop): (usize, &Stop),
    ) -> Result<FeatureRows, Error> {
        let bytes = rows.len() * (model.dims().width * size_of::<f32>()) as u64;
        let way = "keep fewer images, or compute features in every step: tune.cache=false".to_owned();
        memory::ensure(bytes).map_err(|error| Error::Memory { error, way })?;
        Ok(FeatureRows::of(rows, model, &mut self.session, self.set, (batch, stop))?)
    }
}

/// The folder of a run as one of `transformers`.
struct Own {
    folder: ImageFolder,
    added: Added,
    processor: Processor,
    /// The weights that it begins with.
    weights: Option<NamedWeights>,
    positions: PositionResize,
    about: String,
}

impl TaskFolder for Own {
    fn read(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), Error> {
        match &self.weights {
            Some(weights) => Ok(weights.give(&self.folder.model, self.positions, params, trained, frozen)?),
            None => Ok(()),
        }
    }

    fn write(&self, folder: &Path, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), Error> {
        save(folder, &self.folder, &self.added, params, values)?;
        Ok(self.processor.write(folder)?)
    }

    fn describe(&self) -> String {
        self.about.clone()
    }
}
