//! Images with captions: rows with a file and its captions, COCO's captions, or a folder of images with a text beside each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::data::DataError;
use crate::data::objects::for_each_object;
use crate::data::options::TextOptions;
use crate::files::IoError;
use crate::image_text::config::PairDataConfig;
use crate::vision::data::list::Split;
use crate::vision::image::read::is_image_name;

/// A caption and its image, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The number of the image in its list.
    pub image: usize,
    /// The caption.
    pub caption: String,
}

/// Images with one or more captions each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captioned {
    /// Files, each once.
    pub images: Vec<PathBuf>,
    /// In the order of the data.
    pub pairs: Vec<Pair>,
}

/// Pairs for training, and held-out ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairList {
    /// For training.
    pub train: Captioned,
    /// Held out.
    pub val: Captioned,
    /// What is left out, in words.
    pub notes: Vec<String>,
}

impl PairList {
    /// The pairs of a data set: its own split `val`, or else `data.val_fraction` of the images.
    ///
    /// # Errors
    /// Data that cannot be read; rows without a file or a caption; no pairs.
    pub fn open(path: &Path, config: &PairDataConfig) -> Result<Self, DataError> {
        let mut found = Self::default();
        let metadata = fs::metadata(path).map_err(IoError::at(path, "read"))?;
        let own_split = if metadata.is_dir() {
            found.of_folder(path)?;
            false
        } else if let Some(coco) = Coco::read(path)? {
            found.of_coco(path, coco, config)?;
            false
        } else {
            found.of_rows(path, config)?
        };
        if !own_split {
            found.hold_out(path, config.val_fraction);
        }
        if found.train.pairs.is_empty() {
            return Err(DataError::format(path, "images with captions for training", "none"));
        }
        Ok(found)
    }

    /// Images with a text file of the same name, a caption on each of its lines.
    fn of_folder(&mut self, path: &Path) -> Result<(), DataError> {
        let mut entries = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(IoError::at(path, "list"))? {
            entries.insert(entry.map_err(IoError::at(path, "list"))?.path());
        }
        let (mut alone, mut empty) = (0, 0);
        for image in entries.iter().filter(|entry| is_image_name(entry)) {
            let beside = image.with_extension("txt");
            if !entries.contains(&beside) {
                alone += 1;
                continue;
            }
            let text = fs::read_to_string(&beside).map_err(IoError::at(&beside, "read"))?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            empty += u64::from(lines.map(|line| self.train.push(image.clone(), line)).count() == 0);
        }
        self.notes.extend((alone > 0).then(|| format!("{alone} images without a .txt of the same name are left out")));
        self.notes.extend((empty > 0).then(|| format!("{empty} images with an empty .txt are left out")));
        Ok(())
    }

    /// Captions of COCO: files are beside the annotations, or in `data.image_root`.
    fn of_coco(&mut self, path: &Path, coco: Coco, config: &PairDataConfig) -> Result<(), DataError> {
        for row in coco.rows(path, config) {
            let (_, file, captions) = row?;
            captions.iter().for_each(|caption| self.train.push(file.clone(), caption));
        }
        Ok(())
    }

    /// Rows; returns whether they have a split of their own.
    fn of_rows(&mut self, path: &Path, config: &PairDataConfig) -> Result<bool, DataError> {
        let (mut own_split, mut tests) = (false, 0);
        for_each_row(path, config, &mut |row| {
            let (split, file, captions) = row?;
            let to = match split {
                Split::Val => {
                    own_split = true;
                    &mut self.val
                }
                Split::Test => {
                    tests += 1;
                    return Ok(());
                }
                Split::Train | Split::All => &mut self.train,
            };
            captions.iter().for_each(|caption| to.push(file.clone(), caption));
            Ok(())
        })?;
        self.notes.extend((tests > 0).then(|| format!("{tests} rows of the split test are left out")));
        Ok(own_split)
    }

    /// Holds out a share of the images, those with the smallest checksums of their names, so that other files do not change the choice.
    fn hold_out(&mut self, path: &Path, share: f64) {
        let root = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let all = std::mem::take(&mut self.train);
        let key = |file: &PathBuf| {
            let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
            (crc32c::crc32c(name.as_bytes()), name)
        };
        let mut keys: Vec<_> = all.images.iter().map(key).collect();
        keys.sort();
        let count = ((keys.len() as f64 * share).round() as usize).min(keys.len().saturating_sub(1));
        let held: BTreeSet<_> = keys.into_iter().take(count).collect();
        for Pair { image, caption } in all.pairs {
            let Some(file) = all.images.get(image) else { continue };
            let to = if held.contains(&key(file)) { &mut self.val } else { &mut self.train };
            to.push(file.clone(), &caption);
        }
    }
}

