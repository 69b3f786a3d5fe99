//! Training of a detector for the command line: images with boxes or the world of shapes, model, objective, trainer.

use std::path::Path;
use std::sync::Arc;

use samara_core::graph::Recompute;
use samara_core::model::detr::Detr;
use samara_core::params::{Group, GroupId, ParamInfo, Part, Registry};

use super::box_data::{RunBoxes, list};
use super::card::{self, Subject};
use super::config::TrainConfig;
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::image_plan;
use super::launch::on_pool;
use super::objective::Source;
use super::objectives::detect::{Backbone, DetectObjects, DetectorRun};
use super::progress::View;
use super::request::{FolderRequest, TrainOutcome};
use super::run::{keep_content, keep_data, lost_data, outcome, say_classes, say_steps};
use super::trainer::Trainer;
use crate::config::{Invalid, Unread, table, tables};
use crate::data::batches::{Order, Sampler};
use crate::device::Planner;
use crate::lm::plan::TrainingPlan;
use crate::memory;
use crate::model_folder::ExtraTensors;
use crate::say;
use crate::session::{BuildError, CpuDevice, Engine, OwnedParams, Session};
use crate::stop::Stop;
use crate::vision::boxes::augment::BoxAugment;
use crate::vision::boxes::config::{BoxAugmentConfig, BoxDataConfig};
use crate::vision::boxes::rows::BoxRows;
use crate::vision::detector::DetectorFolder;
use crate::vision::detector_weights::DetectorWeights;
use crate::vision::families::detr::DetrModel;
use crate::vision::processor::{Kind, Processor};
use crate::vision::shapes::{MOST_SHAPES, NORMALIZE, SHAPES, ShapesWorld};

/// What messages call the command.
const COMMAND: &str = "samara train";

table! {
    /// How a detector is trained.
    pub DetectConfig {
        /// Factor of the learning rate of the backbone; absent: 0.1 with train.init, as the authors have it, and 1 where it begins anew.
        backbone_lr: Option<f64> = None, 0..=1000;
        /// What of the backbone is not trained: 0: nothing, 1: the stem, 2: the stem and the first stage, and so on; absent: 2 with train.init, as the authors do,
        /// and 0 where it begins anew.
        frozen_stages: Option<usize> = None, 0..=9;
        /// Images of the generated world of shapes.
        images: u64 = 100000, 1..=1000000000000_u64;
        /// Held-out images of it.
        val_images: u64 = 500, 0..=1000000;
    }
}

tables! {
    /// The whole configuration of a training of a detector.
    pub DetectRunConfig checked by DetectRunConfig::check_together {
        /// `[model]`
        model: DetrModel;
        /// `[data]`
        data: BoxDataConfig;
        /// `[augment]`
        augment: BoxAugmentConfig;
        /// `[detect]`
        detect: DetectConfig;
        /// `[train]`
        train: TrainConfig;
    }
}

impl DetectRunConfig {
    /// The keys of a table that a run without data, or with it, has no use for.
    pub fn unread(&self) -> Vec<(&'static str, Unread)> {
        const WORLD: &str = "the generated world of shapes has none: give images with boxes, --data PATH";
        const DATA: &str = "it is of the generated world of shapes: leave data.path out";
        let of = |table, keys: &[&'static str], instead| -> Vec<_> {
            keys.iter().map(|&key| (table, Unread { key, instead })).collect()
        };
        if self.data.path.is_some() {
            return of("detect", &["images", "val_images"], DATA);
        }
        let data = of("data", &["images", "val_fraction", "on_bad_image", "on_bad_box"], WORLD);
        let augment = of("augment", &["flip", "min_scale", "crop", "crop_side", "jitter"], WORLD);
        [data, augment].concat()
    }

    /// What of the backbone is not trained: random weights would stay random.
    fn frozen_stages(&self) -> usize {
        self.detect.frozen_stages.unwrap_or(if self.train.init.is_some() { 2 } else { 0 })
    }

    fn backbone_lr(&self) -> f64 {
        self.detect.backbone_lr.unwrap_or(if self.train.init.is_some() { 0.1 } else { 1.0 })
    }

