//! Text as documents: a plain file is one document, a folder one per file in order of path, JSONL one per row, a JSON array one per element, CSV one
//! per record.
//!
//! A byte order mark at the start is dropped and CRLF becomes LF, as in Python's text mode. Rows are strings, or objects with a string under the text
//! key (default `"text"`), which is the column of a CSV; empty lines and rows with empty text give no document. Invalid UTF-8 is an error with its position. Files named `*.gz` and
//! `*.zst` are decompressed while they are read.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::lines::{RawRow, each_element, each_line};
use super::options::{BadRow, TextOptions};
use super::{DataError, columns, foreign, rows};
use crate::compressed;
use crate::files::{DASH, IoError, STDIN, ensure_memory, refuse_device};
use crate::stop::Stop;

/// Paths that are counted, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// The first ones.
    pub first: Vec<PathBuf>,
    /// How many there are.
    pub count: u64,
}

/// How many paths are shown.
const SHOWN_PATHS: usize = 5;

impl Paths {
    fn add(&mut self, path: &Path) {
        if self.first.len() < SHOWN_PATHS {
            self.first.push(path.to_owned());
        }
        self.count += 1;
    }

    fn list(&self, folder: &Path) -> String {
        let name = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let more = if self.count > self.first.len() as u64 { ", …" } else { "" };
        format!("{}{more}", self.first.iter().map(name).collect::<Vec<_>>().join(", "))
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Summary {
    /// Documents emitted.
    pub documents: u64,
    /// Bytes of text in them.
    pub bytes: u64,
    /// Characters of text in them.
    pub characters: u64,
    /// CRC-32C of all documents, each with its length before it.
    pub checksum: u32,
    /// Files read.
    pub read: Paths,
    /// Files of a folder that are not read, by their names.
    pub ignored: Paths,
    /// Rows left out under [`BadRow::Skip`].
    pub skipped_rows: u64,
    /// The error of the first skipped row.
    pub first_skipped: Option<DataError>,
}

impl Summary {
    /// Counts a document.
    pub fn add(&mut self, text: &str) {
        self.documents += 1;
        self.bytes += text.len() as u64;
        self.characters += text.chars().count() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &(text.len() as u64).to_le_bytes());
        self.checksum = crc32c::crc32c_append(self.checksum, text.as_bytes());
    }

    /// Notes before training: the files read from a folder, and what was skipped.
    pub fn lines(&self, path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let shown = path.display();
        if self.read.first.first().is_some_and(|first| first != path) {
            lines.push(format!("{shown}: {} read: {}", files(self.read.count), self.read.list(path)));
        }
        if self.ignored.count > 0 {
            let (count, list) = (files(self.ignored.count), self.ignored.list(path));
            lines.push(format!("{shown}: {count} ignored because of their names: {list}"));
        }
        if let Some(first) = &self.first_skipped {
            lines.push(format!(
                "{shown}: {} rows skipped of {}, the first: {first}",
                self.skipped_rows,
                self.skipped_rows + self.documents
            ));
        }
        lines
    }
}

fn files(count: u64) -> String {
    format!("{count} file{}", if count == 1 { "" } else { "s" })
}

/// How a file is divided into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The file is one.
    Plain,
    /// Every line is a row.
    Lines,
    /// Every element of a JSON array is a row; a file without one has lines.
    Array,
    /// Every record is a row, with this separator between its cells.
    Records(char),
}

/// Extensions of text files.
const EXTENSIONS: [(&str, Form); 8] = [
    ("csv", Form::Records(',')),
    ("json", Form::Array),
    ("jsonl", Form::Lines),
    ("md", Form::Plain),
    ("ndjson", Form::Lines),
    ("text", Form::Plain),
    ("tsv", Form::Records('\t')),
    ("txt", Form::Plain),
];

/// Extensions of compressed files.
const COMPRESSED: [&str; 2] = ["gz", "zst"];

