//! YOLO folders: `images/` and `labels/` beside each other, a text file for every image with a line `class cx cy w h` for every object, in shares of the
//! image, and a `data.yaml` with the names of classes and the folders of splits. Polygons (`class x1 y1 x2 y2 …`) count as their boxes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::list::{BoxList, Listed, Unit};
use super::yaml::{Yaml, parse};
use crate::data::DataError;
use crate::detect::boxes::{Annotation, BoundingBox};
use crate::detect::coco::Category;
use crate::files::{FileError, IoError};
use crate::vision::image::read::is_image_name;
use crate::vision::problems::{Problem, Problems};

/// A YOLO data set: the names of its classes, and the folders of images of its splits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Yolo {
    /// The file or folder.
    path: PathBuf,
    /// By number; `None`: the numbers of the labels.
    names: Option<Vec<String>>,
    /// "train", "val" or "test", and the folders of its images.
    splits: BTreeMap<&'static str, Vec<PathBuf>>,
}

const SPLITS: [&str; 3] = ["train", "val", "test"];
/// Other names of folders of the validation split.
const VAL: [&str; 3] = ["val", "valid", "validation"];

impl Yolo {
    /// The data set of a `data.yaml`.
    ///
    /// # Errors
    /// A file that cannot be read or is not understood; folders that are not there.
    pub fn of_file(path: &Path) -> Result<Self, DataError> {
        let text = fs::read_to_string(path).map_err(IoError::at(path, "read"))?;
        let keys = parse(&text).map_err(|(line, found)| DataError::Line {
            path: path.to_owned(),
            line: line as u64,
            column: 1,
            expected: "a key with text, or a list or table of names".to_owned(),
            found: format!("{found:?}"),
        })?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let root = match keys.get("path") {
            Some(Yaml::Text(root)) if !root.is_empty() => {
                [PathBuf::from(root), beside.join(root)].into_iter().find(|root| root.is_dir())
            }
            _ => None,
        };
        let root = root.unwrap_or_else(|| beside.to_path_buf());
        let mut splits = BTreeMap::new();
        for split in SPLITS {
            let given = match keys.get(split) {
                Some(Yaml::Text(folder)) if !folder.is_empty() => vec![folder.clone()],
                Some(Yaml::List(folders)) => folders.clone(),
                _ => continue,
            };
            let folders = given.iter().map(|folder| found(&root, beside, folder)).collect::<Option<Vec<_>>>();
            match folders {
                Some(folders) => _ = splits.insert(split, folders),
                // A test split that is not there is common.
                None if split == "test" => {}
                None => return Err(DataError::format(path, format!("folders of images under {split:?}"), format!("{given:?}"))),
            }
        }
        if !splits.contains_key("train") {
            return Err(DataError::format(path, "a folder of images under \"train\"", "none"));
        }
        Ok(Self { path: path.to_owned(), names: Some(names(path, keys.get("names"))?), splits })
    }

