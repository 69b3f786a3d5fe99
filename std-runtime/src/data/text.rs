//! Text as documents: a plain file is one document, a folder one per file in order of path, JSONL one per row.
//!
//! A byte order mark at the start is dropped and CRLF becomes LF, as in Python's text mode. JSONL rows are objects with a string under the
//! text key (default `"text"`); empty lines and rows with empty text give no document. Invalid UTF-8 is an error with its place.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::DataError;
use crate::files::{IoError, refuse_device};

/// What to do with a row that is not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRow {
    /// Stop with an error that names the place.
    #[default]
    Error,
    /// Leave it out and count it.
    Skip,
}

/// How text is read.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// The key of the text in a JSONL row.
    pub text_key: String,
    /// What to do with a JSONL row that is not as it should be.
    pub bad_row: BadRow,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { text_key: "text".to_owned(), bad_row: BadRow::Error }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Summary {
    /// Documents given out.
    pub documents: u64,
    /// Bytes of text in them.
    pub bytes: u64,
    /// Rows left out under [`BadRow::Skip`].
    pub skipped_rows: u64,
    /// What was wrong with the first of them.
    pub first_skipped: Option<DataError>,
}

/// Extensions of the files that are read from a folder.
pub const TEXT_EXTENSIONS: [&str; 5] = ["jsonl", "md", "ndjson", "text", "txt"];

/// The share of a text that is held out for validation unless configured: the last tenth of its characters.
pub const DEFAULT_VALIDATION_SHARE: f64 = 0.1;

/// Gives the documents of a file or folder to `document`, one after the other: no more than one of them is in memory, a row of a JSONL file or a plain
/// file.
///
/// # Errors
/// A file that cannot be read or is not as it should be, no text at all, or what `document` returns.
pub fn for_each_document<E: From<DataError>>(
    path: &Path,
    options: &TextOptions,
    mut document: impl FnMut(&str) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut summary = Summary::default();
    let mut count = |summary: &mut Summary, text: &str| -> Result<(), E> {
        if text.is_empty() {
            return Ok(());
        }
        summary.documents += 1;
        summary.bytes += text.len() as u64;
        document(text)
    };
    for file in files_of(path)? {
        if is_jsonl(&file) {
            read_jsonl(&file, options, &mut summary, &mut count)?;
        } else {
            count(&mut summary, &read_plain(&file)?)?;
        }
    }
    if summary.documents == 0 {
        return Err(DataError::format(path, "some text", "none").into());
    }
    Ok(summary)
}

/// Cuts a text into its first part for training and its last part for validation. The first has ⌊n · (1 − share)⌋ of the n characters, which
/// for 0.1 is where nanoGPT cuts; `share` is clamped to [0, 1].
pub fn split(text: &str, validation_share: f64) -> (&str, &str) {
    let characters = text.chars().count();
    let train = (characters as f64 * (1.0 - validation_share.clamp(0.0, 1.0))) as usize;
    let at = text.char_indices().nth(train).map_or(text.len(), |(at, _)| at);
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// The file itself, or the text files of a folder and its subfolders in order of path. Hidden entries and links to folders are passed over.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let metadata = fs::metadata(path).map_err(IoError::at(path, "open"))?;
    refuse_device(path, &metadata)?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(IoError::at(&folder, "list"))? {
            let entry = entry.map_err(IoError::at(&folder, "list"))?;
            let kind = entry.file_type().map_err(IoError::at(&folder, "list"))?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            } else if kind.is_dir() {
                folders.push(path);
            } else if has_extension(&path, &TEXT_EXTENSIONS) && path.is_file() {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        return Err(DataError::format(path, format!("files named *.{}", TEXT_EXTENSIONS.join(", *.")), "none"));
    }
    files.sort();
    Ok(files)
}

pub(super) fn is_jsonl(path: &Path) -> bool {
    has_extension(path, &["jsonl", "ndjson"])
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|e| found.eq_ignore_ascii_case(e)))
}

/// A file of UTF-8 text without its byte order mark, CRLF as LF.
pub(super) fn read_plain(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(IoError::at(path, "read"))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
            let line = before.matches('\n').count() as u64 + 1;
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let column = before.get(line_start..).unwrap_or_default().chars().count() as u64 + 1;
            return Err(not_utf8(path, line, column, bytes.get(valid).copied()));
        }
    };
    let has_mark = text.starts_with('\u{feff}');
    if !has_mark && !text.contains("\r\n") {
        return Ok(text);
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n"))
}

fn not_utf8(path: &Path, line: u64, column: u64, byte: Option<u8>) -> DataError {
    let expected = "UTF-8 text (convert the file with iconv)".to_owned();
    let found = byte.map_or("the end of the file".to_owned(), |byte| format!("byte 0x{byte:02x}"));
    DataError::Line { path: path.to_path_buf(), line, column, expected, found }
}