/// The form according to the file name, if it is that of a text file.
fn form_of(path: &Path) -> Option<Form> {
    let inner = inner_name(path);
    EXTENSIONS.iter().find(|(extension, _)| has_extension(&inner, &[extension])).map(|(_, form)| *form)
}

/// Passes the documents of a file or folder to `document`, one after the other: only one of them is in memory, a row of a JSONL file or a whole plain
/// file.
///
/// # Errors
/// A file that cannot be read or is invalid, no text at all, a signal, or what `document` returns.
pub fn for_each_document<E: From<DataError>>(
    path: &Path,
    options: &TextOptions,
    mut document: impl FnMut(&str) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut summary = Summary::default();
    let files = files_of(path, &mut summary.ignored)?;
    let mut count = |summary: &mut Summary, text: &str| -> Result<(), E> {
        options.stop.check().map_err(DataError::from)?;
        if text.is_empty() {
            return Ok(());
        }
        summary.add(text);
        document(text)
    };
    for file in files {
        match form_of(&file) {
            Some(Form::Lines) => {
                let lines = compressed::open(&file).map_err(DataError::from)?;
                each_line(&file, lines, &options.stop, &mut |row: &RawRow<'_>| take_row(row, options, &mut summary, &mut count))?
            }
            Some(Form::Array) => {
                let text = read_plain(&file, &options.stop)?;
                let mut take = |row: &RawRow<'_>| take_row(row, options, &mut summary, &mut count);
                match text.trim_start() {
                    array if array.starts_with('[') => each_element(&file, &text, &options.stop, &mut take)?,
                    // One object on several lines.
                    object if is_object(object) => take(&RawRow::whole(&file, &text))?,
                    _ => each_line(&file, text.as_bytes(), &options.stop, &mut take)?,
                }
            }
            Some(Form::Records(separator)) => {
                let text = read_plain(&file, &options.stop)?;
                for row in columns::texts(&file, &text, separator, options)? {
                    options.stop.check().map_err(DataError::from)?;
                    match row {
                        Ok(text) => count(&mut summary, &text)?,
                        Err(error) => skip(error, options, &mut summary)?,
                    }
                }
            }
            Some(Form::Plain) | None => count(&mut summary, &read_plain(&file, &options.stop)?)?,
        }
        summary.read.add(&file);
    }
    if summary.documents == 0 {
        let found = summary
            .first_skipped
            .map_or("none".to_owned(), |first| format!("none; {} rows were skipped, the first: {first}", summary.skipped_rows));
        return Err(DataError::format(path, "some text", found).into());
    }
    Ok(summary)
}

/// Whether a text is one JSON object.
fn is_object(text: &str) -> bool {
    text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Refuses standard input, which cannot be read again.
///
/// # Errors
/// The path is `-`, and no file has that name.
pub(super) fn refuse_dash(path: &Path) -> Result<(), DataError> {
    if path.as_os_str() == DASH && !path.exists() {
        let expected = "a file or a folder, because data is read several times (write it to a file first: cat > data.txt)";
        return Err(DataError::format(path, expected, STDIN));
    }
    Ok(())
}

/// The file itself, or the text files of a folder and its subfolders in order of path. Skips hidden entries and links to folders; other files are
/// ignored and counted.
pub(super) fn files_of(path: &Path, ignored: &mut Paths) -> Result<Vec<PathBuf>, DataError> {
    refuse_dash(path)?;
    let metadata = fs::metadata(path).map_err(IoError::at(path, "open"))?;
    refuse_device(path, &metadata)?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut files, mut others) = (Vec::new(), Vec::new());
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
            } else if is_text(&path)? {
                files.push(path);
            } else {
                others.push(path);
            }
        }
    }
    others.sort();
    others.iter().for_each(|path| ignored.add(path));
    if files.is_empty() {
        return Err(DataError::format(path, expected_names(), no_text_in(path, ignored)));
    }
    files.sort();
    Ok(files)
}

