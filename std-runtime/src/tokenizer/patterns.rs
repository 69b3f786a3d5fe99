//! The split pattern of GPT-4 (tiktoken's `cl100k_base`), and its variants with other limits on digits per word:
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
//!
//! Recognised by their text in published files, and matched by hand-written code: several times faster than a regular expression.

use samara_core::tokenizer::{Class, Classes};

/// Digits in a word, for a pattern that is known.
pub(super) fn digits_of(pattern: &str) -> Option<usize> {
    let one_of = |text: &str, forms: &[&str]| forms.iter().find_map(|form| text.strip_prefix(form)).map(str::to_owned);
    let rest = one_of(pattern, &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|", r"'(?i:[sdmt]|ll|ve|re)|"])?;
    let rest = one_of(&rest, &[r"[^\r\n\p{L}\p{N}]?\p{L}+|", r"[^\r\n\p{L}\p{N}]?+\p{L}+|", r"[^\r\n\p{L}\p{N}]?+\p{L}++|"])?;
    let forms = [(r"\p{N}|", 1), (r"\p{N}{1,2}|", 2), (r"\p{N}{1,3}|", 3), (r"\p{N}{1,3}+|", 3), (r"\p{N}+|", usize::MAX)];
    let (rest, digits) = forms.iter().find_map(|(form, digits)| Some((rest.strip_prefix(form)?, *digits)))?;
    let rest = one_of(rest, &[r" ?[^\s\p{L}\p{N}]+[\r\n]*|", r" ?[^\s\p{L}\p{N}]++[\r\n]*|", r" ?[^\s\p{L}\p{N}]++[\r\n]*+|"])?;
    // Both end behind the last line break of the white space.
    let rest = one_of(&rest, &[r"\s*[\r\n]+|", r"\s*[\r\n]|"])?;
    (rest == r"\s+(?!\S)|\s+").then_some(digits)
}

/// Length in bytes of the word that `text` begins with, with at most `digits` digits; 0 only for an empty text.
pub(super) fn word(text: &str, digits: usize) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let next = chars.next().map(class);
    if let Some(length) = text.strip_prefix('\'').and_then(contraction) {
        return 1 + length;
    }
    match (class(first), next) {
        (Class::Letter, _) => run(text, 0, Class::Letter),
        (Class::Space | Class::Other, Some(Class::Letter)) if !is_line_break(first) => run(text, first.len_utf8(), Class::Letter),
        (Class::Number, _) => text.chars().take(digits).take_while(|&c| class(c) == Class::Number).map(char::len_utf8).sum(),
        (Class::Other, _) => others(text, 0),
        (Class::Space, Some(Class::Other)) if first == ' ' => others(text, 1),
        (Class::Space, _) => white_space(text),
    }
}

/// Length in bytes of the contraction after an apostrophe, in either case; U+017F counts as s.
fn contraction(after: &str) -> Option<usize> {
    let mut chars = after.chars();
    let lower = |c: char| c.to_ascii_lowercase();
    match (lower(chars.next()?), chars.next().map(lower)) {
        ('s' | 't' | 'm' | 'd', _) => Some(1),
        ('\u{17f}', _) => Some(2),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(2),
        _ => None,
    }
}

/// The end of the characters of class `wanted` from byte `start`.
fn run(text: &str, start: usize, wanted: Class) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.find(|c| class(c) != wanted).unwrap_or(rest.len())
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`, whose space is before `start`.
fn others(text: &str, start: usize) -> usize {
    let end = run(text, start, Class::Other);
    let rest = text.get(end..).unwrap_or_default();
    end + rest.find(|c| !is_line_break(c)).unwrap_or(rest.len())
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: white space up to its last line break; without one, all but the last character, which belongs to the next word.
fn white_space(text: &str) -> usize {
    let end = run(text, 0, Class::Space);
    let space = text.get(..end).unwrap_or_default();
    let last = space.char_indices().next_back().map_or(0, |(at, _)| at);
    match space.rfind(is_line_break) {
        Some(at) => at + 1,
        None if end < text.len() && last > 0 => last,
        None => end,
    }
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        '\t'..='\r' | ' ' => Class::Space,
        _ if c.is_ascii() => Class::Other,
        _ => Classes::UNICODE.of(u32::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::matcher::Matcher;

    const CL100K: &str =
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const NANOCHAT: &str =
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

    #[test]
    fn published_patterns_are_known() {
        let qwen = CL100K.replace("{1,3}", "");
        assert_eq!([CL100K, &qwen, NANOCHAT].map(digits_of), [Some(3), Some(1), Some(2)]);
        assert_eq!(digits_of(super::super::json::GPT2_PATTERN), None);
        assert_eq!(digits_of(&CL100K.replace(r"|\s+(?!\S)", "")), None);
    }

    proptest::proptest! {
        #[test]
        fn words_are_those_of_the_pattern(text in "[ab'sStTlL1½é風!. \t\r\n\u{17f}\u{3000}\u{301}😀]{0,24}") {
            for (pattern, digits) in [(CL100K, 3), (NANOCHAT, 2)] {
                let regex = Matcher::regex(pattern).unwrap().parts(&text).unwrap();
                let (mut found, mut start) = (Vec::new(), 0);
                while start < text.len() {
                    let end = start + word(&text[start..], digits);
                    found.push((start..end, true));
                    start = end;
                }
                proptest::prop_assert_eq!(&found, &regex);
            }
        }
    }
}
