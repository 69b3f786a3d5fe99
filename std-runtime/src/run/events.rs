//! TensorBoard event files: scalars and texts that `tensorboard --logdir RUN` shows.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of the data; little endian), each an `Event`
//! message of TensorFlow's `event.proto`, written here field by field in the protocol-buffers wire format.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    event: Vec<u8>,
    value: Vec<u8>,
    record: Vec<u8>,
}

impl EventWriter {
    /// Creates a new event file in `folder` (created when absent). A run that resumes after `resumed_step` > 0 gets a further file; readers then
    /// discard later steps of earlier files.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn create(folder: &Path, resumed_step: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (path, file) = create_new(folder)?;
        let mut writer = Self { path, file, event: Vec::new(), value: Vec::new(), record: Vec::new() };
        writer.begin_event(0);
        put_bytes(&mut writer.event, 3, b"brain.Event:2");
        writer.write_event()?;
        if resumed_step > 0 {
            // SessionLog { status: START } tells readers to purge events at or after this step.
            writer.begin_event(resumed_step + 1);
            put_bytes(&mut writer.event, 7, &[1 << 3, 1]);
            writer.write_event()?;
        }
        Ok(writer)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one value of a series, such as `("loss/train", 3.2)`.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32) -> io::Result<()> {
        self.begin_value(tag);
        put_key(&mut self.value, 2, Wire::Fixed32);
        self.value.extend(value.to_le_bytes());
        self.write_value(step)
    }

    /// Writes a text (Markdown), such as a sample of the model.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> io::Result<()> {
        const DT_STRING: u64 = 7;
        self.begin_value(tag);
        let mut tensor = Vec::with_capacity(text.len() + 16);
        put_key(&mut tensor, 1, Wire::Varint);
        put_varint(&mut tensor, DT_STRING);
        // tensor_shape { dim { size: 1 } }
        put_bytes(&mut tensor, 2, &[2 << 3 | 2, 2, 1 << 3, 1]);
        put_bytes(&mut tensor, 8, text.as_bytes());
        put_bytes(&mut self.value, 8, &tensor);
        let mut plugin = Vec::new();
        put_bytes(&mut plugin, 1, b"text");
        let mut metadata = Vec::new();
        put_bytes(&mut metadata, 1, &plugin);
        put_bytes(&mut self.value, 9, &metadata);
        self.write_value(step)
    }

    fn begin_event(&mut self, step: u64) {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        self.event.clear();
        put_key(&mut self.event, 1, Wire::Fixed64);
        self.event.extend(wall_time.to_le_bytes());
        put_key(&mut self.event, 2, Wire::Varint);
        put_varint(&mut self.event, step);
    }

    fn begin_value(&mut self, tag: &str) {
        self.value.clear();
        put_bytes(&mut self.value, 1, tag.as_bytes());
    }

    /// Event { summary: Summary { value: [self.value] } }
    fn write_value(&mut self, step: u64) -> io::Result<()> {
        self.begin_event(step);
        let value_length = self.value.len() as u64;
        put_key(&mut self.event, 5, Wire::Bytes);
        put_varint(&mut self.event, 1 + varint_bytes(value_length) + value_length);
        put_bytes(&mut self.event, 1, &self.value);
        self.write_event()
    }

    /// Writes one TFRecord in a single call, so that a reader sees it whole or not at all.
    fn write_event(&mut self) -> io::Result<()> {
        let length = (self.event.len() as u64).to_le_bytes();
        self.record.clear();
        self.record.extend(length);
        self.record.extend(masked_crc(&length).to_le_bytes());
        self.record.extend(&self.event);
        self.record.extend(masked_crc(&self.event).to_le_bytes());
        self.file.write_all(&self.record)
    }
}

/// The name contains "tfevents", which TensorBoard looks for, and sorts by time.
fn create_new(folder: &Path) -> io::Result<(PathBuf, File)> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for number in 0..1000 {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.samara.{number}"));
        match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|file| (path, file)),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a thousand event files of this second"))
}

enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: Wire) {
    put_varint(out, field << 3 | wire as u64);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Seven bits to a byte.
fn varint_bytes(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, Wire::Bytes);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// The checksum of TFRecords: a rotated CRC-32C plus a constant, so that the checksum of data containing checksums is not degenerate.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file, checksums verified, wall time (bytes 1 to 9) cleared.
    fn events(path: &Path) -> Vec<Vec<u8>> {
        let bytes = fs::read(path).unwrap();
        let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (length, data) = rest.split_at(8);
            let n = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(data[..4], masked_crc(length).to_le_bytes());
            let mut event = data[4..4 + n].to_vec();
            assert_eq!(data[4 + n..8 + n], masked_crc(&event).to_le_bytes());
            event[1..9].fill(0);
            events.push(event);
            rest = &data[8 + n..];
        }
        events
    }

    /// The messages as Google's protobuf serializes them (`EventProto` of tensorboard 2.21 with wall_time 0 written out).
    #[test]
    fn bytes_are_those_of_protobuf() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(&folder.path().join("tb"), 0).unwrap();
        writer.scalar(300, "loss/train", 1.5).unwrap();
        writer.scalar(1, &"x".repeat(200), 0.0).unwrap();
        let events = events(writer.path());
        let time = [9, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(events[0], [&time[..], &[0x10, 0, 0x1a, 13], b"brain.Event:2"].concat());
        let summary = [&[0x2a, 19, 0x0a, 17, 0x0a, 10][..], b"loss/train", &[0x15, 0, 0, 0xc0, 0x3f]].concat();
        assert_eq!(events[1], [&time[..], &[0x10, 0xac, 0x02], &summary].concat());
        // Lengths of two bytes: 208 = 0xd0 0x01 for the value, 211 = 0xd3 0x01 for the summary, 200 = 0xc8 0x01 for the tag.
        assert_eq!(events[2][11..20], [0x2a, 0xd3, 0x01, 0x0a, 0xd0, 0x01, 0x0a, 0xc8, 0x01]);
    }

    /// CRC-32C of "123456789" is e3069283 (RFC 3720 and every catalogue). Masked: (crc >> 15 | crc << 17) + a282ead8,
    /// as in TensorFlow's `lib/hash/crc32c.h`.
    #[test]
    fn checksum_is_castagnoli_and_masked() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn a_resumed_run_gets_a_further_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path(), 0).unwrap();
        let mut second = EventWriter::create(folder.path(), 10).unwrap();
        assert_ne!(first.path(), second.path());
        second.text(11, "sample", "Once upon a time").unwrap();
        let events = events(second.path());
        assert_eq!(events[1][9..], [0x10, 11, 0x3a, 2, 8, 1]);
        assert!(events[2].windows(16).any(|w| w == b"Once upon a time"));
    }
}
