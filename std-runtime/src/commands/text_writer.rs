//! Incremental text output to a terminal.

use std::io::Write;
use std::path::Path;

use crate::files::{IoError, STDOUT};
use crate::say;

/// Writes bytes as text: a character waits until its bytes are complete, invalid UTF-8 becomes U+FFFD, and terminal control characters are escaped.
pub(super) struct TextWriter<'w> {
    out: &'w mut dyn Write,
    pending: Vec<u8>,
}

/// The most bytes of a character.
const CHARACTER_BYTES: usize = 4;

impl<'w> TextWriter<'w> {
    /// Nothing written yet.
    pub(super) fn new(out: &'w mut dyn Write) -> Self {
        Self { out, pending: Vec::new() }
    }

    /// Writes all complete characters.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        self.pending.extend_from_slice(bytes);
        let complete = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            // An incomplete character stays in the buffer.
            Err(e) if e.error_len().is_none() && self.pending.len() - e.valid_up_to() < CHARACTER_BYTES => e.valid_up_to(),
            Err(_) => self.pending.len(),
        };
        let rest = self.pending.split_off(complete);
        let ready = std::mem::replace(&mut self.pending, rest);
        self.write(&ready)
    }

    /// Writes the rest, and a line break.
    pub(super) fn finish(mut self) -> Result<(), IoError> {
        let rest = std::mem::take(&mut self.pending);
        self.write(&rest)?;
        self.write(b"\n")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        let text = String::from_utf8_lossy(bytes);
        let written = self.out.write_all(say::printable(&text).as_bytes()).and_then(|()| self.out.flush());
        written.map_err(IoError::at(Path::new(STDOUT), "write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole() {
        let mut out = Vec::new();
        let mut text = TextWriter::new(&mut out);
        for byte in "aé😀".bytes() {
            text.push(&[byte]).unwrap();
        }
        text.push(&[0xff, b'b', 0x1b, 0xc3]).unwrap();
        text.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "aé😀\u{fffd}b\\x1b\u{fffd}\n");
    }
}
