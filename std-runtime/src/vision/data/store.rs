//! Images as bytes of one size in one file, which is mapped: decoded and resized once.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::list::Labelled;
use crate::data::DataError;
use crate::data::mapped::Mapped;
use crate::files::{FileError, IoError};
use crate::run::durable::{self, DurableFile};
use crate::stop::Stop;
use crate::vision::config::BadImage;
use crate::vision::image::read::{bytes, decode};
use crate::vision::image::{CHANNELS, Image};

/// The description of a store, beside its pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    /// Height and width.
    size: [usize; 2],
    /// The class of every image.
    classes: Vec<usize>,
    /// CRC-32C of the files in order, and of their classes.
    content: u32,
    /// Height and width of every image in its frame, if images may be smaller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extents: Vec<[usize; 2]>,
}

/// How images have the size of their store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They have it.
    Exact,
    /// They may be smaller: each is in the left upper corner of a black frame, and its own size is stored as well.
    Framed,
}

/// Stored images with their classes.
pub struct ImageStore {
    index: Index,
    pixels: Mapped, // (images, H, W, 3)
}

/// What making a store has left out.
pub struct Made {
    /// The store.
    pub store: ImageStore,
    /// Errors of images that were left out.
    pub skipped: Vec<FileError>,
}

/// Images that are decoded at once.
const CHUNK: usize = 256;

impl ImageStore {
    /// Decodes images on all threads, shapes them by `shape` for frames of this size, and stores them as `path` and `path`.json.
    ///
    /// # Errors
    /// An image that cannot be read, unless those are skipped; the store cannot be written; a signal.
    pub fn make(
        path: &Path,
        images: &[Labelled],
        (size, fit): ([usize; 2], Fit),
        on_bad: BadImage,
        stop: &Stop,
        shape: impl Fn(&Image) -> Image + Sync,
    ) -> Result<Made, DataError> {
        let (mut writer, mut skipped) = (Writer::new(path, size)?, Vec::new());
        let mut numbers = 1..;
        for chunk in images.chunks(CHUNK) {
            stop.check()?;
            let decoded: Vec<_> = chunk.par_iter().map(|image| shaped(&image.path, (size, fit), &shape)).collect();
            for ((labelled, decoded), number) in chunk.iter().zip(decoded).zip(&mut numbers) {
                match decoded {
                    Ok((image, crc)) => writer.add(&image, crc, labelled.class, fit)?,
                    Err(error) if on_bad == BadImage::Skip => skipped.push(error),
                    Err(error) => return Err(DataError::Image { number, count: images.len(), error }),
                }
            }
        }
        Ok(Made { store: writer.finish()?, skipped })
    }

    /// Stores `count` images that `image` makes from their numbers, with their classes.
    ///
    /// # Errors
    /// The store cannot be written; a signal.
    pub fn generate(
        path: &Path,
        count: u64,
        size: [usize; 2],
        stop: &Stop,
        image: impl Fn(u64) -> (Image, usize) + Sync,
    ) -> Result<Self, DataError> {
        let mut writer = Writer::new(path, size)?;
        for first in (0..count).step_by(CHUNK) {
            stop.check()?;
            let made: Vec<_> = (first..count.min(first + CHUNK as u64)).into_par_iter().map(&image).collect();
            made.iter().try_for_each(|(image, class)| writer.add(image, crc32c::crc32c(image.pixels()), *class, Fit::Exact))?;
        }
        writer.finish()
    }

    /// Opens a store.
    ///
    /// # Errors
    /// Files that cannot be read, or do not belong together.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let beside = beside(path);
        let text = fs::read(&beside).map_err(IoError::at(&beside, "read"))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| DataError::format(&beside, "the index of stored images", error.to_string()))?;
        let pixels = Mapped::open(path)?;
        let expected = index.classes.len() * index.size[0] * index.size[1] * CHANNELS;
        if pixels.len() != expected {
            let found = format!("{} bytes; remove it", pixels.len());
            return Err(DataError::format(path, format!("{expected} bytes of stored images"), found));
        }
        Ok(Self { index, pixels })
    }

    /// Height and width of the images.
    pub fn size(&self) -> [usize; 2] {
        self.index.size
    }

    /// Height and width of an image in its frame.
    pub fn extents(&self, image: usize) -> [usize; 2] {
        self.index.extents.get(image).copied().unwrap_or(self.index.size)
    }

    /// The class of every image.
    pub fn classes(&self) -> &[usize] {
        &self.index.classes
    }

    /// A checksum of the image files and their classes.
    pub fn content(&self) -> u32 {
        self.index.content
    }

    /// The pixels of an image (H, W, 3).
    ///
    /// # Errors
    /// The file has changed, or has no such image.
    pub fn pixels(&self, image: usize) -> Result<&[u8], DataError> {
        let [height, width] = self.index.size;
        let len = height * width * CHANNELS;
        self.pixels.range(image.saturating_mul(len), len)
    }
}

/// A store under construction.
struct Writer<'p> {
    path: &'p Path,
    file: DurableFile,
    index: Index,
}

impl<'p> Writer<'p> {
    fn new(path: &'p Path, size: [usize; 2]) -> Result<Self, DataError> {
        let file = DurableFile::create(path).map_err(IoError::at(path, "create"))?;
        Ok(Self { path, file, index: Index { size, classes: Vec::new(), content: 0, extents: Vec::new() } })
    }

    /// Adds an image with the checksum of what it was made from.
    fn add(&mut self, image: &Image, crc: u32, class: usize, fit: Fit) -> Result<(), DataError> {
        match fit {
            Fit::Exact => self.file.write_all(image.pixels()),
            Fit::Framed => {
                self.index.extents.push(image.size());
                self.file.write_all(image.part([0, 0], self.index.size).pixels())
            }
        }
        .map_err(IoError::at(self.path, "write"))?;
        let words = [crc.to_le_bytes(), (class as u32).to_le_bytes()].concat();
        self.index.content = crc32c::crc32c_append(self.index.content, &words);
        self.index.classes.push(class);
        Ok(())
    }

    fn finish(self) -> Result<ImageStore, DataError> {
        self.file.commit().map_err(IoError::at(self.path, "write"))?;
        let beside = beside(self.path);
        let text = serde_json::to_vec(&self.index).unwrap_or_default();
        durable::write(&beside, &text).map_err(IoError::at(&beside, "write"))?;
        ImageStore::open(self.path)
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// An image as it is stored, and the checksum of its file.
fn shaped(path: &Path, (size, fit): ([usize; 2], Fit), shape: &impl Fn(&Image) -> Image) -> Result<(Image, u32), FileError> {
    let bytes = bytes(path)?;
    let crc = crc32c::crc32c(&bytes);
    let image = shape(&decode(path, bytes)?);
    let fits = match fit {
        Fit::Exact => image.size() == size,
        Fit::Framed => image.size().iter().zip(size).all(|(&own, most)| own <= most),
    };
    if !fits {
        let [height, width] = size;
        return Err(FileError::format(
            path,
            format!("a processor that makes {height} x {width} pixels"),
            format!("{:?}", image.size()),
        ));
    }
    Ok((image, crc))
}
