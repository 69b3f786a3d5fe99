//! The split before BPE: a hand-written matcher of GPT-2's pattern
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (openai/gpt-2, `encoder.py`).
//!
//! Text need not be UTF-8: every byte outside a well-formed sequence counts as one character that is neither letter, number nor
//! white space, as U+FFFD is. So the words of broken text are those of the same text with U+FFFD for each broken byte.

use super::classes::{Class, Classes};
use super::steps::step;

/// How text is cut into words. BPE never merges across words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// GPT-2's pattern.
    #[default]
    Gpt2,
    /// The whole text is one word.
    Whole,
}

impl Split {
    /// The words of `text`, in order; joined they are `text`.
    pub fn words(self, text: &[u8]) -> Words<'_> {
        self.words_by(Classes::UNICODE, text)
    }

    /// The same with a table of classes from elsewhere.
    pub fn words_by<'t>(self, classes: Classes<'t>, text: &'t [u8]) -> Words<'t> {
        Words { rest: text, split: self, classes }
    }
}

/// Iterator over the words of a text; see [`Split::words`].
#[derive(Clone, Debug)]
pub struct Words<'t> {
    rest: &'t [u8],
    split: Split,
    classes: Classes<'t>,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let length = match self.split {
            Split::Gpt2 => gpt2_word(&self.classes, self.rest),
            Split::Whole => self.rest.len(),
        };
        let (word, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(word)
    }
}

/// The last position where `text` can be cut so that the words of both parts are the words of the whole, whatever follows; 0 if there is none. Only
/// for [`Split::Gpt2`].
///
/// Such a position is between an ASCII character that is not white space and an ASCII one that is.
pub fn last_cut(text: &[u8]) -> usize {
    let after = text.iter().skip(1);
    let places = text.iter().zip(after).rposition(|(&a, &b)| a < 0x80 && !is_ascii_space(a) && is_ascii_space(b));
    places.map_or(0, |i| i.saturating_add(1))
}

/// Length in bytes of the word that `text` begins with; 0 only for an empty text.
fn gpt2_word(classes: &Classes<'_>, text: &[u8]) -> usize {
    let Some((first_class, first_length)) = first(classes, text) else { return 0 };
    match text {
        [b'\'', rest @ ..] => match contraction(rest) {
            Some(letters) => letters.saturating_add(1),
            None => run(classes, text, first_length, first_class),
        },
        [b' ', rest @ ..] => match first(classes, rest) {
            Some((Class::Space, _)) | None => white_space(classes, text),
            Some((next_class, next_length)) => run(classes, text, next_length.saturating_add(1), next_class),
        },
        _ if first_class == Class::Space => white_space(classes, text),
        _ => run(classes, text, first_length, first_class),
    }
}

/// Letters of the contraction that follows an apostrophe.
fn contraction(after: &[u8]) -> Option<usize> {
    match after {
        [b's' | b't' | b'm' | b'd', ..] => Some(1),
        [b'r', b'e', ..] | [b'v', b'e', ..] | [b'l', b'l', ..] => Some(2),
        _ => None,
    }
}

/// The end of the characters of class `wanted` from byte `start`.
#[inline]
fn run(classes: &Classes<'_>, text: &[u8], start: usize, wanted: Class) -> usize {
    let mut end = start;
    while let Some(rest) = text.get(end..) {
        match first(classes, rest) {
            Some((found, length)) if found == wanted => end = end.saturating_add(length),
            _ => break,
        }
    }
    end
}

/// `\s+(?!\S)|\s+`: a run of white space leaves its last character to the following word, unless it is a single character or ends the text.
fn white_space(classes: &Classes<'_>, text: &[u8]) -> usize {
    let (mut end, mut last) = (0_usize, 0_usize);
    while let Some(rest) = text.get(end..) {
        match first(classes, rest) {
            Some((Class::Space, length)) => {
                last = end;
                end = end.saturating_add(length);
            }
            Some(_) if last > 0 => return last,
            _ => return end,
        }
    }
    end
}

/// Class and length in bytes of the first character.
#[inline]
fn first(classes: &Classes<'_>, text: &[u8]) -> Option<(Class, usize)> {
    step();
    match text {
        [] => None,
        [byte, ..] if byte.is_ascii() => Some((ascii_class(*byte), 1)),
        _ => Some(match first_code(text) {
            Some((code, length)) => (classes.of(code), length),
            None => (Class::Other, 1),
        }),
    }
}

