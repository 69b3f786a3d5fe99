//! The images of a run: listed, decoded and resized once, and stored in the run folder, from which a resumed run reads them.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::ImageRunConfig;
use super::error::TrainingError as Error;
use crate::config::Invalid;
use crate::data::DataError;
use crate::run::durable;
use crate::say;
use crate::stop::Stop;
use crate::vision::data::list::{ImageList, Labelled};
use crate::vision::data::store::{ImageStore, Made};
use crate::vision::image::resize::resize;
use crate::vision::processor::Processor;

/// The stored images of a run.
pub struct RunImages {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Training images, larger than the model's where crops are taken from them.
    pub train: ImageStore,
    /// Held-out images, if there are any, as the processor makes them.
    pub val: Option<ImageStore>,
}

/// The file with the classes.
const CLASSES: &str = "data/classes.json";
const TRAIN: &str = "data/train.pixels";
const VAL: &str = "data/val.pixels";

#[derive(Serialize, Deserialize)]
struct Classes {
    classes: Vec<String>,
    has_val: bool,
}

/// The images of a data set, listed but not read.
///
/// # Errors
/// No data is configured, or it cannot be listed.
pub fn list(config: &ImageRunConfig) -> Result<ImageList, Error> {
    let expected = "a folder with a folder of images for each class, or a table of images and labels: --data PATH";
    let path = config.data.path.as_deref().ok_or_else(|| Invalid::new("data.path", expected, "none"))?;
    Ok(ImageList::open(path, &config.data)?)
}

impl RunImages {
    /// Opens the images of a run that is resumed; `None` if it had not stored them yet.
    ///
    /// # Errors
    /// Files that are damaged.
    pub fn open(out: &Path) -> Result<Option<Self>, Error> {
        let path = out.join(CLASSES);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(Error::io(&path, "read"))?;
        let wrong = |error: serde_json::Error| DataError::format(&path, "the classes of a run", error.to_string());
        let Classes { classes, has_val } = serde_json::from_slice(&text).map_err(wrong)?;
        let train = ImageStore::open(&out.join(TRAIN))?;
        let val = has_val.then(|| ImageStore::open(&out.join(VAL))).transpose()?;
        Ok(Some(Self { classes, train, val }))
    }

    /// Decodes and stores images. Those for training are squares of `stored` pixels if they are larger than the model's `size`.
    ///
    /// # Errors
    /// An image that cannot be read; no disk space; a signal.
    pub fn store(
        out: &Path,
        list: &ImageList,
        config: &ImageRunConfig,
        (processor, size): (&Processor, [usize; 2]),
        (stop, quiet): (&Stop, bool),
    ) -> Result<Self, Error> {
        let folder = out.join("data");
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let stored = stored_size(config, size);
        let make = |name: &str, images: &[Labelled], size: [usize; 2], is_squeezed: bool| {
            let (path, bad) = (out.join(name), config.data.on_bad_image);
            let made = ImageStore::make(&path, images, size, bad, stop, |image| match is_squeezed {
                true => resize(image, size, processor.filter),
                false => processor.shape(image),
            });
            made.map(|Made { store, skipped }| {
                skipped.iter().for_each(|error| say::line(&format!("warning: left out: {error}")));
                store
            })
        };
        let train = make(TRAIN, &list.train, stored, stored != size)?;
        let val = if list.val.is_empty() { None } else { Some(make(VAL, &list.val, size, false)?) };
        if train.classes().is_empty() {
            return Err(DataError::format(&folder, "images that can be read", "none").into());
        }
        let classes = Classes { classes: list.classes.clone(), has_val: val.is_some() };
        let path = out.join(CLASSES);
        durable::write(&path, &serde_json::to_vec(&classes).unwrap_or_default()).map_err(Error::io(&path, "write"))?;
        if !quiet {
            let [height, width] = stored;
            say::line(&format!(
                "{} classes, {} training images stored in {height} x {width} pixels, {} held out",
                list.classes.len(),
                train.classes().len(),
                val.as_ref().map_or(0, |val| val.classes().len())
            ));
        }
        Ok(Self { classes: list.classes.clone(), train, val })
    }

    /// A fingerprint of the images and their classes.
    pub fn content(&self) -> String {
        let of = |store: &ImageStore| format!("{} images, crc32c {:08x}", store.classes().len(), store.content());
        let val = self.val.as_ref().map_or_else(|| "none".to_owned(), of);
        format!("training: {}; held out: {val}; {} classes", of(&self.train), self.classes.len())
    }
}

/// Height and width of stored training images.
fn stored_size(config: &ImageRunConfig, size: [usize; 2]) -> [usize; 2] {
    match config.data.stored_size {
        0 if config.augment.crop_area < 1.0 => size.map(|side| side + side / 4),
        0 => size,
        side => [side; 2],
    }
}
