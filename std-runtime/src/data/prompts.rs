//! Prompts in files and from standard input: a line each, or JSONL.

use std::path::Path;

use serde::Deserialize;

use super::DataError;
use super::text::{has_lines, plain, read_plain};
use crate::files::{STDIN, read_stdin};
use crate::stop::Stop;

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Its text; empty: the end-of-text token, or a line break.
    pub prompt: String,
    /// Tokens to generate, if different from the default.
    #[serde(default)]
    pub max_new_tokens: Option<usize>,
}

/// The path that stands for standard input.
pub const DASH: &str = "-";

/// The prompts of a file: rows `{"prompt": …}` of a file named `*.jsonl` or `*.ndjson`, without empty lines; otherwise its lines. Standard input
/// (`-`) has rows if its first non-empty line is a JSON object.
///
/// # Errors
/// The file cannot be read, a row is not a prompt, or there is none.
pub fn read(path: &Path) -> Result<Vec<Prompt>, DataError> {
    if path.as_os_str() == DASH {
        let path = Path::new(STDIN);
        let text = plain(path, read_stdin()?)?;
        return parse(path, &text, begins_with_object(&text));
    }
    parse(path, &read_plain(path, &Stop::new())?, has_lines(path))
}

/// All of standard input as one prompt, without the line break at its end.
///
/// # Errors
/// Standard input cannot be read, or is not UTF-8 text.
pub fn from_stdin() -> Result<String, DataError> {
    let text = plain(Path::new(STDIN), read_stdin()?)?;
    Ok(text.strip_suffix('\n').map_or_else(|| text.clone(), str::to_owned))
}

fn begins_with_object(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.is_some_and(|line| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok())
}

fn parse(path: &Path, text: &str, has_rows: bool) -> Result<Vec<Prompt>, DataError> {
    let lines = || text.lines().enumerate();
    let prompts: Vec<Prompt> = if has_rows {
        lines().filter(|(_, line)| !line.trim().is_empty()).map(|(i, line)| row(path, i, line)).collect::<Result<_, _>>()?
    } else {
        lines().map(|(_, line)| Prompt { prompt: line.to_owned(), max_new_tokens: None }).collect()
    };
    if prompts.is_empty() {
        return Err(DataError::format(path, "at least one prompt", "none"));
    }
    Ok(prompts)
}

fn row(path: &Path, line: usize, json: &str) -> Result<Prompt, DataError> {
    serde_json::from_str(json).map_err(|error| {
        // The message ends with "at line 1 column 7", whose line is relative to the row.
        let found = error.to_string().split(" at line ").next().unwrap_or_default().to_owned();
        let expected = "an object with key \"prompt\", a string, and optionally \"max_new_tokens\", a whole number".to_owned();
        let column = error.column().max(1) as u64;
        DataError::Line { path: path.to_path_buf(), line: line as u64 + 1, column, expected, found }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_as(name: &str, content: &str) -> Result<Vec<(String, Option<usize>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let prompts = read(&path).map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))?;
        Ok(prompts.into_iter().map(|p| (p.prompt, p.max_new_tokens)).collect())
    }

    #[test]
    fn lines_and_rows() {
        let plain = |text: &str| (text.to_owned(), None);
        assert_eq!(read_as("a.txt", "one\r\n\n{two}\n").unwrap(), ["one", "", "{two}"].map(plain));
        let rows = "{\"prompt\": \"h\\u00e9\"}\n\n {\"max_new_tokens\": 3, \"prompt\": \"\"}";
        assert_eq!(read_as("a.jsonl", rows).unwrap(), [("h\u{e9}".to_owned(), None), (String::new(), Some(3))]);
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(read_as("a.txt", "").unwrap_err(), "a.txt: expected at least one prompt, found none");
        for (row, found) in [
            ("{\"text\": \"a\"}", "unknown field `text`"),
            ("{\"prompt\": 7}", "invalid type: integer `7`"),
            ("{\"prompt\": \"a\", \"max_new_tokens\": -1}", "invalid value: integer `-1`"),
            ("hello", "expected value"),
        ] {
            let error = read_as("a.jsonl", &format!("{{\"prompt\": \"\"}}\n{row}\n")).unwrap_err();
            assert!(error.starts_with("a.jsonl:2:") && error.contains("expected an object with key \"prompt\""), "{error}");
            assert!(error.contains(found), "{error}");
        }
    }
}
