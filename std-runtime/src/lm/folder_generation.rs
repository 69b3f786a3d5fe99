//! `generation_config.json` of a model folder as defaults of `[generate]`, with the names of `transformers`.
//!
//! A key in the file replaces the default of `[generate]`; the user's settings replace both. `do_sample: false` takes the most probable token, and
//! `do_sample: true` without a temperature samples at 1.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::generation::GenerateConfig;
use crate::model::folder::FolderConfig;
use crate::model_folder::keys::Keys;
use crate::model_folder::{FolderError, GENERATION_FILE};

/// A folder's generation settings.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderGeneration {
    /// The file.
    pub path: PathBuf,
    /// Keys of `[generate]` that it sets.
    pub keys: Vec<&'static str>,
    /// Their values; defaults for other keys.
    pub values: GenerateConfig,
    /// Strings that end a text.
    pub stop_strings: Vec<String>,
    /// Keys that would change a text elsewhere and have no effect here.
    pub idle: Vec<String>,
}

/// Keys that mean the same in `[generate]`.
const SHARED: [&str; 6] = ["max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"];

/// Keys that are read elsewhere, or do not affect the tokens of a single text.
const IDLE: [&str; 29] = [
    "_from_model_config",
    "transformers_version",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "low_memory",
    "prefill_chunk_size",
    "remove_invalid_values",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "target_lookbehind",
    // Options of beam search; they are reported if there are several beams.
    "length_penalty",
    "early_stopping",
];

/// Unsupported keys with the value that has no effect.
const NEUTRAL: [(&str, f64); 14] = [
    ("num_beams", 1.0),
    ("num_beam_groups", 1.0),
    ("diversity_penalty", 0.0),
    ("num_return_sequences", 1.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("guidance_scale", 1.0),
    ("penalty_alpha", 0.0),
];

impl FolderGeneration {
    /// The settings in the files of a folder.
    ///
    /// # Errors
    /// A key with a value that `[generate]` does not accept, with the file's name.
    pub fn of(folder: &Path, config: &FolderConfig) -> Result<Self, FolderError> {
        let (path, mut values, mut set) = (folder.join(GENERATION_FILE), GenerateConfig::default(), Vec::new());
        let keys = Keys::new(&path, &config.generation);
        for key in SHARED.into_iter().filter(|key| keys.not_null(key).is_some()) {
            keys.set_unless_null(&mut values, key, key)?;
            set.push(key);
        }
        let temperature = match keys.not_null("do_sample") {
            None => None,
            Some(Value::Bool(false)) => Some(0.0),
            Some(Value::Bool(true)) => (!set.contains(&"temperature")).then_some(1.0),
            Some(other) => return Err(keys.wrong("do_sample", "true, false or null", other)),
        };
        if let Some(temperature) = temperature {
            values.temperature = temperature;
            set.retain(|&key| key != "temperature");
            set.push("temperature");
        }
        let stop_strings = stop_strings(&keys)?;
        let is_honoured = |key: &str, value: &Value| {
            let neutral = NEUTRAL.iter().any(|(name, neutral)| *name == key && value.as_f64() == Some(*neutral));
            IDLE.contains(&key) || neutral || value.is_null() || value == &Value::Bool(false)
        };
        let others = keys.others();
        let named = others.iter().filter(|(key, value)| !is_honoured(key, value)).map(|(key, _)| key.clone());
        let mut idle: Vec<String> = named.collect();
        idle.sort();
        Ok(Self { path, keys: set, values, stop_strings, idle })
    }
}

/// The key `stop_strings`: a string, several, or null.
fn stop_strings(keys: &Keys<'_>) -> Result<Vec<String>, FolderError> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let strings = match keys.not_null("stop_strings") {
        None => return Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(text).collect(),
        Some(one) => text(one).map(|text| vec![text]),
    };
    let found = keys.peek("stop_strings").unwrap_or(&Value::Null);
    strings.ok_or_else(|| keys.wrong("stop_strings", "a string that is not empty, a list of them, or null", found))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::gpt::GptModel;

    fn of(generation: Value) -> Result<FolderGeneration, String> {
        let mut config = FolderConfig::new(GptModel::default(), 0.0);
        config.generation = generation.as_object().cloned().unwrap_or_default();
        FolderGeneration::of(Path::new("m"), &config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_there_stands_in_for_defaults() {
        let all = json!({
            "max_new_tokens": 7, "temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1,
            "do_sample": true, "eos_token_id": [1, 2], "transformers_version": "5", "num_beams": 1, "typical_p": null, "stop_strings": ["a", "b"],
        });
        let found = of(all).unwrap();
        let values = GenerateConfig {
            max_new_tokens: 7,
            temperature: 0.6,
            top_k: 20,
            top_p: 0.9,
            min_p: 0.01,
            repetition_penalty: 1.1,
            ..GenerateConfig::default()
        };
        assert_eq!((found.values, found.stop_strings, found.idle), (values, vec!["a".to_owned(), "b".to_owned()], vec![]));
        let nothing = of(json!({"_from_model_config": true, "eos_token_id": 3, "temperature": null})).unwrap();
        assert_eq!((nothing.keys.len(), nothing.values), (0, GenerateConfig::default()));
    }

    #[test]
    fn do_sample_decides_the_temperature() {
        for (json, temperature) in [
            (json!({"do_sample": false, "temperature": 0.6}), 0.0),
            (json!({"do_sample": true}), 1.0),
            (json!({"do_sample": true, "temperature": 0.6}), 0.6),
            (json!({"temperature": 0.6}), 0.6),
            (json!({"do_sample": null}), 0.8),
        ] {
            let found = of(json.clone()).unwrap();
            assert_eq!(
                (found.values.temperature, found.keys.contains(&"temperature")),
                (temperature, temperature != 0.8),
                "{json}"
            );
        }
    }

    #[test]
    fn what_is_idle_is_named_and_what_is_wrong_is_refused() {
        let found = of(
            json!({"num_beams": 4, "no_repeat_ngram_size": 3, "max_length": 50, "suppress_tokens": [1], "token_healing": false}),
        );
        assert_eq!(found.unwrap().idle, ["max_length", "no_repeat_ngram_size", "num_beams", "suppress_tokens"]);
        for (json, expected) in [
            (json!({"temperature": "hot"}), "m/generation_config.json: temperature: expected a number"),
            (json!({"repetition_penalty": 0}), "repetition_penalty: expected a number from 0.01 to 100, found 0"),
            (json!({"do_sample": 1}), "do_sample: expected true, false or null, found 1"),
            (json!({"stop_strings": [""]}), "stop_strings: expected a string that is not empty"),
        ] {
            let error = of(json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
