//! A run folder belongs to one process at a time.
//!
//! The operating system holds the lock and releases it when the process ends in any way. The locked file contains the process id, for messages, and
//! is removed with the lock where the system allows that.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{process, thread};

use thiserror::Error;

use crate::error::{Failure, Kind};
use crate::files::IoError;
use crate::say;

/// The file that is locked.
pub const LOCK_FILE: &str = "run.lock";

/// Why a folder cannot be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Another process has it.
    #[error("{}: another process{} writes into this run; wait for it or end it, or choose another --out", folder.display(), of(pid))]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// The process id recorded in the lock file.
        pid: String,
    },
}

fn of(pid: &str) -> String {
    if pid.is_empty() { String::new() } else { format!(" (pid {pid})") }
}

impl Failure for LockError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Taken { .. } => Kind::Usage,
        }
    }
}

/// A locked folder, until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Locks a folder for this process.
    ///
    /// # Errors
    /// Another process has it, or the operating system refuses to write there.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(LOCK_FILE);
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = file.map_err(IoError::at(&path, "open"))?;
            match file.try_lock() {
                // The previous owner may have removed the file after it was opened here.
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Taken { folder: folder.to_owned(), pid: pid_in(&path) }),
                Err(TryLockError::Error(error)) => say::line(&format!(
                    "warning: {}: cannot lock: {error}; make sure that no other process writes into this run",
                    path.display()
                )),
            }
            file.set_len(0).and_then(|()| file.rewind()).map_err(IoError::at(&path, "write"))?;
            write!(file, "{}", process::id()).map_err(IoError::at(&path, "write"))?;
            return Ok(Self { file, path });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // While it is locked: a process that opens the path afterwards creates a new file.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

/// The process that has the lock; empty if it is not recorded.
fn pid_in(path: &Path) -> String {
    // It writes its id right after it took the lock.
    for _ in 0..10 {
        let pid = fs::read_to_string(path).unwrap_or_default();
        if !pid.is_empty() {
            return pid;
        }
        thread::sleep(Duration::from_millis(10));
    }
    String::new()
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).ok() == fs::metadata(path).map(id).ok()
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_and_a_dead_one_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let message = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("another process (pid {}) writes into this run", process::id())), "{message}");
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // The state that a killed process leaves.
        fs::write(folder.path().join(LOCK_FILE), "4194304").unwrap();
        FolderLock::take(folder.path()).unwrap();
    }
}
