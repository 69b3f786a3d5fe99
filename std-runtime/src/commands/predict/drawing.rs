//! Pictures of predictions in a folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::Error;
use crate::files::IoError;
use crate::vision::image::Image;
use crate::vision::image::write::write;

/// A folder of pictures with the names of the images.
pub(super) struct Drawings {
    folder: PathBuf,
    names: BTreeSet<String>,
}

impl Drawings {
    /// Creates the folder.
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create the folder"))?;
        Ok(Self { folder: folder.to_owned(), names: BTreeSet::new() })
    }

    /// Writes the picture of an image. The image itself is never written over.
    pub(super) fn write(&mut self, image: &Path, picture: &Image) -> Result<(), Error> {
        let stem = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let names = (0..).map(|i| if i == 0 { stem.clone() } else { format!("{stem}-{i}") });
        let name = names.into_iter().find(|name| !self.names.contains(name)).unwrap_or_default();
        let path = self.folder.join(format!("{name}.png"));
        if let (Ok(from), Ok(to)) = (fs::canonicalize(image), fs::canonicalize(&path))
            && from == to
        {
            let folder = self.folder.display();
            return Err(Error::usage(format!(
                "--draw {folder}: {} would be written over: choose another folder",
                image.display()
            )));
        }
        self.names.insert(name);
        Ok(write(&path, picture)?)
    }
}
