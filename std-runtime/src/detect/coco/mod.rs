//! COCO's files: annotations of images (`images`, `annotations`, `categories`), and detections (a list of `image_id`, `category_id`, `bbox`, `score`).
//!
//! Files are read entry by entry, also compressed, and are never written. What cannot be used is an error with its place; what can be used in one
//! way only is counted in [`Findings`].

mod entries;
mod findings;
mod literals;
mod values;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category as Cause;
use thiserror::Error;

use self::entries::{AnnotationEntry, CategoryEntry, DetectionEntry, ImageEntry, KeyOf, List, Place};
pub use self::findings::{Finding, Findings, Found};
use self::literals::Literals;
use super::boxes::{Annotation, BoundingBox, Detection};
use crate::compressed;
use crate::error::{Failure, Kind};
use crate::files::FileError;
use crate::memory::{self, OutOfMemory};

/// The advice for a file that does not fit into memory.
const SMALLER: &str = "evaluate fewer images at once";
/// A box may reach so many pixels out of its image before it is counted: coordinates are rounded.
const ROUNDED: f64 = 1.0;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum CocoError {
    /// It cannot be read, or does not fit into memory.
    #[error(transparent)]
    File(#[from] FileError),
    /// A place in it is not as it must be.
    #[error("{}:{line}:{column}: {place}{problem}; {way}", path.display())]
    Place {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// List, entry and key with a colon, as far as they are known.
        place: String,
        /// What was expected, and what was found.
        problem: String,
        /// What helps.
        way: &'static str,
    },
}

impl Failure for CocoError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Place { .. } => Kind::Data,
        }
    }
}

/// An image of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its id in the file.
    pub id: i64,
    /// Its file, relative to the folder of images, where the file of annotations has it.
    pub file: Option<String>,
    /// Width and height in pixels, where the file has them.
    pub size: Option<(f64, f64)>,
}

/// A category of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// Its id in the file; ids need not follow each other.
    pub id: i64,
    /// Its name, or its id as text.
    pub name: String,
}

/// Annotated images. Annotations refer to images and categories by their index here, which are in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// Images by id.
    pub images: Vec<Image>,
    /// Categories by id.
    pub categories: Vec<Category>,
    /// Objects, in the order of the file.
    pub annotations: Vec<Annotation>,
    /// What the file has besides.
    pub findings: Findings,
}

impl Dataset {
    /// Reads a file of annotations.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, lacks a list or a key, has a value of another type, or does not fit into memory.
    pub fn open(path: &Path) -> Result<Self, CocoError> {
        Self::read(compressed::open(path)?, path)
    }

    /// Reads annotations; `path` is their name in errors.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn read(from: impl BufRead, path: &Path) -> Result<Self, CocoError> {
        let (place, full) = (Place::default(), Cell::new(None));
        let mut raw = Raw::default();
        parse(from, path, &place, &full, AnnotationFile { place: &place, full: &full, raw: &mut raw })?;
        raw.dataset().map_err(|error| FileError::memory(path, SMALLER)(error).into())
    }

    /// Reads a file of detections in these images, in the order of the file.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_detections(&self, path: &Path) -> Result<(Vec<Detection>, Findings), CocoError> {
        self.read_detections(compressed::open(path)?, path)
    }

    /// Reads detections; `path` is their name in errors.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn read_detections(&self, from: impl BufRead, path: &Path) -> Result<(Vec<Detection>, Findings), CocoError> {
        let (place, full) = (Place::default(), Cell::new(None));
        let (mut detections, mut findings) = (Vec::new(), Findings::default());
        let mut index = 0;
        let take = |entry: DetectionEntry| {
            match self.detection(&entry) {
                Ok(detection) => {
                    if is_empty(&detection.bbox) {
                        findings.entry(Finding::EmptyDetection, index);
                    }
                    push(&mut detections, detection, &full)?;
                }
                Err(finding) => findings.entry(finding, index),
            }
            index += 1;
            Ok(())
        };
        parse(from, path, &place, &full, List::new(&place, "detections", take))?;
        Ok((detections, findings))
    }

    fn detection(&self, entry: &DetectionEntry) -> Result<Detection, Finding> {
        let image = index_of(&self.images, |image| image.id, entry.image).ok_or(Finding::DetectionImage)?;
        let category = index_of(&self.categories, |category| category.id, entry.category).ok_or(Finding::DetectionCategory)?;
        if !entry.bbox.iter().all(|x| x.is_finite()) {
            return Err(Finding::DetectionBox);
        }
        if !entry.score.is_finite() {
            return Err(Finding::DetectionScore);
        }
        Ok(Detection { image, category, bbox: BoundingBox::from_xywh(entry.bbox), score: entry.score })
    }

    /// Lets the last annotation of an id stand for all with that id, in the places of these, as pycocotools does.
    pub fn merge_same_ids(&mut self) {
        let last: HashMap<i64, Annotation> = self.annotations.iter().map(|object| (object.id, *object)).collect();
        self.annotations.sort_by_key(|object| object.image);
        for object in &mut self.annotations {
            *object = last.get(&object.id).copied().unwrap_or(*object);
        }
    }
}

