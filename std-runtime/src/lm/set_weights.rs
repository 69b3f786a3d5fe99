//! Weights of a set: from the folder that a training begins with, and into the folder that it leaves.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::RunError;
use crate::data::DataError;
use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::model::architecture::Architecture;
use crate::model::folder::{FolderConfig, save_folder};
use crate::model::tune::peft::{self, Base, checksum};
use crate::model_folder::{FolderError, ParamValues, load_weights};
use crate::session::{Device, Session, SetId};

/// Why a set could not be filled, or written.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The files with frozen weights.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Failure for SetError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Run(error) => error.kind(),
        }
    }
}

/// Fills a set with the weights of a model folder, frozen ones in their element type; adapters get their initial values. Returns what frozen weights
/// were read from, if there are some: they are in no checkpoint, and must be read whenever a run goes on.
///
/// # Errors
/// The folder is not that of the model, or the device failed.
pub fn begin<D: Device>(
    session: &mut Session<D>,
    set: SetId,
    architecture: &dyn Architecture,
    folder: &Path,
    seed: u64,
) -> Result<Option<Base>, SetError> {
    let (set, device) = session.set_mut(set);
    if architecture.adapters().is_some() {
        set.initialise(device, seed).map_err(RunError::from)?;
    }
    let (registry, map) = (Arc::clone(set.registry()), architecture.name_map());
    let (params, mut loaded) = (registry.view(), Ok(()));
    device
        .lend_mut(&mut set.weights, &mut |values| loaded = load_weights(folder, &params, &map, values, &mut []))
        .map_err(RunError::from)?;
    loaded?;
    if params.frozen_bytes() == 0 {
        return Ok(None);
    }
    let mut loaded = Ok(());
    device
        .lend_mut(&mut set.frozen, &mut |bytes| loaded = load_weights(folder, &params, &map, &mut [], bytes))
        .map_err(RunError::from)?;
    loaded?;
    Ok(Some(Base { folder: folder.to_owned(), crc32c: checksum(folder)? }))
}

/// Writes a set into a folder, which is made if need be: the whole model with its description, or its adapters, which name `base`.
///
/// # Errors
/// Files that cannot be written, or a device that failed.
pub fn leave<D: Device>(
    session: &mut Session<D>,
    set: SetId,
    architecture: &dyn Architecture,
    base: Option<&Base>,
    (folder, config): (&Path, &FolderConfig),
) -> Result<(), SetError> {
    fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder")).map_err(FolderError::from)?;
    let (set, device) = session.set_mut(set);
    let registry = Arc::clone(set.registry());
    let params = registry.view();
    let (adapters, mut frozen, mut saved) = (architecture.adapters().zip(base), Vec::new(), Ok(()));
    if params.frozen_bytes() > 0 && adapters.is_none() {
        let value = |bytes: &[u8; 4]| f32::from_ne_bytes(*bytes);
        device
            .lend(&set.frozen, &mut |bytes: &[u8]| frozen = bytes.as_chunks().0.iter().map(value).collect())
            .map_err(RunError::from)?;
    }
    let frozen: &[f32] = &frozen;
    let mut write = |trainable: &[f32]| {
        let values = ParamValues { trainable, frozen: bytemuck::cast_slice(frozen) };
        saved = match adapters {
            Some((adapters, base)) => peft::save(folder, (&architecture.name_map(), &params), adapters, base, values),
            None => save_folder(folder, config, &params, values),
        };
    };
    device.lend(&set.weights, &mut write).map_err(RunError::from)?;
    Ok(saved?)
}
