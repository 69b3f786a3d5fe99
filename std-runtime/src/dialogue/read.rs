//! Reading a file of rows for a command that takes some kinds of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::cells::of_cells;
use super::formats::{self, Refusal};
use super::row::{Format, Kind, Placed};
use crate::data::DataError;
use crate::data::objects::{for_each_object, is_table, shown_keys};
use crate::data::options::{BadRow, TextOptions};
use crate::stop::Stop;

/// What a command takes.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What messages call the command.
    pub command: &'static str,
    /// The kinds of rows.
    pub kinds: &'static [Kind],
}

/// How rows are read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// What is taken.
    pub wanted: Wanted,
    /// What to do with a row that is not as it should be.
    pub bad_row: BadRow,
    /// Keep pairs whose two dialogues answer different prompts, with the prompt of the first: for counting, not for training.
    pub keep_other_prompts: bool,
    /// A signal ends reading.
    pub stop: Stop,
}

impl ReadOptions {
    /// Any bad row is an error.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, bad_row: BadRow::Error, keep_other_prompts: false, stop: Stop::new() }
    }
}

/// The rows of a file.
#[derive(Debug, Default)]
pub struct Rows {
    /// The file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: Vec<Placed>,
    /// Rows left out under [`BadRow::Skip`].
    pub skipped: u64,
    /// What was wrong with the first of them.
    pub first_skipped: Option<DataError>,
    /// Pairs whose two dialogues answer different prompts; they are left out unless they were asked for.
    pub other_prompts: u64,
    /// CRC-32C of all rows that were read.
    pub checksum: u32,
}

