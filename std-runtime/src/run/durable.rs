//! Atomic file writes: a file is either complete and synced to disk, or unchanged.
//!
//! The content is written next to its destination under a temporary name, synced, and renamed over the destination, and the folder is synced. A crash
//! or a full disk leaves the old file unchanged; a failed write removes its temporary file and returns the system's error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file under construction. It is deleted if it is dropped before [`DurableFile::commit`].
#[derive(Debug)]
pub struct DurableFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl DurableFile {
    /// Starts a file that will be `path`. Its folder must exist.
    ///
    /// # Errors
    /// No file name, a folder in its place, or a refusal of the operating system.
    pub fn create(path: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder is in the place of the file"));
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut temporary_name = name.to_os_string();
        temporary_name.push(format!(".{}-{count}.tmp", process::id()));
        let temporary = path.with_file_name(temporary_name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        let writer = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { path: path.to_path_buf(), temporary, writer })
    }

    /// The path of the destination.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and moves it to its destination. After an error the temporary file is removed and the old file is unchanged.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn commit(mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let result = flush_and_sync(writer).and_then(|()| fs::rename(&self.temporary, &self.path));
        if result.is_err() {
            remove_quietly(&self.temporary);
        }
        result?;
        sync_folder_of(&self.path)
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.as_mut().map_or(Ok(0), |writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for DurableFile {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // `into_parts` drops the buffered bytes: writing them to a full disk would only fail again.
            drop(writer.into_parts());
            remove_quietly(&self.temporary);
        }
    }
}

/// Writes a small file durably.
///
/// # Errors
/// As [`DurableFile::create`] and [`DurableFile::commit`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = DurableFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Makes a rename or a new name in the folder of `path` durable.
///
/// # Errors
/// The operating system refuses.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The operating system refuses.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Other systems cannot open a folder as a file, and their renames are durable without it.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Flushes a writer's buffer and syncs its file.
pub(crate) fn flush_and_sync(writer: BufWriter<File>) -> io::Result<()> {
    match writer.into_inner() {
        Ok(file) => file.sync_all(),
        Err(failed) => {
            let (error, writer) = failed.into_parts();
            drop(writer.into_parts());
            Err(error)
        }
    }
}

/// A temporary file that cannot be removed is left behind: the error being returned is more important.
fn remove_quietly(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_abandoned_file_disappears_and_the_former_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"old").unwrap();
        let mut file = DurableFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn places_where_no_file_can_be() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_path_buf(), folder.path().join("absent/a.txt"), PathBuf::from("/")] {
            assert!(write(&path, b"x").is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_name_without_a_folder() {
        assert!(sync_folder_of(Path::new("a.txt")).is_ok());
    }
}
