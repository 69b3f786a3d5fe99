//! The weights of an image model's folder for a model that differs from it: other classes, another image size, parameters that it lacks or has in addition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samara_core::params::{Init, ParamInfo, Params, Part};

use super::families::ImageConfig;
use super::folder::{ImageFolder, name_maps};
use super::positions::PositionResize;
use super::tune::{Added, ImageTuneConfig, is_added};
use super::{Registered, register_tuned};
use crate::config::{Invalid, Table};
use crate::error::{Failure, Kind};
use crate::model::adapters::{Adapters, BaseFormat};
use crate::model::tune::merge::merge;
use crate::model_folder::{ExtraTensors, FolderError, ParamValues, load_weights_with, save_weights};
use crate::session::{BuildError, DeviceError};

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
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Failure for ImageModelError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Device(error) => error.kind(),
        }
    }
}

/// The model of a configuration as a method tunes it, and what that adds.
///
/// # Errors
/// A family without a place for it; a model that cannot be built.
pub fn tuned(model: &ImageConfig, tune: &ImageTuneConfig) -> Result<(Registered, Added), ImageModelError> {
    let architecture = model.architecture()?;
    let (_, plain) = super::register(&*architecture)?;
    let added = tune.added(plain.dims().width, plain.dims().blocks)?;
    let registered = register_tuned(&*architecture, &added, tune.adapter_init(), |info, blocks| tune.trains(info, blocks))?;
    let method = tune.show("method").unwrap_or_default();
    let expected = format!("a method for {:?}: full, linear, partial-K or bias", model.model_type());
    let found = || Invalid::new("tune.method", expected, method);
    let registered =
        registered.filter(|(registry, _)| added.lora().is_none() || registry.view().infos().iter().any(|info| info.adapter));
    Ok((registered.ok_or_else(found)?, added))
}

/// The model of a folder with all parameters trainable, buffers apart, as it is read and written.
fn whole(model: &ImageConfig, added: &Added) -> Result<Registered, ImageModelError> {
    let registered = register_tuned(&*model.architecture()?, added, Init::Zeros, |_, _| true)?;
    let found = || Invalid::new("model.model_type", "a family with a place for what a tuning has added: vit", model.model_type());
    Ok(registered.ok_or_else(found)?)
}

/// Parameters of a model by name.
pub struct NamedWeights {
    path: PathBuf,
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
        let (registry, _) = whole(&config.model, &config.added)?;
        let (params, maps) = (registry.view(), name_maps(folder, &*architecture)?);
        let mut trained = vec![0.0; params.trainable_len()];
        let mut frozen = vec![0.0_f32; params.frozen_bytes().div_ceil(size_of::<f32>())];
        let map = maps.first().cloned().unwrap_or_default();
        let ignored = load_weights_with(folder, &params, &map, extra, &mut trained, bytemuck::cast_slice_mut(&mut frozen))?;
        Ok(Self { path: folder.to_owned(), values: by_name(&params, &trained, &frozen), folder: config, ignored })
    }

    /// Registers the folder's own model.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn model(&self) -> Result<Registered, ImageModelError> {
        whole(&self.folder.model, &self.folder.added)
    }

    /// Gives every parameter its value: trained ones in `trained`, bytes of frozen ones in `frozen`; an empty buffer gets none. A head for other classes
    /// and what a tuning adds keep theirs; positions of another image size are resized.
    ///
    /// # Errors
    /// A parameter for which the folder has no value, or one of another shape.
    pub fn give(
        &self,
        target: &ImageConfig,
        positions: PositionResize,
        params: &Params<'_>,
        trained: &mut [f32],
        frozen: &mut [u8],
    ) -> Result<(), FolderError> {
        for info in params.infos() {
            let Some(value) = self.value(info, target, positions) else {
                if info.part == Part::Head || is_added(info) {
                    continue;
                }
                return Err(self.lacks(info));
            };
            if let Some(to) = trained.get_mut(info.range()).filter(|_| !info.frozen) {
                to.copy_from_slice(&value);
            }
            if let Some(to) = frozen.get_mut(info.frozen_bytes(size_of::<f32>())).filter(|_| info.frozen) {
                to.as_chunks_mut().0.iter_mut().zip(&value).for_each(|(to, value)| *to = value.to_ne_bytes());
            }
        }
        Ok(())
    }

    fn lacks(&self, info: &ParamInfo) -> FolderError {
        let (name, len) = (info.name.to_string(), info.shape.len());
        let found = self.values.get(&name).map_or_else(|| "none".to_owned(), |values| values.len().to_string());
        let expected = format!("{len} values for this model; leave the keys of model as the folder has them");
        FolderError::Key { path: self.path.clone(), key: name, expected, found }
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
    pub fn notes(&self, target: &ImageConfig, added: &Added, labels: &[String]) -> Vec<String> {
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
        if !self.folder.added.is_empty() && self.folder.added != added.without_lora() {
            notes.push("what a tuning has added to the initial model is left out".to_owned());
        }
        if !self.ignored.is_empty() {
            notes.push(format!("ignored tensors, which are not saved: {}", self.ignored.join(", ")));
        }
        notes
    }
}

/// Values of parameters by name.
pub(super) fn by_name(params: &Params<'_>, trained: &[f32], frozen: &[f32]) -> BTreeMap<String, Vec<f32>> {
    let of = |info: &ParamInfo| {
        let from = info.frozen_bytes(size_of::<f32>()).start / size_of::<f32>();
        let values = if info.frozen { frozen.get(from..from + info.shape.len()) } else { trained.get(info.range()) };
        (info.name.to_string(), values.unwrap_or_default().to_vec())
    };
    params.infos().iter().map(of).collect()
}

/// Writes a model whose parameters may be frozen, as a folder of `transformers`: low-rank adapters are merged into their weights.
///
/// # Errors
/// Files that cannot be written.
pub fn save(
    folder: &Path,
    config: &ImageFolder,
    added: &Added,
    params: &Params<'_>,
    values: ParamValues<'_>,
) -> Result<(), ImageModelError> {
    let (registry, _) = whole(&config.model, added)?;
    let view = registry.view();
    let own = by_name(params, values.trainable, bytemuck::cast_slice(values.frozen));
    let mut trained = vec![0.0; view.trainable_len()];
    let mut frozen = vec![0.0_f32; view.frozen_bytes().div_ceil(size_of::<f32>())];
    let weights = NamedWeights { path: folder.to_owned(), values: own, folder: config.clone(), ignored: Vec::new() };
    weights.give(&config.model, PositionResize::default(), &view, &mut trained, bytemuck::cast_slice_mut(&mut frozen))?;
    if added.rank > 0 {
        let adapters = Adapters {
            rank: added.rank,
            alpha: added.alpha,
            by_root: false,
            dropout: 0.0,
            targets: Vec::new(),
            modules_to_save: Vec::new(),
            base: BaseFormat::F32,
        };
        merge(&view, &adapters, &mut trained);
    }
    let maps = config.model.architecture()?.name_maps();
    let map = maps.into_iter().next().map(|(_, map)| map).unwrap_or_default();
    save_weights(folder, &view, &map, ParamValues { trainable: &trained, frozen: bytemuck::cast_slice(&frozen) })?;
    Ok(config.write(folder)?)
}
