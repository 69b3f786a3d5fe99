//! The chat template in the files of a tokenizer, and the special tokens that it uses.

use super::Tokenizer;
use super::beside::{CONFIG_FILE, FILES, NAMES};
use serde_json::{Map, Value};

/// The file with a template only, which has precedence over the key of the same name.
const TEMPLATE_FILE: &str = FILES[3];
const TEMPLATE_KEY: &str = "chat_template";

impl Tokenizer {
    /// The chat template of the files. Of several named ones it is "default", or else the first.
    pub fn chat_template(&self) -> Option<String> {
        if let Some(source) = self.file(TEMPLATE_FILE) {
            return Some(String::from_utf8_lossy(source).into_owned());
        }
        match self.keys_of(CONFIG_FILE).remove(TEMPLATE_KEY)? {
            Value::String(source) => Some(source),
            Value::Array(named) => {
                let chosen = named.iter().find(|entry| entry["name"] == "default").or(named.first())?;
                chosen["template"].as_str().map(str::to_owned)
            }
            _ => None,
        }
    }

    /// The special tokens that the files name, such as `bos_token`, with their texts. Without files, the end-of-text token is both `bos_token` and
    /// `eos_token`.
    pub fn named_tokens(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Value| value.as_str().or(value["content"].as_str()).map(str::to_owned);
        let mut named = Vec::new();
        for keys in [CONFIG_FILE, FILES[1]].map(|file| self.keys_of(file)) {
            for name in NAMES {
                let is_new = named.iter().all(|(known, _)| *known != name);
                named.extend(keys.get(name).and_then(text).filter(|_| is_new).map(|text| (name, text)));
            }
        }
        let end = self.end_of_text().map(|id| String::from_utf8_lossy(&self.token_bytes(id)).into_owned());
        for name in ["eos_token", "bos_token"] {
            let is_new = named.iter().all(|(known, _)| *known != name);
            named.extend(
                end.clone().filter(|_| is_new && (name == "eos_token" || self.original.is_none())).map(|text| (name, text)),
            );
        }
        named
    }

    /// The file of the chat template, with `source` as the template: the one with a template only if it exists, or else `tokenizer_config.json` with
    /// its other keys.
    pub fn chat_template_file(&self, source: &str) -> (&'static str, Vec<u8>) {
        if self.file(TEMPLATE_FILE).is_some() {
            return (TEMPLATE_FILE, source.as_bytes().to_vec());
        }
        let mut keys = self.keys_of(CONFIG_FILE);
        if keys.is_empty() {
            keys = self.config(None).as_object().cloned().unwrap_or_default();
        }
        keys.insert(TEMPLATE_KEY.to_owned(), source.into());
        (CONFIG_FILE, format!("{:#}\n", Value::Object(keys)).into_bytes())
    }

    fn file(&self, name: &str) -> Option<&[u8]> {
        let files = self.original.iter().flat_map(|original| &original.files);
        files.into_iter().find(|(other, _)| *other == name).map(|(_, content)| content.as_slice())
    }

    /// The keys of a JSON file; empty if it does not exist.
    fn keys_of(&self, name: &str) -> Map<String, Value> {
        self.file(name).and_then(|content| serde_json::from_slice(content).ok()).unwrap_or_default()
    }
}
