//! The images with boxes of a run: checked, decoded and resized once, and stored in the run folder, from which a resumed run reads them.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::TrainingError as Error;
use crate::config::Invalid;
use crate::data::DataError;
use crate::run::durable;
use crate::say;
use crate::stop::Stop;
use crate::vision::boxes::config::{BoxAugmentConfig, BoxDataConfig};
use crate::vision::boxes::list::BoxList;
use crate::vision::boxes::open::Boxes;
use crate::vision::boxes::store::{BoxStore, Made};
use crate::vision::processor::Processor;

/// The stored images of a run.
pub struct RunBoxes {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Training images, larger than the model's where crops are taken from them.
    pub train: BoxStore,
    /// Held-out images, if there are any.
    pub val: Option<BoxStore>,
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
pub fn list(config: &BoxDataConfig) -> Result<(BoxList, Option<BoxList>), Error> {
    let expected = "COCO's annotations or a YOLO folder: --data PATH";
    let path = config.path.as_deref().ok_or_else(|| Invalid::new("data.path", expected, "none"))?;
    Ok(Boxes::open(path, config.images.as_deref())?.splits(config)?)
}

impl RunBoxes {
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
        let train = BoxStore::open(&out.join(TRAIN))?;
        let val = has_val.then(|| BoxStore::open(&out.join(VAL))).transpose()?;
        Ok(Some(Self { classes, train, val }))
    }

    /// Checks, decodes and stores images. Those for training are stored a quarter larger than squares of `side` pixels if crops are taken from them.
    ///
    /// # Errors
    /// An image or box that is wrong, unless those are left out; no disk space; a signal.
    pub fn store(
        out: &Path,
        (data, augment): (&BoxDataConfig, &BoxAugmentConfig),
        (processor, side): (&Processor, usize),
        (stop, quiet): (&Stop, bool),
    ) -> Result<Self, Error> {
        let (mut train, mut val) = list(data)?;
        let folder = out.join("data");
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let make = |name: &str, list: &mut BoxList, side: usize| -> Result<BoxStore, Error> {
            let bad = [data.on_bad_image, data.on_bad_box];
            let Made { store, skipped } = BoxStore::make(&out.join(name), list, (side, processor), bad, stop)?;
            skipped.iter().for_each(|what| say::line(&format!("warning: left out: {what}")));
            let notes = list.problems.lines().into_iter().filter(|line| line.starts_with("note: "));
            notes.filter(|_| !quiet).for_each(|note| say::line(&note));
            Ok(store)
        };
        let stored = if augment.crop > 0.0 { side + side / 4 } else { side };
        let classes: Vec<String> = train.categories.iter().map(|category| category.name.clone()).collect();
        let train = make(TRAIN, &mut train, stored)?;
        let val = val.as_mut().map(|val| make(VAL, val, side)).transpose()?.filter(|val| !val.is_empty());
        if train.is_empty() || train.objects() == 0 {
            return Err(DataError::format(&folder, "images with objects that can be read", "none").into());
        }
        let text = serde_json::to_vec(&Classes { classes: classes.clone(), has_val: val.is_some() }).unwrap_or_default();
        let path = out.join(CLASSES);
        durable::write(&path, &text).map_err(Error::io(&path, "write"))?;
        if !quiet {
            say::line(&format!(
                "{} classes, {} training images with {} objects (at most {} in an image) stored in squares of {stored} pixels, {} held out",
                classes.len(),
                train.len(),
                train.objects(),
                train.most(),
                val.as_ref().map_or(0, BoxStore::len)
            ));
        }
        Ok(Self { classes, train, val })
    }

    /// A fingerprint of the images and their boxes.
    pub fn content(&self) -> String {
        let of =
            |store: &BoxStore| format!("{} images, {} objects, crc32c {:08x}", store.len(), store.objects(), store.content());
        let val = self.val.as_ref().map_or_else(|| "none".to_owned(), of);
        format!("training: {}; held out: {val}; {} classes", of(&self.train), self.classes.len())
    }
}
