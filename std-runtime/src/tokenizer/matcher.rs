//! What normalizers and splits look for in a text: a string, a class of characters, or a regular expression.

use super::EncodeError;
use fancy_regex::{Regex, RegexBuilder};
use std::ops::Range;

/// Steps back that a regular expression may take in a text before it is given up.
const BACKTRACKS: usize = 1 << 28;

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    /// A string.
    Literal(String),
    /// A character.
    Char(fn(char) -> bool),
    /// A regular expression, in the syntax of Oniguruma as far as `fancy-regex` has it.
    Regex(Box<Regex>),
}

impl Matcher {
    /// A matcher for a regular expression; the error says what is wrong with it.
    pub(super) fn regex(pattern: &str) -> Result<Self, String> {
        // As in Ruby's syntax, which the peer reads: ^ and $ stand for the ends of lines.
        let regex = RegexBuilder::new(&format!("(?m){pattern}")).backtrack_limit(BACKTRACKS).build();
        regex.map(|regex| Self::Regex(Box::new(regex))).map_err(|error| error.to_string())
    }

    /// Cuts `text` into what matches (true) and what lies between (false), in order.
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
