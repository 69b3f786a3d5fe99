//! Rows of JSON with a text, and the errors in them.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::DataError;
use super::options::TextOptions;

/// The error in a row, and its byte position.
pub(super) struct Wrong {
    byte: usize,
    expected: String,
    found: String,
}

impl Wrong {
    /// The error at a position in a file. `before` is the file's text from the beginning of line `line` to the row, with line breaks if the row is in
    /// an array.
    pub(super) fn at(self, path: &Path, line: u64, before: &str, row: &[u8]) -> DataError {
        let text = format!("{before}{}", String::from_utf8_lossy(row.get(..self.byte).unwrap_or(row)));
        let (lines, last) = (text.matches('\n').count() as u64, text.rsplit('\n').next().unwrap_or_default());
        let (line, column) = (line + lines, last.chars().count() as u64 + 1);
        DataError::Line { path: path.to_path_buf(), line, column, expected: self.expected, found: self.found }
    }
}

/// The rows of a JSON array, as raw text.
pub(super) fn of_array(text: &str) -> Result<Vec<&str>, Wrong> {
    let mut json = serde_json::Deserializer::from_str(text);
    let rows = json.deserialize_seq(Rows).and_then(|rows| json.end().map(|()| rows));
    rows.map_err(|error| Wrong {
        byte: byte_of(&error, text),
        expected: "a JSON array of rows".to_owned(),
        found: words_of(&error),
    })
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = seq.next_element::<&RawValue>()? {
            rows.push(row.get());
        }
        Ok(rows)
    }
}

/// A whole JSON object. A duplicate key is an error, as in [`text_of`].
pub(super) fn object_of(row: &[u8], options: &TextOptions) -> Result<Map<String, Value>, Wrong> {
    let row = utf8(row, options)?;
    begins_object(row, "a JSON object", options)?;
    let mut json = serde_json::Deserializer::from_str(row);
    let object = json.deserialize_map(Object).and_then(|object| json.end().map(|()| object));
    object.map_err(|error| not_json(&error, row, 0, options))
}

fn utf8<'a>(row: &'a [u8], options: &TextOptions) -> Result<&'a str, Wrong> {
    std::str::from_utf8(row).map_err(|error| {
        let byte = error.valid_up_to();
        let found = row.get(byte).map_or_else(String::new, |b| format!("byte 0x{b:02x}; convert the file with iconv"));
        Wrong { byte, expected: "UTF-8 text".to_owned(), found: options.or_skip(found) }
    })
}

/// Refuses a row that is not an object; otherwise returns where it begins.
fn begins_object(row: &str, expected: &str, options: &TextOptions) -> Result<usize, Wrong> {
    let leading = row.len() - row.trim_start().len();
    if row.trim_start().starts_with('{') {
        return Ok(leading);
    }
    Err(Wrong { byte: leading, expected: expected.to_owned(), found: options.or_skip(kind_of(row.trim_start())) })
}

/// The text of a row: the row itself if it is a string, or the string under the text key of a JSON object.
pub(super) fn text_of<'a>(row: &'a [u8], options: &TextOptions) -> Result<Cow<'a, str>, Wrong> {
    let key = options.text_key.as_str();
    let row = utf8(row, options)?;
    if row.trim_start().starts_with('"') {
        return serde_json::from_str(row).map(|Text(text)| text).map_err(|error| not_json(&error, row, 0, options));
    }
    let leading = begins_object(row, &format!("a JSON object with key {key:?}, or a string"), options)?;
    let mut json = serde_json::Deserializer::from_str(row);
    let value = json.deserialize_map(FindKey(key)).and_then(|value| json.end().map(|()| value));
    let (value, others) = value.map_err(|error| not_json(&error, row, 0, options))?;
    let Some(value) = value else {
        return Err(Wrong { byte: leading, expected: format!("key {key:?}"), found: without_key(&others, "key", options) });
    };
    // Both slices are in the same row, so the difference of their addresses is the position of the value.
    let byte = (value.get().as_ptr() as usize).saturating_sub(row.as_ptr() as usize);
    if !value.get().starts_with('"') {
        let found = options.or_skip(kind_of(value.get()));
        return Err(Wrong { byte, expected: format!("string for {key:?}"), found });
    }
    serde_json::from_str(value.get()).map(|Text(text)| text).map_err(|error| not_json(&error, row, byte, options))
}

/// Keys that are shown of a row that lacks the one that is wanted.
const SHOWN_KEYS: usize = 6;

/// The first keys of a row, in quotes.
pub(crate) fn shown_keys<'k>(keys: impl ExactSizeIterator<Item = &'k String>) -> String {
    let more = if keys.len() > SHOWN_KEYS { ", …" } else { "" };
    let shown: Vec<String> = keys.take(SHOWN_KEYS).map(|key| format!("{key:?}")).collect();
    format!("{}{more}", shown.join(", "))
}