/// Whether a file of a folder is read. A `*.json` file is read only if it is an array: folders also contain descriptions of themselves.
fn is_text(path: &Path) -> Result<bool, DataError> {
    Ok(match form_of(path).filter(|_| path.is_file()) {
        None => false,
        Some(Form::Array) => first_character(path)? == Some(b'['),
        Some(_) => true,
    })
}

fn expected_names() -> String {
    let names: Vec<&str> = EXTENSIONS.iter().map(|(extension, _)| *extension).collect();
    format!(
        "text files (*.{}, each also .{}), or token shards named train.bin and val.bin",
        names.join(", *."),
        COMPRESSED.join(", .")
    )
}

fn no_text_in(folder: &Path, ignored: &Paths) -> String {
    if ignored.count == 0 { "none".to_owned() } else { format!("none of them: {}", ignored.list(folder)) }
}

/// The first byte of a file that is no white space.
pub(super) fn first_character(path: &Path) -> Result<Option<u8>, DataError> {
    first_characters(path).map(|[first, _]| first)
}

/// The first two bytes of a file that are no white space.
fn first_characters(path: &Path) -> Result<[Option<u8>; 2], DataError> {
    let mut found = [None; 2];
    for byte in compressed::open(path)?.bytes() {
        let byte = byte.map_err(compressed::failed(path))?;
        if !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(&byte) {
            let Some(next) = found.iter_mut().find(|next| next.is_none()) else { break };
            *next = Some(byte);
        }
    }
    Ok(found)
}

/// Whether the rows of a file are strings, by its name and its first row.
///
/// # Errors
/// A file that cannot be read.
pub fn has_strings(path: &Path) -> Result<bool, DataError> {
    Ok(match form_of(path) {
        Some(Form::Array | Form::Lines) => matches!(first_characters(path)?, [Some(b'"'), _] | [Some(b'['), Some(b'"')]),
        _ => false,
    })
}

/// Whether a file has a row in every line, by its name.
pub(super) fn has_lines(path: &Path) -> bool {
    form_of(path) == Some(Form::Lines)
}

/// Whether a file is one text whole, by its name.
pub fn is_plain(path: &Path) -> bool {
    form_of(path) == Some(Form::Plain)
}

/// The path without the ending of a compressed file.
pub(super) fn inner_name(path: &Path) -> PathBuf {
    if has_extension(path, &COMPRESSED) { path.with_extension("") } else { path.to_owned() }
}

pub(super) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|e| found.eq_ignore_ascii_case(e)))
}

/// The advice for a text that does not fit into memory.
const SMALLER: &str =
    "split it into several files in a folder, or write its documents as rows of JSONL, of which one at a time is in memory";

/// A file of UTF-8 text without its byte order mark, CRLF as LF.
pub(super) fn read_plain(path: &Path, stop: &Stop) -> Result<String, DataError> {
    plain(path, compressed::read(path, SMALLER, || stop.check().map_err(DataError::from))?)
}

/// Bytes as UTF-8 text without byte order mark, CRLF as LF; errors name `path`.
pub(super) fn plain(path: &Path, bytes: Vec<u8>) -> Result<String, DataError> {
    let first = |bytes: &[u8]| bytes.get(..bytes.len().min(4096)).unwrap_or_default().to_vec();
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let bytes = error.as_bytes();
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
            let not_text = || not_text(path, &before, NOT_UTF8, bytes.get(valid).copied());
            return Err(foreign::refuse(path, &first(bytes), false).unwrap_or_else(not_text));
        }
    };
    if let Some(foreign) = foreign::refuse(path, &first(text.as_bytes()), true) {
        return Err(foreign);
    }
    if let Some((before, _)) = text.split_once('\0') {
        return Err(not_text(path, before, HAS_ZEROS, Some(0)));
    }
    let has_mark = text.starts_with('\u{feff}');
    if !has_mark && !text.contains("\r\n") {
        return Ok(text);
    }
    ensure_memory(path, text.len() as u64, SMALLER)?;
    let mut lines = String::with_capacity(text.len());
    for (i, line) in text.strip_prefix('\u{feff}').unwrap_or(&text).split("\r\n").enumerate() {
        lines.push_str(if i == 0 { "" } else { "\n" });
        lines.push_str(line);
    }
    Ok(lines)
}

