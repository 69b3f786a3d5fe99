//! The accuracy of a classifier on the test images of a data set.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::classifier::Classifier;
use super::config::ImageDataConfig;
use super::data::list::{ImageList, Split, has_test};
use super::image::Image;
use super::image::read::read;
use super::shapes::labelled::LabelledShapes;
use super::weights::ImageModelError;
use crate::data::DataError;
use crate::error::{Failure, Kind};
use crate::files::FileError;
use crate::session::Engine;
use crate::stop::{Interrupted, Stop};

/// Why an accuracy could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum AccuracyError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ImageModelError),
    /// Its images.
    #[error(transparent)]
    Data(#[from] DataError),
    /// One of them.
    #[error(transparent)]
    File(#[from] FileError),
    /// A signal.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Failure for AccuracyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Model(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::Interrupted(error) => error.kind(),
        }
    }
}

/// Images of a batch.
const BATCH: usize = 64;

/// The share of the test images whose class a model's folder finds, and how many there are; `None` for data without a test split.
///
/// # Errors
/// A model or an image that cannot be read; a signal.
pub fn of_test(
    engine: &Arc<Engine>,
    folder: &Path,
    shapes: Option<&LabelledShapes>,
    data: &ImageDataConfig,
    stop: &Stop,
) -> Result<Option<(f64, u64)>, AccuracyError> {
    let files = data.path.as_deref().filter(|path| has_test(path));
    if shapes.is_none_or(|world| world.count(Split::Test) == 0) && files.is_none() {
        return Ok(None);
    }
    let mut model = Classifier::open(Arc::clone(engine), folder, BATCH)?;
    let listed = files.map(|path| ImageList::of_split(path, Split::Test, data, &model.labels)).transpose()?;
    let files = listed.map(|(files, _)| files).unwrap_or_default();
    let count = shapes.map_or(files.len() as u64, |world| world.count(Split::Test));
    let size = model.dims().image;
    let image = |row: u64| -> Result<(Image, usize), FileError> {
        match (shapes, files.get(row as usize)) {
            (Some(world), _) => Ok(world.image(size, Split::Test, row)),
            (None, Some(file)) => Ok((read(&file.path)?, file.class)),
            (None, None) => Ok((Image::black(size), 0)),
        }
    };
    let mut right = 0;
    for first in (0..count).step_by(BATCH) {
        stop.check()?;
        let rows = first..count.min(first + BATCH as u64);
        let (images, classes): (Vec<_>, Vec<_>) =
            rows.into_par_iter().map(image).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let found = model.logits(&images)?;
        right += found.iter().zip(classes).filter(|(logits, class)| best(logits) == Some(*class)).count();
    }
    Ok(Some((right as f64 / count.max(1) as f64, count)))
}

/// The first of the largest logits.
fn best(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}
