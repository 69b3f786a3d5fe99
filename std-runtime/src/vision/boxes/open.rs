//! Which form images with boxes have, and their splits.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::coco;
use super::config::BoxDataConfig;
use super::list::BoxList;
use super::yolo::Yolo;
use crate::compressed;
use crate::data::DataError;
use crate::files::IoError;

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// For training.
    Train,
    /// Held out.
    Val,
    /// For tests.
    Test,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Its names in files; the first is YOLO's.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test"],
        }
    }
}

/// The files of a data set.
#[derive(Clone, Debug)]
pub enum Boxes {
    /// COCO's annotations of its parts, each with the folder of its images if that is known; a single file is the part for training.
    Coco(Vec<(Part, PathBuf, Option<PathBuf>)>),
    /// A YOLO data set.
    Yolo(Yolo),
}

/// The files that describe a YOLO data set.
const YAML: [&str; 3] = ["data.yaml", "data.yml", "dataset.yaml"];

const EXPECTED: &str = "COCO's annotations (.json), a folder with annotations/instances_train*.json, train/_annotations.coco.json, train.json or \
                        annotations.json, or a YOLO folder (data.yaml, or images/ and labels/)";

/// Whether a file begins as COCO's annotations do: an object with lists among its first keys.
///
/// # Errors
/// A file that cannot be read.
pub fn is_annotations(path: &Path) -> Result<bool, DataError> {
    let mut first = Vec::new();
    let read = compressed::open(path)?.take(FIRST).read_to_end(&mut first);
    read.map_err(IoError::at(path, "read"))?;
    let text = String::from_utf8_lossy(&first);
    let has = |key: &str| text.contains(&format!("\"{key}\""));
    Ok(text.trim_start().starts_with('{') && ["images", "annotations", "categories"].into_iter().any(has))
}

/// Bytes of a file that tell what it is.
const FIRST: u64 = 1 << 16;

impl Boxes {
    /// Whether a folder has files of boxes.
    pub fn is_there(folder: &Path) -> bool {
        let has = |names: &[&str]| names.iter().any(|name| folder.join(name).exists());
        has(&YAML)
            || has(&["images"]) && has(&["labels"])
            || annotations_of(folder, Part::Train).is_some_and(|file| is_annotations(&file).unwrap_or(false))
    }

    /// Finds the files of a data set. `images`: the folder of the images of COCO's annotations, where it is given.
    ///
    /// # Errors
    /// Nothing that is known.
    pub fn open(path: &Path, images: Option<&Path>) -> Result<Self, DataError> {
        let metadata = fs::metadata(path).map_err(IoError::at(path, "read"))?;
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        if !metadata.is_dir() {
            return match () {
                () if name.ends_with(".yaml") || name.ends_with(".yml") => Ok(Self::Yolo(Yolo::of_file(path)?)),
                () if name.contains(".json") => {
                    Ok(Self::Coco(vec![(Part::Train, path.to_owned(), images.map(Path::to_path_buf))]))
                }
                () => Err(DataError::format(path, EXPECTED, "another file")),
            };
        }
        let yaml = YAML.map(|name| path.join(name)).into_iter().find(|file| file.is_file());
        if let Some(yaml) = yaml {
            return Ok(Self::Yolo(Yolo::of_file(&yaml)?));
        }
        if let Some(yolo) = Yolo::of_folder(path)? {
            return Ok(Self::Yolo(yolo));
        }
        let files: Vec<_> = Part::ALL
            .into_iter()
            .filter_map(|part| annotations_of(path, part).map(|file| (part, file, images.map(Path::to_path_buf))))
            .collect();
        match files.iter().any(|(part, ..)| *part == Part::Train) {
            true => Ok(Self::Coco(files)),
            false => Err(DataError::format(path, EXPECTED, "a folder without them")),
        }
    }

    /// Whether it has a part of its own.
    pub fn has(&self, part: Part) -> bool {
        match self {
            Self::Coco(files) => files.iter().any(|(own, ..)| *own == part),
            Self::Yolo(yolo) => yolo.has(part.names()[0]),
        }
    }

