//! Checkpoints that survive a crash at any moment.
//!
//! A checkpoint is a folder `checkpoints/step-0000123/` with any files and a `manifest.json` that is written last: format version, step, hash of the
//! trainable parameters' names and shapes, the caller's state (random streams, data cursor), and length and CRC-32C of every file; the manifest
//! contains its own CRC. All files are written and synced in `step-0000123.tmp`, which is then renamed. Resume takes the newest checkpoint whose
//! files all have the recorded length and checksum; what is wrong with newer ones is reported.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::durable::{flush_and_sync, sync_folder};
use crate::error::{Failure, Kind};
use crate::files::IoError;

/// The version that [`Manifest::format_version`] has in checkpoints written by this crate.
pub const FORMAT_VERSION: u32 = 1;

const MANIFEST: &str = "manifest.json";
/// The extension of a checkpoint while another of the same step replaces it.
const FORMER: &str = "former";

/// A checkpoint that could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The operating system refused; the disk may be full.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A file that differs from what was written.
    #[error("{path}: expected {expected}, found {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The value in the manifest.
        expected: String,
        /// The value found.
        found: String,
    },
    /// A name of a file that a checkpoint cannot have.
    #[error("checkpoint file name {name:?}: expected a plain name, used once, other than {MANIFEST}")]
    Name {
        /// The name.
        name: String,
    },
}

impl Failure for CheckpointError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(error) => error.kind(),
            _ => Kind::Data,
        }
    }
}

/// Length and checksum of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// CRC-32C (Castagnoli) of the content.
    pub crc32c: u32,
}

/// The manifest of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// A hash of the names and shapes of the trainable parameters, which the caller compares before it resumes.
    pub config_hash: String,
    /// Small state of the caller: cursors, counters, best losses.
    pub state: serde_json::Value,
    /// The files by name.
    pub files: BTreeMap<String, FileRecord>,
}

/// The manifest in its file: the exact text with its checksum.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    crc32c: u32,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// A checkpoint whose files have all been verified.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The folder of the checkpoint.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The newest valid checkpoint, and the problems of newer ones.
#[derive(Debug)]
pub struct Newest {
    /// `None` when there is no valid checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// One error for every newer checkpoint that was passed over.
    pub rejected: Vec<CheckpointError>,
}

