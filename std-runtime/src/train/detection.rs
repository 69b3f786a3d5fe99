//! Training of a detector for the command line: the world of shapes, model, objective, trainer.

use std::sync::Arc;

use samara_core::model::detr::Detr;
use samara_core::params::{Group, GroupId, ParamInfo, Part, Registry};

use super::card::{self, Subject};
use super::config::TrainConfig;
use super::error::TrainingError as Error;
use super::folder::{RunFolder, write_config};
use super::launch::on_pool;
use super::objective::Source;
use super::objectives::detect::{Backbone, DetectObjects};
use super::progress::View;
use super::request::{FolderRequest, TrainOutcome};
use super::run::{outcome, say_steps};
use super::trainer::Trainer;
use crate::config::{Invalid, table, tables};
use crate::data::batches::{Order, Sampler};
use crate::session::{CpuDevice, Engine, OwnedParams, Session};
use crate::stop::Stop;
use crate::vision::detector::DetectorFolder;
use crate::vision::families::detr::DetrModel;
use crate::vision::shapes::{SHAPES, ShapesWorld};

/// What messages call the command.
const COMMAND: &str = "samara train";

table! {
    /// How a detector is trained.
    pub DetectConfig {
        /// Factor of the learning rate of the backbone.
        backbone_lr: f64 = 0.1, 0..=1000;
        /// What of the backbone is not trained: 0: nothing, 1: the stem, 2: the stem and the first stage, as the authors do, and so on.
        frozen_stages: usize = 2, 0..=9;
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
        /// `[detect]`
        detect: DetectConfig;
        /// `[train]`
        train: TrainConfig;
    }
}

impl DetectRunConfig {
    fn check_together(&self) -> Result<(), Invalid> {
        let config = self.model.to_core()?;
        let stages = config.backbone.stages().count();
        if self.detect.frozen_stages > stages + 1 {
            let expected = format!("0 to {}: the stem and {stages} stages", stages + 1);
            return Err(Invalid::new("detect.frozen_stages", expected, self.detect.frozen_stages));
        }
        for (key, value, expected) in
            [("model.num_channels", self.model.num_channels, 3), ("model.num_labels", self.model.num_labels, SHAPES.len())]
        {
            if value != expected {
                return Err(Invalid::new(key, format!("{expected}: what the world of shapes has"), value));
            }
        }
        let unread = [
            ("train.tokens", self.train.tokens as f64),
            ("train.flops", self.train.flops),
            ("train.dropout", self.train.dropout),
        ];
        for (key, value) in unread {
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
    let (config, quiet) = (&request.config, request.view == View::Quiet);
    let folder = RunFolder::of_request(&FolderRequest {
        command: COMMAND,
        out: config.train.out.as_deref(),
        name: DetrModel::TYPE,
        keep: config.train.keep_checkpoints,
        resume: request.resume,
        begins: true,
        tokenizer: None,
        quiet,
    })?;
    let former = folder.former::<DetectRunConfig>()?;
    former.as_ref().map_or(Ok(()), |former| folder.refuse_changes(former, config))?;
    if let Some(former) = former.filter(|_| !quiet) {
        say_steps(former.train.steps, config.train.steps, folder.step());
    }
    let (out, threads, objective) = (folder.out.clone(), engine.threads(), objective(config)?);
    let [trained, all] = objective.parameters();
    let trainer = Trainer::open(Session::new(CpuDevice::new(engine)), objective, &config.train, folder, request.view)?;
    write_config(&out, COMMAND, config)?;
    card::note_start(&out, trainer.step(), threads)?;
    let outcome = outcome(&trainer.run(stop)?, out);
    let DetectConfig { images, val_images, .. } = config.detect;
    let data = format!("images 0 to {} of seed {}, {val_images} after them held out", images - 1, config.train.seed);
    card::write(config, [&format!("{all} parameters"), &format!("{trained} of {all} parameters")], &data, &outcome)?;
    Ok(outcome)
}

impl<'s> From<&'s DetectRunConfig> for Subject<'s> {
    fn from(config: &'s DetectRunConfig) -> Self {
        Self {
            model_type: DetrModel::TYPE,
            train: &config.train,
            corpus: "the generated world of shapes".to_owned(),
            limits: "on generated images held out from training. What the model finds in other images is not known.",
        }
    }
}

/// The objective of a run on the world of shapes.
///
/// # Errors
/// A model that cannot be built, no images.
pub fn objective(config: &DetectRunConfig) -> Result<DetectObjects, Error> {
    let (registered, backbone) = registered(config)?;
    let DetectConfig { images, val_images, .. } = config.detect;
    let world = |first, len| ShapesWorld { side: config.model.image_size, first, len, seed: config.train.seed };
    let order = Sampler::over_rows(Order::Shuffled, config.train.seed, images, "the images")?;
    let held_out = (val_images > 0).then(|| world(images, val_images));
    let source = Source::rows(world(0, images), order, held_out, &config.train);
    let folder = DetectorFolder {
        model: config.model.clone(),
        labels: SHAPES.map(str::to_owned).to_vec(),
        others: serde_json::Map::new(),
    };
    Ok(DetectObjects::new(folder, registered, backbone, source, &config.train))
}

/// The parameters of a model: those of its backbone in groups of their own, the first stages of it frozen.
fn registered(config: &DetectRunConfig) -> Result<((Arc<OwnedParams>, Detr), Backbone), Error> {
    let core = config.model.to_core()?;
    let count = Registry::count(|s| Detr::register(&core, None, s));
    let mut groups = [GroupId::DECAY, GroupId::NO_DECAY];
    let registered = OwnedParams::new(count, |registry| {
        groups = [true, false].map(|decay| registry.add_group(Group { decay }));
        let detr = Detr::register(&core, Some(groups), &mut registry.scope());
        let frozen = config.detect.frozen_stages;
        registry.infos_mut().iter_mut().filter(|info| is_below(info, groups, frozen)).for_each(|info| info.frozen = true);
        detr
    })?;
    Ok((registered, Backbone { groups, lr_scale: config.detect.backbone_lr }))
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
