//! The images of a run with their boxes: decoded and resized once, in one file that is mapped.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::list::{BoxList, Object, Sized};
use crate::data::DataError;
use crate::files::IoError;
use crate::run::durable;
use crate::stop::Stop;
use crate::vision::config::BadImage;
use crate::vision::data::list::Labelled;
use crate::vision::data::store::{Fit, ImageStore};
use crate::vision::image::Image;
use crate::vision::image::resize::resize;
use crate::vision::processor::Processor;

/// Stored images and their objects.
pub struct BoxStore {
    store: ImageStore,
    index: Index,
}

/// What is beside the pixels.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    images: Vec<Stored>,
}

/// An image: its extents in the left upper corner of its square, and its objects.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    size: [usize; 2],
    /// Class, center x and y, width and height, relative to the image.
    objects: Vec<(u32, [f32; 4])>,
}

/// A store and what was left out.
pub struct Made {
    /// The store.
    pub store: BoxStore,
    /// Images and boxes that were left out, in words.
    pub skipped: Vec<String>,
}

impl BoxStore {
    /// Checks a list, and stores its images as large as fit into squares of `side` pixels.
    ///
    /// # Errors
    /// A wrong image or box, unless those are left out; the store cannot be written; a signal.
    pub fn make(
        path: &Path,
        list: &mut BoxList,
        (side, processor): (usize, &Processor),
        [on_bad_image, on_bad_box]: [BadImage; 2],
        stop: &Stop,
    ) -> Result<Made, DataError> {
        let checked = list.checked();
        let ends = |of_image: bool| if of_image { on_bad_image == BadImage::Error } else { on_bad_box == BadImage::Error };
        if let Some(found) = list.problems.first_error(|problem| ends(problem.is_of_image())) {
            let key = if list.problems.first_error(|p| p.is_of_image() && ends(true)).is_some() {
                "data.on_bad_image"
            } else {
                "data.on_bad_box"
            };
            let way = format!("{found}; mend them, or leave them out with {key}=skip; samara data check lists all");
            return Err(DataError::format(&list.path, "images and boxes that can be trained on", way));
        }
        let labelled = |(number, sized): (usize, &Option<Sized>)| {
            let image = list.images.get(number).filter(|_| sized.is_some())?;
            Some(Labelled { path: image.path.clone(), class: number })
        };
        let good: Vec<Labelled> = checked.iter().enumerate().filter_map(labelled).collect();
        let fit = Processor::square(side, None);
        let shape = |image: &Image| {
            let small = resize(image, fit.unpadded(image.size()), processor.filter);
            small.part([0, 0], [side; 2])
        };
        let made = ImageStore::make(path, &good, ([side; 2], Fit::Exact), on_bad_image, stop, shape)?;
        let stored = |&number: &usize| {
            let sized = checked.get(number).and_then(Option::as_ref)?;
            let objects = sized.objects.iter().map(|object| (object.class, object.place)).collect();
            Some(Stored { size: fit.unpadded(sized.size), objects })
        };
        let index = Index { images: made.store.classes().iter().filter_map(stored).collect() };
        let beside = beside(path);
        let text = serde_json::to_vec(&index).unwrap_or_default();
        durable::write(&beside, &text).map_err(IoError::at(&beside, "write"))?;
        let errors = list.problems.lines().into_iter().filter_map(|line| Some(line.strip_prefix("error: ")?.to_owned()));
        let skipped = errors.chain(made.skipped.iter().map(ToString::to_string)).collect();
        Ok(Made { store: Self { store: made.store, index }, skipped })
    }

    /// Opens a store.
    ///
    /// # Errors
    /// Files that cannot be read, or do not belong together.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let beside = beside(path);
        let text = fs::read(&beside).map_err(IoError::at(&beside, "read"))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| DataError::format(&beside, "the boxes of stored images", error.to_string()))?;
        let store = ImageStore::open(path)?;
        if store.classes().len() != index.images.len() {
            let expected = format!("boxes of {} images", store.classes().len());
            return Err(DataError::format(&beside, expected, index.images.len().to_string()));
        }
        Ok(Self { store, index })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.index.images.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.images.is_empty()
    }

    /// The side of the squares in pixels.
    pub fn side(&self) -> usize {
        self.store.size()[0]
    }

    /// The number of objects.
    pub fn objects(&self) -> usize {
        self.index.images.iter().map(|image| image.objects.len()).sum()
    }

    /// The images with more objects than this.
    pub fn images_beyond(&self, objects: usize) -> usize {
        self.index.images.iter().filter(|image| image.objects.len() > objects).count()
    }

    /// The most objects of an image.
    pub fn most(&self) -> usize {
        self.index.images.iter().map(|image| image.objects.len()).max().unwrap_or(0)
    }

    /// The pixels of an image's square (side, side, 3), the image's height and width in it, and its objects.
    ///
    /// # Errors
    /// The file has changed, or has no such image.
    pub fn image(&self, image: usize) -> Result<(&[u8], [usize; 2], impl Iterator<Item = Object> + '_), DataError> {
        let pixels = self.store.pixels(image)?;
        let stored = self.index.images.get(image);
        let objects = stored.into_iter().flat_map(|stored| &stored.objects);
        let objects = objects.map(|&(class, place)| Object { class, place });
        Ok((pixels, stored.map_or([1; 2], |stored| stored.size), objects))
    }

    /// A checksum of the image files and of all boxes.
    pub fn content(&self) -> u32 {
        let boxes = serde_json::to_vec(&self.index).unwrap_or_default();
        crc32c::crc32c_append(self.store.content(), &boxes)
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("boxes.json")
}
