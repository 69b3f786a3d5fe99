//! Files as they are or packed: gzip and zstd are known by their first bytes and unpacked while they are read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 18;

/// Opens a file for reading, unpacked.
///
/// # Errors
/// The operating system refuses. What is wrong with packed content comes while it is read, as invalid data or an unexpected end.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let first = file.fill_buf()?;
    Ok(if first.starts_with(b"\x1f\x8b") {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
    } else if first.starts_with(b"\x28\xb5\x2f\xfd") {
        Box::new(BufReader::with_capacity(BUFFER, Frames { frame: None, rest: Some(file) }))
    } else {
        Box::new(file)
    })
}

/// The frames of a zstd file, one after the other: `zstd` makes one, and parallel programs several.
struct Frames<R: BufRead> {
    frame: Option<Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>>,
    /// What comes after the frame that was read last.
    rest: Option<R>,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(mut rest) = self.rest.take() {
                if rest.fill_buf()?.is_empty() || into.is_empty() {
                    self.rest = Some(rest);
                    return Ok(0);
                }
                let frame =
                    StreamingDecoder::new(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                self.frame = Some(Box::new(frame));
            }
            let Some(frame) = &mut self.frame else { return Ok(0) };
            match frame.read(into)? {
                0 => self.rest = self.frame.take().map(|frame| frame.into_inner()),
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<String> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a");
        fs::write(&path, bytes)?;
        let mut text = String::new();
        open(&path)?.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn packed_files_are_their_text() {
        let text = "some words, ".repeat(50_000);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
        for packed in [&gzip, &zstd] {
            assert!(read(packed).unwrap() == text);
            // Several in one file.
            assert!(read(&[&packed[..], packed].concat()).unwrap() == text.repeat(2));
            for cut in [packed.len() - 1, packed.len() / 2, 10] {
                assert!(read(&packed[..cut]).is_err(), "{cut}");
            }
        }
        assert_eq!(read(b"plain").unwrap(), "plain");
        assert_eq!(read(b"").unwrap(), "");
    }
}
