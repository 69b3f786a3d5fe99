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
use crate::vision::config::BadImage;
use crate::vision::data::list::{ImageList, Labelled, Split};
use crate::vision::data::store::{Fit, ImageStore, Made};
use crate::vision::image::resize::resize;
use crate::vision::processor::Processor;
use crate::vision::shapes::labelled::LabelledShapes;

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

/// Where the images of a run come from.
pub enum Images {
    /// Files, listed but not read.
    Files(ImageList),
    /// The generated world.
    Shapes(LabelledShapes),
}

impl Images {
    /// Those of a configuration.
    ///
    /// # Errors
    /// No images are configured, or they cannot be listed.
    pub fn of(config: &ImageRunConfig) -> Result<Self, Error> {
        if let Some(world) = config.shapes.world() {
            return Ok(Self::Shapes(world));
        }
        let expected = "a folder with a folder of images for each class, or a table of images and labels (--data PATH), or shapes.target, \
                        images of a generated world";
        let path = config.data.path.as_deref().ok_or_else(|| Invalid::new("data.path", expected, "none"))?;
        Ok(Self::Files(ImageList::open(path, &config.data)?))
    }

    /// The names of the classes.
    pub fn classes(&self) -> Vec<String> {
        match self {
            Self::Files(list) => list.classes.clone(),
            Self::Shapes(world) => world.classes(),
        }
    }

    /// The number of training images.
    pub fn training(&self) -> u64 {
        match self {
            Self::Files(list) => list.train.len() as u64,
            Self::Shapes(world) => world.count(Split::Train),
        }
    }

    /// What a person should know about them.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Files(list) => &list.notes,
            Self::Shapes(_) => &[],
        }
    }
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
        images: &Images,
        config: &ImageRunConfig,
        (processor, size): (&Processor, [usize; 2]),
        (stop, quiet): (&Stop, bool),
    ) -> Result<Self, Error> {
        let folder = out.join("data");
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let stored = stored_size(config, size);
        let (train, val) = match images {
            Images::Shapes(world) => generated(out, world, [stored, size], stop)?,
            Images::Files(list) => decoded(out, list, config.data.on_bad_image, processor, [stored, size], stop)?,
        };
        if train.classes().is_empty() {
            return Err(DataError::format(&folder, "images that can be read", "none").into());
        }
        let classes = Classes { classes: images.classes(), has_val: val.is_some() };
        let path = out.join(CLASSES);
        durable::write(&path, &serde_json::to_vec(&classes).unwrap_or_default()).map_err(Error::io(&path, "write"))?;
        if !quiet {
            let [height, width] = stored;
            say::line(&format!(
                "{} classes, {} training images stored in {height} x {width} pixels, {} held out",
                classes.classes.len(),
                train.classes().len(),
                val.as_ref().map_or(0, |val| val.classes().len())
            ));
        }
        Ok(Self { classes: classes.classes, train, val })
    }

    /// A fingerprint of the images and their classes.
    pub fn content(&self) -> String {
        let of = |store: &ImageStore| format!("{} images, crc32c {:08x}", store.classes().len(), store.content());
        let val = self.val.as_ref().map_or_else(|| "none".to_owned(), of);
        format!("training: {}; held out: {val}; {} classes", of(&self.train), self.classes.len())
    }
}

/// The stores of training and held-out images.
type Stores = (ImageStore, Option<ImageStore>);

/// Stores images of the generated world in these sizes, those of the training and of the model.
fn generated(out: &Path, world: &LabelledShapes, [stored, size]: [[usize; 2]; 2], stop: &Stop) -> Result<Stores, Error> {
    let make = |name: &str, split: Split, size: [usize; 2]| {
        ImageStore::generate(&out.join(name), world.count(split), size, stop, |row| world.image(size, split, row))
    };
    let val = (world.count(Split::Val) > 0).then(|| make(VAL, Split::Val, size)).transpose()?;
    Ok((make(TRAIN, Split::Train, stored)?, val))
}

/// Decodes image files and stores them in these sizes, those of the training and of the model.
fn decoded(
    out: &Path,
    list: &ImageList,
    on_bad: BadImage,
    processor: &Processor,
    [stored, size]: [[usize; 2]; 2],
    stop: &Stop,
) -> Result<Stores, Error> {
    let make = |name: &str, images: &[Labelled], to: [usize; 2]| -> Result<_, DataError> {
        let made = ImageStore::make(&out.join(name), images, (to, Fit::Exact), on_bad, stop, |image| match to == size {
            true => processor.shape(image),
            false => resize(image, to, processor.filter),
        });
        made.map(|Made { store, skipped }| {
            skipped.iter().for_each(|error| say::line(&format!("warning: left out: {error}")));
            store
        })
    };
    let val = if list.val.is_empty() { None } else { Some(make(VAL, &list.val, size)?) };
    Ok((make(TRAIN, &list.train, stored)?, val))
}

/// Height and width of stored training images.
fn stored_size(config: &ImageRunConfig, size: [usize; 2]) -> [usize; 2] {
    match config.data.stored_size {
        0 if config.augment.crop_area < 1.0 => size.map(|side| side + side / 4),
        0 => size,
        side => [side; 2],
    }
}
