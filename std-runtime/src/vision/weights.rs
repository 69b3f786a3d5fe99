//! The weights of an image model's folder for a model that differs from it: other classes, another image size, parameters that it lacks or has in addition.

use std::collections::BTreeMap;
use std::path::Path;

use samara_core::params::{ParamInfo, Params, Part};

use super::families::ImageConfig;
use super::folder::{ImageFolder, name_maps};
use super::positions::PositionResize;
use super::register;
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::model_folder::{ExtraTensors, FolderError, ParamValues, load_weights_with, save_weights};
use crate::session::BuildError;

/// An image model that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ImageModelError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its configuration.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Images, or their sizes.
    #[error("{0}")]
    Other(String),
}

impl Failure for ImageModelError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Other(_) => Kind::Data,
        }
    }
}

/// Parameters of a model by name.
pub struct NamedWeights {
    values: BTreeMap<String, Vec<f32>>,
    /// The folder's model.
    pub folder: ImageFolder,
    /// Tensors that were left out.
    pub ignored: Vec<String>,
}

impl NamedWeights {
    /// Reads all weights of a folder.
    ///
    /// # Errors
    /// The folder is not one of an image model; its weights.
    pub fn read(folder: &Path, extra: ExtraTensors) -> Result<Self, ImageModelError> {
        let config = ImageFolder::open(folder)?;
        let architecture = config.model.architecture()?;
        let (registry, _) = register(&*architecture)?;
        let (params, maps) = (registry.view(), name_maps(folder, &*architecture)?);
        let mut flat = vec![0.0; params.trainable_len()];
        let map = maps.first().cloned().unwrap_or_default();
        let ignored = load_weights_with(folder, &params, &map, extra, &mut flat, &mut [])?;
        let values = params.infos().iter().map(|info| (info.name.to_string(), flat[info.range()].to_vec())).collect();
        Ok(Self { values, folder: config, ignored })
    }

    /// Gives every parameter its value: trained ones in `trained`, bytes of frozen ones in `frozen`; an empty buffer gets none. A head for other classes
    /// and parameters that the folder lacks keep theirs; positions of another image size are resized.
    pub fn give(
        &self,
        target: &ImageConfig,
        positions: PositionResize,
        params: &Params<'_>,
        trained: &mut [f32],
        frozen: &mut [u8],
    ) {
        for info in params.infos() {
            let Some(value) = self.value(info, target, positions) else { continue };
            if let Some(to) = trained.get_mut(info.range()).filter(|_| !info.frozen) {
                to.copy_from_slice(&value);
            }
            if let Some(to) = frozen.get_mut(info.frozen_bytes(size_of::<f32>())).filter(|_| info.frozen) {
                to.as_chunks_mut().0.iter_mut().zip(&value).for_each(|(to, value)| *to = value.to_ne_bytes());
            }
        }
    }

    /// The value of a parameter of another model, if the folder has one for it.
    fn value(&self, info: &ParamInfo, target: &ImageConfig, positions: PositionResize) -> Option<Vec<f32>> {
        let value = self.values.get(&info.name.to_string())?;
        if value.len() == info.shape.len() {
            return Some(value.clone());
        }
        if info.part != Part::Positions {
            return None;
        }
        let [from, to] = [self.folder.model.grid(), target.grid()];
        let width = info.shape.cols();
        Some(positions.resize_after(value, from, to, width)).filter(|value| value.len() == info.shape.len())
    }

    /// What a model of these sizes takes over otherwise than as it is, in words.
    pub fn notes(&self, target: &ImageConfig, labels: &[String]) -> Vec<String> {
        let (own, mut notes) = (&self.folder.model, Vec::new());
        if own.classes() != target.classes() {
            notes.push(format!("the head for {} classes is replaced by one for {}", own.classes(), target.classes()));
        } else if self.folder.labels != labels {
            notes.push("the head is kept, and its classes have other names".to_owned());
        }
        let [[h, w], [to_h, to_w]] = [own.grid(), target.grid()];
        if [h, w] != [to_h, to_w] {
            notes.push(format!("position embeddings are resized from {h} x {w} to {to_h} x {to_w} patches"));
        }
        notes
    }
}

/// Writes a model whose parameters may be frozen, as a folder of `transformers`.
///
/// # Errors
/// Files that cannot be written.
pub fn save(folder: &Path, config: &ImageFolder, params: &Params<'_>, values: ParamValues<'_>) -> Result<(), ImageModelError> {
    let maps = config.model.architecture()?.name_maps();
    let map = maps.into_iter().next().map(|(_, map)| map).unwrap_or_default();
    save_weights(folder, params, &map, values)?;
    Ok(config.write(folder)?)
}