    /// The images of a part; without any if there is no such part.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn list(&self, part: Part) -> Result<Option<BoxList>, DataError> {
        match self {
            Self::Yolo(yolo) if self.has(part) => yolo.list(&[part.names()[0]]).map(Some),
            Self::Yolo(_) => Ok(None),
            Self::Coco(files) => {
                let Some((_, file, images)) = files.iter().find(|(own, ..)| *own == part) else { return Ok(None) };
                Ok(Some(coco::open(file, images.as_deref())?))
            }
        }
    }

    /// The images for training and those held out: the data's own part, or a share of the images, those with the smallest checksums of their names. Both
    /// have the same categories.
    ///
    /// # Errors
    /// Files that cannot be used; other categories in the part that is held out.
    pub fn splits(&self, config: &BoxDataConfig) -> Result<(BoxList, Option<BoxList>), DataError> {
        let none = || DataError::format(Path::new("data.path"), "images for training", "none");
        let train = self.list(Part::Train)?.ok_or_else(none)?;
        if let Some(val) = self.list(Part::Val)? {
            let names = |list: &BoxList| list.categories.iter().map(|category| category.name.clone()).collect::<Vec<_>>();
            let [own, held_out] = [names(&train), names(&val)];
            if own != held_out && !matches!(self, Self::Yolo(_)) {
                let (expected, found) = (format!("the categories of {}: {own:?}", train.path.display()), format!("{held_out:?}"));
                return Err(DataError::format(&val.path, expected, found));
            }
            return Ok((train, Some(val)));
        }
        Ok(train.hold_out(config.val_fraction))
    }
}

/// The annotations of a part in a folder.
fn annotations_of(folder: &Path, part: Part) -> Option<PathBuf> {
    let of_name = |name: &&str| {
        let fixed = [folder.join(name).join("_annotations.coco.json"), folder.join(format!("{name}.json"))];
        let found = fixed.into_iter().find(|file| file.is_file());
        found.or_else(|| named(&folder.join("annotations"), &format!("instances_{name}")))
    };
    let whole = || ["annotations.json", "_annotations.coco.json", "instances.json"].map(|name| folder.join(name));
    let single = || whole().into_iter().find(|file| part == Part::Train && file.is_file());
    part.names().iter().find_map(of_name).or_else(single)
}

/// The first file of a folder whose name begins so.
fn named(folder: &Path, begins: &str) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    files.into_iter().find(|file| name(file).starts_with(begins) && name(file).contains(".json"))
}

impl BoxList {
    /// Holds out a share of the images; the problems stay with the images for training.
    fn hold_out(mut self, share: f64) -> (Self, Option<Self>) {
        let count = ((self.images.len() as f64 * share).round() as usize).min(self.images.len().saturating_sub(1));
        if count == 0 {
            return (self, None);
        }
        let name = |list: &Self, i: usize| list.images.get(i).map(|image| super::list::shown(&image.path)).unwrap_or_default();
        let mut order: Vec<(u32, String, usize)> =
            (0..self.images.len()).map(|i| (crc32c::crc32c(name(&self, i).as_bytes()), name(&self, i), i)).collect();
        order.sort();
        let mut is_held = vec![false; self.images.len()];
        order.iter().take(count).for_each(|(.., i)| is_held.get_mut(*i).into_iter().for_each(|held| *held = true));
        let mut val = Self { problems: Default::default(), ..self.clone() };
        self.keep(&is_held, false);
        val.keep(&is_held, true);
        (self, Some(val))
    }

    /// Keeps the images whose flag has this value, and their objects.
    fn keep(&mut self, flags: &[bool], value: bool) {
        let kept = |image: usize| flags.get(image) == Some(&value);
        let mut next = 0;
        let numbers: Vec<u32> = (0..self.images.len())
            .map(|i| {
                if kept(i) {
                    next += 1;
                    next - 1
                } else {
                    0
                }
            })
            .collect();
        let mut index = 0;
        self.images.retain(|_| {
            index += 1;
            kept(index - 1)
        });
        self.annotations.retain(|object| kept(object.image as usize));
        self.annotations.iter_mut().for_each(|object| object.image = numbers.get(object.image as usize).copied().unwrap_or(0));
    }
}
