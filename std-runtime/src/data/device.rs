//! Files that have no end.

use std::fs::Metadata;
use std::path::Path;

use super::DataError;

/// Refuses devices: `/dev/zero` would be read until memory is full. Files, folders and pipes pass.
pub(crate) fn refuse(path: &Path, metadata: &Metadata) -> Result<(), DataError> {
    if is_device(metadata) { Err(DataError::format(path, "a file, a folder or a pipe", "a device")) } else { Ok(()) }
}

#[cfg(unix)]
fn is_device(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: &Metadata) -> bool {
    false
}
