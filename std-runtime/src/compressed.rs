//! Files that may be compressed: gzip and Zstandard are detected by their first bytes, whatever the file's name is.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::files::{FileError, IoError, STDIN, ensure_memory, refuse_device};
use crate::memory::OutOfMemory;

/// Signatures of unsupported compression formats: first bytes, name, and the tool that decompresses them.
const OTHERS: [(&[u8], &str, &str); 2] = [(b"\xfd7zXZ\0", "xz", "xz -d"), (b"BZh91AY&SY", "bzip2", "bzip2 -d")];

/// The longest of the first bytes that are looked at.
const HEAD: u64 = 10;

/// Largest window of a Zstandard frame in bytes, which is the limit of the `zstd` tool as well: what `zstd --ultra -22` needs.
const MAX_WINDOW: u64 = 1 << 27;

/// Opens a file or pipe and decompresses it while it is read. The caller maps the reader's errors with [`failed`], which names the file.
///
/// # Errors
/// The operating system's error; the path is a device; an unsupported compression format.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, FileError> {
    let file = File::open(path).map_err(IoError::at(path, "read"))?;
    refuse_device(path, &file.metadata().map_err(IoError::at(path, "read"))?)?;
    decoder(path, file)
}

/// Decompresses what a source gives.
fn decoder(path: &Path, mut file: impl Read + Send + 'static) -> Result<Box<dyn BufRead + Send>, FileError> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).map_err(IoError::at(path, "read"))?;
    if let Some((_, name, tool)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        let expected = "plain, gzip or Zstandard data";
        return Err(FileError::format(path, expected, format!("{name}; decompress it: {tool} {}", path.display())));
    }
    let (gzip, zstd) = (head.starts_with(b"\x1f\x8b"), is_zstd(&head));
    let whole = io::Cursor::new(head).chain(BufReader::new(file));
    Ok(if gzip {
        Box::new(BufReader::new(MultiGzDecoder::new(whole)))
    } else if zstd {
        Box::new(BufReader::new(Zstd::new(whole)))
    } else {
        Box::new(whole)
    })
}

/// Bytes read between two calls of the callback of [`read`].
const PIECE_BYTES: usize = 1 << 24;
/// Spare capacity after the expected end of a file, in which its actual end is detected.
const SPARE_BYTES: usize = 64;

/// Reads and decompresses a whole file; the callback `between` can cancel after every piece. `way` is the advice for a file that does not fit into
/// memory.
///
/// # Errors
/// Those of [`open`] and of `between`, truncated or damaged compressed data, and insufficient memory.
pub fn read<E: From<FileError>>(path: &Path, way: &'static str, between: impl FnMut() -> Result<(), E>) -> Result<Vec<u8>, E> {
    let file = open(path)?;
    // For a compressed file this is the minimum.
    let len = fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len());
    ensure_memory(path, len, way)?;
    whole(path, file, len, way, between)
}

/// Reads and decompresses all of standard input.
///
/// # Errors
/// As [`read`].
pub fn read_stdin(way: &'static str) -> Result<Vec<u8>, FileError> {
    let path = Path::new(STDIN);
    whole(path, decoder(path, io::stdin())?, 0, way, || Ok(()))
}

/// All that a reader gives, `len` bytes or more.
fn whole<E: From<FileError>>(
    path: &Path,
    mut file: Box<dyn BufRead + Send>,
    len: u64,
    way: &'static str,
    mut between: impl FnMut() -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut bytes = Vec::new();
    let mut more = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(2 * SPARE_BYTES);
    loop {
        between()?;
        if bytes.capacity() - bytes.len() <= SPARE_BYTES {
            let whole = (bytes.len() + more) as u64;
            let refused = |_| FileError::memory(path, way)(OutOfMemory::refused(whole));
            bytes.try_reserve_exact(more).map_err(refused)?;
            more = bytes.capacity().max(PIECE_BYTES);
        }
        // There is always spare capacity: a full vector would grow by itself, and abort the process when memory runs out.
        let room = (bytes.capacity() - bytes.len() - SPARE_BYTES).min(PIECE_BYTES);
        if (&mut file).take(room as u64).read_to_end(&mut bytes).map_err(failed(path))? == 0 {
            return Ok(bytes);
        }
    }
}

/// A function for `map_err` on the errors of the reader of [`open`].
pub fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    |error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => FileError::format(
            path,
            "whole compressed data",
            format!("\"{error}\" (is the file cut or damaged?); compress it again"),
        ),
        _ => IoError::at(path, "read")(error).into(),
    }
}

/// Whether bytes begin a Zstandard frame, or a skippable frame.
fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(b"\x28\xb5\x2f\xfd") || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The frames of a Zstandard file, one after the other.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { source, decoder, in_frame: false }
    }

    /// Begins the next frame, or skips one without data.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let skipped = io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                if skipped != u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(damaged(error)),
        }
        Ok(())
    }

    /// Ends a frame that is read.
    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        match self.decoder.get_checksum_from_data() {
            Some(sum) if self.decoder.get_calculated_checksum() != Some(sum) => Err(damaged("checksum mismatch")),
            _ => Ok(()),
        }
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.in_frame && self.decoder.can_collect() > 0 {
                return self.decoder.read(to);
            }
            if self.in_frame && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(damaged)?;
            } else if self.in_frame {
                self.end()?;
            } else if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            } else {
                self.begin()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// `printf 'one\ntwo\n' | zstd`: a frame with a checksum.
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x58\x41\x00\x00\x6f\x6e\x65\x0a\x74\x77\x6f\x0a\xe6\xa6\x0e\x40";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read_back(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.csv");
        fs::write(&path, bytes).unwrap();
        read(&path, "", || Ok::<(), FileError>(())).map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
    }

    #[test]
    fn content_says_how_a_file_is_compressed() {
        let text = b"one\ntwo\n";
        let skipped = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";
        let twice = b"one\ntwo\none\ntwo\n".to_vec();
        assert_eq!(read_back(text), Ok(text.to_vec()));
        assert_eq!(read_back(b""), Ok(Vec::new()));
        assert_eq!(read_back(&gzip(text)), Ok(text.to_vec()));
        assert_eq!(read_back(&[gzip(text), gzip(text)].concat()), Ok(twice.clone()));
        assert_eq!(read_back(ZSTD), Ok(text.to_vec()));
        assert_eq!(read_back(&[skipped, ZSTD, skipped, ZSTD].concat()), Ok(twice));
        let long: Vec<u8> = (0..100_000_u32).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        assert_eq!(read_back(&gzip(&long)), Ok(long));
    }

    #[test]
    fn damage_and_other_formats_are_named() {
        let expected = "F: expected whole compressed data, found ";
        for whole in [gzip(b"one\ntwo\n"), ZSTD.to_vec()] {
            for end in 4..whole.len() {
                let error = read_back(&whole[..end]).unwrap_err();
                assert!(error.starts_with(expected), "{end}: {error}");
            }
            let mut flipped = whole.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert!(read_back(&flipped).unwrap_err().starts_with(expected));
            assert!(read_back(&[&whole[..], b"tail"].concat()).unwrap_err().starts_with(expected));
        }
        let error = read_back(b"\xfd7zXZ\0\0\x04").unwrap_err();
        assert_eq!(error, "F: expected plain, gzip or Zstandard data, found xz; decompress it: xz -d F");
    }
}
