//! Read-only files in memory: small ones copied, large ones mapped.
//!
//! A mapped file can be truncated by another process. Reading a page past its new end raises SIGBUS, which by default kills the process
//! without a word. Two guards turn that into a message:
//! 1. every [`Mapped::range`] asks the file's length and modification time first and returns [`DataError::Truncated`] or
//!    [`DataError::Modified`];
//! 2. for the moment between that check and the read, a SIGBUS handler looks the address up among the mapped files, prints which file was
//!    truncated and leaves with exit code [`TRUNCATED_EXIT_CODE`]. A SIGBUS at any other address goes to whoever handled it before.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::{Mmap, MmapOptions};

use super::DataError;
use crate::files::{FileError, IoError, refuse_device};
use crate::memory::OutOfMemory;

/// Files below this size are copied into memory: 4 MiB.
pub const COPY_BELOW_BYTES: u64 = 4 << 20;

/// Exit code of a process that read a page of a file after another process had cut it off: "bad input data".
pub const TRUNCATED_EXIT_CODE: i32 = 3;

/// A function for `map_err` on a file of this size that cannot be mapped. A map takes address space, not memory, but `ulimit -v` counts it.
fn not_mapped(path: &Path, bytes: u64) -> impl FnOnce(io::Error) -> DataError {
    const WAY: &str = "a mapped file takes address space, not memory: raise the limit (ulimit -v)";
    move |error| match error.kind() {
        io::ErrorKind::OutOfMemory => FileError::memory(path, WAY)(OutOfMemory::refused(bytes)).into(),
        _ => IoError::at(path, "map")(error).into(),
    }
}

/// A file whose bytes can be read as a slice.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Copied(Vec<u8>),
    Mapped { file: File, map: Mmap, modified: Option<SystemTime>, _guard: sigbus::Guard },
}

impl Mapped {
    /// Opens `path`: copied when smaller than [`COPY_BELOW_BYTES`], mapped otherwise.
    ///
    /// # Errors
    /// A file that cannot be opened, read or mapped, a folder, or a device.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_copying_below(path, COPY_BELOW_BYTES)
    }

    /// Opens `path`: copied when smaller than `copy_below_bytes` (or empty), mapped otherwise.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_copying_below(path: &Path, copy_below_bytes: u64) -> Result<Self, DataError> {
        let mut file = File::open(path).map_err(IoError::at(path, "open"))?;
        let metadata = file.metadata().map_err(IoError::at(path, "read the size of"))?;
        refuse_device(path, &metadata)?;
        if metadata.is_dir() {
            return Err(DataError::format(path, "a file", "a folder"));
        }
        if metadata.len() < copy_below_bytes || metadata.len() == 0 || !metadata.is_file() {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(IoError::at(path, "read"))?;
            return Ok(Self { path: path.to_path_buf(), content: Content::Copied(bytes) });
        }
        // SAFETY: the map is private and read-only. A slice of it is unsound only if the file changes while it is read: `range` refuses
        // a file that has changed, values are copied out of the slice and checked after copying, and a truncation ends the process in
        // the handler below.
        let map = unsafe { MmapOptions::new().map_copy_read_only(&file) }.map_err(not_mapped(path, metadata.len()))?;
        let _guard = sigbus::Guard::new(&map, path);
        let content = Content::Mapped { file, map, modified: metadata.modified().ok(), _guard };
        Ok(Self { path: path.to_path_buf(), content })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length when the file was opened, in bytes.
    pub fn len(&self) -> usize {
        self.raw().len()
    }

    /// Whether the file had no bytes when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the file is mapped, not copied.
    pub fn is_mapped(&self) -> bool {
        matches!(self.content, Content::Mapped { .. })
    }

    /// All bytes, after checking that the file has not changed since it was opened.
    ///
    /// # Errors
    /// The file has changed.
    pub fn bytes(&self) -> Result<&[u8], DataError> {
        self.check()?;
        Ok(self.raw())
    }

    /// `len` bytes from `start`, after checking that the file has not changed since it was opened. Does not allocate.
    ///
    /// # Errors
    /// The file has changed, or does not have these bytes.
    pub fn range(&self, start: usize, len: usize) -> Result<&[u8], DataError> {
        self.check()?;
        let slice = start.checked_add(len).and_then(|end| self.raw().get(start..end));
        slice.ok_or_else(|| DataError::Range {
            path: self.path.clone(),
            unit: "bytes",
            start: start as u64,
            end: (start as u64).saturating_add(len as u64),
            len: self.len() as u64,
        })
    }

    /// Refuses a mapped file whose length or modification time has changed.
    ///
    /// # Errors
    /// It has changed, or can no longer be asked.
    pub fn check(&self) -> Result<(), DataError> {
        let Content::Mapped { file, map, modified, .. } = &self.content else { return Ok(()) };
        let now: Metadata = file.metadata().map_err(IoError::at(&self.path, "read the size of"))?;
        let expected_bytes = map.len() as u64;
        if now.len() < expected_bytes {
            return Err(DataError::Truncated { path: self.path.clone(), expected_bytes, found_bytes: now.len() });
        }
        if now.len() != expected_bytes || now.modified().ok() != *modified {
            return Err(DataError::Modified { path: self.path.clone() });
        }
        Ok(())
    }

    fn raw(&self) -> &[u8] {
        match &self.content {
            Content::Copied(bytes) => bytes,
            Content::Mapped { map, .. } => map,
        }
    }
}

