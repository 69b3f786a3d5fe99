//! Token shards: files of raw little-endian token ids without a header, and shards of llm.c.
//!
//! nanoGPT's `train.bin` and `val.bin` (u16) can be opened directly. A shard of a vocabulary above 65536 has u32 ids and a name that ends in
//! `.u32.bin`. [`Shard::open`] also examines the content; [`Shard::open_with`] overrides both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::DataError;
use super::layout::Layout;
use super::mapped::Mapped;
use crate::files::IoError;
use crate::run::durable::DurableFile;

pub use super::layout::IdWidth;

impl IdWidth {
    /// The narrowest width that holds all ids of a vocabulary.
    pub fn for_vocabulary(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// The width according to a file name: `.u32.bin` is [`IdWidth::U32`], anything else [`IdWidth::U16`].
    pub fn from_name(path: &Path) -> Self {
        let is_u32 = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".u32.bin"));
        if is_u32 { Self::U32 } else { Self::U16 }
    }

    /// The usual file name of a split, `train.bin` or `train.u32.bin`.
    pub fn file_name(self, split: &str) -> String {
        match self {
            Self::U16 => format!("{split}.bin"),
            Self::U32 => format!("{split}.u32.bin"),
            Self::I64 => format!("{split}.i64.bin"),
        }
    }
}

/// A sequence of token ids that can be read from any position.
pub trait Tokens {
    /// Number of tokens.
    fn len(&self) -> u64;

    /// Whether it is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies tokens `start..start + out.len()` into `out`, without allocating.
    ///
    /// # Errors
    /// A range beyond the end, or tokens that cannot be read.
    fn read(&self, start: u64, out: &mut [i32]) -> Result<(), DataError>;

    /// −Σ p ln p with p the frequency of each id, in nats: the cross-entropy of a unigram model of these tokens. Reads everything.
    ///
    /// # Errors
    /// Tokens cannot be read, or there are none.
    fn unigram_nats(&self) -> Result<f64, DataError> {
        let (mut counts, mut ids) = (BTreeMap::new(), vec![0; 1 << 16]);
        let len = self.len();
        for start in (0..len).step_by(ids.len()) {
            let part = ids.len().min((len - start) as usize);
            self.read(start, &mut ids[..part])?;
            ids[..part].iter().for_each(|&id| *counts.entry(id).or_insert(0.0) += 1.0);
        }
        if len == 0 {
            return Err(DataError::TooSmall { what: self.name(), found: 0, expected: 1 });
        }
        Ok(counts.values().map(|count: &f64| count / len as f64).map(|p| -p * p.ln()).sum())
    }

    /// Checks that every id is below `vocab_size`; the error names the first that is not.
    ///
    /// # Errors
    /// There is one, or tokens that cannot be read.
    fn check_ids(&self, vocab_size: u32) -> Result<(), DataError>;

    /// The name of the sequence in messages.
    fn name(&self) -> String;
}

impl<T: Tokens + ?Sized> Tokens for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read(&self, start: u64, out: &mut [i32]) -> Result<(), DataError> {
        (**self).read(start, out)
    }

    fn check_ids(&self, vocab_size: u32) -> Result<(), DataError> {
        (**self).check_ids(vocab_size)
    }

    fn name(&self) -> String {
        (**self).name()
    }
}

impl<T: Tokens + ?Sized> Tokens for Box<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read(&self, start: u64, out: &mut [i32]) -> Result<(), DataError> {
        (**self).read(start, out)
    }

    fn check_ids(&self, vocab_size: u32) -> Result<(), DataError> {
        (**self).check_ids(vocab_size)
    }

    fn name(&self) -> String {
        (**self).name()
    }
}

/// A shard on disk, copied into memory when small, mapped when large.
#[derive(Debug)]
pub struct Shard {
    file: Mapped,
    layout: Layout,
}