    /// The data set of a folder with `images/` and `labels/`, perhaps with folders of splits in them; `None` if it has none.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn of_folder(path: &Path) -> Result<Option<Self>, DataError> {
        let (images, labels) = (path.join("images"), path.join("labels"));
        if !images.is_dir() || !labels.is_dir() {
            return Ok(None);
        }
        let mut splits = BTreeMap::new();
        for (split, folders) in [("train", &["train"][..]), ("val", &VAL[..]), ("test", &["test"][..])] {
            if let Some(folder) = folders.iter().map(|name| images.join(name)).find(|folder| folder.is_dir()) {
                splits.insert(split, vec![folder]);
            }
        }
        if !splits.contains_key("train") {
            splits = BTreeMap::from([("train", vec![images])]);
        }
        let classes = path.join("classes.txt");
        let names = match classes.is_file() {
            true => {
                let text = fs::read_to_string(&classes).map_err(IoError::at(&classes, "read"))?;
                Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
            }
            false => None,
        };
        Ok(Some(Self { path: path.to_owned(), names, splits }))
    }

    /// Whether it has a split.
    pub fn has(&self, split: &str) -> bool {
        self.splits.contains_key(split)
    }

    /// The images of splits.
    ///
    /// # Errors
    /// Folders and files that cannot be read.
    pub fn list(&self, splits: &[&str]) -> Result<BoxList, DataError> {
        let mut list = BoxList {
            path: self.path.clone(),
            categories: Vec::new(),
            images: Vec::new(),
            annotations: Vec::new(),
            unit: Unit::Shares,
            problems: Problems::default(),
        };
        let mut largest = None;
        for folder in self.splits.iter().filter(|(split, _)| splits.contains(split)).flat_map(|(_, folders)| folders) {
            let mut files = Vec::new();
            images_below(folder, DEPTH, &mut files)?;
            let mut used = BTreeSet::new();
            for path in files {
                let labels = label_file(&path);
                let image = list.images.len() as u32;
                list.images.push(Listed { id: i64::from(image) + 1, path, size: None });
                if labels.is_file() {
                    let text = fs::read_to_string(&labels).map_err(IoError::at(&labels, "read"))?;
                    list.take(image, &labels, &text, self.names.as_ref().map(Vec::len), &mut largest);
                    used.insert(labels);
                }
            }
            list.note_unused(folder, &used)?;
        }
        let names =
            self.names.clone().unwrap_or_else(|| (0..largest.map_or(0, |most: u32| most + 1)).map(|i| i.to_string()).collect());
        list.categories = names.into_iter().enumerate().map(|(id, name)| Category { id: id as i64, name }).collect();
        Ok(list)
    }
}

impl BoxList {
    /// The lines of a label file.
    fn take(&mut self, image: u32, path: &Path, text: &str, classes: Option<usize>, largest: &mut Option<u32>) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("{}:{} ({:?})", super::list::shown(path), number + 1, line.trim());
            let Some((class, values)) = line_of(line) else {
                self.problems.add(Problem::BadLine, place);
                continue;
            };
            if classes.is_some_and(|classes| class as usize >= classes) {
                self.problems.add(Problem::UnknownCategory, place);
                continue;
            }
            let Some(bbox) = box_of(&values) else {
                let finite = values.iter().all(|x| x.is_finite());
                self.problems.add(if finite { Problem::BadLine } else { Problem::NotFinite }, place);
                continue;
            };
            *largest = Some(largest.map_or(class, |largest| largest.max(class)));
            let id = self.annotations.len() as i64 + 1;
            self.annotations.push(Annotation { id, image, category: class, bbox, area: bbox.area(), crowd: false });
        }
    }

    /// Label files that no image has.
    fn note_unused(&mut self, images: &Path, used: &BTreeSet<PathBuf>) -> Result<(), DataError> {
        let Some(labels) = label_file(&images.join("x")).parent().map(Path::to_path_buf).filter(|labels| labels.is_dir()) else {
            return Ok(());
        };
        for entry in fs::read_dir(&labels).map_err(IoError::at(&labels, "list"))? {
            let path = entry.map_err(IoError::at(&labels, "list"))?.path();
            let is_label = path.extension().is_some_and(|end| end == "txt") && !path.ends_with("classes.txt");
            if is_label && !used.contains(&path) {
                self.problems.add(Problem::NoImage, || super::list::shown(&path));
            }
        }
        Ok(())
    }
}

/// The class and the numbers of a line.
fn line_of(line: &str) -> Option<(u32, Vec<f64>)> {
    let mut words = line.split_whitespace();
    let class = words.next()?;
    // Some programs write classes as 3.0.
    let class =
        class.parse().ok().or_else(|| class.parse::<f64>().ok().filter(|x| *x >= 0.0 && x.fract() == 0.0).map(|x| x as u32))?;
    Some((class, words.map(|word| word.parse().ok()).collect::<Option<Vec<f64>>>()?))
}

