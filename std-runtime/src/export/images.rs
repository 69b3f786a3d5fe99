//! An image classifier in one program file for a device.

use std::sync::Arc;

use samara_core::file::{Port, ProgramKind};
use samara_core::graph::{Graph, HYPER_LEN, Tensor};
use samara_core::model::image::{ImageModel, logits, losses};
use samara_core::nn::Dropout;
use samara_core::params::{Init, ParamInfo};

use super::file::{FileModel, FileWriter};
use super::programs::DeviceProgram;
use super::spec::ImageSpec;
use super::weights;
use crate::session::{BuildError, CpuDevice, Engine, OwnedParams, ParamSet};
use crate::vision::tune::ImageTuneConfig;
use crate::vision::{ImageArchitecture, register_stored};

/// The program file of a classifier with the weights of a set, by name; planned for the kernels of `device`. What the set lacks gets initial values. `None` for
/// a family that has no place for what is added.
///
/// # Errors
/// A program cannot be built, or the rows of a weight are not whole quantisation blocks.
pub fn image_program_file(
    device: &Arc<Engine>,
    architecture: &dyn ImageArchitecture,
    weights: &ParamSet,
    spec: &ImageSpec<'_>,
) -> Result<Option<Vec<u8>>, BuildError> {
    let trains = |info: &ParamInfo, blocks| spec.tune.is_some_and(|tune| tune.trains(info, blocks));
    let init = spec.tune.map_or(Init::Zeros, ImageTuneConfig::adapter_init);
    let Some((owned, model)) = register_stored(architecture, &spec.added, init, trains, spec.weights)? else { return Ok(None) };
    let mut programs = vec![evaluate(device, &owned, &*model)?];
    if spec.tune.is_some() {
        programs.push(train(device, &owned, &*model, spec)?);
    }
    let cpu = CpuDevice::new(Arc::clone(device));
    let mut set = ParamSet::new(&cpu, "device", &owned)?;
    owned.view().initialise(spec.seed, set.weights.get_mut());
    weights::copy(weights, &mut set, None);
    let mut writer = FileWriter::default();
    writer.programs(&programs);
    writer.params(&set, spec.names);
    let (params, layout) = (owned.view().infos().len(), owned.view().layout());
    let classes = model.dims().classes;
    Ok(Some(writer.finish(&FileModel { params, layout, vocab_size: classes, context: 0, end_of_text: None })))
}

/// The logits of one image.
fn evaluate(device: &Engine, owned: &Arc<OwnedParams>, model: &dyn ImageModel) -> Result<DeviceProgram, BuildError> {
    DeviceProgram::new(ProgramKind::Evaluate, device, owned, |g| {
        let (pixels, features) = features(g, model, 1);
        vec![(Port::Pixels, pixels), (Port::Logits, g.output(logits(g, model, features)))]
    })
}

/// A training step with updates in the backward pass, so that gradients never coexist.
fn train(
    device: &Engine,
    owned: &Arc<OwnedParams>,
    model: &dyn ImageModel,
    spec: &ImageSpec<'_>,
) -> Result<DeviceProgram, BuildError> {
    DeviceProgram::new(ProgramKind::Train, device, owned, |g| {
        let (pixels, features) = features(g, model, spec.batch);
        let labels = g.ints(&[spec.batch], i32::MIN, model.dims().classes as i32 - 1); // (B)
        let losses = g.output(losses(g, model, features, labels, 0.0)); // (B)
        let (upstream, hyper) = (g.input(&[1]), g.input(&[HYPER_LEN]));
        g.backward_updating(&[(losses, upstream)], spec.optimizer.rule(), hyper, spec.recompute);
        vec![
            (Port::Pixels, pixels),
            (Port::Labels, labels),
            (Port::Upstream, upstream),
            (Port::Hyper, hyper),
            (Port::Losses, losses),
        ]
    })
}

/// The pixels of a batch, and its features (B, C).
fn features(g: &Graph<'_>, model: &dyn ImageModel, batch: usize) -> (Tensor, Tensor) {
    let pixels = model.dims().pixels(g, batch);
    (pixels, model.features(g, pixels, Dropout::NONE))
}
