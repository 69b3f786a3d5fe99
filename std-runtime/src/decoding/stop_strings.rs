//! Strings that end a text.
//!
//! Matching is per byte, so that the end of a text does not depend on its tokenisation. The text ends at the first complete match, the longest of
//! several that complete at once, and is cut before it. Bytes that may still begin a match are held back.

use crate::tokenizer::Tokenizer;

/// Strings that end a text, and the tokenizer by which tokens are text.
#[derive(Clone, Debug)]
pub struct StopStrings<'t> {
    tokenizer: &'t Tokenizer,
    strings: Vec<Vec<u8>>,
}

impl<'t> StopStrings<'t> {
    /// These strings; empty ones, which would end every text at once, are dropped.
    pub fn new(tokenizer: &'t Tokenizer, strings: &[String]) -> Self {
        let mut strings: Vec<Vec<u8>> = strings.iter().filter(|s| !s.is_empty()).map(|s| s.as_bytes().to_vec()).collect();
        // The longest first: it determines the cut when several complete at once.
        strings.sort_by_key(|string| std::cmp::Reverse(string.len()));
        Self { tokenizer, strings }
    }

    /// A text that has just begun.
    pub fn begin(&self) -> StoppedText<'_> {
        StoppedText { tokenizer: self.tokenizer, strings: &self.strings, token: Vec::new(), held: Vec::new() }
    }

    /// The bytes of tokens, up to the first string.
    pub fn text_of(&self, tokens: &[i32]) -> Vec<u8> {
        let (mut text, mut out) = (self.begin(), Vec::new());
        if !tokens.iter().any(|&token| text.push(token, &mut out)) {
            text.finish(&mut out);
        }
        out
    }
}

/// A text during generation.
#[derive(Clone, Debug)]
pub struct StoppedText<'s> {
    tokenizer: &'s Tokenizer,
    strings: &'s [Vec<u8>],
    /// Bytes of the last token.
    token: Vec<u8>,
    /// Bytes that may be the beginning of a string.
    held: Vec<u8>,
}

impl StoppedText<'_> {
    /// Takes a token and appends to `out` the bytes that are certain to be text. Returns whether a stop string has ended the text; the held bytes are
    /// then that string. An id that the tokenizer does not have stands for no text.
    pub fn push(&mut self, token: i32, out: &mut Vec<u8>) -> bool {
        self.token.clear();
        self.tokenizer.push_token(token as u32, &mut self.token);
        for &byte in &self.token {
            self.held.push(byte);
            if let Some(string) = self.strings.iter().find(|string| self.held.ends_with(string)) {
                let begin = self.held.len() - string.len();
                out.extend(self.held.drain(..begin));
                return true;
            }
        }
        let certain = (0..self.held.len()).find(|&begin| self.may_begin(begin)).unwrap_or(self.held.len());
        out.extend(self.held.drain(..certain));
        false
    }

    /// Appends the bytes held back: the text ends without a stop string.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Whether a stop string may begin at a held byte.
    fn may_begin(&self, begin: usize) -> bool {
        self.held.get(begin..).is_some_and(|rest| self.strings.iter().any(|string| string.starts_with(rest)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The output after each byte, and whether the text ended.
    fn streamed(text: &str, strings: &[&str]) -> (Vec<String>, bool) {
        let (tokenizer, strings) =
            (Tokenizer::bytes(&["<|endoftext|>"]).unwrap(), strings.iter().map(|&s| s.to_owned()).collect::<Vec<_>>());
        let strings = StopStrings::new(&tokenizer, &strings);
        let (mut state, mut parts) = (strings.begin(), Vec::new());
        for byte in text.bytes() {
            let mut out = Vec::new();
            let ended = state.push(byte.into(), &mut out);
            parts.push(String::from_utf8_lossy(&out).into_owned());
            if ended {
                return (parts, true);
            }
        }
        let mut out = Vec::new();
        state.finish(&mut out);
        parts.push(String::from_utf8_lossy(&out).into_owned());
        (parts, false)
    }

    #[test]
    fn what_may_still_match_is_held_back() {
        assert_eq!(streamed("xENEND", &["END"]), (["x", "", "", "EN", "", ""].map(str::to_owned).to_vec(), true));
        assert_eq!(streamed("aEN", &["END"]), (["a", "", "", "EN"].map(str::to_owned).to_vec(), false));
        // The first that is complete, and of those the longest.
        assert_eq!(streamed("abcd", &["abcd", "bc"]).0.concat(), "a");
        assert_eq!(streamed("xabc", &["bc", "abc"]).0.concat(), "x");
        assert_eq!(streamed("ab", &[]).0, ["a", "b", ""]);
        assert_eq!(streamed("ab", &[""]).0, ["a", "b", ""]);
    }

    proptest! {
        /// By brute force: the shortest prefix of the text that ends with a stop string, without the longest one that it ends with.
        #[test]
        fn the_cut_is_that_of_a_search(text in "[ab\u{e9}]{0,14}", strings in prop::collection::vec("[ab\u{e9}]{1,4}", 0..4)) {
            let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
            let end = (1..=text.len()).find(|&end| strings.iter().any(|s| text.as_bytes()[..end].ends_with(s.as_bytes())));
            let expected = end.map_or(text.as_str(), |end| {
                let longest = strings.iter().filter(|s| text.as_bytes()[..end].ends_with(s.as_bytes())).map(|s| s.len()).max();
                &text[..end - longest.unwrap_or(0)]
            });
            let (tokenizer, owned) = (Tokenizer::bytes(&["<|endoftext|>"]).unwrap(), strings.iter().map(|&s| s.to_owned()).collect::<Vec<_>>());
            let ids: Vec<i32> = text.bytes().map(i32::from).collect();
            let found = StopStrings::new(&tokenizer, &owned).text_of(&ids);
            prop_assert_eq!(String::from_utf8(found).unwrap(), expected);
            prop_assert_eq!(streamed(&text, &strings).1, end.is_some());
        }
    }
}