impl Shard {
    /// Opens a shard whose layout follows from its content and its name, see [`IdWidth::from_name`].
    ///
    /// # Errors
    /// The file cannot be read, is truncated, or has ids of ambiguous width.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = Mapped::open(path)?;
        let layout = Layout::of(&file, IdWidth::from_name(path))?;
        Self::new(file, layout)
    }

    /// Opens a shard of raw ids of a given width.
    ///
    /// # Errors
    /// The file cannot be read, or is truncated.
    pub fn open_with(path: &Path, width: IdWidth) -> Result<Self, DataError> {
        Self::from_mapped(Mapped::open(path)?, width)
    }

    /// Reads an opened file as a shard of raw ids.
    ///
    /// # Errors
    /// The file is truncated.
    pub fn from_mapped(file: Mapped, width: IdWidth) -> Result<Self, DataError> {
        Self::new(file, Layout { start: 0, width, note: None })
    }

    fn new(file: Mapped, layout: Layout) -> Result<Self, DataError> {
        let width = layout.width;
        if !file.len().is_multiple_of(width.bytes()) {
            let expected = format!("a whole number of {}-byte token ids", width.bytes());
            return Err(DataError::format(file.path(), expected, format!("{} bytes (is the file truncated?)", file.len())));
        }
        Ok(Self { file, layout })
    }

    /// How ids are stored.
    pub fn width(&self) -> IdWidth {
        self.layout.width
    }

    /// A note for the user, if the content determined how the shard is read.
    pub fn note(&self) -> Option<&str> {
        self.layout.note.as_deref()
    }

    /// CRC-32C of all bytes.
    ///
    /// # Errors
    /// The file has changed since it was opened.
    pub fn checksum(&self) -> Result<u32, DataError> {
        Ok(crc32c::crc32c(self.file.bytes()?))
    }

    fn ids(&self) -> Result<&[u8], DataError> {
        Ok(self.file.bytes()?.get(self.layout.start..).unwrap_or(&[]))
    }

    /// The path of the shard.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn id_error(&self, position: u64, found: i64, limit: u32) -> DataError {
        DataError::TokenId { path: self.path().to_path_buf(), position, found, limit }
    }
}

impl Tokens for Shard {
    fn len(&self) -> u64 {
        (self.file.len().saturating_sub(self.layout.start) / self.layout.width.bytes()) as u64
    }

    fn read(&self, start: u64, out: &mut [i32]) -> Result<(), DataError> {
        let end = start.saturating_add(out.len() as u64);
        if end > self.len() {
            let path = self.path().to_path_buf();
            return Err(DataError::Range { path, unit: "tokens", start, end, len: self.len() });
        }
        // The range is inside the file, so neither conversion nor product overflows.
        let width = self.layout.width.bytes();
        let bytes = self.file.range(self.layout.start + start as usize * width, out.len() * width)?;
        match self.layout.width {
            IdWidth::U16 => {
                for (id, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *id = i32::from(u16::from_le_bytes(bytes));
                }
            }
            IdWidth::U32 => {
                for (i, (id, &bytes)) in out.iter_mut().zip(bytes.as_chunks().0).enumerate() {
                    let found = u32::from_le_bytes(bytes);
                    *id = i32::try_from(found).map_err(|_| self.id_error(start + i as u64, found.into(), 1 << 31))?;
                }
            }
            IdWidth::I64 => {
                for (i, (id, &bytes)) in out.iter_mut().zip(bytes.as_chunks().0).enumerate() {
                    let found = i64::from_le_bytes(bytes);
                    let narrow = i32::try_from(found).ok().filter(|&id| id >= 0);
                    *id = narrow.ok_or_else(|| self.id_error(start + i as u64, found, 1 << 31))?;
                }
            }
        }
        Ok(())
    }

    fn check_ids(&self, vocab_size: u32) -> Result<(), DataError> {
        let bytes = self.ids()?;
        let wrong = match self.layout.width {
            IdWidth::U16 => first_outside(bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b).into()), vocab_size),
            IdWidth::U32 => first_outside(bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b).into()), vocab_size),
            IdWidth::I64 => first_outside(bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)), vocab_size),
        };
        let Some((position, found)) = wrong else { return Ok(()) };
        Err(self.turned(bytes, (position, found), vocab_size).unwrap_or_else(|| self.id_error(position, found, vocab_size)))
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }
}

impl Shard {
    /// An error about byte order, if ids beyond the vocabulary are all below it after swapping their bytes.
    fn turned(&self, bytes: &[u8], (position, found): (u64, i64), vocab_size: u32) -> Option<DataError> {
        let dtype = match self.layout.width {
            IdWidth::U16 => first_outside(bytes.as_chunks().0.iter().map(|&b| u16::from_be_bytes(b).into()), vocab_size)
                .is_none()
                .then_some("u2"),
            IdWidth::U32 => first_outside(bytes.as_chunks().0.iter().map(|&b| u32::from_be_bytes(b).into()), vocab_size)
                .is_none()
                .then_some("u4"),
            IdWidth::I64 => {
                first_outside(bytes.as_chunks().0.iter().map(|&b| i64::from_be_bytes(b)), vocab_size).is_none().then_some("i8")
            }
        }?;
        let shown = self.name();
        let way = format!("numpy.fromfile(\"{shown}\", \">{dtype}\").astype(\"<{dtype}\").tofile(\"{shown}\")");
        let found =
            format!("big-endian ones: token {position} has id {found}, and after swapping bytes all ids are below {vocab_size}");
        Some(DataError::format(self.path(), format!("little-endian token ids (in Python: {way})"), found))
    }
}

