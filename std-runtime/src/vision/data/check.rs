//! The check of labelled images before a training. Nothing is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use super::list::{Every, Split};
use crate::data::DataError;
use crate::vision::config::ImageDataConfig;
use crate::vision::image::read::{bytes, decode};
use crate::vision::problems::{Problem, Problems};

/// What images a data set has, and what is wrong with them.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// The version of this object.
    pub schema: u32,
    /// Image files.
    pub images: usize,
    /// Captions, of images with captions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captions: Option<usize>,
    /// Images of every class, of labelled images.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub classes: Map<String, Value>,
    /// The number of errors.
    pub errors: u64,
    /// By kind: how often, whether it is an error, and the first places.
    pub problems: Map<String, Value>,
    #[serde(skip)]
    lines: Vec<String>,
}

/// Checks labelled images of all splits: every file is decoded.
///
/// # Errors
/// A folder or file that cannot be read at all.
pub fn check(path: &Path) -> Result<ImageReport, DataError> {
    let Every { images, bad, notes } = Every::open(path, &ImageDataConfig::default())?;
    let mut problems = Problems::default();
    problems.notes = notes;
    bad.into_iter().for_each(|row| problems.add(Problem::BadRow, || row));
    check_labels(&images, &mut problems);
    let files: Vec<(Split, &Path)> = images.iter().map(|(split, (file, _))| (*split, file.as_path())).collect();
    let count = check_files(&files, &mut problems);
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    images.iter().for_each(|(_, (_, label))| *classes.entry(label).or_default() += 1);
    let classes = classes.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    Ok(ImageReport::new((count, None, classes), &problems))
}

impl ImageReport {
    /// The report of what was counted.
    pub fn new((images, captions, classes): (usize, Option<usize>, Map<String, Value>), problems: &Problems) -> Self {
        let (errors, found) = (problems.errors(), problems.to_json());
        Self { schema: 1, images, captions, classes, errors, problems: found, lines: problems.lines() }
    }

    /// The report for people.
    pub fn lines(&self) -> Vec<String> {
        let of =
            self.captions.map_or_else(|| format!("{} classes", self.classes.len()), |captions| format!("{captions} captions"));
        let mut lines = vec![format!("{} images, {of}", self.images)];
        lines.extend(self.classes.iter().map(|(name, count)| format!("  {name}: {count}")));
        lines.extend(self.lines.iter().cloned());
        lines.push(if self.errors == 0 { "no errors".to_owned() } else { format!("{} errors", self.errors) });
        lines
    }
}

/// Files with several labels, rows that repeat others, classes that are too few, too small, or held out alone.
fn check_labels(images: &[(Split, (PathBuf, String))], problems: &mut Problems) {
    let mut labels: HashMap<&Path, &str> = HashMap::new();
    let mut of_training: BTreeMap<&str, u64> = BTreeMap::new();
    for (split, (file, label)) in images {
        match labels.insert(file, label) {
            Some(former) if former == label => problems.add(Problem::SameRow, || file.display().to_string()),
            Some(former) => problems.add(Problem::SeveralLabels, || format!("{} ({former}, {label})", file.display())),
            None => {}
        }
        if *split == Split::Train {
            *of_training.entry(label).or_default() += 1;
        }
    }
    if of_training.len() < 2 {
        problems.add(Problem::OneClass, || of_training.keys().next().map_or("none", |name| name).to_owned());
    }
    for (_, (file, label)) in images.iter().filter(|(_, (_, label))| !of_training.contains_key(label.as_str())) {
        problems.add(Problem::UnknownClass, || format!("{} ({label})", file.display()));
    }
    const FEW: u64 = 5;
    of_training
        .iter()
        .filter(|(_, count)| **count < FEW)
        .for_each(|(name, _)| problems.add(Problem::FewImages, || (*name).to_owned()));
}

/// Decodes every file once: those that are missing, cannot be read, or have the content of another; returns how many files there are.
pub fn check_files(files: &[(Split, &Path)], problems: &mut Problems) -> usize {
    let mut seen = HashSet::new();
    let once: Vec<(Split, &Path)> = files.iter().copied().filter(|(_, file)| seen.insert(*file)).collect();
    let content = |file: &Path| -> Result<(u32, usize), Option<String>> {
        if fs::metadata(file).is_err() {
            return Err(None);
        }
        let bytes = bytes(file).map_err(|error| Some(error.to_string()))?;
        let content = (crc32c::crc32c(&bytes), bytes.len());
        decode(file, bytes).map(|_| content).map_err(|error| Some(error.to_string()))
    };
    let read: Vec<_> = once.par_iter().map(|(_, file)| content(file)).collect();
    let mut contents: HashMap<(u32, usize), (Split, &Path)> = HashMap::new();
    for (&(split, file), content) in once.iter().zip(read) {
        match content {
            Err(None) => problems.add(Problem::NoFile, || file.display().to_string()),
            Err(Some(error)) => problems.add(Problem::BadImage, || error),
            Ok(content) => match contents.get(&content) {
                Some(&(of, other)) => {
                    let problem =
                        if (of == Split::Train) == (split == Split::Train) { Problem::SameContent } else { Problem::HeldOutToo };
                    problems.add(problem, || format!("{} (that of {})", file.display(), other.display()));
                }
                None => _ = contents.insert(content, (split, file)),
            },
        }
    }
    once.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::image::Image;
    use crate::vision::image::write::png as encoded;

    fn png(level: u8) -> Vec<u8> {
        encoded(&Image::new([2, 2], vec![level; 12]).unwrap())
    }

    #[test]
    fn everything_that_is_wrong_with_a_table_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("a.png", &png(1));
        write("b.png", &png(2));
        write("same.png", &png(1));
        write("held.png", &png(2));
        write("half.png", &png(3)[..20]);
        write(
            "t.csv",
            b"image,label,split\na.png,cat,train\nb.png,dog,train\nb.png,dog,train\na.png,dog,train\nsame.png,cat,train\nheld.png,cow,val\nhalf.png,cat,train\nnone.png,dog,train\nb.png,,train\nb.png,dog,x\n",
        );
        let report = check(&folder.path().join("t.csv")).unwrap();
        let mut counts: Vec<(&str, u64)> =
            report.problems.iter().map(|(name, found)| (name.as_str(), found["count"].as_u64().unwrap())).collect();
        counts.sort_unstable();
        let expected = [
            ("bad_images", 1),
            ("bad_rows", 2),
            ("held_out_in_training", 1),
            ("missing_images", 1),
            ("repeated_images", 1),
            ("repeated_rows", 1),
            ("several_labels", 1),
            ("small_classes", 2),
            ("unknown_classes", 1),
        ];
        assert_eq!((counts, report.images, report.errors), (expected.to_vec(), 6, 6));
        assert!(
            report.problems["bad_rows"]["places"][0].as_str().unwrap().contains("t.csv:10:1: expected a label"),
            "{:?}",
            report.problems
        );
        assert_eq!((report.classes["cat"].as_u64(), report.lines()[0].as_str()), (Some(3), "6 images, 3 classes"));
    }
}
