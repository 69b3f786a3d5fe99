//! A language model in one program file for a device.

use samara_core::graph::DType;
use samara_core::tune::{Tune, store_as, tune};

use super::file::{FileModel, FileWriter};
use super::programs::DeviceModel;
use super::spec::FileSpec;
use super::weights;
use crate::lm::{Model, register};
use crate::memory::ensure;
use crate::session::{BuildError, Engine, ParamSet};
use crate::tokenizer::Tokenizer;

/// The program file of a model, planned for the kernels of `device`.
///
/// # Errors
/// A program cannot be built, or the rows of a weight are not whole quantisation blocks.
pub fn program_file(
    device: &Engine,
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    spec: &FileSpec,
) -> Result<Vec<u8>, BuildError> {
    let architecture = model.architecture().with_positions(spec.context);
    let (owned, layers) = register(&*architecture, spec.train.added_params(), |registry, layers| {
        if spec.weights != DType::Real {
            store_as(spec.weights, registry);
        }
        tune(spec.train, layers, registry);
    })?;
    let on_device = DeviceModel { engine: device, owned: &owned, model: &*layers };
    let mut programs = vec![on_device.decode(spec.kv)?];
    if spec.train != Tune::None {
        programs.push(on_device.train(spec.shape, spec.optimizer)?);
        programs.push(on_device.evaluate(spec.shape)?);
    }
    let mut set = ParamSet::new(model.session.device(), "device", &owned)?;
    weights::copy(model.weights(), &mut set, Some(layers.embedding()));
    // Sections, and the file that they are joined in.
    ensure(2 * model.weight_bytes() as u64)?;
    let mut writer = FileWriter::default();
    writer.programs(&programs);
    writer.params(&set, spec.names);
    if let Some(tokenizer) = tokenizer {
        writer.tokenizer(tokenizer);
    }
    let end_of_text = tokenizer.and_then(Tokenizer::end_of_text);
    let (params, layout) = (owned.view().infos().len(), owned.view().layout());
    Ok(writer.finish(&FileModel { params, layout, vocab_size: model.dims.vocab_size, context: spec.context, end_of_text }))
}
