//! The export of an image classifier.

use std::path::Path;
use std::sync::Arc;

use samara_core::file::layout::MAGIC;
use samara_core::graph::{DType, Recompute};

use super::super::Error;
use super::super::out_file::refuse_foreign;
use super::{Args, Outcome, Recomputed, TrainPart, refuse};
use crate::export::images::image_program_file;
use crate::export::report::Made;
use crate::export::spec::ImageSpec;
use crate::files::IoError;
use crate::lm::formats::Quantize;
use crate::run::durable;
use crate::session::{BuildError, CpuDevice, Engine, ParamSet};
use crate::vision::positions::PositionResize;
use crate::vision::tune::{Added, ImageTuneConfig, Method};
use crate::vision::weights::NamedWeights;

const PROMPTS: u32 = 4;

/// Exports a classifier; writes nothing if it does not fit the target.
pub(super) fn outcome(args: &Args, folder: &Path) -> Result<Outcome, Error> {
    check(args)?;
    let weights = NamedWeights::read(folder, args.extra.tensors())?;
    refuse_foreign(&args.out, "a program file", &MAGIC)?;
    let device = Arc::new(Engine::reference()?);
    let (set, [width, blocks]) = whole(&device, &weights)?;
    let (tune, model) = (tune(args), &weights.folder.model);
    let architecture = model.architecture()?;
    let added = match &tune {
        Some(tune) if weights.folder.added.is_empty() => tune.added(width, blocks)?,
        _ => weights.folder.added,
    };
    let spec = spec(args, tune.as_ref(), added);
    let bytes = image_program_file(&device, &*architecture, &set, &spec).map_err(|error| args.explained(error))?;
    let family = model.model_type();
    let bytes = bytes.ok_or_else(|| {
        Error::usage(format!("--train vpt-shallow and vpt-deep: a {family} model has no tokens; train another part"))
    })?;
    let file = args.footprint(&bytes, Made::from(&spec))?;
    durable::write(&args.out, &bytes).map_err(IoError::at(&args.out, "write"))?;
    Ok(Outcome { file, losses: Vec::new() })
}

/// All weights of the folder, f32, and the width and the blocks of the model.
fn whole(device: &Arc<Engine>, weights: &NamedWeights) -> Result<(ParamSet, [usize; 2]), Error> {
    let (registry, model) = weights.model()?;
    let mut set = ParamSet::new(&CpuDevice::new(Arc::clone(device)), "model", &registry).map_err(BuildError::from)?;
    let (values, frozen) = (set.weights.get_mut(), set.frozen.get_mut());
    weights.give(&weights.folder.model, PositionResize::default(), &registry.view(), values, frozen)?;
    Ok((set, [model.dims().width, model.dims().blocks]))
}

/// Refuses flags that contradict each other, or apply to language models.
fn check(args: &Args) -> Result<(), Error> {
    let of_text = [
        ("--kv", args.kv.is_some()),
        ("--block", args.block.is_some()),
        ("--weighted", args.weighted),
        ("--context", args.context.is_some()),
        ("--data", args.data.is_some()),
    ];
    refuse(&of_text, "language models")?;
    let of_training = args.optimizer.is_some() || args.batch.is_some() || args.recompute.is_some();
    if args.train == TrainPart::None && of_training {
        let what = "--optimizer, --batch and --recompute apply to training: add --train PART, or leave them out";
        return Err(Error::usage(what));
    }
    let is_vpt = matches!(args.train, TrainPart::VptShallow | TrainPart::VptDeep);
    if !is_vpt && (args.prompts.is_some() || args.seed.is_some()) {
        let what = "--prompts and --seed apply to --train vpt-shallow and vpt-deep: add one of them, or leave them out";
        return Err(Error::usage(what));
    }
    if args.train == TrainPart::All && args.quantize.is_some() {
        let what = "--quantize: with --train all every matrix is trained and stays f32: leave it out, or train a part";
        return Err(Error::usage(what));
    }
    Ok(())
}

/// What the device trains.
fn tune(args: &Args) -> Option<ImageTuneConfig> {
    let method = match args.train {
        TrainPart::None => return None,
        TrainPart::Head => Method::Linear,
        TrainPart::Bias => Method::Bias,
        TrainPart::LastBlock => Method::Partial(1),
        TrainPart::VptShallow => Method::VptShallow,
        TrainPart::VptDeep => Method::VptDeep,
        TrainPart::All => Method::Full,
    };
    Some(ImageTuneConfig { method, prompts: args.prompts.unwrap_or(PROMPTS) as usize, ..ImageTuneConfig::default() })
}

/// The export specification of the flags.
fn spec<'t>(args: &Args, tune: Option<&'t ImageTuneConfig>, added: Added) -> ImageSpec<'t> {
    ImageSpec {
        weights: args.quantize.map_or(DType::Real, Quantize::dtype),
        tune,
        added,
        seed: args.seed.unwrap_or(0),
        optimizer: args.optimizer.unwrap_or_default(),
        batch: args.batch.unwrap_or(1) as usize,
        recompute: match args.recompute.unwrap_or_default() {
            Recomputed::None => Recompute::None,
            Recomputed::Cheap => Recompute::Cheap,
            Recomputed::Blocks => Recompute::Blocks,
        },
        names: !args.strip_names,
    }
}
