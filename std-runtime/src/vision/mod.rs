//! Image models on this machine: their families, and their folders.

pub mod classifier;
pub mod config;
pub mod data;
pub mod detector;
pub mod detr;
pub mod families;
pub mod family;
pub mod folder;
pub mod image;
pub mod pixels;
pub mod positions;
pub mod processor;
pub mod weights;

use std::sync::Arc;

use samara_core::model::image::ImageModel;
use samara_core::params::{Registry, Scope};

use crate::model_folder::map::NameMap;
use crate::session::{BuildError, OwnedParams};

/// An image model with all its sizes known.
pub trait ImageArchitecture: Send + Sync {
    /// Registers the parameters.
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn ImageModel>;

    /// The mappings of parameters to the tensors of a folder, each with a tensor that only folders of its kind have; the first is written.
    fn name_maps(&self) -> Vec<(&'static str, NameMap)>;
}

/// The registry of a model, and its layers with their parameter ids.
///
/// # Errors
/// A registry cannot hold the parameters.
pub fn register(architecture: &dyn ImageArchitecture) -> Result<(Arc<OwnedParams>, Arc<dyn ImageModel>), BuildError> {
    let count = Registry::count(|s| architecture.register(s));
    let (registry, layers) = OwnedParams::new(count, |registry| architecture.register(&mut registry.scope()))?;
    Ok((registry, layers.into()))
}