/// Tokens in memory, for text that is tokenized on the fly.
#[derive(Clone, Debug)]
pub struct TokenList {
    name: String,
    ids: Vec<u32>,
}

impl TokenList {
    /// Ids with a name for messages, usually the path of the text that they come from.
    pub fn new(name: impl Into<String>, ids: Vec<u32>) -> Self {
        Self { name: name.into(), ids }
    }
}

impl Tokens for TokenList {
    fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    fn read(&self, start: u64, out: &mut [i32]) -> Result<(), DataError> {
        let end = start.saturating_add(out.len() as u64);
        let slice = usize::try_from(start).ok().and_then(|start| self.ids.get(start..)?.get(..out.len()));
        let Some(slice) = slice else {
            return Err(DataError::Range { path: PathBuf::from(&self.name), unit: "tokens", start, end, len: self.len() });
        };
        for (i, (out, &found)) in out.iter_mut().zip(slice).enumerate() {
            let position = start + i as u64;
            *out = i32::try_from(found).map_err(|_| DataError::TokenId {
                path: PathBuf::from(&self.name),
                position,
                found: found.into(),
                limit: 1 << 31,
            })?;
        }
        Ok(())
    }

    fn check_ids(&self, vocab_size: u32) -> Result<(), DataError> {
        match first_outside(self.ids.iter().map(|&id| id.into()), vocab_size) {
            None => Ok(()),
            Some((position, found)) => {
                Err(DataError::TokenId { path: PathBuf::from(&self.name), position, found, limit: vocab_size })
            }
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

fn first_outside(ids: impl Iterator<Item = i64>, limit: u32) -> Option<(u64, i64)> {
    (0..).zip(ids).find(|&(_, id)| !(0..i64::from(limit)).contains(&id))
}

/// Writes a shard; the file appears under its name, complete and synced to disk, when [`ShardWriter::finish`] returns.
#[derive(Debug)]
pub struct ShardWriter {
    file: DurableFile,
    width: IdWidth,
    tokens: u64,
}

impl ShardWriter {
    /// Starts a shard at `path`.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn create(path: &Path, width: IdWidth) -> Result<Self, DataError> {
        let file = DurableFile::create(path).map_err(IoError::at(path, "create"))?;
        Ok(Self { file, width, tokens: 0 })
    }

    /// Appends ids; an id that exceeds the width is an error with its position.
    ///
    /// # Errors
    /// An id that the width cannot hold, or a refusal of the operating system.
    pub fn push(&mut self, ids: &[u32]) -> Result<(), DataError> {
        use std::io::Write;
        for &id in ids {
            let written = match (self.width, u16::try_from(id)) {
                (IdWidth::I64, _) => self.file.write_all(&i64::from(id).to_le_bytes()),
                (IdWidth::U32, _) => self.file.write_all(&id.to_le_bytes()),
                (IdWidth::U16, Ok(id)) => self.file.write_all(&id.to_le_bytes()),
                (IdWidth::U16, Err(_)) => {
                    let path = self.file.path().to_path_buf();
                    return Err(DataError::TokenId { path, position: self.tokens, found: id.into(), limit: 1 << 16 });
                }
            };
            written.map_err(IoError::at(self.file.path(), "write"))?;
            self.tokens += 1;
        }
        Ok(())
    }

    /// Makes the shard durable and returns its number of tokens.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn finish(self) -> Result<u64, DataError> {
        let path = self.file.path().to_path_buf();
        self.file.commit().map_err(IoError::at(&path, "write"))?;
        Ok(self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shard_of(name: &str, ids: &[u32]) -> (tempfile::TempDir, Shard) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut writer = ShardWriter::create(&path, IdWidth::from_name(&path)).unwrap();
        writer.push(ids).unwrap();
        assert_eq!(writer.finish().unwrap(), ids.len() as u64);
        (folder, Shard::open(&path).unwrap())
    }

    #[test]
    fn round_trip_in_both_widths() {
        for (name, ids) in [("train.bin", [0, 1, 65535, 300]), ("train.u32.bin", [0, 1, 70000, 0x7fff_ffff])] {
            let (_folder, shard) = shard_of(name, &ids);
            assert_eq!(shard.len(), 4);
            let mut out = [0; 3];
            shard.read(1, &mut out).unwrap();
            assert_eq!(out.map(|id| id as u32), ids[1..]);
            let list = TokenList::new("list", ids.to_vec());
            let mut from_list = [0; 3];
            list.read(1, &mut from_list).unwrap();
            assert_eq!(out, from_list);
        }
    }

    #[test]
    fn ids_in_the_other_byte_order_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let ids = || (0..300_u16).map(|i| i * 37 % 500);
        fs::write(&path, ids().flat_map(u16::to_be_bytes).collect::<Vec<_>>()).unwrap();
        let message = Shard::open(&path).unwrap().check_ids(500).unwrap_err().to_string();
        assert!(message.contains("a.bin: expected little-endian token ids (in Python: numpy.fromfile("), "{message}");
        assert!(message.contains("\">u2\").astype(\"<u2\")") && message.contains("token 1 has id 9472"), "{message}");
        fs::write(&path, ids().chain([501]).flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let message = Shard::open(&path).unwrap().check_ids(500).unwrap_err().to_string();
        assert!(message.contains("token 300 has id 501, expected an id below 500"), "{message}");
    }

    #[test]
    fn frequencies_alone_cost_their_entropy() {
        let nats = |ids: Vec<u32>| TokenList::new("few", ids).unigram_nats();
        assert!((nats(vec![7, 7, 3, 3]).unwrap() - 2f64.ln()).abs() < 1e-15);
        // Half of them are one id, a quarter each of two others, in more than one part.
        let many = (0..(1 << 17) + 4).map(|i| [0, 1, 0, 2][i % 4]).collect();
        assert!((nats(many).unwrap() - 1.5 * 2f64.ln()).abs() < 1e-12);
        assert!(nats(Vec::new()).unwrap_err().to_string().contains("few"));
    }

    /// nanoGPT writes `np.array(ids, dtype=np.uint16).tofile(...)`: two bytes per id, low byte first.
    #[test]
    fn bytes_are_those_of_nanogpt() {
        let (folder, _) = shard_of("val.bin", &[1, 0x0203, 65535]);
        assert_eq!(fs::read(folder.path().join("val.bin")).unwrap(), [1, 0, 3, 2, 255, 255]);
    }

    #[test]
    fn ranges_are_checked() {
        let (_folder, shard) = shard_of("train.bin", &[1, 2, 3]);
        shard.read(3, &mut []).unwrap();
        for (start, len) in [(0, 4), (3, 1), (u64::MAX, 1), (u64::MAX - 1, 3)] {
            let message = shard.read(start, &mut vec![0; len]).unwrap_err().to_string();
            assert!(message.contains("train.bin") && message.contains("has 3"), "{message}");
            assert!(TokenList::new("list", vec![1, 2, 3]).read(start, &mut vec![0; len]).is_err());
        }
    }

    #[test]
    fn ids_are_checked() {
        let (_folder, shard) = shard_of("train.bin", &[1, 2, 50, 3]);
        shard.check_ids(51).unwrap();
        let message = shard.check_ids(50).unwrap_err().to_string();
        assert!(message.contains("token 2 has id 50"), "{message}");
        let (_folder, shard) = shard_of("train.u32.bin", &[1, 1 << 31]);
        assert!(shard.read(1, &mut [0]).unwrap_err().to_string().contains("token 1"));
        shard.read(0, &mut [0]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(&folder.path().join("a.bin"), IdWidth::U16).unwrap();
        assert!(writer.push(&[3, 65536]).unwrap_err().to_string().contains("token 1 has id 65536"));
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn ids_of_eight_bytes_and_ids_behind_a_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        let wide: Vec<u8> = (0..99).chain([-1]).flat_map(i64::to_le_bytes).collect();
        fs::write(&path, &wide).unwrap();
        let shard = Shard::open_with(&path, IdWidth::I64).unwrap();
        let mut out = [0; 3];
        shard.read(96, &mut out).unwrap();
        assert_eq!((shard.len(), out), (100, [96, 97, 98]));
        assert!(shard.read(99, &mut [0]).unwrap_err().to_string().contains("token 99 has id -1"));
        assert!(shard.check_ids(100).unwrap_err().to_string().contains("token 99 has id -1"));
        let header = [20_240_520_u32, 1, 4].into_iter().flat_map(u32::to_le_bytes);
        let ids = [9_u16, 8, 7, 6].into_iter().flat_map(u16::to_le_bytes);
        fs::write(&path, header.chain([0; 1012]).chain(ids).collect::<Vec<_>>()).unwrap();
        let shard = Shard::open(&path).unwrap();
        shard.read(1, &mut out).unwrap();
        assert_eq!((shard.len(), out), (4, [8, 7, 6]));
        shard.check_ids(10).unwrap();
        assert!(shard.note().unwrap().contains("a shard of llm.c"), "{:?}", shard.note());
    }

    #[test]
    fn a_torn_token_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        fs::write(&path, [1, 0, 2]).unwrap();
        let message = Shard::open(&path).unwrap_err().to_string();
        assert!(message.contains("train.bin") && message.contains("3 bytes"), "{message}");
    }
}