/// Whether a folder has images with texts beside them, or a file is COCO's annotations with captions.
///
/// # Errors
/// A file that cannot be read.
pub fn has_captions(path: &Path) -> Result<bool, DataError> {
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(IoError::at(path, "list"))?;
        let has_text = |file: PathBuf| is_image_name(&file) && file.with_extension("txt").is_file();
        return Ok(entries.flatten().any(|entry| has_text(entry.path())));
    }
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(false);
    }
    // Annotations come after the images.
    const LAST: u64 = 1 << 16;
    let read = || -> std::io::Result<(u8, Vec<u8>)> {
        let mut file = fs::File::open(path)?;
        let (mut first, mut last) = ([0], Vec::new());
        file.read_exact(&mut first)?;
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(len.saturating_sub(LAST)))?;
        file.read_to_end(&mut last)?;
        Ok((first[0], last))
    };
    let (first, last) = match read() {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
        read => read.map_err(IoError::at(path, "read"))?,
    };
    let has = |key: &[u8]| last.windows(key.len()).any(|window| window == key);
    Ok(first == b'{' && has(b"\"caption\"") && has(b"\"image_id\""))
}

impl Captioned {
    /// Adds a pair. Captions of one image follow each other.
    fn push(&mut self, file: PathBuf, caption: &str) {
        if self.images.last() != Some(&file) {
            self.images.push(file);
        }
        self.pairs.push(Pair { image: self.images.len() - 1, caption: caption.trim().to_owned() });
    }

    /// These pairs, then those of another list.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        let before = self.images.len();
        self.images.extend(others.images);
        self.pairs.extend(others.pairs.into_iter().map(|pair| Pair { image: before + pair.image, ..pair }));
        self
    }

    /// The pairs of these images.
    #[must_use]
    pub fn only(self, kept: &[bool]) -> Self {
        let mut left = Self::default();
        let keep = |image: usize| kept.get(image).copied().unwrap_or(false);
        let mut numbers = Vec::new();
        for (image, file) in self.images.into_iter().enumerate() {
            numbers.push(left.images.len());
            left.images.extend(keep(image).then_some(file));
        }
        let pairs = self.pairs.into_iter().filter(|pair| keep(pair.image));
        left.pairs = pairs.map(|pair| Pair { image: numbers[pair.image], ..pair }).collect();
        left
    }

    /// The same with every file once, whatever the order of the data.
    #[must_use]
    pub fn merged(self) -> Self {
        let mut numbers = BTreeMap::new();
        let mut merged = Self::default();
        for Pair { image, caption } in self.pairs {
            let Some(file) = self.images.get(image) else { continue };
            let image = *numbers.entry(file.clone()).or_insert_with(|| {
                merged.images.push(file.clone());
                merged.images.len() - 1
            });
            merged.pairs.push(Pair { image, caption });
        }
        merged
    }
}

/// A row: its split, the file of its image, its captions.
pub(super) type Row = (Split, PathBuf, Vec<String>);

