//! The images of a data set with their classes: folders, tables, rows of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::data::DataError;
use crate::data::objects::for_each_object;
use crate::data::options::TextOptions;
use crate::files::IoError;
use crate::vision::config::ImageDataConfig;
use crate::vision::image::read::is_image_name;

/// An image file and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The file.
    pub path: PathBuf,
    /// The number of its class.
    pub class: usize,
}

/// Images with classes, in an order that depends on names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageList {
    /// The names of the classes, sorted: as text, or as numbers if all of them are.
    pub classes: Vec<String>,
    /// For training.
    pub train: Vec<Labelled>,
    /// Held out.
    pub val: Vec<Labelled>,
    /// What is left out, in words.
    pub notes: Vec<String>,
}

/// A file and the name of its class.
type Named = (PathBuf, String);

/// Images before their classes are numbered.
#[derive(Default)]
struct Found {
    train: Vec<Named>,
    /// The data's own validation split.
    val: Option<Vec<Named>>,
    notes: Vec<String>,
}

const TRAIN: [&str; 2] = ["train", "training"];
const VAL: [&str; 4] = ["val", "valid", "validation", "dev"];
const TEST: [&str; 2] = ["test", "testing"];

/// Which part of a data set an evaluation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The training images.
    Train,
    /// Those that are held out: the data's own, or a share.
    Val,
    /// The data's own test split.
    Test,
    /// All of a data set without splits.
    All,
}

/// Whether a data set has a folder of test images.
pub fn has_test(path: &Path) -> bool {
    sub_folder(path, &TEST).is_some()
}

impl ImageList {
    /// The images of a data set for training.
    ///
    /// # Errors
    /// Data that cannot be listed, no images, a class of the validation that the training lacks.
    pub fn open(path: &Path, config: &ImageDataConfig) -> Result<Self, DataError> {
        let found = Found::open(path, config)?;
        let classes = classes_of(&found.train);
        let numbered = |all: Vec<Named>| number(path, &classes, all);
        let (train, val) = match found.val {
            Some(val) => (numbered(found.train)?, numbered(val)?),
            None => hold_out(path, numbered(found.train)?, config.val_fraction),
        };
        if train.is_empty() {
            return Err(DataError::format(path, "images for training", "none beside those held out; lower data.val_fraction"));
        }
        if classes.len() < 2 {
            let found = classes.first().map_or_else(String::new, |class| format!("one: {class:?}"));
            return Err(DataError::format(path, "at least two classes", found));
        }
        let mut notes = found.notes;
        notes.extend(rare(&classes, &train));
        Ok(Self { classes, train, val, notes })
    }

    /// The images of one split, for a model with these classes.
    ///
    /// # Errors
    /// As [`Self::open`]; a class that the model does not have.
    pub fn of_split(
        path: &Path,
        split: Split,
        config: &ImageDataConfig,
        classes: &[String],
    ) -> Result<(Vec<Labelled>, Vec<String>), DataError> {
        if let Some(folder) = sub_folder(path, &TEST).filter(|_| split == Split::Test) {
            let mut notes = Vec::new();
            return Ok((number(path, classes, folders(&folder, &mut notes)?)?, notes));
        }
        let found = Found::open(path, config)?;
        let own_split = found.val.is_some();
        let (train, val) = match found.val {
            Some(val) => (number(path, classes, found.train)?, number(path, classes, val)?),
            None if split == Split::All => (number(path, classes, found.train)?, Vec::new()),
            None => hold_out(path, number(path, classes, found.train)?, config.val_fraction),
        };
        let images = match split {
            Split::Train => train,
            Split::Val => val,
            Split::All if own_split => [train, val].concat(),
            Split::All => train,
            Split::Test => return Err(DataError::format(path, "a folder test", "none; choose another --split")),
        };
        if images.is_empty() {
            return Err(DataError::format(path, "images in this split", "none"));
        }
        Ok((images, found.notes))
    }
}

impl Found {
    fn open(path: &Path, config: &ImageDataConfig) -> Result<Self, DataError> {
        let metadata = fs::metadata(path).map_err(IoError::at(path, "read"))?;
        if !metadata.is_dir() {
            return Self::of_rows(path, config);
        }
        let mut found = Self::default();
        match sub_folder(path, &TRAIN) {
            Some(train) => {
                found.train = folders(&train, &mut found.notes)?;
                found.val = sub_folder(path, &VAL).map(|val| folders(&val, &mut found.notes)).transpose()?;
            }
            None => found.train = folders(path, &mut found.notes)?,
        }
        Ok(found)
    }