/// The box of four numbers, or of a polygon of at least three points.
fn box_of(values: &[f64]) -> Option<BoundingBox> {
    if !values.iter().all(|x| x.is_finite()) {
        return None;
    }
    match *values {
        [x, y, width, height] => Some(BoundingBox { x: x - width / 2.0, y: y - height / 2.0, width, height }),
        _ if values.len() >= 6 && values.len().is_multiple_of(2) => {
            let ends = |offset: usize| {
                let along = || values.iter().copied().skip(offset).step_by(2);
                (along().fold(f64::INFINITY, f64::min), along().fold(f64::NEG_INFINITY, f64::max))
            };
            let ((left, right), (top, bottom)) = (ends(0), ends(1));
            Some(BoundingBox { x: left, y: top, width: right - left, height: bottom - top })
        }
        _ => None,
    }
}

/// Where the labels of an image are: its last folder `images` is `labels`.
fn label_file(image: &Path) -> PathBuf {
    let mut parts: Vec<_> = image.components().map(|part| part.as_os_str().to_owned()).collect();
    if let Some(last) = parts.iter_mut().rev().find(|part| *part == "images") {
        *last = "labels".into();
    }
    parts.iter().collect::<PathBuf>().with_extension("txt")
}

/// Folders in folders are read up to this depth: a link may lead back.
const DEPTH: usize = 8;

/// Adds the images below a folder, sorted.
fn images_below(folder: &Path, depth: usize, to: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let listed = fs::read_dir(folder).map_err(IoError::at(folder, "list"))?;
    let mut entries =
        listed.map(|entry| Ok(entry.map_err(IoError::at(folder, "list"))?.path())).collect::<Result<Vec<_>, FileError>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() && depth > 0 {
            images_below(&entry, depth - 1, to)?;
        } else if is_image_name(&entry) {
            to.push(entry);
        }
    }
    Ok(())
}

/// The folder of a split, relative to the root, to the file, or, as Roboflow writes it, one level too high.
fn found(root: &Path, beside: &Path, folder: &str) -> Option<PathBuf> {
    let lower = folder.trim_start_matches("../");
    let places = [root.join(folder), beside.join(folder), root.join(lower), beside.join(lower)];
    places.into_iter().find(|place| place.is_dir())
}

fn names(path: &Path, given: Option<&Yaml>) -> Result<Vec<String>, DataError> {
    let wrong =
        |found: String| DataError::format(path, "the names of all classes under \"names\": a list, or a table from 0 on", found);
    match given {
        Some(Yaml::List(names)) if !names.is_empty() => Ok(names.clone()),
        Some(Yaml::Table(table)) => {
            let named = (0..table.len()).map(|id| table.get(&id.to_string()).cloned()).collect::<Option<Vec<_>>>();
            named.ok_or_else(|| wrong(format!("the numbers {:?}", table.keys().collect::<Vec<_>>())))
        }
        other => Err(wrong(other.map_or_else(|| "none".to_owned(), |other| format!("{other:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_boxes_or_polygons() {
        assert_eq!(line_of("2 0.5 0.5 0.25 0.5").unwrap().0, 2);
        assert_eq!(line_of("2.0 1 1 1 1").unwrap().0, 2);
        assert_eq!([line_of("cat 1 1 1 1"), line_of("-1 1 1 1 1"), line_of("0 1 x 1 1")], [None, None, None]);
        let found = box_of(&[0.5, 0.5, 0.25, 0.5]).unwrap();
        assert_eq!(found, BoundingBox { x: 0.375, y: 0.25, width: 0.25, height: 0.5 });
        let polygon = box_of(&[0.1, 0.5, 0.3, 0.2, 0.2, 0.9]).unwrap();
        assert!((polygon.x - 0.1).abs() + (polygon.height - 0.7).abs() < 1e-12);
        assert_eq!([box_of(&[0.1; 5]), box_of(&[f64::NAN; 4]), box_of(&[])], [None, None, None]);
        assert_eq!(label_file(Path::new("a/images/train/b.jpg")), Path::new("a/labels/train/b.txt"));
    }
}
