//! Labelled images of an evaluation: files, or the generated world.

use std::path::Path;

use super::super::Error;
use crate::config::{Invalid, Layers, tables};
use crate::files::FileError;
use crate::say;
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

/// How tables of images are read.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FieldArgs {
    /// The column or key with the file of an image [default: image].
    #[arg(long, value_name = "NAME")]
    image_field: Option<String>,
    /// The column or key with the label [default: label].
    #[arg(long, value_name = "NAME")]
    label_field: Option<String>,
    /// Leave out images that cannot be read, and list them.
    #[arg(long)]
    skip_bad: bool,
}

impl FieldArgs {
    /// The keys of `[data]`.
    pub(super) fn config(&self, val_fraction: f64) -> ImageDataConfig {
        let usual = ImageDataConfig::default();
        ImageDataConfig {
            val_fraction,
            image_field: self.image_field.clone().unwrap_or(usual.image_field),
            label_field: self.label_field.clone().unwrap_or(usual.label_field),
            ..usual
        }
    }

    /// An image that was read; one that cannot be read is an error, or is listed and left out.
    pub(super) fn kept(&self, image: Result<Image, FileError>) -> Result<Option<Image>, Error> {
        match image {
            Ok(image) => Ok(Some(image)),
            Err(error) if self.skip_bad => {
                say::line(&format!("warning: left out: {error}"));
                Ok(None)
            }
            Err(error) => Err(Error::data(format!("{error}; mend it, or leave such images out with --skip-bad"))),
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
    config: &ImageDataConfig,
    size: [usize; 2],
) -> Result<Pair, Error> {
    let Some(path) = data else {
        let world = world(sets)?;
        return Ok(([Split::Train, split].map(|split| Labelled::Shapes { world, split, size }), world.classes()));
    };
    let list = ImageList::open(path, config)?;
    let held = match split {
        Split::Val => list.val,
        other => ImageList::of_split(path, other, config, &list.classes)?.0,
    };
    Ok(([list.train, held].map(Labelled::Files), list.classes))
}