    fn check_together(&self) -> Result<(), Invalid> {
        let config = self.model.to_core()?;
        let stages = config.backbone.stages().count();
        if let Some(frozen) = self.detect.frozen_stages.filter(|&frozen| frozen > stages + 1) {
            let expected = format!("0 to {}: the stem and {stages} stages", stages + 1);
            return Err(Invalid::new("detect.frozen_stages", expected, frozen));
        }
        if self.model.num_channels != 3 {
            return Err(Invalid::new("model.num_channels", "3: images are read as RGB", self.model.num_channels));
        }
        if self.data.path.is_none() && self.model.num_labels != SHAPES.len() {
            let expected = format!("{}, the classes of the world of shapes, or images with boxes: --data PATH", SHAPES.len());
            return Err(Invalid::new("model.num_labels", expected, self.model.num_labels));
        }
        for (key, value) in [("train.tokens", self.train.tokens as f64), ("train.flops", self.train.flops)] {
            if value != 0.0 {
                return Err(Invalid::new(key, "0: the training of a detector does not read it", value));
            }
        }
        self.train.check()
    }
}

/// Train a detector.
#[derive(Clone, Debug)]
pub struct DetectRequest {
    /// The effective configuration.
    pub config: DetectRunConfig,
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
/// An invalid configuration, weights or folder; a training that diverges; predictions that cannot be matched; a signal.
pub fn run(request: &DetectRequest) -> Result<TrainOutcome, Error> {
    on_pool(request.view, &request.config.train, |engine, stop| run_on(engine, request, stop))
}

fn run_on(engine: Arc<Engine>, request: &DetectRequest, stop: &Stop) -> Result<TrainOutcome, Error> {
    let (mut config, quiet) = (request.config.clone(), request.view == View::Quiet);
    let folder = RunFolder::of_request(&FolderRequest {
        command: COMMAND,
        out: config.train.out.as_deref(),
        name: DetrModel::TYPE,
        keep: config.train.keep_checkpoints,
        resume: request.resume,
        begins: request.begins,
        tokenizer: None,
        quiet,
    })?;
    let (out, resumed) = (folder.out.clone(), folder.checkpoint.is_some());
    let (images, run) = prepare(&mut config, &out, resumed, (stop, quiet))?;
    if let Some(former) = former(&folder, &config)? {
        keep_data(former.data.path.as_ref(), &mut config.data.path, quiet);
        if !quiet {
            say_steps(former.train.steps, config.train.steps, folder.step());
        }
    }
    if let Some(weights) = run.weights.as_ref().filter(|_| !quiet && !resumed) {
        weights.notes(&run.folder.labels).iter().for_each(|note| say::line(&format!("note: {note}")));
    }
    few_queries(&config, images.as_ref()).into_iter().filter(|_| !quiet).for_each(|warning| say::line(&warning));
    let DetectConfig { images: count, val_images, .. } = config.detect;
    let world = || format!("images 0 to {} of seed {}, {val_images} after them held out", count - 1, config.train.seed);
    let content = images.as_ref().map_or_else(world, RunBoxes::content);
    let (most, threads) = (images.as_ref().map(|images| images.train.most()), engine.threads());
    let objective = objective(&config, run, images)?;
    let plan = plan_of(&*engine, &objective, &config, most)?;
    let way = "lower train.batch_size and raise train.grad_accumulation, or train with train.recompute=blocks".to_owned();
    memory::ensure(plan.total_bytes).map_err(|error| Error::Memory { error, way })?;
    let [trained, all] = objective.parameters();
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, &config.train, folder, request.view)?;
    if config.data.path.is_some() {
        keep_content(&out, &content)?;
    }
    write_config(&out, COMMAND, &config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let outcome = outcome(&trainer.run(stop)?, out);
    card::write(&config, [&format!("{all} parameters"), &format!("{trained} of {all} parameters")], &content, &outcome)?;
    Ok(outcome)
}

/// A warning about images with more objects than the model has queries.
fn few_queries(config: &DetectRunConfig, images: Option<&RunBoxes>) -> Option<String> {
    let queries = config.model.num_queries;
    let (beyond, most) = match images {
        Some(images) => (images.train.images_beyond(queries).to_string(), images.train.most()),
        None => ("many".to_owned(), MOST_SHAPES),
    };
    (most > queries).then(|| {
        format!(
            "warning: model.num_queries = {queries}: {beyond} training images have more objects, at most {most}, of which the rest is never learnt"
        )
    })
}

/// The stored images of a run, if it has some, and what its folder gets beside weights. The number of classes becomes that of the data.
fn prepare(
    config: &mut DetectRunConfig,
    out: &Path,
    resumed: bool,
    (stop, quiet): (&Stop, bool),
) -> Result<(Option<RunBoxes>, DetectorRun), Error> {
    let extra = ExtraTensors::ignore_if(config.train.ignore_extra);
    let weights = config.train.init.as_deref().map(|init| DetectorWeights::read(init, extra)).transpose()?;
    let processor = processor(if resumed { Some(out) } else { config.train.init.as_deref() }, config)?;
    let images = match RunBoxes::open(out)?.filter(|_| resumed) {
        Some(images) => Some(images),
        None if config.data.path.is_none() => None,
        None if resumed => return Err(lost_data(out)),
        None => {
            let fitted = (&processor, config.model.image_size);
            Some(RunBoxes::store(out, (&config.data, &config.augment), fitted, (stop, quiet))?)
        }
    };
    let classes = images.as_ref().map_or(SHAPES.len(), |images| images.classes.len());
    if !quiet && weights.is_none() {
        say_classes(config.model.num_labels, DetrModel::default().num_labels, classes);
    }
    config.model.num_labels = classes;
    let labels = images.as_ref().map_or_else(|| SHAPES.map(str::to_owned).to_vec(), |images| images.classes.clone());
    let others = weights.as_ref().map(|weights| weights.folder.others.clone()).unwrap_or_default();
    let folder = DetectorFolder { model: config.model.clone(), labels, others };
    let padded = images.is_some();
    Ok((images, DetectorRun { folder, processor, padded, weights }))
}

/// The configuration at the start of a resumed run, if it gives the same results. Its images are in the run folder, so the data may have moved.
fn former(folder: &RunFolder, config: &DetectRunConfig) -> Result<Option<DetectRunConfig>, Error> {
    let Some(former) = folder.former::<DetectRunConfig>()? else { return Ok(None) };
    let mut expected = former.clone();
    if expected.data.path.is_some() {
        expected.data.path.clone_from(&config.data.path);
        expected.data.images.clone_from(&config.data.images);
    }
    folder.refuse_changes(&expected, config)?;
    Ok(Some(former))
}

/// The processor of a run: every image as large as fits into a square of the model's size; the values of the folder that it begins with, or ImageNet's.
fn processor(from: Option<&Path>, config: &DetectRunConfig) -> Result<Processor, Error> {
    let side = config.model.image_size;
    if config.data.path.is_none() {
        return Ok(Processor::square(side, Some(NORMALIZE)));
    }
    let own = from.map(Processor::read).transpose()?.flatten().filter(|own| own.kind == Kind::Detr);
    let square = Processor::square(side, None);
    Ok(own.map_or_else(|| square.clone(), |own| Processor { resize: square.resize, pad: square.pad, ..own }))
}

impl<'s> From<&'s DetectRunConfig> for Subject<'s> {
    fn from(config: &'s DetectRunConfig) -> Self {
        let path = config.data.path.as_deref();
        Self {
            model_type: DetrModel::TYPE,
            train: &config.train,
            corpus: path.map_or_else(|| "the generated world of shapes".to_owned(), |path| format!("`{}`", path.display())),
            limits: "on images held out from training. What the model finds in other images is not known.",
        }
    }
}