/// The index of an id among elements in the order of ids.
fn index_of<T>(sorted: &[T], id_of: impl Fn(&T) -> i64, id: i64) -> Option<u32> {
    sorted.binary_search_by_key(&id, id_of).ok().and_then(|index| u32::try_from(index).ok())
}

fn is_empty(bbox: &BoundingBox) -> bool {
    bbox.width <= 0.0 || bbox.height <= 0.0
}

/// Appends an element, if there is memory for it.
fn push<T>(to: &mut Vec<T>, element: T, full: &Cell<Option<OutOfMemory>>) -> Result<(), String> {
    let room = |more: usize| -> Result<(), OutOfMemory> { memory::ensure((more as u64).saturating_mul(size_of::<T>() as u64)) };
    if to.len() == to.capacity() {
        let more = to.capacity().max(1 << 10);
        let refused = |error: OutOfMemory| {
            full.set(Some(error));
            String::from("out of memory")
        };
        room(to.len() + more).map_err(refused)?;
        to.try_reserve_exact(more).map_err(|_| refused(OutOfMemory::refused((size_of::<T>() * more) as u64)))?;
    }
    to.push(element);
    Ok(())
}

/// Reads the whole of a file with `seed`.
fn parse<'de, R: BufRead>(
    from: R,
    path: &Path,
    place: &Place,
    full: &Cell<Option<OutOfMemory>>,
    seed: impl DeserializeSeed<'de, Value = ()>,
) -> Result<(), CocoError> {
    // A reader of single bytes is fast over a buffer whose type is known.
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, Literals::new(from)));
    seed.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| match full.take() {
        Some(full) => FileError::memory(path, SMALLER)(full).into(),
        None => refusal(path, place, error),
    })
}

/// An error of the parser, in the words of the project.
fn refusal(path: &Path, place: &Place, error: serde_json::Error) -> CocoError {
    let (line, column, cause) = (error.line(), error.column(), error.classify());
    // The message ends with "at line 1 column 7".
    let words = error.to_string().split(" at line ").next().unwrap_or_default().to_owned();
    let (problem, way) = match cause {
        Cause::Io => {
            let error = io::Error::from(error);
            return match error.kind() {
                io::ErrorKind::QuotaExceeded => {
                    FileError::format(path, "a file of boxes", format!("{error}; is this the right file?")).into()
                }
                _ => compressed::failed(path)(error).into(),
            };
        }
        Cause::Syntax => (format!("expected JSON, found \"{words}\""), "is the file damaged? write it again"),
        Cause::Eof => (format!("expected JSON, found its end too soon (\"{words}\")"), "is the file cut? write it again"),
        Cause::Data => (reworded(&words), advice(place.list.get())),
    };
    // What is read ahead is not where the parser is.
    let place = Some(place.text())
        .filter(|text| !text.is_empty() && cause != Cause::Io)
        .map_or_else(String::new, |text| format!("{text}: "));
    CocoError::Place { path: path.to_path_buf(), line, column, place, problem, way }
}

/// serde's "invalid type: sequence, expected a number" as "expected a number, found a list".
fn reworded(words: &str) -> String {
    let parts = words
        .split_once(": ")
        .filter(|(kind, _)| kind.starts_with("invalid "))
        .and_then(|(_, rest)| rest.rsplit_once(", expected "));
    let Some((found, expected)) = parts else { return words.to_owned() };
    let found = match found {
        "sequence" => "a list",
        "map" => "an object",
        other => other,
    };
    format!("expected {expected}, found {found}")
}

/// What helps, by the list in which the error is.
fn advice(list: &str) -> &'static str {
    match list {
        "images" => "every image needs an integer id",
        "categories" => "every category needs an integer id, and may have a name",
        "annotations" => {
            "every annotation needs integers id, image_id and category_id, and bbox: [x, y, width, height] in pixels"
        }
        "detections" => {
            "predictions are a list, each with integers image_id and category_id, bbox: [x, y, width, height] in pixels, and score; annotations are \
             an object: are the two files swapped?"
        }
        _ => {
            "annotations are an object with the lists images, annotations and categories; predictions are a list: are the two files swapped?"
        }
    }
}

/// The lists of a file as they are read.
#[derive(Default)]
struct Raw {
    images: Vec<Image>,
    categories: Vec<Category>,
    has_categories: bool,
    annotations: Vec<RawAnnotation>,
    findings: Findings,
    index: u64,
}

/// An annotation with ids instead of indices.
struct RawAnnotation {
    index: u64,
    id: i64,
    image: i64,
    category: i64,
    bbox: BoundingBox,
    area: f64,
    crowd: bool,
}

