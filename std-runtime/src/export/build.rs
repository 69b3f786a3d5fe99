//! A model in one program file for a device.

use samara_core::graph::DType;
use samara_core::model::gpt::{self, GptConfig};
use samara_core::tune::{Tune, store_as, tune};

use super::file::{FileModel, FileWriter};
use super::programs::DeviceModel;
use super::spec::FileSpec;
use super::weights;
use crate::gpt::Gpt;
use crate::session::{BuildError, Engine, OwnedParams, ParamSet};
use crate::tokenizer::Tokenizer;

/// The program file of a model, planned for the kernels of `device`.
///
/// # Errors
/// A program cannot be built, or rows of a weight are not whole blocks.
pub fn program_file(device: &Engine, gpt: &Gpt, tokenizer: Option<&Tokenizer>, spec: &FileSpec) -> Result<Vec<u8>, BuildError> {
    let config = GptConfig { n_positions: spec.context, ..gpt.config };
    let (owned, model) = OwnedParams::new(config.param_count() + spec.train.added_params(), |registry| {
        let mut model = gpt::Gpt::register(&config, &mut registry.scope());
        if spec.weights != DType::Real {
            store_as(spec.weights, registry);
        }
        tune(spec.train, &mut model, registry);
        model
    })?;
    let model = DeviceModel { engine: device, owned: &owned, model: &model };
    let mut programs = vec![model.decode(spec.kv)?];
    if spec.train != Tune::None {
        programs.push(model.train(spec.shape, spec.optimizer)?);
        programs.push(model.evaluate(spec.shape)?);
    }
    let mut set = ParamSet::new(gpt.session.device(), "device", &owned);
    weights::copy(gpt.weights(), &mut set);
    let mut writer = FileWriter::default();
    for program in &programs {
        writer.program(program.kind, &program.program, &program.ports);
    }
    writer.params(&set, spec.names);
    if let Some(tokenizer) = tokenizer {
        writer.tokenizer(tokenizer);
    }
    let end_of_text = tokenizer.and_then(Tokenizer::end_of_text);
    let (params, layout) = (owned.view().infos().len(), owned.view().layout());
    Ok(writer.finish(&FileModel { params, layout, vocab_size: config.vocab_size, context: spec.context, end_of_text }))
}