/// The images of the world of shapes that a run trains on, and those that it holds out.
pub fn worlds(config: &DetectRunConfig) -> (ShapesWorld, Option<ShapesWorld>) {
    let DetectConfig { images, val_images, .. } = config.detect;
    let world = |first, len| ShapesWorld { side: config.model.image_size, first, len, seed: config.train.seed };
    (world(0, images), (val_images > 0).then(|| world(images, val_images)))
}

/// The objective of a run, on stored images or on the world of shapes.
fn objective(config: &DetectRunConfig, run: DetectorRun, images: Option<RunBoxes>) -> Result<DetectObjects, Error> {
    let (registered, backbone) = registered(config)?;
    let seed = config.train.seed;
    let source = match images {
        None => {
            let (train, held_out) = worlds(config);
            let order = Sampler::over_rows(Order::Shuffled, seed, train.len, "the images")?;
            Source::rows(train, order, held_out, &config.train)
        }
        Some(RunBoxes { train, val, .. }) => {
            let (side, augment) = (config.model.image_size, BoxAugment { config: config.augment.clone(), seed });
            let order = Sampler::over_rows(Order::Counted, seed, train.len() as u64, "the images")?;
            let held_out = val.map(|val| BoxRows::new(val, side, &run.processor, None));
            Source::rows(BoxRows::new(train, side, &run.processor, Some(augment)), order, held_out, &config.train)
        }
    };
    Ok(DetectObjects::new(run, registered, backbone, source, &config.train))
}