impl Raw {
    fn annotation(&mut self, entry: &AnnotationEntry, full: &Cell<Option<OutOfMemory>>) -> Result<(), String> {
        let index = self.index;
        self.index += 1;
        if !entry.bbox.iter().all(|x| x.is_finite()) {
            self.findings.entry(Finding::AnnotationBox, index);
            return Ok(());
        }
        let bbox = BoundingBox::from_xywh(entry.bbox);
        for (finding, is_so) in [
            (Finding::NoArea, entry.area.is_none()),
            (Finding::NoCrowd, entry.crowd.is_none()),
            (Finding::Ignore, entry.ignore),
            (Finding::EmptyAnnotation, is_empty(&bbox)),
            (Finding::ZeroId, entry.id == 0),
        ] {
            if is_so {
                self.findings.entry(finding, index);
            }
        }
        let (area, crowd) = (entry.area.unwrap_or_else(|| bbox.area()), entry.crowd.unwrap_or(false));
        let raw = RawAnnotation { index, id: entry.id, image: entry.image, category: entry.category, bbox, area, crowd };
        push(&mut self.annotations, raw, full)
    }

    fn dataset(self) -> Result<Dataset, OutOfMemory> {
        let Self { images, categories, has_categories, annotations: raw, mut findings, .. } = self;
        let categories = if has_categories {
            categories
        } else {
            findings.add(Finding::NoCategories, 1);
            let mut ids: Vec<i64> = raw.iter().map(|object| object.category).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.into_iter().map(|id| Category { id, name: id.to_string() }).collect()
        };
        let (images, same_images) = by_id(images, |image| image.id);
        let (categories, same_categories) = by_id(categories, |category| category.id);
        findings.add_ids(Finding::SameImage, &same_images);
        findings.add_ids(Finding::SameCategory, &same_categories);
        let mut annotations = memory::room_for(raw.len())?;
        for object in raw {
            let RawAnnotation { index, id, bbox, area, crowd, .. } = object;
            let Some(image) = index_of(&images, |image| image.id, object.image) else {
                findings.entry(Finding::AnnotationImage, index);
                continue;
            };
            let Some(category) = index_of(&categories, |category| category.id, object.category) else {
                findings.entry(Finding::AnnotationCategory, index);
                continue;
            };
            if images.get(image as usize).and_then(|image| image.size).is_some_and(|size| is_outside(&bbox, size)) {
                findings.entry(Finding::Outside, index);
            }
            annotations.push(Annotation { id, image, category, bbox, area, crowd });
        }
        let mut ids: Vec<i64> = annotations.iter().map(|object| object.id).collect();
        ids.sort_unstable();
        findings.add_ids(Finding::SameAnnotation, &repeated(&ids));
        Ok(Dataset { images, categories, annotations, findings })
    }
}

fn is_outside(bbox: &BoundingBox, (width, height): (f64, f64)) -> bool {
    let over = |start: f64, extent: f64, most: f64| start < -ROUNDED || start + extent > most + ROUNDED;
    over(bbox.x, bbox.width, width) || over(bbox.y, bbox.height, height)
}

/// Elements in the order of ids, of each id the last, and the ids of those that were left out.
fn by_id<T>(mut elements: Vec<T>, id_of: impl Fn(&T) -> i64) -> (Vec<T>, Vec<i64>) {
    elements.reverse();
    elements.sort_by_key(&id_of);
    let same = repeated(&elements.iter().map(&id_of).collect::<Vec<_>>());
    elements.dedup_by_key(|element| id_of(element));
    (elements, same)
}

/// Those of sorted ids that equal the one before.
fn repeated(ids: &[i64]) -> Vec<i64> {
    ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}

/// Reads the object of a file of annotations.
struct AnnotationFile<'r> {
    place: &'r Place,
    full: &'r Cell<Option<OutOfMemory>>,
    raw: &'r mut Raw,
}

impl<'de> DeserializeSeed<'de> for AnnotationFile<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AnnotationFile<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with images, annotations and categories")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        const LISTS: &[&str] = &["images", "annotations", "categories"];
        let Self { place, full, raw } = self;
        let mut given = [false; 2];
        while let Some(key) = map.next_key_seed(KeyOf(LISTS))? {
            match key {
                Some(0) => {
                    raw.images.clear();
                    let take = |ImageEntry { id, width, height, file }| {
                        push(&mut raw.images, Image { id, file, size: width.zip(height) }, full)
                    };
                    map.next_value_seed(List::new(place, "images", take))?;
                }
                Some(1) => {
                    (raw.annotations, raw.findings, raw.index) = Default::default();
                    let take = |entry: AnnotationEntry| raw.annotation(&entry, full);
                    map.next_value_seed(List::new(place, "annotations", take))?;
                }
                Some(_) => {
                    raw.categories.clear();
                    raw.has_categories = true;
                    let take = |CategoryEntry { id, name }| {
                        push(&mut raw.categories, Category { id, name: name.unwrap_or_else(|| id.to_string()) }, full)
                    };
                    map.next_value_seed(List::new(place, "categories", take))?;
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
            key.and_then(|key| given.get_mut(key)).into_iter().for_each(|given| *given = true);
        }
        match LISTS.iter().zip(given).find(|(_, given)| !given) {
            None => Ok(()),
            Some((name, _)) => Err(A::Error::custom(format_args!("expected key \"{name}\", found an object without it"))),
        }
    }
}
