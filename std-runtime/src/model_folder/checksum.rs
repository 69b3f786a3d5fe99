//! A fingerprint of the weights in a folder: its files with their checksums.

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::DataError;
use crate::data::mapped::Mapped;
use crate::files::IoError;

/// A file with weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsFile {
    /// Its name.
    pub name: String,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
    /// How many they are.
    pub bytes: u64,
}

/// The safetensors files of a folder, sorted by name.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn weights_files(folder: &Path) -> Result<Vec<WeightsFile>, DataError> {
    let entries = fs::read_dir(folder).map_err(IoError::at(folder, "list"))?.flatten();
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    paths.sort();
    let of = |path: &PathBuf| {
        let (file, name) = (Mapped::open(path)?, path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        Ok(WeightsFile { name, crc32c: crc32c::crc32c(file.bytes()?), bytes: file.len() as u64 })
    };
    paths.iter().map(of).collect()
}