#[cfg(unix)]
mod sigbus {
    //! The handler, and the list of maps that it searches.

    use std::path::Path;
    use std::ptr;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

    use super::TRUNCATED_EXIT_CODE;

    /// One mapped file. Records are never freed (some hundred bytes per mapped file), so that the handler can walk the list at any time.
    struct Record {
        start: usize,
        end: usize,
        message: Box<[u8]>,
        mapped: AtomicBool,
        next: *const Record,
    }

    static NEWEST: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());
    static INSTALL: Once = Once::new();
    static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

    /// While it lives, a SIGBUS inside the map ends the process with a message.
    #[derive(Debug)]
    pub(super) struct Guard(&'static AtomicBool);

    impl Guard {
        pub(super) fn new(map: &[u8], path: &Path) -> Self {
            INSTALL.call_once(install);
            let message = format!(
                "error: {}: the file was truncated by another process while it was being read; restore it, then resume\n",
                path.display()
            );
            let start = map.as_ptr() as usize;
            let record = Box::leak(Box::new(Record {
                start,
                end: start.saturating_add(map.len()),
                message: message.into_bytes().into_boxed_slice(),
                mapped: AtomicBool::new(true),
                next: NEWEST.load(Ordering::Acquire),
            }));
            let record_ptr: *mut Record = record;
            loop {
                // SAFETY: `record_ptr` comes from a leaked box and is not yet published, so this thread alone uses it.
                let next = unsafe { (*record_ptr).next };
                match NEWEST.compare_exchange(next.cast_mut(), record_ptr, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break,
                    // SAFETY: as above, still unpublished.
                    Err(newest) => unsafe { (*record_ptr).next = newest },
                }
            }
            // SAFETY: the record is leaked, so it lives for ever, and from here on it is only read.
            Self(unsafe { &(*record_ptr).mapped })
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Release);
        }
    }

    fn install() {
        // SAFETY: all-zero is a valid `sigaction`; the pointers passed live through the calls; the handler has the signature that
        // SA_SIGINFO asks for and calls async-signal-safe functions only.
        unsafe {
            let previous: &mut libc::sigaction = Box::leak(Box::new(std::mem::zeroed()));
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            if libc::sigaction(libc::SIGBUS, ptr::null(), previous) == 0 {
                PREVIOUS.store(previous, Ordering::Release);
                libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
            }
        }
    }

    extern "C" fn handle(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        // SAFETY: the kernel passes a valid `siginfo_t`; records are never freed; `write`, `_exit` and `sigaction` are async-signal-safe.
        unsafe {
            let address = (*info).si_addr() as usize;
            // A signal sent by a process has a code of 0 or less, and no address.
            let is_fault = (*info).si_code > 0;
            let mut record: *const Record = NEWEST.load(Ordering::Acquire);
            while let Some(r) = record.as_ref() {
                if is_fault && r.mapped.load(Ordering::Acquire) && (r.start..r.end).contains(&address) {
                    libc::write(libc::STDERR_FILENO, r.message.as_ptr().cast(), r.message.len());
                    libc::_exit(TRUNCATED_EXIT_CODE);
                }
                record = r.next;
            }
            // Not ours: the instruction runs again after the return, under the previous handler.
            libc::sigaction(libc::SIGBUS, PREVIOUS.load(Ordering::Acquire), ptr::null_mut());
        }
    }
}

#[cfg(not(unix))]
mod sigbus {
    //! Systems that refuse to truncate a mapped file need no handler.

    #[derive(Debug)]
    pub(super) struct Guard;

    impl Guard {
        pub(super) fn new(_map: &[u8], _path: &std::path::Path) -> Self {
            Self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn small_files_are_copied_and_large_ones_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.bin");
        fs::write(&path, [1, 2, 3, 4]).unwrap();
        let copied = Mapped::open(&path).unwrap();
        let mapped = Mapped::open_copying_below(&path, 0).unwrap();
        assert!(!copied.is_mapped() && mapped.is_mapped());
        for file in [&copied, &mapped] {
            assert_eq!(file.bytes().unwrap(), [1, 2, 3, 4]);
            assert_eq!(file.range(1, 2).unwrap(), [2, 3]);
            assert!(file.range(4, 0).unwrap().is_empty());
            let message = file.range(3, 2).unwrap_err().to_string();
            assert!(message.contains("data.bin") && message.contains("3..5") && message.contains("has 4"), "{message}");
            assert!(file.range(usize::MAX, 2).is_err());
        }
    }

    #[test]
    fn empty_files_missing_files_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        fs::write(&path, []).unwrap();
        assert!(Mapped::open_copying_below(&path, 0).unwrap().is_empty());
        assert!(matches!(Mapped::open(folder.path()), Err(DataError::File(_))));
        let message = Mapped::open(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(message.contains("absent"), "{message}");
    }

    #[test]
    fn truncation_and_modification_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.bin");
        fs::write(&path, [7; 100]).unwrap();
        let mapped = Mapped::open_copying_below(&path, 0).unwrap();
        let copied = Mapped::open(&path).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(50).unwrap();
        assert!(matches!(mapped.range(0, 1), Err(DataError::Truncated { expected_bytes: 100, found_bytes: 50, .. })));
        assert_eq!(copied.range(99, 1).unwrap(), [7]);

        fs::write(&path, [7; 100]).unwrap();
        let mapped = Mapped::open_copying_below(&path, 0).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(matches!(mapped.check(), Err(DataError::Modified { .. })));
    }
}
