//! What is wrong with images, boxes, labels and captions of a data set: counted by kind, with the first places.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A kind of problem; those before [`Problem::Clipped`] are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// No file of an image.
    NoFile,
    /// A file that is no image.
    BadImage,
    /// An image whose annotated width and height are those of the file, swapped.
    SwappedSize,
    /// An image with another size than annotated.
    WrongSize,
    /// A box with null, NaN or infinity.
    NotFinite,
    /// A box without width or height.
    NoExtent,
    /// A box that does not meet its image.
    Outside,
    /// An object in an image that is not listed.
    UnknownImage,
    /// An object of a category that is not listed.
    UnknownCategory,
    /// A line that is no box.
    BadLine,
    /// Several objects with one id.
    SameObject,
    /// Several images with one id.
    SameImage,
    /// Several categories with one id.
    SameCategory,
    /// A row that cannot be read.
    BadRow,
    /// An image of a class that the training images lack.
    UnknownClass,
    /// A file with several labels.
    SeveralLabels,
    /// Fewer than two classes.
    OneClass,
    /// A box that reaches out of its image.
    Clipped,
    /// An image without objects.
    NoObjects,
    /// A category without objects.
    NoObjectsOf,
    /// A label file without an image.
    NoImage,
    /// An object of a crowd.
    Crowd,
    /// A file that several rows name with the same label or caption.
    SameRow,
    /// An image with the content of another.
    SameContent,
    /// A held-out image with the content of a training image.
    HeldOutToo,
    /// A caption of several images.
    SameCaption,
    /// A class with few images.
    FewImages,
    /// Anything else that is odd.
    Odd,
}

impl Problem {
    /// Its name in JSON, and what it means.
    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::NoFile => ("missing_images", "images have no file"),
            Self::BadImage => ("bad_images", "images cannot be read"),
            Self::SwappedSize => (
                "swapped_sizes",
                "images have the annotated width as their height: were their boxes made without the orientation in EXIF? Turn boxes or pixels",
            ),
            Self::WrongSize => ("wrong_sizes", "images have another size than annotated"),
            Self::NotFinite => ("boxes_not_finite", "boxes have null, NaN or infinity"),
            Self::NoExtent => ("boxes_without_extent", "boxes have no width or no height"),
            Self::Outside => ("boxes_outside", "boxes are outside of their image"),
            Self::UnknownImage => ("objects_of_unknown_images", "objects are in images that are not listed"),
            Self::UnknownCategory => ("objects_of_unknown_categories", "objects are of categories that are not listed"),
            Self::BadLine => ("bad_lines", "lines are no boxes"),
            Self::SameObject => ("objects_with_the_same_id", "objects have the id of another"),
            Self::SameImage => ("images_with_the_same_id", "images have the id of another"),
            Self::SameCategory => ("categories_with_the_same_id", "categories have the id of another"),
            Self::Clipped => {
                ("boxes_that_reach_out", "boxes reach out of their image by more than a pixel: training uses the part inside")
            }
            Self::NoObjects => ("images_without_objects", "images have no objects: they teach what is none"),
            Self::NoObjectsOf => ("categories_without_objects", "categories have no objects"),
            Self::NoImage => ("labels_without_images", "label files have no image"),
            Self::Crowd => ("crowds", "objects are crowds: training leaves them out"),
            Self::BadRow => ("bad_rows", "rows cannot be read"),
            Self::UnknownClass => ("unknown_classes", "held-out images are of classes without training images"),
            Self::SeveralLabels => ("several_labels", "images have several labels"),
            Self::OneClass => ("too_few_classes", "classes are too few: a classifier needs two"),
            Self::SameRow => ("repeated_rows", "rows repeat another"),
            Self::SameContent => ("repeated_images", "images have the content of another file"),
            Self::HeldOutToo => {
                ("held_out_in_training", "held-out images have the content of a training image: they measure memory")
            }
            Self::SameCaption => ("repeated_captions", "captions are those of another image too: see contrast.multi_positive"),
            Self::FewImages => ("small_classes", "classes have fewer than 5 training images"),
            Self::Odd => ("odd", "odd"),
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Whether what has it cannot be trained on.
    pub fn is_error(self) -> bool {
        self < Self::Clipped
    }

    /// Whether it is one of an image, and not of a box.
    pub fn is_of_image(self) -> bool {
        self <= Self::WrongSize
    }
}

/// Places that are named, of each kind.
const NAMED: usize = 5;

/// How often a problem occurs, and the first places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: u64,
    /// The first places.
    pub places: Vec<String>,
}

/// All problems of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    by_kind: BTreeMap<Problem, Occurrences>,
    /// Remarks without a count.
    pub notes: Vec<String>,
}

impl Problems {
    /// Adds one at a place.
    pub fn add(&mut self, problem: Problem, place: impl FnOnce() -> String) {
        self.add_all(problem, 1, place);
    }

    /// Adds several, of which one is at a place.
    pub fn add_all(&mut self, problem: Problem, count: u64, place: impl FnOnce() -> String) {
        let all = self.by_kind.entry(problem).or_default();
        all.count += count;
        if all.places.len() < NAMED {
            all.places.push(place());
        }
    }

    /// Those of a kind.
    pub fn of(&self, problem: Problem) -> u64 {
        self.by_kind.get(&problem).map_or(0, |all| all.count)
    }

    /// Every kind that occurs, errors first.
    pub fn iter(&self) -> impl Iterator<Item = (Problem, &Occurrences)> + '_ {
        self.by_kind.iter().map(|(&problem, all)| (problem, all))
    }

    /// By name: how often, whether it is an error, and the first places.
    pub fn to_json(&self) -> Map<String, Value> {
        let of = |(problem, all): (Problem, &Occurrences)| {
            let value = json!({ "count": all.count, "error": problem.is_error(), "places": all.places });
            (problem.name().to_owned(), value)
        };
        self.iter().map(of).collect()
    }

    /// The number of errors.
    pub fn errors(&self) -> u64 {
        self.iter().filter(|(problem, _)| problem.is_error()).map(|(_, all)| all.count).sum()
    }

    /// The first error of a kind that `counts`, in words.
    pub fn first_error(&self, counts: impl Fn(Problem) -> bool) -> Option<String> {
        let mut errors = self.iter().filter(|(problem, _)| problem.is_error() && counts(*problem));
        errors.next().map(|(problem, all)| line(problem, all))
    }

    /// A line for each kind.
    pub fn lines(&self) -> Vec<String> {
        let level = |problem: Problem| if problem.is_error() { "error" } else { "note" };
        let lines = self.iter().map(|(problem, all)| format!("{}: {}", level(problem), line(problem, all)));
        lines.chain(self.notes.iter().map(|note| format!("note: {note}"))).collect()
    }

    /// Adds those of another part of the data.
    pub fn extend(&mut self, other: Self) {
        for (problem, all) in other.by_kind {
            let own = self.by_kind.entry(problem).or_default();
            own.count += all.count;
            own.places.extend(all.places);
            own.places.truncate(NAMED);
        }
        self.notes.extend(other.notes);
    }
}

fn line(problem: Problem, all: &Occurrences) -> String {
    let Occurrences { count, places } = all;
    let more = if *count > places.len() as u64 { ", …" } else { "" };
    format!("{count} {}: {}{more}", problem.row().1, places.join(", "))
}
