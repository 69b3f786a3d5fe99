//! Statistics of problems in a corpus of texts.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde::Serialize;

use super::DataError;
use super::encoding::Encoding;
use super::options::{BadRow, TextOptions};
use super::text::for_each_document;
use crate::tokenizer::{TextError, Tokenizer};

/// Lengths, the shortest to the longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: usize,
    /// Half of all are at most as long.
    pub median: usize,
    /// Nine tenths of all are at most as long.
    pub p90: usize,
    /// The longest.
    pub max: usize,
}

impl Lengths {
    /// Those of some things; 0 without any.
    pub fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |share: f64| {
            let place = (share * lengths.len() as f64).ceil() as usize;
            lengths.get(place.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self { min: at(0.0), median: at(0.5), p90: at(0.9), max: at(1.0) }
    }
}

/// The findings in a corpus.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TextReport {
    /// The version of this object.
    pub schema: u32,
    /// The file or folder.
    pub path: String,
    /// Documents.
    pub documents: u64,
    /// Characters in them.
    pub characters: u64,
    /// Rows that cannot be read.
    pub bad_rows: u64,
    /// The error of the first unreadable row.
    pub first_bad: Option<String>,
    /// Documents that repeat an earlier one.
    pub duplicates: u64,
    /// Documents of white space.
    pub empty: u64,
    /// Characters of a document.
    pub lengths: Lengths,
    /// Tokens of a document, of a model's tokenizer.
    pub tokens: Option<Lengths>,
    /// The token limit per document, and the number of longer documents.
    pub max_length: Option<usize>,
    /// Documents that are longer than that.
    pub truncated: Option<u64>,
    /// Documents that another corpus has too.
    pub in_other: Option<u64>,
}

/// Why a corpus cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It has no ids.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl crate::error::Failure for CheckError {
    fn kind(&self) -> crate::error::Kind {
        match self {
            Self::Data(error) => error.kind(),
            Self::Text(error) => error.kind(),
        }
    }
}

/// Examines a corpus; with a tokenizer, also which documents exceed the token limit.
///
/// # Errors
/// Data that cannot be read, or that the tokenizer cannot encode.
pub fn check_text(path: &Path, tokenizer: Option<(&Tokenizer, usize)>, against: Option<&Path>) -> Result<TextReport, CheckError> {
    let options = TextOptions { bad_row: BadRow::Skip, ..TextOptions::default() };
    let mut others = HashSet::new();
    if let Some(other) = against {
        for_each_document(other, &options, |text| {
            others.insert(hash(text));
            Ok::<(), CheckError>(())
        })?;
    }
    let name = path.display().to_string();
    let mut encoding = tokenizer.map(|(tokenizer, _)| Encoding::new(tokenizer, false, None));
    let mut report = TextReport { schema: 1, path: name.clone(), ..TextReport::default() };
    let (mut seen, mut lengths, mut tokens, mut shared) = (HashSet::new(), Vec::new(), Vec::new(), 0);
    let summary = for_each_document(path, &options, |text| {
        report.duplicates += u64::from(!seen.insert(hash(text)));
        report.empty += u64::from(text.trim().is_empty());
        shared += u64::from(others.contains(&hash(text)));
        lengths.push(text.chars().count());
        if let Some(encoding) = &mut encoding {
            let mut count = 0;
            encoding.document::<CheckError>(text, &name, &mut |ids| {
                count += ids.len();
                Ok(())
            })?;
            tokens.push(count);
        }
        Ok::<(), CheckError>(())
    })?;
    report.documents = summary.documents;
    report.characters = summary.characters;
    report.bad_rows = summary.skipped_rows;
    report.first_bad = summary.first_skipped.map(|error| error.to_string());
    report.in_other = against.map(|_| shared);
    report.lengths = Lengths::of(lengths);
    if let Some((_, max_length)) = tokenizer {
        report.max_length = Some(max_length);
        report.truncated = Some(tokens.iter().filter(|&&length| length > max_length).count() as u64);
        report.tokens = Some(Lengths::of(tokens));
    }
    Ok(report)
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl TextReport {
    /// The findings as text: counts, and one line per problem.
    pub fn lines(&self) -> Vec<String> {
        let Lengths { min, median, p90, max } = self.lengths;
        let mut lines = vec![
            format!("{}: {} documents, {} characters", self.path, self.documents, self.characters),
            format!("documents: {min} to {max} characters, median {median}, nine tenths at most {p90}"),
        ];
        if let (Some(tokens), Some(truncated), Some(max_length)) = (self.tokens, self.truncated, self.max_length) {
            let share = 100.0 * truncated as f64 / self.documents.max(1) as f64;
            lines.push(format!(
                "tokens: {} to {}, median {}; {truncated} documents ({share:.1} %) are longer than {max_length} tokens",
                tokens.min, tokens.max, tokens.median
            ));
        }
        for (count, what) in [
            (self.bad_rows, "rows are unreadable"),
            (self.duplicates, "documents repeat an earlier one"),
            (self.empty, "documents are white space"),
            (self.in_other.unwrap_or(0), "documents are in the other corpus too"),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        lines.extend(self.first_bad.iter().map(|first| format!("first unreadable row: {first}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_quantiles() {
        assert_eq!(Lengths::of((1..=10).collect()), Lengths { min: 1, median: 5, p90: 9, max: 10 });
        assert_eq!(Lengths::of(Vec::new()), Lengths::default());
    }

    #[test]
    fn texts_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.jsonl"), folder.path().join("b.jsonl"));
        std::fs::write(&path, "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"one\"}\n{\"text\":\" \"}\n7\n").unwrap();
        std::fs::write(&other, "{\"text\":\"two\"}\n").unwrap();
        let bytes = Tokenizer::bytes(&[]).unwrap();
        let report = check_text(&path, Some((&bytes, 2)), Some(&other)).unwrap();
        let counts = [report.documents, report.bad_rows, report.duplicates, report.empty];
        assert_eq!((counts, report.truncated, report.in_other), ([4, 1, 1, 1], Some(3), Some(1)));
        let said = report.lines().join("\n");
        assert!(said.contains("3 documents (75.0 %) are longer than 2") && said.contains("a.jsonl:5:1"), "{said}");
    }
}
