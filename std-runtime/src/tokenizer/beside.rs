//! The files that accompany a tokenizer: special tokens, added tokens, the end-of-text token.

use super::error::{FileError, Problem, parse, problem, read};
use super::json::{AddedJson, Vocab};
use super::{AddedToken, Fit};
use serde_json::{Map, Value};
use std::path::Path;

/// The files of other tools about a tokenizer.
pub(super) const CONFIG_FILE: &str = "tokenizer_config.json";
/// Files that go with a tokenizer.
pub(super) const FILES: [&str; 4] = [CONFIG_FILE, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"];

/// Keys that name a special token.
pub(super) const NAMES: [&str; 7] = ["eos_token", "bos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// The content of the files that accompany a tokenizer.
#[derive(Clone, Default)]
pub(super) struct Beside {
    /// The token that ends a text.
    pub(super) end_of_text: Option<String>,
    /// Texts of special tokens.
    pub(super) specials: Vec<String>,
    /// Tokens with their ids.
    pub(super) added: Vec<AddedToken>,
    /// Whether a space is put before a text that does not begin with one.
    pub(super) add_prefix_space: bool,
}

impl Beside {
    /// Reads `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` of a folder, if they exist.
    pub(super) fn read(folder: &Path) -> Result<Self, FileError> {
        let mut beside = Self::default();
        for name in &FILES[..2] {
            let path = folder.join(name);
            let keys = object(&path)?;
            beside.named(&keys);
            if let Some(decoder) = keys.get("added_tokens_decoder") {
                beside.decoder(decoder).map_err(|problem| FileError::item(&path, problem))?;
            }
            beside.add_prefix_space |= keys.get("add_prefix_space") == Some(&Value::Bool(true));
        }
        let path = folder.join(FILES[2]);
        for (text, id) in object(&path)? {
            let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                return Err(FileError::item(&path, (format!("{text:?}"), format!("expected a token id, found {id}"))));
            };
            if !beside.added.iter().any(|token| token.text == text) {
                let special = beside.specials.contains(&text);
                beside.added.push(AddedToken { id, text, special, fit: Fit { normalized: !special, ..Fit::default() } });
            }
        }
        Ok(beside)
    }

    /// The added tokens of a tokenizer's own file, with those that the accompanying files add or mark as special. A token of the vocabulary has its
    /// id there.
    pub(super) fn added_to(&self, mut added: Vec<AddedToken>, vocab: &Vocab) -> Result<Vec<AddedToken>, Problem> {
        let id_of = |text: &str| vocab.0.iter().find(|(other, _)| other == text).map(|(_, id)| *id);
        // A single character is text as well, whatever is padded with it.
        let specials = self.specials.iter().filter(|text| text.chars().nth(1).is_some());
        let named = specials.map(|text| (None, AddedToken::special(0, text)));
        for (given, token) in self.added.iter().map(|token| (Some(token.id), token.clone())).chain(named) {
            if added.iter().any(|other| other.text == token.text) {
                continue;
            }
            let Some(id) = id_of(&token.text).or(given) else { continue };
            let owner = added.iter().find(|other| other.id == id).map(|other| &other.text);
            let owner =
                owner.or_else(|| vocab.0.iter().find(|(text, other)| *other == id && *text != token.text).map(|(text, _)| text));
            if let Some(owner) = owner {
                let what = format!("the accompanying files give it id {id}, which is {owner:?} here; remove it from one of them");
                return problem(format!("added token {:?}", token.text), what);
            }
            added.push(AddedToken { id, ..token });
        }
        Ok(added)
    }

    /// Takes the tokens named by the keys.
    fn named(&mut self, keys: &Map<String, Value>) {
        let text = |value: &Value| value.as_str().or(value["content"].as_str()).map(str::to_owned);
        let end = keys.get("eos_token").and_then(text);
        self.end_of_text = self.end_of_text.take().or(end);
        let more = keys.get("additional_special_tokens").and_then(Value::as_array).into_iter().flatten();
        self.specials.extend(NAMES.iter().filter_map(|name| keys.get(*name)).chain(more).filter_map(text));
    }

    /// `added_tokens_decoder`: tokens by their ids.
    fn decoder(&mut self, decoder: &Value) -> Result<(), Problem> {
        for (id, token) in decoder.as_object().into_iter().flatten() {
            let item = || format!("added_tokens_decoder.{id}");
            let Ok(number) = id.parse() else { return problem(item(), "expected a token id as the key") };
            let Ok(token) = serde_json::from_value::<AddedJson>(token.clone()) else {
                return problem(item(), format!("expected an object with \"content\", found {token}"));
            };
            self.added.push(AddedToken { id: number, ..AddedToken::from(&token) });
        }
        Ok(())
    }
}

/// The keys of a file; empty if it does not exist.
pub(super) fn object(path: &Path) -> Result<Map<String, Value>, FileError> {
    if !path.exists() {
        return Ok(Map::new());
    }
    parse(&read(path)?, path)
}
