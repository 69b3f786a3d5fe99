//! Texts of a file in memory: lines, or one key of rows.

use std::path::Path;

use serde_json::Value;

use super::DataError;
use super::objects::for_each_object;
use super::options::TextOptions;
use super::text::{has_extension, inner_name, read_plain};
use crate::stop::Stop;

/// The lines of a file named `*.txt`, or of any other the strings under a key of its rows, or in a column. `setting` names the key in messages.
///
/// # Errors
/// A file that cannot be read or has no text; a row without the key; a signal.
pub fn read(path: &Path, (key, setting): (&str, &'static str), stop: &Stop) -> Result<Vec<String>, DataError> {
    if has_extension(&inner_name(path), &["txt"]) {
        let lines: Vec<String> = read_plain(path, stop)?.lines().map(str::to_owned).collect();
        return if lines.is_empty() { Err(DataError::format(path, "at least one line", "none")) } else { Ok(lines) };
    }
    let stop = stop.clone();
    let options =
        TextOptions { text_key: key.to_owned(), key_setting: setting, skip_setting: None, stop, ..TextOptions::default() };
    let mut texts = Vec::new();
    for_each_object(path, &options, &mut |(row, line)| {
        let mut row = row?;
        match row.remove(key) {
            Some(Value::String(text)) => texts.push(text),
            found => {
                let keys = || format!("keys {}", super::rows::shown_keys(row.keys()));
                let (found, column) = (found.map_or_else(keys, |value| value.to_string()), 1);
                let expected = format!("a string under {key:?}; {setting} names another key");
                return Err(DataError::Line { path: path.to_owned(), line, column, expected, found });
            }
        }
        Ok(())
    })?;
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_rows_and_columns() {
        let folder = tempfile::tempdir().unwrap();
        let read_as = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            read(&path, ("caption", "--field"), &Stop::new()).map_err(|error| error.to_string())
        };
        assert_eq!(read_as("a.txt", "one\n\ntwo\n").unwrap(), ["one", "", "two"]);
        assert_eq!(read_as("a.jsonl", "{\"caption\": \"x\"}\n{\"id\": 1, \"caption\": \"y\"}\n").unwrap(), ["x", "y"]);
        assert_eq!(read_as("a.csv", "id,caption\n1,\"x, y\"\n").unwrap(), ["x, y"]);
        let error = read_as("b.jsonl", "{\"caption\": \"x\"}\n{\"text\": \"y\"}\n").unwrap_err();
        assert!(
            error.contains("b.jsonl:2:1: expected a string under \"caption\"; --field names another key, found keys \"text\""),
            "{error}"
        );
        assert!(read_as("c.jsonl", "{\"caption\": 7}\n").unwrap_err().contains("found 7"));
        assert!(read_as("c.txt", "").unwrap_err().contains("expected at least one line"));
    }
}