/// Class of a byte below 128.
#[inline]
fn ascii_class(byte: u8) -> Class {
    if byte.is_ascii_alphabetic() {
        Class::Letter
    } else if byte.is_ascii_digit() {
        Class::Number
    } else if is_ascii_space(byte) {
        Class::Space
    } else {
        Class::Other
    }
}

fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// Code point and length of a well-formed sequence of two to four bytes (The Unicode Standard, table 3-7).
fn first_code(text: &[u8]) -> Option<(u32, usize)> {
    let tail = |byte: u8| u32::from(byte & 0x3f);
    match *text {
        [a @ 0xc2..=0xdf, b @ 0x80..=0xbf, ..] => Some((u32::from(a & 0x1f) << 6 | tail(b), 2)),
        [a @ 0xe0, b @ 0xa0..=0xbf, c @ 0x80..=0xbf, ..]
        | [a @ 0xe1..=0xec, b @ 0x80..=0xbf, c @ 0x80..=0xbf, ..]
        | [a @ 0xed, b @ 0x80..=0x9f, c @ 0x80..=0xbf, ..]
        | [a @ 0xee..=0xef, b @ 0x80..=0xbf, c @ 0x80..=0xbf, ..] => {
            Some((u32::from(a & 0x0f) << 12 | tail(b) << 6 | tail(c), 3))
        }
        [a @ 0xf0, b @ 0x90..=0xbf, c @ 0x80..=0xbf, d @ 0x80..=0xbf, ..]
        | [a @ 0xf1..=0xf3, b @ 0x80..=0xbf, c @ 0x80..=0xbf, d @ 0x80..=0xbf, ..]
        | [a @ 0xf4, b @ 0x80..=0x8f, c @ 0x80..=0xbf, d @ 0x80..=0xbf, ..] => {
            Some((u32::from(a & 0x07) << 18 | tail(b) << 12 | tail(c) << 6 | tail(d), 4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn words(text: &str) -> Vec<String> {
        Split::Gpt2.words(text.as_bytes()).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn splits_as_the_pattern_says() {
        assert_eq!(words("Hello world's 42 cats!!"), ["Hello", " world", "'s", " 42", " cats", "!!"]);
        assert_eq!(words("we'LL I'll 'tis ''re"), ["we", "'", "LL", " I", "'ll", " '", "tis", " ''", "re"]);
        assert_eq!(words("a  b\n\nc \r\n"), ["a", " ", " b", "\n", "\n", "c", " \r\n"]);
        assert_eq!(words("x\u{3000}\u{3000}y"), ["x", "\u{3000}", "\u{3000}", "y"]);
        assert_eq!(words(" \u{301}e\u{301}½٣"), [" \u{301}", "e", "\u{301}", "½٣"]);
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn broken_bytes_count_as_other() {
        let found: Vec<&[u8]> = Split::Gpt2.words(b"a\xff\xc3!b \xe2\x82 \xed\xa0\x80c").collect();
        assert_eq!(found, [&b"a"[..], b"\xff\xc3!", b"b", b" \xe2\x82", b" \xed\xa0\x80", b"c"]);
    }

    #[test]
    fn code_points_decode_as_in_std() {
        let mut buffer = [0; 4];
        for c in ('\u{80}'..=char::MAX).step_by(7) {
            assert_eq!(first_code(c.encode_utf8(&mut buffer).as_bytes()), Some((c as u32, c.len_utf8())));
        }
    }

    proptest::proptest! {
        #[test]
        fn words_join_to_the_text_and_cuts_keep_them(text: Vec<u8>, more in "[a '\\n\u{3000}]{0,6}") {
            let all: Vec<&[u8]> = Split::Gpt2.words(&text).collect();
            proptest::prop_assert_eq!(all.concat(), text.clone());
            let whole = [&text[..], more.as_bytes()].concat();
            let (left, right) = whole.split_at(last_cut(&text));
            let both: Vec<&[u8]> = Split::Gpt2.words(left).chain(Split::Gpt2.words(right)).collect();
            proptest::prop_assert_eq!(both, Split::Gpt2.words(&whole).collect::<Vec<_>>());
        }

        #[test]
        fn cuts_keep_words_of_text(text in "[ab1!' \\n\u{3000}é]{0,12}", more in "[a '\\n\u{3000}]{0,6}") {
            let whole = [text.as_bytes(), more.as_bytes()].concat();
            let (left, right) = whole.split_at(last_cut(text.as_bytes()));
            let both: Vec<&[u8]> = Split::Gpt2.words(left).chain(Split::Gpt2.words(right)).collect();
            proptest::prop_assert_eq!(both, Split::Gpt2.words(&whole).collect::<Vec<_>>());
        }
    }
}