fn read_jsonl<E: From<DataError>>(
    path: &Path,
    options: &TextOptions,
    summary: &mut Summary,
    document: &mut impl FnMut(&mut Summary, &str) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(IoError::at(path, "open")).map_err(DataError::from)?;
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut row = Vec::new();
    for line in 1.. {
        row.clear();
        if file.read_until(b'\n', &mut row).map_err(IoError::at(path, "read")).map_err(DataError::from)? == 0 {
            break;
        }
        let bom: &[u8] = if line == 1 { b"\xef\xbb\xbf" } else { b"" };
        let bytes = row.strip_prefix(bom).unwrap_or(&row).trim_ascii_end();
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match text_of_row(bytes, &options.text_key) {
            Ok(text) => document(summary, &text)?,
            Err(wrong) => {
                let error = wrong.at(path, line, bytes);
                if options.bad_row == BadRow::Error {
                    return Err(error.into());
                }
                summary.skipped_rows += 1;
                summary.first_skipped.get_or_insert(error);
            }
        }
    }
    Ok(())
}

/// What is wrong with a row, and at which byte of it.
struct Wrong {
    byte: usize,
    expected: String,
    found: String,
}

impl Wrong {
    fn at(self, path: &Path, line: u64, row: &[u8]) -> DataError {
        let before = String::from_utf8_lossy(row.get(..self.byte).unwrap_or(row));
        let column = before.chars().count() as u64 + 1;
        DataError::Line { path: path.to_path_buf(), line, column, expected: self.expected, found: self.found }
    }
}

/// The string under `key` in a JSON object.
fn text_of_row<'a>(row: &'a [u8], key: &str) -> Result<Cow<'a, str>, Wrong> {
    let row = std::str::from_utf8(row).map_err(|error| {
        let byte = error.valid_up_to();
        let found = row.get(byte).map_or_else(String::new, |b| format!("byte 0x{b:02x}"));
        Wrong { byte, expected: "UTF-8 text".to_owned(), found }
    })?;
    let leading = row.len() - row.trim_start().len();
    if !row.trim_start().starts_with('{') {
        let found = kind_of(row.trim_start()).to_owned();
        return Err(Wrong { byte: leading, expected: format!("a JSON object with key {key:?}"), found });
    }
    let mut json = serde_json::Deserializer::from_str(row);
    let value = json.deserialize_map(FindKey(key)).and_then(|value| json.end().map(|()| value)).map_err(|e| json_error(&e, 0))?;
    let Some(value) = value else {
        return Err(Wrong { byte: leading, expected: format!("key {key:?}"), found: "an object without it".to_owned() });
    };
    // Both slices lie in the same row, so the difference of their addresses is where the value stands.
    let byte = (value.get().as_ptr() as usize).saturating_sub(row.as_ptr() as usize);
    if !value.get().starts_with('"') {
        return Err(Wrong { byte, expected: format!("string for {key:?}"), found: kind_of(value.get()).to_owned() });
    }
    serde_json::from_str(value.get()).map(|Text(text)| text).map_err(|e| json_error(&e, byte))
}

/// A string that borrows from the row where it can.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn json_error(error: &serde_json::Error, offset: usize) -> Wrong {
    // The message ends with "at line 1 column 7": the line is that of the row, the column counts bytes from 1.
    let message = error.to_string();
    let found = message.split(" at line ").next().unwrap_or_default().to_owned();
    Wrong { byte: offset + error.column().saturating_sub(1), expected: "valid JSON".to_owned(), found }
}

fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        _ if json.starts_with("null") => "null",
        _ if json.starts_with("true") || json.starts_with("false") => "boolean",
        Some(b'-' | b'0'..=b'9') => "number",
        _ => "text that is not JSON",
    }
}

/// Finds one key of an object. A key that occurs twice is an error: which one was meant cannot be known.
struct FindKey<'k>(&'k str);

impl<'de> Visitor<'de> for FindKey<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with key {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<&RawValue>()?).is_some() {
                return Err(serde::de::Error::custom(format_args!("key {key:?} twice")));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All documents of a file or folder.
    fn load(path: &Path, options: &TextOptions) -> Result<(Vec<String>, Summary), DataError> {
        let mut documents = Vec::new();
        let summary = for_each_document(path, options, |text| {
            documents.push(text.to_owned());
            Ok::<(), DataError>(())
        })?;
        Ok((documents, summary))
    }

