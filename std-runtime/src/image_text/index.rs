//! The vectors of the images of a folder, kept on disk: an image is encoded again when its file or the model has changed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::encoder::{DualEncoder, DualError};
use crate::data::DataError;
use crate::error::{Failure, Kind};
use crate::files::{FileError, IoError};
use crate::model_folder::weights_files;
use crate::npy;
use crate::run::durable;
use crate::stop::Interrupted;
use crate::vision::data::list::below;
use crate::vision::image::read::read;

/// An index that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The folder of images, or the index.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The vectors.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The model.
    #[error(transparent)]
    Model(#[from] DualError),
    /// A signal.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Failure for IndexError {
    fn kind(&self) -> Kind {
        match self {
            Self::Data(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::Io(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Interrupted(error) => error.kind(),
        }
    }
}

/// Images with their vectors.
#[derive(Debug, Default)]
pub struct Index {
    /// The files.
    pub files: Vec<PathBuf>,
    /// (files, E), each of length 1.
    pub vectors: Vec<f32>,
    /// How many of them were encoded now, and not read from the index.
    pub encoded: usize,
    /// Files that cannot be read, which are left out.
    pub skipped: Vec<FileError>,
}

/// What an index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Images.
    pub images: usize,
    /// Those of them whose files are gone.
    pub skipped: usize,
    /// Columns of a vector.
    pub width: usize,
}

/// What identifies a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Stamp {
    file: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// The file beside the vectors.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// CRC-32C of the files of the weights.
    model: Vec<u32>,
    width: usize,
    files: Vec<Stamp>,
}

const INDEX_FILE: &str = "index.json";
const VECTORS_FILE: &str = "vectors.npy";

impl Index {
    /// The index of the images below a folder. With `at`, vectors of unchanged files are read from there, and all are kept there. `done` is told how many are
    /// encoded, between batches.
    ///
    /// # Errors
    /// A folder without images; an index that is damaged or cannot be written; the model; what `done` returns.
    pub fn of(
        (model, folder): (&mut DualEncoder, &Path),
        images: &Path,
        at: Option<&Path>,
        done: &mut dyn FnMut(usize, usize) -> Result<(), Interrupted>,
    ) -> Result<Self, IndexError> {
        let weights: Vec<u32> = weights_files(folder)?.into_iter().map(|file| file.crc32c).collect();
        let width = model.width();
        let mut known = at.map_or_else(|| Ok(HashMap::new()), |at| known(at, &weights, width))?;
        let stamps: Vec<Stamp> = below(images)?.into_iter().map(stamp).collect::<Result<_, _>>()?;
        let new: Vec<&Stamp> = stamps.iter().filter(|stamp| !known.contains_key(*stamp)).collect();
        let (mut index, all) = (Self::default(), new.len());
        for batch in new.chunks(model.batch()) {
            done(index.encoded, all)?;
            let (mut readable, mut pictures) = (Vec::new(), Vec::new());
            for stamp in batch {
                match read(&stamp.file) {
                    Ok(picture) => {
                        readable.push((*stamp).clone());
                        pictures.push(picture);
                    }
                    Err(error) => index.skipped.push(error),
                }
            }
            let vectors = model.image_vectors(&pictures)?;
            index.encoded += pictures.len();
            known.extend(readable.into_iter().zip(vectors.chunks_exact(width.max(1)).map(<[f32]>::to_vec)));
        }
        let mut files = Vec::new();
        for stamp in stamps {
            if let Some(vector) = known.get(&stamp) {
                index.vectors.extend_from_slice(vector);
                index.files.push(stamp.file.clone());
                files.push(stamp);
            }
        }
        if let Some(at) = at {
            fs::create_dir_all(at).map_err(IoError::at(at, "create"))?;
            npy::write_f32(&at.join(VECTORS_FILE), &[files.len(), width], &index.vectors)?;
            let (path, text) = (at.join(INDEX_FILE), serde_json::to_vec(&Kept { model: weights, width, files }));
            durable::write(&path, &text.unwrap_or_default()).map_err(IoError::at(&path, "write"))?;
        }
        Ok(index)
    }

    /// What a folder has as an index; `None` if it has none.
    ///
    /// # Errors
    /// A damaged index.
    pub fn describe(at: &Path) -> Result<Option<Described>, FileError> {
        let path = at.join(INDEX_FILE);
        if !path.is_file() || !at.join(VECTORS_FILE).is_file() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(IoError::at(&path, "read"))?;
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| {
            FileError::format(&path, "an index of images; remove its folder to make it anew", error.to_string())
        })?;
        let skipped = kept.files.iter().filter(|stamp| !stamp.file.is_file()).count();
        Ok(Some(Described { images: kept.files.len(), skipped, width: kept.width }))
    }

    /// The images whose vectors are nearest to a text's, the nearest first: their numbers and cosines.
    pub fn nearest(&self, text: &[f32], count: usize) -> Vec<(usize, f64)> {
        let dot = |image: &[f32]| image.iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let mut all: Vec<(usize, f64)> = self.vectors.chunks_exact(text.len().max(1)).map(dot).enumerate().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(count);
        all
    }
}

/// The vectors of an index by their files; none if it is not there, or of another model.
fn known(at: &Path, weights: &[u32], width: usize) -> Result<HashMap<Stamp, Vec<f32>>, IndexError> {
    let path = at.join(INDEX_FILE);
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let text = fs::read(&path).map_err(IoError::at(&path, "read"))?;
    let wrong = |found: String| DataError::format(&path, "an index of images; remove its folder to make it anew", found);
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if kept.model != weights || kept.width != width {
        return Ok(HashMap::new());
    }
    let vectors = npy::read(&at.join(VECTORS_FILE))?.into_f64();
    if vectors.len() != kept.files.len() * width {
        return Err(wrong(format!("{} vectors of {} files", vectors.len() / width.max(1), kept.files.len())).into());
    }
    let rows = vectors.chunks(width.max(1)).map(|row| row.iter().map(|&x| x as f32).collect());
    Ok(kept.files.into_iter().zip(rows).collect())
}

fn stamp(file: PathBuf) -> Result<Stamp, IoError> {
    let metadata = fs::metadata(&file).map_err(IoError::at(&file, "read"))?;
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    Ok(Stamp { bytes: metadata.len(), modified, file })
}
