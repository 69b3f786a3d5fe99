//! Writing tokenizers in the format of Hugging Face's tools.
//!
//! - BPE: a `BPE` model with the `ByteLevel` split and decoder.
//! - Bytes: the same without merges and without a split; the id of a byte is its value.
//! - Characters: a `WordLevel` model over a split into single characters. Its unknown token is not in the vocabulary, so that an unknown character is
//!   an error there too.

use super::bert::{self, Letters};
use super::beside::CONFIG_FILE;
use super::json::CHAR_PATTERN;
use super::load::TOKENIZER_FILE;
use super::{FileError, Model, Tokenizer, byte_chars};
use crate::files::IoError;
use crate::run::durable;
use samara_core::tokenizer::Split;
use serde_json::{Map, Value, json};
use std::path::Path;

impl Tokenizer {
    /// Writes `tokenizer.json` and `tokenizer_config.json` into a folder. `max_tokens`, if known, is the model's context length.
    ///
    /// A loaded tokenizer is written as its original files; a lone `tokenizer.json` gets a configuration.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, folder: &Path, max_tokens: Option<usize>) -> Result<(), FileError> {
        if let Some(original) = &self.original {
            original.files.iter().try_for_each(|(name, content)| write(&folder.join(name), content))?;
            let has = |name: &str| original.files.iter().any(|(other, _)| *other == name);
            let is_alone = has(TOKENIZER_FILE) && !has(CONFIG_FILE);
            return if is_alone { self.save_config(folder, max_tokens) } else { Ok(()) };
        }
        write(&folder.join(TOKENIZER_FILE), to_text(&self.to_json()).as_bytes())?;
        self.save_config(folder, max_tokens)
    }

    /// Whether the `tokenizer.json` of a folder is what [`Self::save`] writes for a new tokenizer: another tool writes other keys.
    pub fn is_as_trained(folder: &Path) -> bool {
        let Ok(found) = Self::load(folder) else { return false };
        let json = match found.model() {
            Model::Pieces(_) => return false,
            Model::WordPiece(words) => bert::file(&words.tokens(), Letters::UNCASED),
            Model::Byte | Model::Character(_) | Model::Bpe(_) => Self { original: None, ..found }.to_json(),
        };
        std::fs::read(folder.join(TOKENIZER_FILE)).is_ok_and(|text| text == to_text(&json).as_bytes())
    }

    fn save_config(&self, folder: &Path, max_tokens: Option<usize>) -> Result<(), FileError> {
        write(&folder.join(CONFIG_FILE), to_text(&self.config(max_tokens)).as_bytes())
    }

    /// Writes `vocab.json` and `merges.txt` into a folder; returns false, and writes nothing, unless this is BPE.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save_vocab_and_merges(&self, folder: &Path) -> Result<bool, FileError> {
        let Model::Bpe(bpe) = self.model() else { return Ok(false) };
        let text = |id: u32| self.written(id);
        let lines = bpe.merges().iter().map(|&(left, right)| format!("{} {}\n", text(left), text(right)));
        write(&folder.join("vocab.json"), Value::from(self.vocab(self.vocab_size())).to_string().as_bytes())?;
        write(
            &folder.join("merges.txt"),
            std::iter::once("#version: 0.2\n".to_owned()).chain(lines).collect::<String>().as_bytes(),
        )?;
        Ok(true)
    }

    /// The contents of `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        let kept = self.original.iter().flat_map(|original| &original.files).find(|(name, _)| *name == TOKENIZER_FILE);
        if let Some(json) = kept.and_then(|(_, content)| serde_json::from_slice(content).ok()) {
            return json;
        }
        let added = self.added().iter().map(|token| {
            json!({
                "id": token.id, "content": token.text, "single_word": token.fit.single_word, "lstrip": token.fit.lstrip,
                "rstrip": token.fit.rstrip, "normalized": token.fit.normalized, "special": token.special,
            })
        });
        let (pre_tokenizer, decoder, model) = self.parts();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(), "normalizer": null,
            "pre_tokenizer": pre_tokenizer, "post_processor": self.post_processor(), "decoder": decoder, "model": model,
        })
    }

    /// What is put after a text: null, or the end-of-text token.
    fn post_processor(&self) -> Value {
        let Some(end) = self.text_end() else { return Value::Null };
        let [text, special] =
            [json!({"Sequence": {"id": "A", "type_id": 0}}), json!({"SpecialToken": {"id": end, "type_id": 0}})];
        let pair = json!({"Sequence": {"id": "B", "type_id": 0}});
        json!({
            "type": "TemplateProcessing", "single": [text, special], "pair": [text, special, pair, special],
            "special_tokens": {end: {"id": end, "ids": [self.end_of_text()], "tokens": [end]}},
        })
    }

    /// The token that every text ends with, if there is one.
    fn text_end(&self) -> Option<&str> {
        let end = self.end_of_text().filter(|&id| self.ids_after() == [id])?;
        self.added().iter().find(|token| token.id == end).map(|token| token.text.as_str())
    }

    /// Pre-tokenizer, decoder and model.
    fn parts(&self) -> (Value, Value, Value) {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let bpe_model = |merges: Vec<String>, ignore_merges: bool| {
            json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
                "vocab": self.vocab(self.model().len()), "merges": merges,
            })
        };
        match self.model() {
            Model::Byte => (byte_level(false), byte_level(false), bpe_model(Vec::new(), false)),
            Model::Bpe(bpe) => {
                let use_regex = bpe.tables().split == Split::Gpt2;
                let merges = bpe.merges().iter().map(|&(left, right)| format!("{} {}", self.written(left), self.written(right)));
                (byte_level(use_regex), byte_level(true), bpe_model(merges.collect(), bpe.ignore_merges()))
            }
            Model::Character(chars) => (
                json!({"type": "Split", "pattern": {"Regex": CHAR_PATTERN}, "behavior": "Isolated", "invert": false}),
                json!({"type": "Fuse"}),
                json!({"type": "WordLevel", "vocab": self.vocab(chars.len()), "unk_token": "<unk>"}),
            ),
            Model::Pieces(_) | Model::WordPiece(_) => unreachable!("pieces come from a file, whose contents are kept"),
        }
    }

    /// The contents of `tokenizer_config.json`.
    pub(super) fn config(&self, max_tokens: Option<usize>) -> Value {
        let decoder = self.added().iter().map(|token| {
            let entry = json!({
                "content": token.text, "lstrip": token.fit.lstrip, "normalized": token.fit.normalized, "rstrip": token.fit.rstrip,
                "single_word": token.fit.single_word, "special": token.special,
            });
            (token.id.to_string(), entry)
        });
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": false, "clean_up_tokenization_spaces": false,
            "added_tokens_decoder": decoder.collect::<Map<_, _>>(),
        });
        if let Some(max_tokens) = max_tokens {
            config["model_max_length"] = max_tokens.into();
        }
        if let Model::WordPiece(_) = self.model() {
            bert::names(|text| self.added_id(text).is_some()).for_each(|(name, text)| config[name] = text.into());
            return config;
        }
        let eos = self.added().iter().find(|token| Some(token.id) == self.end_of_text());
        if let Some(token) = eos {
            config["bos_token"] = token.text.as_str().into();
            config["eos_token"] = token.text.as_str().into();
        }
        if let Some(end) = self.text_end() {
            config["pad_token"] = end.into();
        }
        config
    }

    /// Tokens below `len` with their ids.
    fn vocab(&self, len: usize) -> Map<String, Value> {
        (0..len as u32).map(|id| (self.written(id), id.into())).collect()
    }

    /// A token as the files represent it: added tokens and characters literally, bytes through [`byte_chars`].
    fn written(&self, id: u32) -> String {
        if let Ok(place) = self.added().binary_search_by_key(&id, |token| token.id) {
            return self.added()[place].text.clone();
        }
        let mut bytes = Vec::new();
        self.push_token(id, &mut bytes);
        match self.model() {
            Model::Character(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Model::Byte | Model::Bpe(_) | Model::Pieces(_) | Model::WordPiece(_) => byte_chars::write(&bytes),
        }
    }
}

fn to_text(value: &Value) -> String {
    format!("{value:#}\n")
}

fn write(path: &Path, text: &[u8]) -> Result<(), FileError> {
    // A run writes these files again with every checkpoint: a process killed meanwhile must not leave half of one.
    Ok(durable::write(path, text).map_err(IoError::at(path, "write"))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writing in place would also change the file under a second hard link, and leave it incomplete for a moment.
    #[test]
    fn a_file_is_replaced_and_never_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [TOKENIZER_FILE, CONFIG_FILE] {
            fs::write(path(name), "former").unwrap();
            fs::hard_link(path(name), path("second")).unwrap();
            Tokenizer::bytes(&[]).unwrap().save(folder.path(), None).unwrap();
            assert_eq!(fs::read(path("second")).unwrap(), b"former");
            assert!(fs::read(path(name)).unwrap().starts_with(b"{"));
            fs::remove_file(path("second")).unwrap();
        }
    }
}