impl Checkpoints {
    /// Opens (and creates) the folder of checkpoints, and removes the remains of an interrupted write or restores what it was about to replace. `keep` is the number of checkpoints to keep
    /// when a new one is written, at least two.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn open(folder: &Path, keep: usize) -> Result<Self, CheckpointError> {
        fs::create_dir_all(folder).map_err(IoError::at(folder, "create"))?;
        for path in entries(folder)? {
            let target = path.with_extension("");
            let ending = path.extension().and_then(|e| e.to_str()).filter(|_| step_of(&target).is_some());
            match ending {
                // The process ended between the two renames of a replacement.
                Some(FORMER) if !target.exists() => {
                    fs::rename(&path, &target).map_err(IoError::at(&target, "restore a checkpoint to"))?;
                }
                Some("tmp" | FORMER) => fs::remove_dir_all(&path).map_err(IoError::at(&path, "remove"))?,
                _ => {}
            }
        }
        Ok(Self { folder: folder.to_path_buf(), keep: keep.max(2) })
    }

    /// Writes the checkpoint of `step`: `fill` writes its files in sequence. On return the checkpoint is on disk and older ones beyond the number to
    /// keep are deleted. After an error nothing of it remains.
    ///
    /// # Errors
    /// The operating system refuses, or `fill` fails.
    pub fn write(
        &self,
        step: u64,
        config_hash: &str,
        state: serde_json::Value,
        fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), CheckpointError>,
    ) -> Result<PathBuf, CheckpointError> {
        let target = self.folder.join(format!("step-{step:07}"));
        let temporary = self.folder.join(format!("step-{step:07}.tmp"));
        let written = self.write_into(&temporary, step, config_hash, state, fill).and_then(|()| {
            // A folder of this step exists when a run went back to an older checkpoint, or completed the record of its step; rename cannot replace a
            // folder that is not empty, and a crash must leave one of the two.
            let former = self.folder.join(format!("step-{step:07}.{FORMER}"));
            let has_former = target.exists();
            if has_former {
                fs::rename(&target, &former).map_err(IoError::at(&target, "replace"))?;
            }
            if let Err(error) = fs::rename(&temporary, &target) {
                // The error that matters is the first one.
                let _ = fs::rename(&former, &target);
                return Err(IoError::at(&target, "rename a checkpoint to")(error).into());
            }
            sync_folder(&self.folder).map_err(IoError::at(&self.folder, "sync"))?;
            if has_former {
                fs::remove_dir_all(&former).map_err(IoError::at(&former, "remove"))?;
            }
            Ok(())
        });
        if let Err(error) = written {
            // The error that matters is the first one.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        self.prune(step)?;
        Ok(target)
    }

    fn write_into(
        &self,
        temporary: &Path,
        step: u64,
        config_hash: &str,
        state: serde_json::Value,
        fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        fs::create_dir_all(temporary).map_err(IoError::at(temporary, "create"))?;
        let mut writer = CheckpointWriter { folder: temporary.to_path_buf(), files: BTreeMap::new() };
        fill(&mut writer)?;
        let config_hash = config_hash.to_owned();
        let manifest = Manifest { format_version: FORMAT_VERSION, step, config_hash, state, files: writer.files };
        let path = temporary.join(MANIFEST);
        let sealed = seal(&manifest).map_err(|e| IoError::at(&path, "write")(e.into()))?;
        write_synced(&path, |file| file.write_all(sealed.as_bytes())).map_err(IoError::at(&path, "write"))?;
        Ok(sync_folder(temporary).map_err(IoError::at(temporary, "sync"))?)
    }

    /// The newest checkpoint with intact manifest and files. Reads all bytes of the candidates.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn newest_valid(&self) -> Result<Newest, CheckpointError> {
        let mut rejected = Vec::new();
        for folder in self.folders_newest_first()? {
            match Checkpoint::verify(&folder) {
                Ok(checkpoint) => return Ok(Newest { checkpoint: Some(checkpoint), rejected }),
                Err(error) => rejected.push(error),
            }
        }
        Ok(Newest { checkpoint: None, rejected })
    }

    /// Folders of checkpoints, valid or not, newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn folders_newest_first(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut folders: Vec<(u64, PathBuf)> =
            entries(&self.folder)?.into_iter().filter_map(|path| Some((step_of(&path)?, path))).collect();
        folders.sort_by(|a, b| b.cmp(a));
        Ok(folders.into_iter().map(|(_, path)| path).collect())
    }

    /// Deletes checkpoints beyond the number to keep. Obviously damaged folders (no manifest, a wrong length) do not count. Checkpoints of later
    /// steps than the one just written belong to an abandoned continuation of the run and are deleted.
    fn prune(&self, written: u64) -> Result<(), CheckpointError> {
        let mut kept = 0;
        for folder in self.folders_newest_first()? {
            let from_the_future = step_of(&folder).is_some_and(|step| step > written);
            if from_the_future || kept >= self.keep {
                fs::remove_dir_all(&folder).map_err(IoError::at(&folder, "remove"))?;
            } else if Checkpoint::open_unverified(&folder).is_ok() {
                kept += 1;
            }
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Opens a checkpoint folder and checks the length and checksum of every file.
    ///
    /// # Errors
    /// A manifest that cannot be read, or a file that is not the one that was written.
    pub fn verify(folder: &Path) -> Result<Self, CheckpointError> {
        let checkpoint = Self::open_unverified(folder)?;
        for (name, record) in &checkpoint.manifest.files {
            let path = folder.join(name);
            let crc32c = checksum(&path).map_err(IoError::at(&path, "read"))?;
            if crc32c != record.crc32c {
                let (expected, found) = (format!("CRC-32C {:08x}", record.crc32c), format!("{crc32c:08x}"));
                return Err(CheckpointError::Damaged { path, expected, found });
            }
        }
        Ok(checkpoint)
    }

    /// Opens a checkpoint folder; checks the manifest's checksum and the files' lengths.
    fn open_unverified(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(IoError::at(&path, "read"))?;
        let manifest = unseal(&text).map_err(|found| CheckpointError::Damaged {
            path: path.clone(),
            expected: "an intact manifest".to_owned(),
            found,
        })?;
        if manifest.format_version != FORMAT_VERSION {
            let (expected, found) = (format!("format version {FORMAT_VERSION}"), manifest.format_version.to_string());
            return Err(CheckpointError::Damaged { path, expected, found });
        }
        if step_of(folder) != Some(manifest.step) {
            let (expected, found) = ("the step of its folder".to_owned(), manifest.step.to_string());
            return Err(CheckpointError::Damaged { path, expected, found });
        }
        for (name, record) in &manifest.files {
            check_name(name)?;
            let path = folder.join(name);
            let bytes = fs::metadata(&path).map_err(IoError::at(&path, "read"))?.len();
            if bytes != record.bytes {
                let (expected, found) = (format!("{} bytes", record.bytes), format!("{bytes}"));
                return Err(CheckpointError::Damaged { path, expected, found });
            }
        }
        Ok(Self { folder: folder.to_path_buf(), manifest })
    }

    /// The path of a file of the checkpoint.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Writes the files of one checkpoint.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    files: BTreeMap<String, FileRecord>,
}

impl CheckpointWriter {
    /// Writes one file. `fill` may write it in pieces; length and checksum are computed on the fly.
    ///
    /// # Errors
    /// The operating system refuses, or a file of that name is there.
    pub fn file(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CheckpointError> {
        check_name(name)?;
        if self.files.contains_key(name) {
            return Err(CheckpointError::Name { name: name.to_owned() });
        }
        let path = self.folder.join(name);
        let mut record = FileRecord { bytes: 0, crc32c: 0 };
        write_synced(&path, |file| fill(&mut Recorder { file, record: &mut record })).map_err(IoError::at(&path, "write"))?;
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    /// Writes one file from bytes in memory.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.file(name, |file| file.write_all(bytes))
    }
}

struct Recorder<'a> {
    file: &'a mut dyn Write,
    record: &'a mut FileRecord,
}

impl Write for Recorder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let passed = bytes.get(..written).unwrap_or(bytes);
        self.record.crc32c = crc32c::crc32c_append(self.record.crc32c, passed);
        self.record.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write_synced(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 20, File::create(path)?);
    match fill(&mut writer) {
        Ok(()) => flush_and_sync(writer),
        Err(error) => {
            drop(writer.into_parts());
            Err(error)
        }
    }
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut chunk = vec![0; 1 << 20];
    let mut crc = 0;
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(crc);
        }
        crc = crc32c::crc32c_append(crc, chunk.get(..n).unwrap_or_default());
    }
}

