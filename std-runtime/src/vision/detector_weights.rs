//! The weights of a detector's folder for a detector that differs from it in its classes or in what is frozen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samara_core::model::detr::Detr;
use samara_core::params::Params;

use super::detector::DetectorFolder;
use super::folder::own_first;
use super::weights::{ImageModelError, by_name};
use crate::model_folder::{CONFIG_FILE, ExtraTensors, FolderError, load_weights_with};
use crate::session::OwnedParams;

/// The head of classes begins anew where their number differs.
const HEAD: &str = "class_embed.";

/// Parameters of a detector by name.
#[derive(Clone, Debug)]
pub struct DetectorWeights {
    path: PathBuf,
    values: BTreeMap<String, Vec<f32>>,
    /// The folder's description.
    pub folder: DetectorFolder,
    /// Tensors that were left out.
    pub ignored: Vec<String>,
}

impl DetectorWeights {
    /// Reads all weights of a folder.
    ///
    /// # Errors
    /// The folder is not one of a detector; its weights.
    pub fn read(path: &Path, extra: ExtraTensors) -> Result<Self, ImageModelError> {
        let wrong = || FolderError::Key {
            path: path.join(CONFIG_FILE),
            key: "model_type".to_owned(),
            expected: "that of a detector: detr".to_owned(),
            found: "another, or no such file".to_owned(),
        };
        let folder = DetectorFolder::read(path)?.ok_or_else(wrong)?;
        let config = folder.model.to_core()?;
        let (registry, _) = OwnedParams::of(|s| Detr::register(&config, None, s))?;
        let map = own_first(path, folder.model.name_maps(&config))?.into_iter().next().unwrap_or_default();
        let view = registry.view();
        let mut trained = vec![0.0; view.trainable_len()];
        let mut frozen = vec![0.0_f32; view.frozen_bytes().div_ceil(size_of::<f32>())];
        let ignored = load_weights_with(path, &view, &map, extra, &mut trained, bytemuck::cast_slice_mut(&mut frozen))?;
        Ok(Self { path: path.to_owned(), values: by_name(&view, &trained, &frozen), folder, ignored })
    }

    /// Gives every parameter its value: trained ones in `trained`, bytes of frozen ones in `frozen`; an empty buffer gets none. A head for another number
    /// of classes keeps its own.
    ///
    /// # Errors
    /// A parameter for which the folder has no value, or one of another shape.
    pub fn give(&self, params: &Params<'_>, trained: &mut [f32], frozen: &mut [u8]) -> Result<(), FolderError> {
        for info in params.infos() {
            let name = info.name.to_string();
            let value = self.values.get(&name).filter(|value| value.len() == info.shape.len());
            let Some(value) = value else {
                if name.starts_with(HEAD) {
                    continue;
                }
                let found = self.values.get(&name).map_or_else(|| "none".to_owned(), |values| values.len().to_string());
                let expected =
                    format!("{} values for this model; leave the keys of model as the folder has them", info.shape.len());
                return Err(FolderError::Key { path: self.path.clone(), key: name, expected, found });
            };
            if let Some(to) = trained.get_mut(info.range()).filter(|_| !info.frozen) {
                to.copy_from_slice(value);
            }
            if let Some(to) = frozen.get_mut(info.frozen_bytes(size_of::<f32>())).filter(|_| info.frozen) {
                to.as_chunks_mut().0.iter_mut().zip(value).for_each(|(to, value)| *to = value.to_ne_bytes());
            }
        }
        Ok(())
    }

    /// What a detector of these classes takes over otherwise than as it is, in words.
    pub fn notes(&self, labels: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.folder.labels.len() != labels.len() {
            notes.push(format!("the head for {} classes is replaced by one for {}", self.folder.labels.len(), labels.len()));
        } else if self.folder.labels != labels {
            notes.push("the head is kept, and its classes have other names".to_owned());
        }
        if !self.ignored.is_empty() {
            notes.push(format!("ignored tensors, which are not saved: {}", self.ignored.join(", ")));
        }
        notes
    }
}