    /// Rows with the file of an image, its label, and perhaps its split.
    fn of_rows(path: &Path, config: &ImageDataConfig) -> Result<Self, DataError> {
        let (mut found, mut tests) = (Self::default(), 0);
        for_each_row(path, config, &mut |row| {
            match row? {
                (Split::Val, named) => found.val.get_or_insert_default().push(named),
                (Split::Test, _) => tests += 1,
                (_, named) => found.train.push(named),
            }
            Ok(())
        })?;
        found.notes.extend((tests > 0).then(|| format!("{tests} rows of the split test are left out")));
        Ok(found)
    }
}

/// A row of a table: the split, the file, the label.
type Row = (Split, Named);

/// Passes every row of a table of images to `take`, or what is wrong with it.
fn for_each_row(
    path: &Path,
    config: &ImageDataConfig,
    take: &mut dyn FnMut(Result<Row, DataError>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let beside = path.parent().unwrap_or(Path::new(""));
    for_each_object(path, &TextOptions { skip_setting: None, ..TextOptions::default() }, &mut |(row, line)| {
        take(row.and_then(|row| {
            let wrong = |key: &str, expected: &str| DataError::Line {
                path: path.to_owned(),
                line,
                column: 1,
                expected: format!("{expected} under {key:?}"),
                found: row.get(key).map_or_else(|| format!("keys {:?}", row.keys().collect::<Vec<_>>()), Value::to_string),
            };
            let file = text(&row, &config.image_field).filter(|file| !file.is_empty());
            let file = file.ok_or_else(|| wrong(&config.image_field, "the file of an image"))?;
            let label = text(&row, &config.label_field).filter(|label| !label.is_empty());
            let label = label.ok_or_else(|| wrong(&config.label_field, "a label, text or a whole number"))?;
            let split = match text(&row, "split").map(|split| split.to_lowercase()) {
                Some(split) if VAL.contains(&split.as_str()) => Split::Val,
                Some(split) if TEST.contains(&split.as_str()) => Split::Test,
                Some(split) if !TRAIN.contains(&split.as_str()) => return Err(wrong("split", "train, val or test")),
                _ => Split::Train,
            };
            Ok((split, (beside.join(file), label)))
        }))
    })
}

/// All images of a data set, and what is wrong with its rows.
#[derive(Default)]
pub(super) struct Every {
    pub(super) images: Vec<Row>,
    /// Rows that cannot be read, in words.
    pub(super) bad: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Every {
    /// Those of a folder or a table.
    pub(super) fn open(path: &Path, config: &ImageDataConfig) -> Result<Self, DataError> {
        let mut every = Self::default();
        if !path.is_dir() {
            for_each_row(path, config, &mut |row| {
                match row {
                    Ok(row) => every.images.push(row),
                    Err(error) => every.bad.push(error.to_string()),
                }
                Ok(())
            })?;
            return Ok(every);
        }
        let parts = [(Split::Train, &TRAIN[..]), (Split::Val, &VAL), (Split::Test, &TEST)];
        let train = sub_folder(path, &TRAIN);
        let own: Vec<(Split, PathBuf)> = match train {
            None => vec![(Split::Train, path.to_owned())],
            Some(_) => parts.into_iter().filter_map(|(split, names)| Some((split, sub_folder(path, names)?))).collect(),
        };
        for (split, folder) in own {
            every.images.extend(folders(&folder, &mut every.notes)?.into_iter().map(|named| (split, named)));
        }
        Ok(every)
    }
}

/// Whether a folder has folders of images, as those of classes are.
pub fn has_class_folders(path: &Path) -> bool {
    let root = sub_folder(path, &TRAIN).unwrap_or_else(|| path.to_owned());
    let has_image =
        |folder: &PathBuf| folder.is_dir() && entries(folder).is_ok_and(|all| all.iter().any(|file| is_image_name(file)));
    entries(&root).is_ok_and(|all| all.iter().any(has_image))
}

/// Text, or a whole number as text.
fn text(row: &Map<String, Value>, key: &str) -> Option<String> {
    match row.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn sub_folder(path: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| path.join(name)).find(|folder| folder.is_dir())
}

/// Folders in folders are read up to this depth: a link may lead back.
const DEPTH: usize = 8;

/// The images in a folder for each class.
fn folders(path: &Path, notes: &mut Vec<String>) -> Result<Vec<Named>, DataError> {
    let mut images = Vec::new();
    let (mut others, mut empty) = (0, Vec::new());
    for entry in entries(path)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            return Err(DataError::format(&entry, "a name in UTF-8", "another"));
        };
        if !entry.is_dir() {
            others += 1;
            continue;
        }
        let before = images.len();
        others += files(&entry, DEPTH, &mut |file| images.push((file, name.clone())))?;
        if images.len() == before {
            empty.push(name);
        }
    }
    if images.is_empty() {
        let expected = "a folder for each class with images (.png, .jpg, .jpeg, .gif, .bmp, .webp)";
        return Err(DataError::format(
            path,
            expected,
            format!("{others} other files and {} folders without images", empty.len()),
        ));
    }
    notes.extend((others > 0).then(|| format!("{}: {others} files without the name of an image are left out", path.display())));
    notes.extend((!empty.is_empty()).then(|| format!("{}: folders without images: {}", path.display(), empty.join(", "))));
    Ok(images)
}

