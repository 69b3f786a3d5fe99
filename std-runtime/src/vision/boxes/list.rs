//! A list of images with boxes, whatever form it has on disk.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::detect::boxes::{Annotation, BoundingBox};
use crate::detect::coco::Category;
use crate::files::FileError;
use crate::vision::image::read;
use crate::vision::problems::{Problem, Problems};

/// An image of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its id in COCO's files.
    pub id: i64,
    /// The file.
    pub path: PathBuf,
    /// Annotated height and width.
    pub size: Option<[usize; 2]>,
}

/// The unit of the boxes of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Pixels of the image.
    Pixels,
    /// Shares of its width and height.
    Shares,
}

/// Images with boxes. Annotations refer to images and categories by their index.
#[derive(Clone, Debug)]
pub struct BoxList {
    /// The file or folder, for messages.
    pub path: PathBuf,
    /// The categories, in the order of their numbers.
    pub categories: Vec<Category>,
    /// The images.
    pub images: Vec<Listed>,
    /// The objects.
    pub annotations: Vec<Annotation>,
    /// The unit of their boxes.
    pub unit: Unit,
    /// What was wrong with the files.
    pub problems: Problems,
}

/// An object of a class in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// The index of its category.
    pub class: u32,
    /// Center x and y, width and height, relative to the image.
    pub place: [f32; 4],
}

/// What an image was checked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Sized {
    /// Height and width, as viewers show the image.
    pub size: [usize; 2],
    /// Its objects, without crowds and without those that are wrong, within the image.
    pub objects: Vec<Object>,
}

/// A box may reach so many pixels out of its image before it is counted: coordinates are rounded.
const ROUNDED: f64 = 1.0;

impl BoxList {
    /// Reads the sizes of all images and checks every box: for each image its size and objects, or `None` for one that cannot be used. The problems of
    /// the list are those of its files and these.
    pub fn checked(&mut self) -> Vec<Option<Sized>> {
        let sizes: Vec<Result<[usize; 2], FileError>> = self.images.par_iter().map(|image| read::size(&image.path)).collect();
        let mut all: Vec<Option<Sized>> = Vec::with_capacity(sizes.len());
        for (image, size) in self.images.iter().zip(sizes) {
            all.push(self.problems.size_of(image, size).map(|size| Sized { size, objects: Vec::new() }));
        }
        let (mut counts, mut of_class) = (vec![0_u64; self.images.len()], vec![0_u64; self.categories.len()]);
        for object in &self.annotations {
            let (Some(image), Some(listed)) = (all.get_mut(object.image as usize), self.images.get(object.image as usize)) else {
                continue;
            };
            counts.get_mut(object.image as usize).into_iter().for_each(|count| *count += 1);
            of_class.get_mut(object.category as usize).into_iter().for_each(|count| *count += 1);
            let Some(image) = image else { continue };
            let place = || format!("annotation {} of {}", object.id, shown(&listed.path));
            if let Some(found) = self.problems.object(object, self.unit, image.size, place) {
                image.objects.push(found);
            }
        }
        for (image, _) in self.images.iter().zip(counts).filter(|(_, count)| *count == 0) {
            self.problems.add(Problem::NoObjects, || shown(&image.path));
        }
        for (category, _) in self.categories.iter().zip(of_class).filter(|(_, count)| *count == 0) {
            self.problems.add(Problem::NoObjectsOf, || format!("{:?}", category.name));
        }
        all
    }

    /// The annotations in pixels of images of these sizes (by image), for an evaluation.
    pub fn in_pixels(&self, size_of: impl Fn(usize) -> Option<[usize; 2]>) -> Vec<Annotation> {
        let of = |object: &Annotation| {
            let bbox = match self.unit {
                Unit::Pixels => object.bbox,
                Unit::Shares => scaled(&object.bbox, size_of(object.image as usize)?),
            };
            let area = if self.unit == Unit::Pixels { object.area } else { bbox.area() };
            Some(Annotation { bbox, area, ..*object })
        };
        self.annotations.iter().filter_map(of).collect()
    }
}

/// The name of a file, for messages.
pub fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Shares of an image in pixels.
fn scaled(bbox: &BoundingBox, [height, width]: [usize; 2]) -> BoundingBox {
    let (w, h) = (width as f64, height as f64);
    BoundingBox { x: bbox.x * w, y: bbox.y * h, width: bbox.width * w, height: bbox.height * h }
}

impl Problems {
    fn size_of(&mut self, image: &Listed, found: Result<[usize; 2], FileError>) -> Option<[usize; 2]> {
        let size @ [height, width] = match found {
            Ok(size) => size,
            Err(error) => {
                let problem = if image.path.exists() { Problem::BadImage } else { Problem::NoFile };
                self.add(
                    problem,
                    || if problem == Problem::NoFile { image.path.display().to_string() } else { error.to_string() },
                );
                return None;
            }
        };
        match image.size {
            Some(given) if given != size => {
                let problem = if given == [width, height] { Problem::SwappedSize } else { Problem::WrongSize };
                let [high, wide] = given;
                self.add(problem, || format!("{} ({width} x {height}, annotated {wide} x {high})", shown(&image.path)));
                None
            }
            _ => Some(size),
        }
    }

    /// An object in its image; `None` if it cannot be trained on.
    fn object(
        &mut self,
        object: &Annotation,
        unit: Unit,
        size @ [height, width]: [usize; 2],
        place: impl Fn() -> String,
    ) -> Option<Object> {
        let (w, h) = (width as f64, height as f64);
        let bbox = if unit == Unit::Pixels { object.bbox } else { scaled(&object.bbox, size) };
        let BoundingBox { x, y, .. } = bbox;
        let (right, lower) = (x + bbox.width, y + bbox.height);
        let shown = || format!("{} ([{x}, {y}, {}, {}] in {width} x {height})", place(), bbox.width, bbox.height);
        if !(bbox.width > 0.0 && bbox.height > 0.0) {
            self.add(Problem::NoExtent, shown);
            return None;
        }
        let [left, top, end, bottom] = [x.max(0.0), y.max(0.0), right.min(w), lower.min(h)];
        if end <= left || bottom <= top {
            self.add(Problem::Outside, shown);
            return None;
        }
        if x < -ROUNDED || y < -ROUNDED || right > w + ROUNDED || lower > h + ROUNDED {
            self.add(Problem::Clipped, shown);
        }
        if object.crowd {
            self.add(Problem::Crowd, place);
            return None;
        }
        let place = [(left + end) / 2.0 / w, (top + bottom) / 2.0 / h, (end - left) / w, (bottom - top) / h];
        Some(Object { class: object.category, place: place.map(|x| x as f32) })
    }
}
