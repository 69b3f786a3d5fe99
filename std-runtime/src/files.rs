//! Errors of any file: refused by the operating system, or of the wrong format.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::memory::{self, OutOfMemory, mib};

/// The path that stands for standard input.
pub const DASH: &str = "-";
/// The name of standard input in errors.
pub const STDIN: &str = "standard input";
/// The name of standard output in errors.
pub const STDOUT: &str = "standard output";

/// The operating system refused to do something with a file or a folder.
#[derive(Debug, Error)]
#[error("{}: cannot {action}: {source}", path.display())]
pub struct IoError {
    /// The file or folder.
    pub path: PathBuf,
    /// The attempted action: "read", "write", "create".
    pub action: &'static str,
    /// The system's answer.
    pub source: io::Error,
}

impl IoError {
    /// A function for `map_err`. It copies the path only when there is an error.
    pub fn at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_path_buf(), action, source }
    }

    /// Whether the reader of standard output has closed it.
    pub fn is_closed_output(&self) -> bool {
        self.path.as_os_str() == STDOUT && self.source.kind() == io::ErrorKind::BrokenPipe
    }
}

impl Failure for IoError {
    fn kind(&self) -> Kind {
        if self.source.kind() == io::ErrorKind::OutOfMemory { Kind::Failed } else { Kind::Io }
    }
}

/// A file that cannot be read or written, or has the wrong format.
#[derive(Debug, Error)]
pub enum FileError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file does not have the required format.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// The expected format.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The file's content takes more memory than is available.
    #[error("{}: its content takes {} MiB of memory, and {}; {way}", path.display(), mib(error.bytes), error.least())]
    Memory {
        /// The file.
        path: PathBuf,
        /// How much.
        error: OutOfMemory,
        /// The advice.
        way: &'static str,
    },
}

/// Content below this size fits into any machine's memory: it is not the file that is too large.
const SMALL: u64 = 64 << 20;

impl FileError {
    /// A function for `map_err` on memory for the content of `path` that cannot be allocated.
    pub(crate) fn memory(path: &Path, way: &'static str) -> impl FnOnce(OutOfMemory) -> Self {
        move |error| {
            let way = if error.bytes < SMALL { "raise this limit, or free memory" } else { way };
            Self::Memory { path: path.to_path_buf(), error, way }
        }
    }

    /// An error about the form of `path`.
    pub(crate) fn format(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Format { path: path.to_path_buf(), expected: expected.into(), found: found.into() }
    }
}

impl Failure for FileError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Format { .. } => Kind::Data,
            Self::Memory { error, .. } => error.kind(),
        }
    }
}

/// All of standard input.
pub(crate) fn read_stdin() -> Result<Vec<u8>, IoError> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(IoError::at(Path::new(STDIN), "read"))?;
    Ok(bytes)
}

/// Refuses a file whose content takes more memory than is available; `way` is the advice.
///
/// # Errors
/// The memory is not available.
pub(crate) fn ensure_memory(path: &Path, bytes: u64, way: &'static str) -> Result<(), FileError> {
    memory::ensure(bytes).map_err(FileError::memory(path, way))
}

/// The text of a file; empty if it does not exist. Invalid UTF-8 becomes U+FFFD.
pub(crate) fn text_if_there(path: &Path) -> Result<String, IoError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(IoError::at(path, "read")(error)),
    }
}

/// Refuses devices: `/dev/zero` would be read until memory is full. Files, folders and pipes pass.
pub(crate) fn refuse_device(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    if is_device(metadata) { Err(FileError::format(path, "a file, a folder or a pipe", "a device")) } else { Ok(()) }
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