/// Reads the rows of a file.
///
/// # Errors
/// A file that cannot be read, a row that is none or of a kind that the command does not take, no row at all, or a signal.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Rows, DataError> {
    let text = TextOptions { bad_row: options.bad_row, stop: options.stop.clone(), ..TextOptions::default() };
    let mut rows = Rows { path: path.to_owned(), ..Rows::default() };
    let is_table = is_table(path);
    for_each_object(path, &text, &mut |(object, line)| {
        let cells = |object| of_cells(object).map_err(|(expected, found)| error(path, line, expected, text.or_skip(found)));
        let object = if is_table { object.and_then(cells) } else { object };
        match object.and_then(|object| rows.take(&object, line, options, &text)) {
            Ok(row) => rows.rows.extend(row),
            Err(error) if options.bad_row == BadRow::Skip && matches!(error, DataError::Line { .. }) => {
                rows.skipped += 1;
                rows.first_skipped.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        Ok::<_, DataError>(())
    })?;
    if rows.rows.is_empty() {
        let (skipped, others) = (rows.skipped, rows.other_prompts);
        let found = match rows.first_skipped {
            Some(first) => format!("none; {skipped} are left out, the first: {first}"),
            None if others > 0 => format!(
                "none: in all {others} pairs the two dialogues answer different prompts, which cannot be compared; give pairs with one \"prompt\""
            ),
            None => "none".to_owned(),
        };
        return Err(DataError::format(path, "at least one row", found));
    }
    Ok(rows)
}

fn error(path: &Path, line: u64, expected: String, found: String) -> DataError {
    DataError::Line { path: path.to_path_buf(), line, column: 1, expected, found }
}

/// The keys that a command takes.
fn expected(wanted: Wanted) -> String {
    let keys: Vec<&str> = wanted.kinds.iter().map(|kind| kind.keys()).collect();
    format!("a row for {}, with {}", wanted.command, keys.join("; or "))
}

impl Rows {
    /// The row of an object; none for a pair whose dialogues answer different prompts.
    fn take(
        &mut self,
        object: &Map<String, Value>,
        line: u64,
        options: &ReadOptions,
        text: &TextOptions,
    ) -> Result<Option<Placed>, DataError> {
        let refuse = |expected: String, found: String| Err(error(&self.path, line, expected, text.or_skip(found)));
        let keys = || shown_keys(object.keys());
        let (row, format) = match formats::row(object) {
            Ok(read) => read,
            Err(Refusal::OtherPrompt(row)) => (row, Format::OtherPrompts),
            Err(Refusal::Unknown) if object.is_empty() => {
                return refuse(expected(options.wanted), "an object without keys".to_owned());
            }
            Err(Refusal::Unknown) => {
                let way = if object.contains_key("text") { "; samara train takes plain text" } else { "" };
                return refuse(expected(options.wanted), format!("keys {}{way}", keys()));
            }
            Err(Refusal::Wrong(expected, found)) => return refuse(expected, found),
        };
        let kind = row.kind();
        if !options.wanted.kinds.contains(&kind) {
            let found = format!("keys {}: {}, which {} takes", keys(), kind.name(), kind.commands());
            return refuse(expected(options.wanted), found);
        }
        let bytes = serde_json::to_string(object).unwrap_or_default();
        self.checksum = crc32c::crc32c_append(self.checksum, bytes.as_bytes());
        let is_other = format == Format::OtherPrompts;
        self.other_prompts += u64::from(is_other);
        Ok((!is_other || options.keep_other_prompts).then_some(Placed { row, format, line }))
    }

    /// What a person should know of them.
    pub fn lines(&self) -> Vec<String> {
        let shown = self.path.display();
        let mut counts: BTreeMap<Format, usize> = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row.format).or_default() += 1);
        let of_format: Vec<String> = counts.iter().map(|(format, count)| format!("{count} {}", format.name())).collect();
        let mut lines = vec![format!("{shown}: {} rows: {}", self.rows.len(), of_format.join(", "))];
        if let Some(first) = &self.first_skipped {
            lines.push(format!("{shown}: {} rows left out, the first: {first}", self.skipped));
        }
        if self.other_prompts > 0 {
            let (count, left) = (self.other_prompts, "whose two dialogues answer different prompts: left out");
            lines.push(format!("{shown}: {count} pair{} {left}", if count == 1 { "" } else { "s" }));
        }
        lines
    }

    /// What tells these rows from others.
    pub fn content(&self) -> String {
        format!("rows: crc32c {:08x}, {} rows", self.checksum, self.rows.len())
    }

    /// Where a row stands.
    pub fn at(&self, i: usize) -> String {
        self.rows.get(i).map_or_else(|| self.path.display().to_string(), |row| format!("{}:{}", self.path.display(), row.line))
    }

    /// The format of most rows.
    pub fn format(&self) -> Option<Format> {
        let mut counts: BTreeMap<Format, usize> = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row.format).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(format, _)| format)
    }

    /// The first rows, and the last ones: this share of them, at least one unless the share is 0, and never all.
    pub fn split(mut self, val_fraction: f64) -> (Self, Self) {
        let count = self.rows.len();
        let wanted = (count as f64 * val_fraction).round() as usize;
        let held = if val_fraction > 0.0 { wanted.max(1).min(count.saturating_sub(1)) } else { 0 };
        let last = self.rows.split_off(count - held);
        let held_out = Self { path: self.path.clone(), rows: last, checksum: self.checksum, ..Self::default() };
        (self, held_out)
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use proptest::prelude::*;

    use super::*;
    use crate::dialogue::row::Row;
    use crate::dialogue::turn::Turn;

    const ALL: Wanted = Wanted { command: "a test", kinds: &[Kind::Dialogue, Kind::Preference, Kind::Unpaired, Kind::Prompt] };

    fn read_as(name: &str, content: &[u8], options: &ReadOptions) -> Result<Rows, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        read(&path, options).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    fn one(row: &str) -> (Row, Format) {
        let rows = read_as("a.jsonl", row.as_bytes(), &ReadOptions::new(ALL)).unwrap().rows;
        let placed = rows.into_iter().next().unwrap();
        (placed.row, placed.format)
    }

    fn asked(question: &str, answer: &str) -> Row {
        Row::Dialogue { turns: vec![Turn::user(question), Turn::assistant(answer)] }
    }

    fn pair(prompt: &[Turn], chosen: &str, rejected: &str) -> (Vec<Turn>, Vec<String>) {
        (prompt.to_vec(), vec![chosen.to_owned(), rejected.to_owned()])
    }

    fn parts(row: Row) -> (Vec<Turn>, Vec<String>) {
        let Row::Preference { prompt, ranked, .. } = row else { panic!("{row:?}") };
        (prompt, ranked.into_iter().map(|ranked| ranked.completion.into_iter().map(|turn| turn.content).collect()).collect())
    }

    #[test]
    fn dialogues_of_every_format() {
        for (row, format) in [
            (r#"{"prompt": "q", "completion": "a"}"#, Format::PromptCompletion),
            (r#"{"question": "q", "answer": "a", "id": 3}"#, Format::PromptCompletion),
            (r#"{"instruction": "q", "input": "", "output": "a"}"#, Format::Alpaca),
            (r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#, Format::ShareGpt),
            (r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#, Format::Messages),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": "a"}]}"#,
                Format::Messages,
            ),
            (
                r#"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}"#,
                Format::PromptCompletion,
            ),
        ] {
            assert_eq!(one(row), (asked("q", "a"), format), "{row}");
        }
        let (row, _) = one(r#"{"instruction": "do", "input": "this", "output": "a", "system": "s", "history": [["x", "y"]]}"#);
        let Row::Dialogue { turns } = row else { panic!() };
        assert_eq!(turns.len(), 5);
        assert_eq!((turns[3].content.as_str(), turns[3].others["input"].as_str()), ("do\n\nthis", Some("this")));
    }

    #[test]
    fn judgements_of_every_format() {
        let (q, a) = (Turn::user("q"), Turn::assistant("a"));
        for (row, format, expected) in [
            (r#"{"prompt": "q", "chosen": "x", "rejected": "y"}"#, Format::Preference, pair(from_ref(&q), "x", "y")),
            (
                r#"{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}], "rejected": [{"role": "assistant", "content": "y"}]}"#,
                Format::Preference,
                pair(from_ref(&q), "x", "y"),
            ),
            (
                r#"{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "x"}, "rejected": {"from": "gpt", "value": "y"}}"#,
                Format::Preference,
                pair(from_ref(&q), "x", "y"),
            ),
            (
                r#"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}]}"#,
                Format::ImplicitPreference,
                pair(from_ref(&q), "x", "y"),
            ),
            (
                r#"{"chosen": "the sky is blue", "rejected": "the sky is green"}"#,
                Format::ImplicitPreference,
                pair(&[Turn::user("the sky is")], " blue", " green"),
            ),
            (r#"{"chosen": "same", "rejected": "same"}"#, Format::ImplicitPreference, pair(&[], "same", "same")),
            (
                r#"{"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant: x", "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant: y"}"#,
                Format::HhRlhf,
                pair(&[q.clone(), a, q.clone()], "x", "y"),
            ),
            (
                r#"{"prompt": "q", "completions": ["y", "x", "z"], "ranks": [2, 1, null]}"#,
                Format::Ranked,
                pair(from_ref(&q), "x", "y"),
            ),
        ] {
            let (found, found_format) = one(row);
            assert_eq!((parts(found), found_format), (expected, format), "{row}");
        }
        let good = Row::Unpaired { prompt: vec![q.clone()], completion: vec![Turn::assistant("x")], label: true };
        assert_eq!(one(r#"{"prompt": "q", "completion": "x", "label": true}"#), (good.clone(), Format::Unpaired));
        let rows = read_as("a.csv", b"prompt,completion,label\nq,x,True\n\"q\",\"x\",1", &ReadOptions::new(ALL)).unwrap();
        assert_eq!(rows.rows.into_iter().map(|row| (row.row, row.line)).collect::<Vec<_>>(), [(good.clone(), 2), (good, 3)]);
        let (Row::Prompt { prompt, others }, Format::Prompts) = one(r#"{"prompt": "q", "answer_key": "4"}"#) else { panic!() };
        assert_eq!((prompt, others["answer_key"].as_str()), (vec![q], Some("4")));
    }

    #[test]
    fn errors_say_what_is_there_and_who_takes_it() {
        const SFT: Wanted = Wanted { command: "samara sft", kinds: &[Kind::Dialogue] };
        let options = ReadOptions::new(SFT);
        for (row, expected) in [
            (
                r#"{"chosen": "a", "rejected": "b"}"#,
                "found keys \"chosen\", \"rejected\": a preference, which samara reward, samara dpo takes",
            ),
            (r#"{"prompt": "q", "completion": "x", "label": false}"#, "a judged answer, which samara kto takes"),
            (r#"{"prompt": "q"}"#, "a prompt alone, which samara rollout, samara ppo, samara grpo takes"),
            (r#"{"text": "q"}"#, "found keys \"text\"; samara train takes plain text"),
            (r#"{}"#, "found an object without keys"),
            (r#"[1]"#, "a.jsonl:2:1: expected a JSON object, found array"),
            (r#"{"prompt": 3, "completion": ""}"#, "expected a string, a message or a list of messages, found number"),
            (r#"{"messages": [{"role": "robot", "content": ""}]}"#, "found role \"robot\""),
            (
                r#"{"messages": [{"role": "assistant", "content": 3}]}"#,
                "expected string for the content of a message, found number",
            ),
            (r#"{"prompt": "q", "completion": "x", "label": "maybe"}"#, "expected true or false for \"label\", found \"maybe\""),
            (r#"{"prompt": "a", "prompt": "b"}"#, "key \"prompt\" twice"),
        ] {
            let text = format!("{{\"prompt\": \"q\", \"completion\": \"x\"}}\n{row}\n");
            let error = read_as("a.jsonl", text.as_bytes(), &options).unwrap_err();
            assert!(error.starts_with("a.jsonl:2:") && error.contains(expected), "{row}: {error}");
        }
        for (row, expected) in [
            (
                r#"{"prompt": "q", "completions": ["a", "b"], "ranks": [1]}"#,
                "expected 2 ranks, one for every completion, found 1",
            ),
            (r#"{"prompt": "q", "completions": ["a", "b"], "ranks": [1, 1]}"#, "at least two completions of different ranks"),
            (r#"{"prompt": "q", "completions": ["a"], "labels": [true]}"#, "rank whole completions"),
        ] {
            let error = read_as("a.jsonl", row.as_bytes(), &ReadOptions::new(ALL)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = read_as("a.parquet", b"PAR1\x15\x04", &options).unwrap_err();
        assert!(error.contains("found a Parquet file") && error.contains("to_json"), "{error}");
        let skip = ReadOptions { bad_row: BadRow::Skip, ..options };
        let rows = read_as("a.json", b"[{\"prompt\": \"q\", \"completion\": \"x\"},\n {\"a\": 1}, 7]", &skip).unwrap();
        assert_eq!((rows.rows.len(), rows.skipped), (1, 2));
        let said = rows.lines().join("\n");
        assert!(
            said.contains("1 rows: 1 prompt-completion") && said.contains("a.json:2:1: expected a row for samara sft"),
            "{said}"
        );
    }

    #[test]
    fn pairs_with_different_prompts_are_counted_and_left_out() {
        let other = r#"{"chosen": "\n\nHuman: q\n\nAssistant: x", "rejected": "\n\nHuman: p\n\nAssistant: y"}"#;
        let text = format!("{other}\n{}\n", r#"{"prompt": "q", "chosen": "x", "rejected": "y"}"#);
        let rows = read_as("a.jsonl", text.as_bytes(), &ReadOptions::new(ALL)).unwrap();
        assert_eq!((rows.rows.len(), rows.other_prompts), (1, 1));
        assert!(rows.lines().concat().contains("1 pair whose two dialogues answer different prompts"));
        let kept = ReadOptions { keep_other_prompts: true, ..ReadOptions::new(ALL) };
        assert_eq!(read_as("a.jsonl", text.as_bytes(), &kept).unwrap().rows.len(), 2);
    }

    #[test]
    fn rows_are_held_out_from_the_end() {
        let text: String = (0..10).map(|i| format!("{{\"prompt\": \"{i}\"}}\n")).collect();
        let rows = || read_as("a.jsonl", text.as_bytes(), &ReadOptions::new(ALL)).unwrap();
        for (share, train, held) in [(0.0, 10, 0), (0.2, 8, 2), (0.01, 9, 1), (0.9, 1, 9)] {
            let (first, last) = rows().split(share);
            assert_eq!((first.rows.len(), last.rows.len()), (train, held), "{share}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in 0..3_usize) {
            let _ = read_as(["a.jsonl", "a.json", "a.csv"][name], &bytes, &ReadOptions::new(ALL));
        }

        #[test]
        fn objects_of_any_shape_are_read_or_refused(
            keys in proptest::collection::vec(0..12_usize, 0..5),
            values in proptest::collection::vec(0..10_usize, 5),
        ) {
            const KEYS: [&str; 12] = [
                "messages", "conversations", "prompt", "completion", "chosen", "rejected", "label", "instruction", "output",
                "completions", "ranks", "history",
            ];
            const VALUES: [&str; 10] = [
                "\"a\"", "\"\\n\\nHuman: a\\n\\nAssistant: b\"", "[]", "null", "true", "[1, null]", "[{\"role\": \"user\", \"content\": \"q\"}]",
                "[{\"from\": \"gpt\", \"value\": \"a\"}]", "{\"role\": \"assistant\", \"content\": null}", "[[\"a\", \"b\"]]",
            ];
            let row: Vec<String> = keys.iter().zip(&values).map(|(&key, &value)| format!("\"{}\": {}", KEYS[key], VALUES[value])).collect();
            let _ = read_as("a.jsonl", format!("{{{}}}", row.join(", ")).as_bytes(), &ReadOptions::new(ALL));
        }
    }
}
