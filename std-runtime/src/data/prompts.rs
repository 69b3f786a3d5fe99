//! Prompts in files and from standard input: a line each, JSONL, or a column of CSV.

use std::path::Path;

use serde::Deserialize;

use super::rows::shown_keys;
use super::text::{has_extension, has_lines, inner_name, plain, read_plain};
use super::{DataError, csv};
use crate::files::{DASH, STDIN, read_stdin};
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

/// The prompts of a file: rows `{"prompt": …}` of a file named `*.jsonl` or `*.ndjson`, without empty lines; the column `prompt` of a file named
/// `*.csv` or `*.tsv`; otherwise its lines. Standard input
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
    let text = read_plain(path, &Stop::new())?;
    let inner = inner_name(path);
    match csv::EXTENSIONS.into_iter().find(|(extension, _)| has_extension(&inner, &[*extension])) {
        Some((_, separator)) => of_table(path, &text, separator),
        None => parse(path, &text, has_lines(path)),
    }
}

/// The prompts in a column of comma-separated values.
fn of_table(path: &Path, text: &str, separator: char) -> Result<Vec<Prompt>, DataError> {
    let mut records = csv::Records::of(text, separator).map(|record| record.map_err(|problem| csv::not_a_record(path, problem)));
    let header = records.next().transpose()?.map_or_else(Vec::new, |record| record.cells);
    let found = || format!("columns {}", shown_keys(header.iter()));
    let column = header.iter().position(|name| name.trim() == "prompt");
    let column = column.ok_or_else(|| csv::error(path, 1, "column \"prompt\"", found()))?;
    let prompt = |record: Result<csv::Record, DataError>| {
        let csv::Record { cells, line } = record?;
        let found = cells.len();
        let cell = cells.into_iter().nth(column).filter(|_| found == header.len());
        let cell =
            cell.ok_or_else(|| csv::error(path, line, format!("{} cells, as the header has", header.len()), found.to_string()));
        cell.map(|prompt| Prompt { prompt, max_new_tokens: None })
    };
    let prompts = records.map(prompt).collect::<Result<Vec<_>, _>>()?;
    if prompts.is_empty() { Err(DataError::format(path, "at least one prompt", "none")) } else { Ok(prompts) }
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
    fn a_column_of_csv() {
        let plain = |text: &str| (text.to_owned(), None);
        assert_eq!(read_as("a.csv", "id,prompt\n1,\"a, b\"\n2,c\n").unwrap(), ["a, b", "c"].map(plain));
        assert_eq!(
            read_as("a.tsv", "id\ttext\n").unwrap_err(),
            "a.tsv:1:1: expected column \"prompt\", found columns \"id\", \"text\""
        );
        assert!(read_as("a.csv", "id,prompt\n1\n").unwrap_err().starts_with("a.csv:2:1: expected 2 cells"));
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
