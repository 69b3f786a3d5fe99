//! Added tokens, which the model's merges do not produce, and how they are found in text.

use fancy_regex::Regex;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

/// A token that is not made from text by the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its text; decoding returns it.
    pub text: String,
    /// Special tokens are recognised in text only if the caller allows it; others always are.
    pub special: bool,
    /// The matching rules.
    pub fit: Fit,
}

/// How an added token is found in text (Hugging Face's names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// It takes the white space before it.
    pub lstrip: bool,
    /// It takes the white space after it.
    pub rstrip: bool,
    /// Not within a word.
    pub single_word: bool,
    /// Whether it is matched in the normalised text.
    pub normalized: bool,
}

impl AddedToken {
    /// A special token without matching rules.
    pub fn special(id: u32, text: &str) -> Self {
        Self { id, text: text.to_owned(), special: true, fit: Fit::default() }
    }
}

/// Which special tokens are recognised in a text. Use `None` for untrusted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials<'a> {
    /// None: `<|endoftext|>` is encoded as ordinary characters.
    None,
    /// Only those with these texts.
    Only(&'a [&'a str]),
    /// All.
    All,
}

impl Specials<'_> {
    /// All, or none.
    pub fn all_if(wanted: bool) -> Self {
        if wanted { Self::All } else { Self::None }
    }

    /// Whether a token is recognised.
    pub(super) fn allow(&self, token: &AddedToken) -> bool {
        match self {
            _ if !token.special => true,
            Self::None => false,
            Self::Only(texts) => texts.contains(&token.text.as_str()),
            Self::All => true,
        }
    }
}

/// A part of a text.
pub(super) enum Section {
    /// An added token.
    Token(u32),
    /// Text without added tokens.
    Text(Range<usize>),
}

/// Finds added tokens: leftmost first, the longest of several that begin at the same position.
pub(super) struct Finder<'t> {
    /// The tokens, longest first.
    tokens: Vec<(Cow<'t, str>, &'t AddedToken)>,
    begins: [bool; 256],
}

impl<'t> Finder<'t> {
    /// A finder of tokens by their literal text.
    pub(super) fn new(tokens: impl Iterator<Item = (Cow<'t, str>, &'t AddedToken)>) -> Self {
        let mut tokens: Vec<_> = tokens.filter(|(text, _)| !text.is_empty()).collect();
        tokens.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let mut begins = [false; 256];
        tokens.iter().filter_map(|(text, _)| text.bytes().next()).for_each(|byte| begins[usize::from(byte)] = true);
        Self { tokens, begins }
    }

    /// Splits `text` into tokens and the text between them.
    pub(super) fn sections(&self, text: &[u8]) -> Vec<Section> {
        self.sections_between(text, &[])
    }

    /// The same; no token may span one of the positions `walls`, in ascending order.
    pub(super) fn sections_between(&self, text: &[u8], walls: &[usize]) -> Vec<Section> {
        let (mut sections, mut done, mut from) = (Vec::new(), 0, 0);
        while let Some((at, length, token)) = self.first_from(text, from) {
            let (mut start, mut end) = (at, at + length);
            if walls.get(walls.partition_point(|&wall| wall <= start)).is_some_and(|&wall| wall < end) {
                from = start + 1;
                continue;
            }
            from = end;
            let (before, after) = (&text[..at], &text[end..]);
            if token.fit.single_word && (last_char(before).is_some_and(is_word) || first_char(after).is_some_and(is_word)) {
                continue;
            }
            if token.fit.lstrip {
                start = done.max(start - space_at_end(before));
            }
            if token.fit.rstrip {
                end += space_at_start(after);
            }
            if done < start {
                sections.push(Section::Text(done..start));
            }
            sections.push(Section::Token(token.id));
            // The next token may begin in the white space that this one consumed; it is still a token.
            done = end;
        }
        if done < text.len() {
            sections.push(Section::Text(done..text.len()));
        }
        sections
    }

    /// Place, length and token.
    fn first_from(&self, text: &[u8], from: usize) -> Option<(usize, usize, &'t AddedToken)> {
        if self.tokens.is_empty() {
            return None;
        }
        let places = (from..text.len()).filter(|&at| self.begins[usize::from(text[at])]);
        let mut found = places.flat_map(|at| self.tokens.iter().map(move |(wanted, token)| (at, wanted, *token)));
        found
            .find(|(at, wanted, _)| text[*at..].starts_with(wanted.as_bytes()))
            .map(|(at, wanted, token)| (at, wanted.len(), token))
    }
}

/// `\w`: Unicode's letters, decimal digits, marks and connectors, but no other numbers such as fractions.
fn is_word(c: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w").expect("a class of characters is a pattern"));
    WORD.is_match(c.encode_utf8(&mut [0; 4])).unwrap_or(false)
}

fn first_char(text: &[u8]) -> Option<char> {
    (1..=4).find_map(|length| std::str::from_utf8(text.get(..length)?).ok()?.chars().next())
}

fn last_char(text: &[u8]) -> Option<char> {
    (1..=4).find_map(|length| std::str::from_utf8(text.get(text.len().checked_sub(length)?..)?).ok()?.chars().next())
}

/// Bytes of white space that `text` ends with.
fn space_at_end(text: &[u8]) -> usize {
    let mut end = text.len();
    while let Some(space) = last_char(&text[..end]).filter(|c| c.is_whitespace()) {
        end -= space.len_utf8();
    }
    text.len() - end
}

/// Length in bytes of the white space at the start of `text`.
fn space_at_start(text: &[u8]) -> usize {
    let mut start = 0;
    while let Some(space) = first_char(&text[start..]).filter(|c| c.is_whitespace()) {
        start += space.len_utf8();
    }
    start
}
