//! Special tokens that a tokenizer gets beside those of its files, which are changed with it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::beside::{CONFIG_FILE, FILES};
use super::load::{Original, TOKENIZER_FILE};
use super::{AddedToken, PartsError, Tokenizer};

/// Names and contents of files.
type Files = Vec<(&'static str, Vec<u8>)>;

impl Tokenizer {
    /// The same with special tokens of these texts, the ones that it lacks behind all its ids, and with one of its tokens as the one for padding.
    /// Files that it was loaded from are changed where they list added tokens, as Hugging Face's tools read them.
    ///
    /// # Errors
    /// A text that no token can have beside the others.
    pub fn with_tokens(self, texts: &[&str], pad: Option<&str>) -> Result<Self, PartsError> {
        let mut new: Vec<AddedToken> = Vec::new();
        for text in texts {
            if self.id_of(text).is_none() && new.iter().all(|token| token.text != *text) {
                new.push(AddedToken::special((self.vocab_size() + new.len()) as u32, text));
            }
        }
        let added = [&self.added[..], &new].concat();
        let Self { end_of_text, text, template, original, .. } = self;
        let tokenizer = Self { text, template, original: None, ..Self::new(self.model, added)? };
        let end_of_text = end_of_text.or(tokenizer.end_of_text);
        let changed = |original: Arc<Original>| Arc::new(Original { files: tokenizer.changed(&original.files, &new, pad) });
        let original = original.map(changed);
        Ok(Self { end_of_text, original, ..tokenizer })
    }

    /// The files that it was loaded from, as they would be saved.
    pub fn files(&self) -> &[(&'static str, Vec<u8>)] {
        self.original.as_ref().map_or(&[], |original| &original.files)
    }

    /// The id of a token, added or not.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.id_of(text)
    }

    /// Files with new tokens, and with a token for padding.
    fn changed(&self, files: &[(&'static str, Vec<u8>)], new: &[AddedToken], pad: Option<&str>) -> Files {
        let mut files = files.to_vec();
        let has = |name: &str| files.iter().any(|(other, _)| *other == name);
        let (is_whole, has_map) = (has(TOKENIZER_FILE), has(FILES[1]));
        if is_whole && !new.is_empty() {
            edit(&mut files, TOKENIZER_FILE, |json| {
                let tokens = new.iter().map(|token| entry(token, true));
                json.entry("added_tokens")
                    .or_insert_with(|| json!([]))
                    .as_array_mut()
                    .into_iter()
                    .for_each(|all| all.extend(tokens.clone()));
            });
        } else if !new.is_empty() {
            // A slow tokenizer of vocab.json and merges.txt keeps its added tokens here.
            edit(&mut files, FILES[2], |json| json.extend(new.iter().map(|token| (token.text.clone(), token.id.into()))));
        }
        let usual = self.config(None);
        edit(&mut files, CONFIG_FILE, |json| {
            if json.is_empty() {
                *json = usual.as_object().cloned().unwrap_or_default();
            } else if let Some(decoder) = json.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) {
                decoder.extend(new.iter().map(|token| (token.id.to_string(), entry(token, false))));
            }
            json.extend(pad.map(|pad| ("pad_token".to_owned(), pad.into())));
        });
        if let Some(pad) = pad.filter(|_| has_map) {
            edit(&mut files, FILES[1], |json| {
                json.insert("pad_token".to_owned(), pad.into());
            });
        }
        files
    }
}

/// A token as `tokenizer.json` lists it, or as `added_tokens_decoder` does, where the id is the key.
fn entry(token: &AddedToken, with_id: bool) -> Value {
    let mut entry = json!({
        "content": token.text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": token.special,
    });
    if with_id {
        entry["id"] = token.id.into();
    }
    entry
}

/// Changes the keys of a file of JSON, which is made where it is not there.
fn edit(files: &mut Files, name: &'static str, change: impl FnOnce(&mut Map<String, Value>)) {
    let place = files.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
        files.push((name, Vec::new()));
        files.len() - 1
    });
    let content = &mut files[place].1;
    let mut json: Map<String, Value> = serde_json::from_slice(content).unwrap_or_default();
    change(&mut json);
    *content = format!("{:#}\n", Value::Object(json)).into_bytes();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tokenizer::Specials;

    fn loaded(files: &[&str]) -> (tempfile::TempDir, Tokenizer) {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::bytes(&["<|endoftext|>"]).unwrap();
        tokenizer.save(folder.path(), None).unwrap();
        for name in [TOKENIZER_FILE, CONFIG_FILE].iter().filter(|name| !files.contains(name)) {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        (folder, tokenizer)
    }

    #[test]
    fn new_tokens_stand_behind_the_others_and_are_read_again() {
        for files in [&[TOKENIZER_FILE, CONFIG_FILE][..], &[TOKENIZER_FILE]] {
            let (folder, tokenizer) = loaded(files);
            let before = tokenizer.encode(b"Hi <|endoftext|>", Specials::All).unwrap();
            let tokenizer = tokenizer.with_tokens(&["<|a|>", "<|endoftext|>", "<|pad|>", "<|a|>"], Some("<|pad|>")).unwrap();
            tokenizer.save(folder.path(), None).unwrap();
            let again = Tokenizer::load(folder.path()).unwrap();
            for tokenizer in [&tokenizer, &again] {
                assert_eq!([tokenizer.token_id("<|a|>"), tokenizer.token_id("<|pad|>")], [Some(257), Some(258)]);
                assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (259, Some(256)));
                assert_eq!(tokenizer.encode(b"Hi <|endoftext|>", Specials::All).unwrap(), before);
                assert_eq!(tokenizer.encode(b"<|a|>", Specials::All).unwrap(), [257]);
                let pad = tokenizer.named_tokens().into_iter().find(|(name, _)| *name == "pad_token");
                assert_eq!(pad, Some(("pad_token", "<|pad|>".to_owned())), "{files:?}");
            }
            let config: Value = serde_json::from_slice(&fs::read(folder.path().join(CONFIG_FILE)).unwrap()).unwrap();
            assert_eq!(config["added_tokens_decoder"]["258"]["content"], "<|pad|>");
        }
    }

    #[test]
    fn a_text_that_a_token_is_written_as_is_refused() {
        let (_folder, tokenizer) = loaded(&[TOKENIZER_FILE]);
        assert!(tokenizer.with_tokens(&[""], None).is_err());
    }
}