fn seal(manifest: &Manifest) -> serde_json::Result<String> {
    let manifest = serde_json::value::to_raw_value(manifest)?;
    serde_json::to_string(&Sealed { crc32c: crc32c::crc32c(manifest.get().as_bytes()), manifest: &manifest })
}

fn unseal(text: &[u8]) -> Result<Manifest, String> {
    let sealed: Sealed = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let crc32c = crc32c::crc32c(sealed.manifest.get().as_bytes());
    if crc32c != sealed.crc32c {
        return Err(format!("CRC-32C {crc32c:08x} instead of {:08x}", sealed.crc32c));
    }
    serde_json::from_str(sealed.manifest.get()).map_err(|e| e.to_string())
}

fn check_name(name: &str) -> Result<(), CheckpointError> {
    let plain = !name.is_empty() && name != MANIFEST && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':']);
    if plain { Ok(()) } else { Err(CheckpointError::Name { name: name.to_owned() }) }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let listing = fs::read_dir(folder).and_then(|dir| dir.map(|entry| Ok(entry?.path())).collect());
    Ok(listing.map_err(IoError::at(folder, "list"))?)
}

fn step_of(folder: &Path) -> Option<u64> {
    let digits = folder.file_name()?.to_str()?.strip_prefix("step-")?;
    if digits.len() < 7 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checkpoints(keep: usize) -> (tempfile::TempDir, Checkpoints) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(&folder.path().join("checkpoints"), keep).unwrap();
        (folder, checkpoints)
    }

    fn write(checkpoints: &Checkpoints, step: u64) -> PathBuf {
        checkpoints
            .write(step, "abc", json!({ "cursor": step * 2 }), |w| {
                w.bytes("weights.bin", &vec![step as u8; 3000])?;
                w.file("moments.bin", |file| (0..100).try_for_each(|i| file.write_all(&[i; 70])))
            })
            .unwrap()
    }

    #[test]
    fn newest_wins_and_older_ones_go() {
        let (_folder, checkpoints) = checkpoints(0);
        assert!(checkpoints.newest_valid().unwrap().checkpoint.is_none());
        for step in [1, 2, 30, 10_000_000] {
            write(&checkpoints, step);
        }
        let newest = checkpoints.newest_valid().unwrap();
        let checkpoint = newest.checkpoint.unwrap();
        assert_eq!((checkpoint.manifest.step, newest.rejected.len()), (10_000_000, 0));
        assert_eq!(checkpoint.manifest.state, json!({ "cursor": 20_000_000 }));
        assert_eq!(checkpoint.manifest.files["moments.bin"].bytes, 7000);
        assert_eq!(fs::read(checkpoint.path("weights.bin")).unwrap().len(), 3000);
        let names: Vec<_> = checkpoints.folders_newest_first().unwrap();
        assert_eq!(names.len(), 2);
        assert!(names[1].ends_with("step-0000030"));
    }

    #[test]
    fn damage_falls_back_to_the_older_one_and_is_named() {
        type Harm = fn(&Path);
        let flip: Harm = |folder| {
            let path = folder.join("moments.bin");
            let mut bytes = fs::read(&path).unwrap();
            bytes[6999] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        let cut: Harm = |folder| File::options().write(true).open(folder.join("weights.bin")).unwrap().set_len(2999).unwrap();
        let lose: Harm = |folder| fs::remove_file(folder.join("weights.bin")).unwrap();
        let empty: Harm = |folder| fs::write(folder.join(MANIFEST), "").unwrap();
        for (harm, word) in [(flip, "moments.bin"), (cut, "2999"), (lose, "weights.bin"), (empty, MANIFEST)] {
            let (_folder, checkpoints) = checkpoints(2);
            write(&checkpoints, 1);
            harm(&write(&checkpoints, 2));
            let newest = checkpoints.newest_valid().unwrap();
            assert_eq!(newest.checkpoint.unwrap().manifest.step, 1);
            let message = newest.rejected[0].to_string();
            assert!(message.contains("step-0000002") && message.contains(word), "{message}");
        }
    }

    #[test]
    fn no_bit_of_a_manifest_can_flip() {
        let (_folder, checkpoints) = checkpoints(2);
        let path = write(&checkpoints, 5).join(MANIFEST);
        let good = fs::read(&path).unwrap();
        let manifest = unseal(&good).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&bytes).map_or(true, |m| m == manifest), "bit {bit}");
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let (_folder, checkpoints) = checkpoints(2);
        write(&checkpoints, 1);
        let result = checkpoints.write(2, "abc", json!(null), |w| {
            w.bytes("a", b"a")?;
            w.file("b", |_| Err(io::Error::other("disk full")))
        });
        assert!(result.unwrap_err().to_string().contains("disk full"));
        assert_eq!(entries(&checkpoints.folder).unwrap().len(), 1);
        for name in ["", MANIFEST, "../a", "a/b", "."] {
            assert!(checkpoints.write(2, "", json!(null), |w| w.bytes(name, b"")).is_err(), "{name:?}");
        }
        let twice = checkpoints.write(2, "", json!(null), |w| w.bytes("a", b"").and_then(|()| w.bytes("a", b"")));
        assert!(twice.is_err());
    }

    #[test]
    fn leftovers_go_and_a_step_can_be_written_again() {
        let (folder, checkpoints) = checkpoints(2);
        write(&checkpoints, 4);
        write(&checkpoints, 9);
        fs::create_dir(folder.path().join("checkpoints/step-0000012.tmp")).unwrap();
        fs::create_dir(folder.path().join("checkpoints/step-notes")).unwrap();
        let checkpoints = Checkpoints::open(&folder.path().join("checkpoints"), 2).unwrap();
        assert_eq!(entries(&checkpoints.folder).unwrap().len(), 3);
        write(&checkpoints, 4);
        assert_eq!(checkpoints.newest_valid().unwrap().checkpoint.unwrap().manifest.step, 4);
        assert_eq!(checkpoints.folders_newest_first().unwrap().len(), 1);
        assert_eq!(entries(&checkpoints.folder).unwrap().len(), 2);
        // A crash between the two renames of a replacement, and one after them.
        let (target, former) = (checkpoints.folder.join("step-0000004"), checkpoints.folder.join("step-0000004.former"));
        fs::rename(&target, &former).unwrap();
        let checkpoints = Checkpoints::open(&checkpoints.folder, 2).unwrap();
        assert_eq!(checkpoints.newest_valid().unwrap().checkpoint.unwrap().manifest.step, 4);
        fs::create_dir(&former).unwrap();
        let checkpoints = Checkpoints::open(&checkpoints.folder, 2).unwrap();
        assert!(target.exists() && !former.exists());
        assert_eq!(checkpoints.folders_newest_first().unwrap(), [target]);
    }
}