const NOT_UTF8: &str = "UTF-8 text (convert text in another encoding with iconv)";
const HAS_ZEROS: &str = "text without zero bytes (tr -d '\\000' removes them)";

/// The error for a byte after `before`.
fn not_text(path: &Path, before: &str, expected: &str, byte: Option<u8>) -> DataError {
    let line = before.matches('\n').count() as u64 + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() as u64 + 1;
    let found = byte.map_or("the end of the file".to_owned(), |byte| format!("byte 0x{byte:02x}"));
    DataError::Line { path: path.to_path_buf(), line, column, expected: expected.to_owned(), found }
}

/// Passes the text of a row to `document`.
fn take_row<E: From<DataError>>(
    row: &RawRow<'_>,
    options: &TextOptions,
    summary: &mut Summary,
    document: &mut impl FnMut(&mut Summary, &str) -> Result<(), E>,
) -> Result<(), E> {
    match rows::text_of(row.bytes, options) {
        Ok(text) => document(summary, &text),
        Err(wrong) => Ok(skip(row.error(wrong), options, summary)?),
    }
}

/// Counts a skipped row; if skipping is off, its error ends reading.
fn skip(error: DataError, options: &TextOptions, summary: &mut Summary) -> Result<(), DataError> {
    if options.bad_row == BadRow::Error {
        return Err(error);
    }
    summary.skipped_rows += 1;
    summary.first_skipped.get_or_insert(error);
    Ok(())
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
        let cases: [(&[u8], &str); 19] = [
            (b"{\"text\": 7}", "1:10: expected string for \"text\", found number"),
            (b"\n\n{\"\xc3\xa9\": 1, \"text\": null}", "3:18: expected string for \"text\", found null"),
            (b"[1]", "1:1: expected a JSON object with key \"text\", or a string, found array"),
            (b"  nonsense", "1:3: expected a JSON object with key \"text\", or a string, found text that is not JSON"),
            (b"{\"Text\": \"a\"}", "1:1: expected key \"text\", found key \"Text\"; set data.text_field=Text to train on it"),
            (
                b"{\"a\": \"1\", \"b\": \"2\", \"c\": 3}",
                "1:1: expected key \"text\", found keys \"a\", \"b\", \"c\"; set data.text_field to the one with the text (\"a\", \"b\")",
            ),
            (
                b"{\"a\": 1, \"b\": \"2\"}",
                "1:1: expected key \"text\", found keys \"a\", \"b\"; set data.text_field=b to train on it",
            ),
            (b"{\"a\": 1, \"b\": 2}", "1:1: expected key \"text\", found keys \"a\", \"b\", none of them with a string"),
            (
                b"{\"data\": [{\"text\": \"a\"}]}",
                "1:1: expected key \"text\", found key \"data\" with an array; make the array the whole file: jq .data FILE > rows.json",
            ),
            (b"{}", "1:1: expected key \"text\", found an object without keys"),
            (b"{\"text\": \"a\"", "1:12: expected valid JSON, found EOF while parsing an object"),
            (b"{\"text\": \"a\"} x", "1:15: expected valid JSON, found trailing characters"),
            (b"{\"text\": \"a\nb\"}", "1:11: expected valid JSON, found EOF while parsing a string"),
            (
                b"{\"text\": \"\\ud800\"}",
                "1:17: expected valid JSON, found half of a surrogate pair (\\ud800 to \\udfff), which is no character; write the text as UTF-8 with errors=\"replace\"",
            ),
            (
                b"{\"text\": \"\\ud83dx\"}",
                "1:17: expected valid JSON, found half of a surrogate pair (\\ud800 to \\udfff), which is no character; write the text as UTF-8 with errors=\"replace\"",
            ),
            (b"{\"text\": NaN}", "1:10: expected valid JSON, found NaN, which Python writes and JSON does not have; write null"),
            (
                b"{\"text\": \"a\", \"x\": -Infinity}",
                "1:20: expected valid JSON, found -Infinity, which Python writes and JSON does not have; write null",
            ),
            (b"{\"text\": \"\xff\"}", "1:11: expected UTF-8 text, found byte 0xff; convert the file with iconv"),
            (b"{\"text\": \"a\", \"text\": \"b\"}", "1:26: expected valid JSON, found key \"text\" twice"),
        ];
        for (row, expected) in cases {
            let expected = format!("a.jsonl:{expected} (data.on_bad_row=skip skips such rows)");
            assert_eq!(load_as("a.jsonl", row).unwrap_err(), expected);
        }
    }

    #[test]
    fn rows_of_other_tasks_name_their_command() {
        for (row, expected) in [
            ("{\"messages\": []}", "found keys \"messages\": a row of a chat; train on chats with 'samara sft'"),
            (
                "{\"instruction\": 1, \"input\": 2, \"output\": 3}",
                "found keys \"instruction\", \"input\", \"output\": a question and its answer; train on pairs with 'samara sft'",
            ),
            (
                "{\"chosen\": 1, \"rejected\": 2}",
                "found keys \"chosen\", \"rejected\": a preference; train on preferences with 'samara dpo' or 'samara reward'",
            ),
        ] {
            let error = load_as("a.jsonl", row.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn rows_of_an_array() {
        let rows = "\u{feff} [\n {\"text\": \"a\"},\n {\"text\": \"h\\u00e9\", \"x\": [1]} ]\n";
        assert_eq!(load_as("a.json", rows.as_bytes()).unwrap(), ["a", "h\u{e9}"]);
        // One that has rows in lines instead.
        assert_eq!(load_as("a.json", b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap(), ["a", "b"]);
        let error = load_as("a.json", b"[{\"text\": \"a\"},\n {\"text\": null}]").unwrap_err();
        assert!(error.starts_with("a.json:2:11: expected string for \"text\", found null"), "{error}");
        let error = load_as("a.json", b"[{\"text\": \"a\"},\n {").unwrap_err();
        assert!(error.contains("expected a JSON array of rows") && error.contains("EOF while parsing"), "{error}");
    }

    #[test]
    fn strings_of_an_array_are_documents() {
        assert_eq!(load_as("a.json", b"[\"one\", {\"text\": \"two\"}, \"h\\u00e9\"]").unwrap(), ["one", "two", "h\u{e9}"]);
        assert_eq!(load_as("a.jsonl", b"\"one\"\n\"two\"\n").unwrap(), ["one", "two"]);
        let error = load_as("a.json", b"[\"one\",\n  7]").unwrap_err();
        assert!(error.starts_with("a.json:2:3: expected a JSON object with key \"text\", or a string, found number"), "{error}");
    }

    #[test]
    fn columns_of_csv_are_documents() {
        let rows = "\u{feff}id,text\r\n1,\"a, \"\"b\"\"\r\nc\"\r\n2,\r\n3,d\r\n";
        assert_eq!(load_as("a.csv", rows.as_bytes()).unwrap(), ["a, \"b\"\nc", "d"]);
        assert_eq!(load_as("a.tsv", b"text\tid\none\t1\ntwo\t2\n").unwrap(), ["one", "two"]);
        for (rows, expected) in [
            (
                "id,body\n1,a\n",
                "a.csv:1:1: expected column \"text\", found columns \"id\", \"body\"; set data.text_field to the one with the text",
            ),
            ("body\na\n", "a.csv:1:1: expected column \"text\", found column \"body\"; set data.text_field=body to train on it"),
            ("id;text\n1;a\n", "a.csv:1:1: expected column \"text\", found column \"id;text\"; write commas between columns"),
            ("text,id\na,1\nb\n", "a.csv:3:1: expected 2 cells, as the header has, found 1"),
        ] {
            let error = load_as("a.csv", rows.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(load_as("a.csv", b"text\n\"a\n").unwrap_err().starts_with("a.csv:2:1: expected a record"));
        assert_eq!(load_as("a.csv", b"text\n").unwrap_err(), "a.csv: expected some text, found none");
    }

    #[test]
    fn files_of_other_formats_are_not_text() {
        let mut tar = [&b"notes.txt"[..], &[0; 503], b"some text", &[0; 503]].concat();
        tar[257..262].copy_from_slice(b"ustar");
        for name in ["a.txt", "a.tar", "a.jsonl", "a.csv"] {
            let error = load_as(name, &tar).unwrap_err();
            assert!(error.contains("found a tar archive") && error.contains("tar -xf "), "{error}");
        }
        let zeros = [b"some words\n".repeat(20), b"and a\0 zero".to_vec()].concat();
        let error = load_as("a.txt", &zeros).unwrap_err();
        assert_eq!(error, "a.txt:21:6: expected text without zero bytes (tr -d '\\000' removes them), found byte 0x00");
    }

    #[test]
    fn compressed_files_are_read_by_the_names_inside() {
        let gzip = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        let zstd = |text: &str| ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        assert_eq!(load_as("a.txt.gz", &gzip("one\r\ntwo")).unwrap(), ["one\ntwo"]);
        assert_eq!(load_as("a.jsonl.gz", &gzip("{\"text\":\"a\"}\n{\"text\":\"b\"}")).unwrap(), ["a", "b"]);
        assert_eq!(load_as("a.json.zst", &zstd("[{\"text\":\"a\"},{\"text\":\"b\"}]")).unwrap(), ["a", "b"]);
        assert_eq!(load_as("a.md.zst", &zstd("one")).unwrap(), ["one"]);
        for (name, packed) in [("a.txt.gz", gzip("some words")), ("a.txt.zst", zstd("some words")), ("a.jsonl.gz", gzip("{}"))] {
            let error = load_as(name, &packed[..packed.len() - 4]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: expected whole compressed data, found ")), "{error}");
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
        let options = TextOptions { text_key: "body".to_owned(), bad_row: BadRow::Skip, ..TextOptions::default() };
        let (documents, summary) = load(&path, &options).unwrap();
        assert_eq!(documents, ["a", "b"]);
        assert_eq!((summary.documents, summary.bytes, summary.skipped_rows), (2, 2, 2));
        assert!(summary.first_skipped.as_ref().unwrap().to_string().contains(":2:9: "));
        let said = summary.lines(&path).concat();
        assert!(said.contains("a.jsonl: 2 rows skipped of 4, the first: ") && said.contains(":2:9: "), "{said}");
        assert!(!said.contains("on_bad_row"), "{said}");
        let none = TextOptions { text_key: "absent".to_owned(), ..options };
        let message = load(&path, &none).unwrap_err().to_string();
        assert!(message.contains("expected some text, found none; 4 rows were skipped, the first: "), "{message}");
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
            ("d.json", "[{\"text\":\"5\"}]"),
            ("about.json", "{\"text\": \"no\"}"),
            (".h.txt", "no"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (documents, summary) = load(folder.path(), &TextOptions::default()).unwrap();
        assert_eq!(documents, ["1", "2", "3", "4", "5"]);
        let lines = summary.lines(folder.path()).join("\n").replace(&folder.path().display().to_string(), "F");
        assert_eq!(
            lines,
            "F: 5 files read: a.txt, b/a.jsonl, b/z.md, c.txt, d.json\nF: 2 files ignored because of their names: about.json, x.png"
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(load(empty.path(), &TextOptions::default()).unwrap_err().to_string().contains("*.txt"));
        assert!(load(&empty.path().join("absent"), &TextOptions::default()).is_err());
    }
}
