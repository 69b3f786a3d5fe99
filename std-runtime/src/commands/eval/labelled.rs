//! Labelled images of an evaluation: files, or the generated world.

use std::path::Path;

use super::super::Error;
use crate::config::{Invalid, Layers, tables};
use crate::files::FileError;
use crate::vision::config::ImageDataConfig;
use crate::vision::data::list::{ImageList, Labelled as LabelledFile, Split};
use crate::vision::image::Image;
use crate::vision::image::read::read;
use crate::vision::shapes::config::ShapesConfig;
use crate::vision::shapes::labelled::LabelledShapes;

tables! {
    /// The generated world.
    WorldConfig checked by WorldConfig::any {
        /// `[shapes]`
        shapes: ShapesConfig;
    }
}

impl WorldConfig {
    fn any(&self) -> Result<(), Invalid> {
        let _ = self;
        Ok(())
    }
}

/// The world of `--set`.
pub(super) fn world(sets: &[String]) -> Result<LabelledShapes, Error> {
    let mut layers = Layers::<WorldConfig>::new();
    sets.iter().try_for_each(|set| layers.set(set))?;
    let world = layers.finish()?.shapes.world();
    world.ok_or_else(|| Error::usage("--set: expected shapes.target=TARGET, or labelled images: --data PATH"))
}

/// Images with classes.
pub(super) enum Labelled {
    Files(Vec<LabelledFile>),
    Shapes { world: LabelledShapes, split: Split, size: [usize; 2] },
}

impl Labelled {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Files(files) => files.len() as u64,
            Self::Shapes { world, split, .. } => world.count(*split),
        }
    }

    /// The class and the image of a number below the length.
    pub(super) fn image(&self, row: u64) -> Option<(usize, Result<Image, FileError>)> {
        match self {
            Self::Files(files) => files.get(row as usize).map(|file| (file.class, read(&file.path))),
            Self::Shapes { world, split, size } => {
                let (image, class) = world.image(*size, *split, row);
                Some((class, Ok(image)))
            }
        }
    }
}

/// A share of images that is held out.
pub(super) fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=0.9).contains(x)).ok_or_else(|| "a number from 0 to 0.9".to_owned())
}

/// The training images of a data set, and those of a split, with the names of the classes.
pub(super) type Pair = ([Labelled; 2], Vec<String>);

/// Opens a pair for a model of this image size.
pub(super) fn pair(
    data: Option<&Path>,
    sets: &[String],
    split: Split,
    val_fraction: f64,
    size: [usize; 2],
) -> Result<Pair, Error> {
    let Some(path) = data else {
        let world = world(sets)?;
        return Ok(([Split::Train, split].map(|split| Labelled::Shapes { world, split, size }), world.classes()));
    };
    let config = ImageDataConfig { val_fraction, ..ImageDataConfig::default() };
    let list = ImageList::open(path, &config)?;
    let held = match split {
        Split::Val => list.val,
        other => ImageList::of_split(path, other, &config, &list.classes)?.0,
    };
    Ok(([list.train, held].map(Labelled::Files), list.classes))
}
