//! Patterns of normalizers and splits: a string, a class of characters, or a regular expression.

use super::EncodeError;
use fancy_regex::{Regex, RegexBuilder};
use std::ops::Range;

/// The limit of backtracking steps of a regular expression in one text.
const BACKTRACKS: usize = 1 << 28;

/// The pattern.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    /// A string.
    Literal(String),
    /// A character.
    Char(fn(char) -> bool),
    /// A regular expression, in the subset of Oniguruma's syntax that `fancy-regex` supports.
    Regex(Box<Regex>),
}

impl Matcher {
    /// A matcher for a regular expression; the error describes what is wrong with it.
    pub(super) fn regex(pattern: &str) -> Result<Self, String> {
        // As in Ruby's syntax, which Hugging Face's library uses: ^ and $ match at the ends of lines.
        let regex = RegexBuilder::new(&format!("(?m){pattern}")).backtrack_limit(BACKTRACKS).build();
        regex.map(|regex| Self::Regex(Box::new(regex))).map_err(|error| error.to_string())
    }

    /// Splits `text` into matches (true) and the text between (false), in order.
    pub(super) fn parts(&self, text: &str) -> Result<Vec<(Range<usize>, bool)>, EncodeError> {
        let mut parts = Vec::new();
        let mut end = 0;
        let mut found = |range: Range<usize>| {
            if end < range.start {
                parts.push((end..range.start, false));
            }
            end = range.end.max(end);
            if !range.is_empty() {
                parts.push((range, true));
            }
        };
        match self {
            Self::Literal(wanted) if wanted.is_empty() => {}
            Self::Literal(wanted) => text.match_indices(wanted.as_str()).for_each(|(at, same)| found(at..at + same.len())),
            Self::Char(is_wanted) => text.match_indices(*is_wanted).for_each(|(at, same)| found(at..at + same.len())),
            Self::Regex(regex) => {
                for range in regex.find_iter(text) {
                    found(range.map_err(|error| EncodeError::Pattern { problem: error.to_string() })?.range());
                }
            }
        }
        if end < text.len() {
            parts.push((end..text.len(), false));
        }
        Ok(parts)
    }

    /// `text` with `with` for every match.
    pub(super) fn replace(&self, text: &str, with: &str) -> Result<String, EncodeError> {
        let piece = |(range, is_match)| if is_match { with } else { text.get(range).unwrap_or_default() };
        Ok(self.parts(text)?.into_iter().map(piece).collect())
    }
}