/// The image files below a folder, sorted; hidden ones are passed over.
///
/// # Errors
/// A folder that cannot be listed, or has no image.
pub fn below(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut images = Vec::new();
    let others = files(path, DEPTH, &mut |file| images.push(file))?;
    if images.is_empty() {
        let expected = "images (.png, .jpg, .jpeg, .gif, .bmp, .webp)";
        return Err(DataError::format(path, expected, format!("{others} other files")));
    }
    Ok(images)
}

/// Sorted, without hidden ones.
fn entries(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let listed = fs::read_dir(path).map_err(IoError::at(path, "list"))?;
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry.map_err(IoError::at(path, "list"))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

/// Passes every image below a folder to `take`; returns the number of other files.
fn files(path: &Path, depth: usize, take: &mut impl FnMut(PathBuf)) -> Result<u64, DataError> {
    let mut others = 0;
    for entry in entries(path)? {
        match (entry.is_dir(), is_image_name(&entry)) {
            (true, _) if depth > 0 => others += files(&entry, depth - 1, take)?,
            (true, _) => return Err(DataError::format(&entry, format!("at most {DEPTH} folders in each other"), "more")),
            (false, true) => take(entry),
            (false, false) => others += 1,
        }
    }
    Ok(others)
}

/// The names of classes in order.
fn classes_of(images: &[Named]) -> Vec<String> {
    let names: BTreeSet<&String> = images.iter().map(|(_, class)| class).collect();
    let mut names: Vec<String> = names.into_iter().cloned().collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
    }
    names
}

fn number(path: &Path, classes: &[String], images: Vec<Named>) -> Result<Vec<Labelled>, DataError> {
    let numbers: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
    let labelled = images.into_iter().map(|(file, class)| match numbers.get(class.as_str()) {
        Some(&class) => Ok(Labelled { path: file, class }),
        None => {
            let shown = classes.iter().take(10).map(|class| format!("{class:?}")).collect::<Vec<_>>().join(", ");
            let more = if classes.len() > 10 { ", …" } else { "" };
            Err(DataError::format(
                path,
                format!("one of {} classes ({shown}{more})", classes.len()),
                format!("{class:?} of {}", file.display()),
            ))
        }
    });
    labelled.collect()
}

/// Holds out a share of every class: those with the smallest checksums of their names, so that other files do not change the choice.
fn hold_out(root: &Path, images: Vec<Labelled>, share: f64) -> (Vec<Labelled>, Vec<Labelled>) {
    let base = if root.is_dir() { root } else { root.parent().unwrap_or(Path::new("")) };
    let key = |image: &Labelled| {
        let name = image.path.strip_prefix(base).unwrap_or(&image.path).to_string_lossy().into_owned();
        (crc32c::crc32c(name.as_bytes()), name)
    };
    let mut by_class: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    images.iter().for_each(|image| by_class.entry(image.class).or_default().push(key(image)));
    let mut held = BTreeSet::new();
    for keys in by_class.values_mut() {
        keys.sort();
        // At least one image of a class remains.
        let count = ((keys.len() as f64 * share).round() as usize).min(keys.len().saturating_sub(1));
        held.extend(keys.drain(..count));
    }
    images.into_iter().partition(|image| !held.contains(&key(image)))
}

/// A note about classes with very few images.
fn rare(classes: &[String], train: &[Labelled]) -> Option<String> {
    const FEW: usize = 5;
    let mut counts = vec![0_usize; classes.len()];
    for image in train {
        if let Some(count) = counts.get_mut(image.class) {
            *count += 1;
        }
    }
    let few: Vec<&str> = classes.iter().zip(&counts).filter(|(_, count)| **count < FEW).map(|(name, _)| name.as_str()).collect();
    let shown = few.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    (!few.is_empty()).then(|| format!("{} classes have fewer than {FEW} training images: {shown}", few.len()))
}