/// The resources of a training, known before it starts, and the number of training images. Images are listed but not read.
///
/// # Errors
/// Data that cannot be listed, a model that cannot be planned.
pub fn plan(planner: &impl Planner, config: &DetectRunConfig) -> Result<(TrainingPlan, u64), Error> {
    let mut config = config.clone();
    let listed = config.data.path.is_some().then(|| list(&config.data)).transpose()?;
    let (mut images, mut most) = (config.detect.images, None);
    if let Some((train, _)) = &listed {
        config.model.num_labels = train.categories.len();
        images = train.images.len() as u64;
        let mut counts = vec![0_usize; train.images.len()];
        train
            .annotations
            .iter()
            .for_each(|object| counts.get_mut(object.image as usize).into_iter().for_each(|count| *count += 1));
        most = counts.into_iter().max();
    }
    let folder = DetectorFolder { model: config.model.clone(), labels: Vec::new(), others: serde_json::Map::new() };
    let run = DetectorRun { folder, processor: processor(None, &config)?, padded: listed.is_some(), weights: None };
    let objective = objective(&DetectRunConfig { data: BoxDataConfig::default(), ..config.clone() }, run, None)?;
    Ok((plan_of(planner, &objective, &config, most)?, images))
}

/// The resources of an objective; `most`: objects of an image.
fn plan_of(
    planner: &impl Planner,
    objective: &DetectObjects,
    config: &DetectRunConfig,
    most: Option<usize>,
) -> Result<TrainingPlan, BuildError> {
    let programs = objective.programs(planner, config.train.recompute.without_budget())?;
    let flops = image_plan::flops(&programs[0]) / config.train.batch_size.max(1) as u64;
    let side = config.model.image_size;
    let row = side * side * config.model.num_channels + 5 * most.unwrap_or(MOST_SHAPES) + 2;
    image_plan::of_programs(planner, objective.registry(), &config.train, &programs, (row, flops))
}

/// The policies of recomputation.
pub const POLICIES: [Recompute; 3] = [Recompute::None, Recompute::Cheap, Recompute::Blocks];

/// The parameters of a model: those of its backbone in groups of their own, the first stages of it frozen.
fn registered(config: &DetectRunConfig) -> Result<((Arc<OwnedParams>, Detr), Backbone), Error> {
    let core = config.model.to_core()?;
    let count = Registry::count(|s| Detr::register(&core, None, s));
    let mut groups = [GroupId::DECAY, GroupId::NO_DECAY];
    let registered = OwnedParams::new(count, |registry| {
        groups = [true, false].map(|decay| registry.add_group(Group { decay }));
        let detr = Detr::register(&core, Some(groups), &mut registry.scope());
        let frozen = config.frozen_stages();
        registry.infos_mut().iter_mut().filter(|info| is_below(info, groups, frozen)).for_each(|info| info.frozen = true);
        detr
    })?;
    Ok((registered, Backbone { groups, lr_scale: config.backbone_lr() }))
}

/// Whether a parameter belongs to the first `stages` parts of the backbone: the stem, and stages.
fn is_below(info: &ParamInfo, groups: [GroupId; 2], stages: usize) -> bool {
    groups.contains(&info.group)
        && match info.part {
            Part::Tokens => stages > 0,
            Part::Block(stage) => usize::from(stage) + 1 < stages,
            Part::Other | Part::Positions | Part::Final | Part::Head => false,
        }
}
