//! Image models on this machine: their families, and their folders.

pub mod accuracy;
pub mod boxes;
pub mod classifier;
pub mod config;
pub mod data;
pub mod detect;
pub mod detector;
pub mod detector_weights;
pub mod detr;
pub mod families;
pub mod family;
pub mod folder;
pub mod image;
pub mod pixels;
pub mod positions;
pub mod problems;
pub mod processor;
pub mod rollout;
pub mod shapes;
pub mod tune;
pub mod weights;

use std::sync::Arc;

use samara_core::graph::DType;
use samara_core::model::image::ImageModel;
use samara_core::params::{Init, ParamInfo, Registry, Scope};
use samara_core::tune::is_read_whole;

use self::tune::Added;
use crate::model_folder::map::NameMap;
use crate::session::{BuildError, OwnedParams};

/// An image model with all its sizes known.
pub trait ImageArchitecture: Send + Sync {
    /// Registers the parameters.
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn ImageModel>;

    /// The same with what a tuning adds; `None` for a family that has no place for it.
    fn register_with(&self, added: &Added, init: Init, s: &mut Scope<'_>) -> Option<Box<dyn ImageModel>> {
        let _ = init;
        added.is_empty().then(|| self.register(s))
    }

    /// The mappings of parameters to the tensors of a folder, each with a tensor that only folders of its kind have; the first is written.
    fn name_maps(&self) -> Vec<(&'static str, NameMap)>;
}

/// A registry and the layers that refer to it.
pub type Registered = (Arc<OwnedParams>, Arc<dyn ImageModel>);

/// The registry of a model, and its layers with their parameter ids.
///
/// # Errors
/// A registry cannot hold the parameters.
pub fn register(architecture: &dyn ImageArchitecture) -> Result<Registered, BuildError> {
    let count = Registry::count(|s| architecture.register(s));
    let (registry, layers) = OwnedParams::new(count, |registry| architecture.register(&mut registry.scope()))?;
    Ok((registry, layers.into()))
}

/// The same of a model with additions, adapters with these initial values; `None` for a family that has no place for them. Parameters that are not trained
/// are frozen: `trains` gets each with the number of blocks.
///
/// # Errors
/// A registry cannot hold the parameters.
pub fn register_tuned(
    architecture: &dyn ImageArchitecture,
    added: &Added,
    init: Init,
    trains: impl Fn(&ParamInfo, usize) -> bool,
) -> Result<Option<Registered>, BuildError> {
    register_stored(architecture, added, init, trains, DType::Real)
}

/// The same with frozen matrices, except position embeddings, of another element type.
///
/// # Errors
/// As [`register_tuned`]; rows that are not whole quantisation blocks.
pub fn register_stored(
    architecture: &dyn ImageArchitecture,
    added: &Added,
    init: Init,
    trains: impl Fn(&ParamInfo, usize) -> bool,
    stored: DType,
) -> Result<Option<Registered>, BuildError> {
    let build = |s: &mut Scope<'_>| match added.lora() {
        Some(lora) => architecture.register_with(added, init, &mut s.adapted(lora)),
        None => architecture.register_with(added, init, s),
    };
    let count = Registry::count(build);
    let (registry, layers) = OwnedParams::new(count, |registry| {
        let layers = build(&mut registry.scope())?;
        let blocks = layers.dims().blocks;
        for info in registry.infos_mut() {
            info.frozen = info.buffer || !trains(info, blocks);
            if info.frozen && is_read_whole(info) {
                info.dtype = stored;
            }
        }
        Some(layers)
    })?;
    Ok(layers.map(|layers| (registry, layers.into())))
}
