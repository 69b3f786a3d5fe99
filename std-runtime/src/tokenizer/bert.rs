//! BERT's tokenizer around a vocabulary of WordPiece: the steps before the model and the tokens around a text.

use serde_json::{Map, Value, json};

/// BERT's special tokens, in the order of the first ids of a trained vocabulary.
pub(super) const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// What names them in `tokenizer_config.json`.
const NAMES: [&str; 5] = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"];

/// How text is changed before it is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letters {
    /// In lower case.
    pub(super) lowercase: bool,
    /// Without accents; `None`: as lower case is.
    pub(super) strip_accents: Option<bool>,
    /// With white space around Chinese characters.
    pub(super) spaced_chinese: bool,
}

impl Letters {
    /// In lower case, without accents.
    pub(super) const UNCASED: Self = Self { lowercase: true, strip_accents: None, spaced_chinese: true };

    /// As `tokenizer_config.json` says it.
    pub(super) fn of(config: &Map<String, Value>) -> Self {
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        Self {
            lowercase: flag("do_lower_case").unwrap_or(true),
            strip_accents: flag("strip_accents"),
            spaced_chinese: flag("tokenize_chinese_chars").unwrap_or(true),
        }
    }
}

/// The `tokenizer.json` of a vocabulary, whose ids are its places. Texts stand between [CLS] and [SEP], if it has them.
pub(super) fn file(tokens: &[String], letters: Letters) -> Value {
    let id = |text: &str| tokens.iter().position(|token| token == text);
    let added = SPECIALS.iter().filter_map(|text| {
        let (single_word, special) = (false, true);
        Some(json!({
            "id": id(text)?, "content": text, "single_word": single_word, "lstrip": false, "rstrip": false, "normalized": false,
            "special": special,
        }))
    });
    let vocab: Map<String, Value> = tokens.iter().zip(0..).map(|(text, id)| (text.clone(), Value::from(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": letters.spaced_chinese,
            "strip_accents": letters.strip_accents, "lowercase": letters.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": id("[CLS]").zip(id("[SEP]")).map(|(cls, sep)| around(cls, sep)),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab,
        },
    })
}

/// The names of special tokens in `tokenizer_config.json`.
pub(super) fn names(has: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    NAMES.into_iter().zip(SPECIALS).filter(move |(_, text)| has(text))
}

/// [CLS] text [SEP], and [CLS] text [SEP] text [SEP].
fn around(cls: usize, sep: usize) -> Value {
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let special = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)];
    let pair = [&single[..], &[text("B", 1), special("[SEP]", 1)]].concat();
    let entry = |id: &str, number: usize| json!({"id": id, "ids": [number], "tokens": [id]});
    json!({
        "type": "TemplateProcessing", "single": single, "pair": pair,
        "special_tokens": {"[CLS]": entry("[CLS]", cls), "[SEP]": entry("[SEP]", sep)},
    })
}