    fn load_as(name: &str, content: &[u8]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let prefix = format!("{}/", folder.path().display());
        load(&path, &TextOptions::default()).map(|(d, _)| d).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    #[test]
    fn plain_text() {
        assert_eq!(load_as("a.txt", "one\r\ntwo\rthree\n".as_bytes()).unwrap(), ["one\ntwo\rthree\n"]);
        assert_eq!(load_as("a.txt", "\u{feff}h\u{e9}".as_bytes()).unwrap(), ["h\u{e9}"]);
        assert_eq!(load_as("a.txt", b"").unwrap_err(), "a.txt: expected some text, found none");
        let message = load_as("a.txt", b"ok\n\xc3\xa9\xff").unwrap_err();
        assert!(message.starts_with("a.txt:2:2: expected UTF-8 text") && message.ends_with("found byte 0xff"), "{message}");
        assert!(load_as("a.txt", b"\xe2\x82").unwrap_err().starts_with("a.txt:1:1: "));
    }

    #[test]
    fn jsonl_rows() {
        let rows = "\u{feff}{\"text\":\"a\\nb\"}\r\n\n   \n{\"id\":[1,{}],\"text\":\"\"}\n {\"text\" : \"h\\u00e9\", \"x\":null}";
        assert_eq!(load_as("a.jsonl", rows.as_bytes()).unwrap(), ["a\nb", "h\u{e9}"]);
        assert_eq!(load_as("a.JSONL", b"{\"text\":\"x\"}\n").unwrap(), ["x"]);
    }

    #[test]
    fn broken_rows_name_their_place() {
        let cases: [(&[u8], &str); 12] = [
            (b"{\"text\": 7}", "1:10: expected string for \"text\", found number"),
            (b"\n\n{\"\xc3\xa9\": 1, \"text\": null}", "3:18: expected string for \"text\", found null"),
            (b"[1]", "1:1: expected a JSON object with key \"text\", found array"),
            (b"  nonsense", "1:3: expected a JSON object with key \"text\", found text that is not JSON"),
            (b"hello", "1:1: expected a JSON object with key \"text\", found text that is not JSON"),
            (b"{\"Text\": \"a\"}", "1:1: expected key \"text\", found an object without it"),
            (b"{\"text\": \"a\"", "1:12: expected valid JSON, found EOF while parsing an object"),
            (b"{\"text\": \"a\"} x", "1:15: expected valid JSON, found trailing characters"),
            (b"{\"text\": \"a\nb\"}", "1:11: expected valid JSON, found EOF while parsing a string"),
            (b"{\"text\": \"\\ud800\"}", "1:17: expected valid JSON, found unexpected end of hex escape"),
            (b"{\"text\": \"\xff\"}", "1:11: expected UTF-8 text, found byte 0xff"),
            (b"{\"text\": \"a\", \"text\": \"b\"}", "1:26: expected valid JSON, found key \"text\" twice"),
        ];
        for (row, expected) in cases {
            assert_eq!(load_as("a.jsonl", row).unwrap_err(), format!("a.jsonl:{expected}"));
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = format!("{{\"x\":{}{},\"text\":\"a\"}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(load_as("a.jsonl", deep.as_bytes()).unwrap(), ["a"]);
        let open = format!("{{\"text\":{}", "[".repeat(200_000));
        assert!(load_as("a.jsonl", open.as_bytes()).is_err());
    }

    #[test]
    fn bad_rows_can_be_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "{\"body\":\"a\"}\n{\"body\":1}\n{\"body\"\n{\"body\":\"b\"}").unwrap();
        let options = TextOptions { text_key: "body".to_owned(), bad_row: BadRow::Skip };
        let (documents, summary) = load(&path, &options).unwrap();
        assert_eq!(documents, ["a", "b"]);
        assert_eq!((summary.documents, summary.bytes, summary.skipped_rows), (2, 2, 2));
        assert!(summary.first_skipped.unwrap().to_string().contains(":2:9: "));
    }

    #[test]
    fn folders_in_order_of_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for (name, text) in [
            ("c.txt", "4"),
            ("a.txt", "1"),
            ("b/z.md", "3"),
            ("b/a.jsonl", "{\"text\":\"2\"}"),
            ("x.png", "no"),
            (".h.txt", "no"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (documents, _) = load(folder.path(), &TextOptions::default()).unwrap();
        assert_eq!(documents, ["1", "2", "3", "4"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(load(empty.path(), &TextOptions::default()).unwrap_err().to_string().contains("*.txt"));
        assert!(load(&empty.path().join("absent"), &TextOptions::default()).is_err());
    }

    #[test]
    fn the_last_tenth_is_held_out() {
        assert_eq!(split("0123456789", 0.1), ("012345678", "9"));
        assert_eq!(split("0123456789", 0.0), ("0123456789", ""));
        assert_eq!(split("0123456789", 2.0), ("", "0123456789"));
        assert_eq!(split("\u{e9}\u{e8}\u{20ac}a", 0.5), ("\u{e9}\u{e8}", "\u{20ac}a"));
        assert_eq!(split("", 0.1), ("", ""));
        // Tiny Shakespeare: 1115394 characters, of which nanoGPT trains on int(n * 0.9).
        assert_eq!(split(&"a".repeat(1_115_394), DEFAULT_VALIDATION_SHARE).0.len(), 1_003_854);
    }
}