/// A key of a row without the text key, or a column, and the kind of its value.
pub(super) type Other = (String, &'static str);

/// Words for a row without the text key, by the keys that it has; `word` is what a key is called.
pub(super) fn without_key(others: &[Other], word: &str, options: &TextOptions) -> String {
    let keys: Vec<String> = others.iter().map(|(key, _)| key.clone()).collect();
    let shown = shown_keys(keys.iter());
    let has = |key: &str| keys.iter().any(|found| found == key);
    let setting = options.key_setting;
    match keys.as_slice() {
        [] => return options.or_skip("an object without keys"),
        _ if ["messages", "conversations", "conversation"].iter().any(|key| has(key)) => {
            return format!("{word}s {shown}: a row of a chat; train on chats with 'samara sft'");
        }
        _ if has("chosen") && has("rejected") => {
            return format!("{word}s {shown}: a preference; train on preferences with 'samara dpo' or 'samara reward'");
        }
        _ if [["instruction", "output"], ["prompt", "completion"], ["prompt", "response"], ["question", "answer"]]
            .iter()
            .any(|pair| pair.iter().all(|key| has(key))) =>
        {
            return format!("{word}s {shown}: a question and its answer; train on pairs with 'samara sft'");
        }
        _ => {}
    }
    let found = if keys.len() == 1 { format!("{word} {shown}") } else { format!("{word}s {shown}") };
    let strings: Vec<&String> = others.iter().filter(|(_, kind)| *kind == STRING).map(|(key, _)| key).collect();
    options.or_skip(match (strings.as_slice(), others) {
        ([only], _) => format!("{found}; set {setting}={only} to train on it"),
        ([], [(key, "array")]) => format!("{found} with an array; make the array the whole file: jq .{key} FILE > rows.json"),
        ([], [(_, kind)]) => format!("{found}, whose value is no string: {kind}"),
        ([], _) => format!("{found}, none of them with a string"),
        (_, _) if strings.len() == others.len() => format!("{found}; set {setting} to the one with the text"),
        (several, _) => format!("{found}; set {setting} to the one with the text ({})", shown_keys(several.iter().copied())),
    })
}

/// A string that borrows from the row where it can.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A message of the parser without its place.
fn words_of(error: &serde_json::Error) -> String {
    // The message ends with "at line 1 column 7".
    error.to_string().split(" at line ").next().unwrap_or_default().to_owned()
}

/// The byte of the parser's input that an error is at. Its line is relative to the input, its column counts bytes from 1.
fn byte_of(error: &serde_json::Error, input: &str) -> usize {
    let line_start = input.match_indices('\n').nth(error.line().wrapping_sub(2)).map_or(0, |(at, _)| at + 1);
    line_start + error.column().saturating_sub(1)
}

/// `offset` is the start of the parser's input in the row.
fn not_json(error: &serde_json::Error, row: &str, offset: usize, options: &TextOptions) -> Wrong {
    let mut byte = offset + byte_of(error, row.get(offset..).unwrap_or_default());
    // The parser's position is after a minus sign.
    if row.get(..byte).is_some_and(|before| before.ends_with('-')) {
        byte -= 1;
    }
    let words = words_of(error);
    let rest = row.get(byte..).unwrap_or_default();
    let python = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| rest.starts_with(name));
    let found = match python {
        Some(name) => format!("{name}, which Python writes and JSON does not have; write null"),
        None if words.contains("surrogate") || words.contains("hex escape") && has_surrogate(row) => {
            "half of a surrogate pair (\\ud800 to \\udfff), which is no character; write the text as UTF-8 with errors=\"replace\"".to_owned()
        }
        None => words,
    };
    Wrong { byte, expected: "valid JSON".to_owned(), found: options.or_skip(found) }
}

/// Whether an escape of the row is that of a surrogate.
fn has_surrogate(row: &str) -> bool {
    let second = |at: usize| row.as_bytes().get(at + 3).map(u8::to_ascii_lowercase);
    row.match_indices("\\u").any(|(at, _)| {
        row.as_bytes().get(at + 2).is_some_and(|b| b.eq_ignore_ascii_case(&b'd'))
            && matches!(second(at), Some(b'8'..=b'9' | b'a'..=b'f'))
    })
}

/// The kind of a value that can be text.
pub(super) const STRING: &str = "string";

fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => STRING,
        _ if json.starts_with("null") => "null",
        _ if json.starts_with("true") || json.starts_with("false") => "boolean",
        Some(b'-' | b'0'..=b'9') => "number",
        _ => "text that is not JSON",
    }
}

/// Finds one key of an object, and lists the others. A duplicate key is an error, because it is ambiguous.
struct FindKey<'k>(&'k str);

impl<'de> Visitor<'de> for FindKey<'_> {
    type Value = (Option<&'de RawValue>, Vec<Other>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with key {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut others) = (None, Vec::new());
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            if key != self.0 {
                // One more than is shown, to tell that there are more.
                if found.is_none() && others.len() <= SHOWN_KEYS {
                    others.push((key.into_owned(), kind_of(map.next_value::<&RawValue>()?.get())));
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            } else if found.replace(map.next_value::<&RawValue>()?).is_some() {
                return Err(serde::de::Error::custom(format_args!("key {key:?} twice")));
            }
        }
        Ok((found, others))
    }
}

/// Reads a whole object.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if object.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("key {key:?} twice")));
            }
            object.insert(key, value);
        }
        Ok(object)
    }
}
