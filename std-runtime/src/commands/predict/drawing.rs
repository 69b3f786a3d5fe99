//! Pictures of predictions in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::super::Error;
use crate::files::IoError;
use crate::vision::image::Image;
use crate::vision::image::write::write;

/// A folder of pictures with the names of the images.
pub(super) struct Drawings {
    /// The picture of every image.
    places: BTreeMap<PathBuf, PathBuf>,
}

impl Drawings {
    /// Creates the folder. No file in it is written over.
    pub(super) fn new(folder: &Path, images: &[PathBuf]) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder"))?;
        let (mut names, mut places) = (BTreeSet::new(), BTreeMap::new());
        for image in images {
            if places.contains_key(image) {
                continue;
            }
            let stem = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut all = (0..).map(|i| if i == 0 { stem.clone() } else { format!("{stem}-{i}") });
            let name = all.find(|name| !names.contains(name)).unwrap_or_default();
            let path = folder.join(format!("{name}.png"));
            if fs::symlink_metadata(&path).is_ok() {
                let (folder, path) = (folder.display(), path.display());
                return Err(Error::usage(format!(
                    "--draw {folder}: {path} is there and is not overwritten: choose another folder, or remove it"
                )));
            }
            names.insert(name);
            places.insert(image.clone(), path);
        }
        Ok(Self { places })
    }

    /// Writes the picture of an image.
    pub(super) fn write(&self, image: &Path, picture: &Image) -> Result<(), Error> {
        Ok(self.places.get(image).map_or(Ok(()), |path| write(path, picture))?)
    }
}