/// Passes every row of a file to `take`, or what is wrong with it.
pub(super) fn for_each_row(
    path: &Path,
    config: &PairDataConfig,
    take: &mut dyn FnMut(Result<Row, DataError>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let root = config.image_root.clone().unwrap_or_else(|| path.parent().unwrap_or(Path::new("")).to_owned());
    for_each_object(path, &TextOptions { skip_setting: None, ..TextOptions::default() }, &mut |(row, line)| {
        take(row.and_then(|row| {
            let wrong = |key: &str, expected: &str| DataError::Line {
                path: path.to_owned(),
                line,
                column: 1,
                expected: format!("{expected} under {key:?}"),
                found: row.get(key).map_or_else(|| format!("keys {:?}", row.keys().collect::<Vec<_>>()), Value::to_string),
            };
            let (of_image, of_caption) = (&config.image_field, &config.caption_field);
            let file = row.get(of_image).and_then(Value::as_str).filter(|file| !file.is_empty());
            let file = root.join(file.ok_or_else(|| wrong(of_image, "the file of an image"))?);
            let captions = row.get(of_caption).and_then(captions).filter(|captions| !captions.is_empty());
            let captions = captions.ok_or_else(|| wrong(of_caption, "a caption, or a list of captions"))?;
            let split = match row.get("split").and_then(Value::as_str).map(str::to_lowercase).as_deref() {
                None | Some("train" | "training" | "restval") => Split::Train,
                Some("val" | "valid" | "validation" | "dev") => Split::Val,
                Some("test" | "testing") => Split::Test,
                Some(_) => return Err(wrong("split", "train, val or test")),
            };
            Ok((split, file, captions.into_iter().map(str::to_owned).collect()))
        }))
    })
}

/// The captions of a row, none of them empty.
fn captions(value: &Value) -> Option<Vec<&str>> {
    let all: Vec<&str> = match value {
        Value::String(caption) => vec![caption],
        Value::Array(all) => all.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    all.iter().all(|caption| !caption.trim().is_empty()).then_some(all)
}

/// COCO's captions.
#[derive(Deserialize)]
pub(super) struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    caption: String,
}

impl Coco {
    /// Its captions one by one, or what is wrong with one.
    pub(super) fn rows(self, path: &Path, config: &PairDataConfig) -> impl Iterator<Item = Result<Row, DataError>> {
        let root = config.image_root.clone().unwrap_or_else(|| path.parent().unwrap_or(Path::new("")).to_owned());
        let files: HashMap<i64, String> = self.images.into_iter().map(|image| (image.id, image.file_name)).collect();
        self.annotations.into_iter().map(move |Annotation { image_id, caption }| {
            let wrong = |expected, what| Err(DataError::format(path, expected, format!("{what}image_id {image_id}")));
            match files.get(&image_id) {
                None => wrong("captions of images that are listed", ""),
                Some(_) if caption.trim().is_empty() => wrong("captions", "an empty one of "),
                Some(file) => Ok((Split::Train, root.join(file), vec![caption])),
            }
        })
    }

    /// The captions of a file named `*.json` with images and annotations; `None` for another file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, DataError> {
        if path.extension().is_none_or(|extension| extension != "json") {
            return Ok(None);
        }
        let text = fs::read(path).map_err(IoError::at(path, "read"))?;
        if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Ok(None);
        }
        let wrong = |error: serde_json::Error| {
            let expected = "an object with \"images\" (\"id\", \"file_name\") and \"annotations\" (\"image_id\", \"caption\")";
            DataError::format(path, expected, error.to_string())
        };
        serde_json::from_slice(&text).map(Some).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, content: &str, val_fraction: f64) -> Result<PairList, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let config = PairDataConfig { val_fraction, ..PairDataConfig::default() };
        let mut list = PairList::open(&path, &config).map_err(|error| error.to_string())?;
        for image in list.train.images.iter_mut().chain(&mut list.val.images) {
            *image = image.strip_prefix(folder.path()).unwrap().to_owned();
        }
        Ok(list)
    }

    fn shown(all: &Captioned) -> Vec<String> {
        all.pairs.iter().map(|pair| format!("{}:{}", all.images[pair.image].display(), pair.caption)).collect()
    }

    #[test]
    fn rows_have_captions_and_splits() {
        let rows = "{\"image\": \"a.png\", \"caption\": [\"one\", \" two \"]}\n{\"image\": \"b.png\", \"caption\": \"x\", \"split\": \"val\"}\n\
                    {\"image\": \"a.png\", \"caption\": \"three\"}\n{\"image\": \"c.png\", \"caption\": \"y\", \"split\": \"test\"}\n";
        let found = list("a.jsonl", rows, 0.5).unwrap();
        assert_eq!(shown(&found.train), ["a.png:one", "a.png:two", "a.png:three"]);
        assert_eq!((shown(&found.val), found.notes.len()), (vec!["b.png:x".to_owned()], 1));
        assert_eq!(found.train.images.len(), 1, "captions of one image follow each other in its list");
        let merged = found.train.merged();
        assert_eq!(
            (merged.images.len(), shown(&merged)),
            (1, vec!["a.png:one".into(), "a.png:two".into(), "a.png:three".into()])
        );
    }

    #[test]
    fn coco_captions_and_a_share_of_images_is_held_out() {
        let coco = r#"{"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
            "annotations": [{"image_id": 9, "caption": "B"}, {"image_id": 7, "caption": "A"}, {"image_id": 9, "caption": "B2"}]}"#;
        assert_eq!(shown(&list("a.json", coco, 0.0).unwrap().train), ["b.jpg:B", "a.jpg:A", "b.jpg:B2"]);
        let half = list("a.json", coco, 0.5).unwrap();
        assert_eq!(half.train.clone().merged().images.len() + half.val.clone().merged().images.len(), 2);
        assert_eq!(half.train.pairs.len() + half.val.pairs.len(), 3);
        assert!(list("a.json", &coco.replace("\"image_id\": 7", "\"image_id\": 8"), 0.0).unwrap_err().contains("image_id 8"));
        assert!(list("a.json", "{\"images\": 3}", 0.0).unwrap_err().contains("expected an object with \"images\""));
    }

    #[test]
    fn a_row_without_a_caption_is_named() {
        for (row, expected) in [
            ("{\"image\": \"a.png\"}", "a caption, or a list of captions under \"caption\", found keys [\"image\"]"),
            ("{\"image\": \"a.png\", \"caption\": []}", "a caption, or a list of captions under \"caption\", found []"),
            ("{\"image\": \"a.png\", \"caption\": \" \"}", "found \" \""),
            ("{\"caption\": \"x\"}", "the file of an image under \"image\""),
            ("{\"image\": \"a.png\", \"caption\": \"x\", \"split\": \"z\"}", "train, val or test under \"split\", found \"z\""),
        ] {
            let error = list("a.jsonl", &format!("{{\"image\": \"a.png\", \"caption\": \"x\"}}\n{row}\n"), 0.0).unwrap_err();
            assert!(error.contains("a.jsonl:2:1: expected") && error.contains(expected), "{error}");
        }
    }
}
