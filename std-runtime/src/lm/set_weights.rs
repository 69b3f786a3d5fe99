//! The weights of a set: reading them from the initial folder, and writing them to the final one.

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
use crate::model_folder::{FolderError, ParamValues, Reading, load_weights_with};
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

/// The source of a set's weights.
#[derive(Debug)]
pub struct Begun {
    /// The source of frozen weights, if there are any: checkpoints do not contain them, so they must be read again on resume.
    pub base: Option<Base>,
    /// Tensors of the folder that were left out.
    pub ignored: Vec<String>,
}

/// Fills a set with the weights of a model folder, frozen ones in their element type unless it reads those of another set; adapters, and what the folder
/// may lack, get their initial values.
///
/// # Errors
/// The folder is not that of the model, or the device failed.
pub fn begin<D: Device>(
    session: &mut Session<D>,
    set: SetId,
    architecture: &dyn Architecture,
    (folder, reading): (&Path, Reading),
    seed: u64,
) -> Result<Begun, SetError> {
    let owns_frozen = session.frozen_of(set) == set;
    let (set, device) = session.set_mut(set);
    if architecture.adapters().is_some() || reading.optional.is_some() {
        set.initialise(device, seed).map_err(RunError::from)?;
    }
    let (registry, map) = (Arc::clone(set.registry()), architecture.name_map());
    let (params, mut loaded) = (registry.view(), Ok(Vec::new()));
    device
        .lend_mut(&mut set.weights, &mut |values| {
            loaded = load_weights_with(folder, &params, &map, reading, values, &mut []);
        })
        .map_err(RunError::from)?;
    let ignored = loaded?;
    if params.frozen_bytes() == 0 || !owns_frozen {
        return Ok(Begun { base: None, ignored });
    }
    let mut loaded = Ok(Vec::new());
    device
        .lend_mut(&mut set.frozen, &mut |bytes| loaded = load_weights_with(folder, &params, &map, reading, &mut [], bytes))
        .map_err(RunError::from)?;
    loaded?;
    Ok(Begun { base: Some(Base { folder: folder.to_owned(), crc32c: checksum(folder)? }), ignored })
}

/// Writes a set into a folder, which is created if necessary: the whole model with its configuration, or its adapters, which name `base`, with the
/// generation settings.
///
/// # Errors
/// Files that cannot be written, or a device failure.
pub fn leave<D: Device>(
    session: &mut Session<D>,
    set: SetId,
    architecture: &dyn Architecture,
    base: Option<&Base>,
    (folder, config): (&Path, &FolderConfig),
) -> Result<(), SetError> {
    fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder")).map_err(FolderError::from)?;
    let registry = Arc::clone(session.set(set).registry());
    let params = registry.view();
    let (adapters, mut saved) = (architecture.adapters().zip(base), Ok(()));
    let frozen = if adapters.is_none() { frozen_values(session, set)? } else { Vec::new() };
    let frozen: &[f32] = &frozen;
    let mut write = |trainable: &[f32]| {
        let values = ParamValues { trainable, frozen: bytemuck::cast_slice(frozen) };
        saved = match adapters {
            Some((adapters, base)) => peft::save(folder, (&architecture.name_map(), &params), (adapters, None), base, values)
                .and_then(|()| config.write_generation(folder)),
            None => save_folder(folder, config, &params, values),
        };
    };
    let (set, device) = session.set_mut(set);
    device.lend(&set.weights, &mut write).map_err(RunError::from)?;
    Ok(saved?)
}

/// The frozen parameters that a set reads, which must be f32.
///
/// # Errors
/// The device failed.
pub fn frozen_values<D: Device>(session: &mut Session<D>, set: SetId) -> Result<Vec<f32>, RunError> {
    let (set, device) = session.set_mut(session.frozen_of(set));
    let (value, mut frozen) = (|bytes: &[u8; 4]| f32::from_ne_bytes(*bytes), Vec::new());
    device.lend(&set.frozen, &mut |bytes: &[u8]| frozen = bytes.as_chunks().0.iter().map(value).collect())?;
    Ok(frozen)
}
