//! WordPiece: a word is cut into the longest tokens from its beginning on, and tokens within a word are written with a prefix (Schuster and Nakajima
//! 2012; Devlin et al. 2019).

use std::collections::HashMap;

/// A vocabulary of WordPiece.
#[derive(Clone, Debug)]
pub struct WordPiece {
    pub(super) ids: HashMap<Box<str>, u32>,
    /// The decoded text of each token; the first token of a text loses the space before it.
    pub(super) texts: Vec<Vec<u8>>,
    /// The token of a word that cannot be cut into tokens.
    unknown: u32,
    /// Written before a token within a word.
    prefix: Box<str>,
    /// The longest word that is cut; a longer one is unknown.
    most_chars: usize,
    /// Bytes of the longest token.
    longest: usize,
}

impl WordPiece {
    /// A model of these tokens; an id without one has no text. `cleanup`: decoded punctuation has no space before it.
    pub(super) fn new(tokens: &[Option<String>], unknown: u32, (prefix, cleanup): (String, bool), most_chars: usize) -> Self {
        let decoded = |token: &String| match token.strip_prefix(prefix.as_str()).filter(|_| !prefix.is_empty()) {
            Some(within) => within.to_owned(),
            None if cleanup => clean(&format!(" {token}")),
            None => format!(" {token}"),
        };
        let texts = tokens.iter().map(|token| token.as_ref().map(decoded).unwrap_or_default().into_bytes()).collect();
        let numbered = tokens.iter().zip(0..).filter_map(|(token, id)| Some((token.as_deref()?.into(), id)));
        let longest = tokens.iter().flatten().map(String::len).max().unwrap_or(0);
        Self { ids: numbered.collect(), texts, unknown, prefix: prefix.into(), most_chars, longest }
    }

    /// The tokens as they are written, by id.
    pub(super) fn tokens(&self) -> Vec<String> {
        let mut tokens = vec![String::new(); self.texts.len()];
        self.ids.iter().for_each(|(text, &id)| tokens[id as usize] = text.to_string());
        tokens
    }

    /// Whether a token is within a word: its text begins with the prefix. One per id.
    pub fn within_words(&self) -> Vec<bool> {
        let mut within = vec![false; self.texts.len()];
        let prefixed = self.ids.iter().filter(|(text, _)| !self.prefix.is_empty() && text.starts_with(&*self.prefix));
        for (_, &id) in prefixed {
            within.get_mut(id as usize).into_iter().for_each(|flag| *flag = true);
        }
        within
    }

    /// Appends the ids of a word: those of the longest tokens from its beginning on, or the unknown token alone.
    pub(super) fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let first = ids.len();
        if word.chars().count() > self.most_chars || !self.cut(word, ids) {
            ids.truncate(first);
            ids.push(self.unknown);
        }
    }

    /// Appends the tokens of a word; false where it cannot be cut further.
    fn cut(&self, word: &str, ids: &mut Vec<u32>) -> bool {
        let (mut written, mut start) = (String::new(), 0);
        while let Some(rest) = word.get(start..).filter(|rest| !rest.is_empty()) {
            written.clear();
            written.push_str(if start > 0 { &self.prefix } else { "" });
            let affix = written.len();
            written.push_str(&rest[..rest.floor_char_boundary(self.longest)]);
            let id = loop {
                match self.ids.get(written.as_str()) {
                    _ if written.len() <= affix => return false,
                    Some(&id) => break id,
                    None => drop(written.pop()),
                }
            };
            ids.push(id);
            start += written.len() - affix;
        }
        true
    }
}

/// Removes the spaces that the peer's decoder removes; it looks at one token at a time.
fn clean(token: &str) -> String {
    const SPACED: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    SPACED.iter().fold(token.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tokens_are_taken_and_a_word_that_ends_without_one_is_unknown() {
        let tokens = ["[UNK]", "un", "##aff", "##able", "##a", "u", "é"].map(|text| Some(text.to_owned()));
        let model = WordPiece::new(&tokens, 0, ("##".to_owned(), true), 8);
        let encode = |word: &str| {
            let mut ids = vec![9];
            model.encode_word(word, &mut ids);
            ids[1..].to_vec()
        };
        assert_eq!(encode("unaffable"), [0], "nine characters");
        assert_eq!(encode("unaffa"), [1, 2, 4]);
        assert_eq!(encode("unaffx"), [0]);
        assert_eq!(encode("éa"), [6, 4]);
    }
}
