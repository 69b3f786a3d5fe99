//! `config.json` of GPT-2 and GPT-1 folders.
//!
//! Read and written are the names that `transformers` uses. Two keys are samara's own, and `transformers` passes over them: `bias` (absent:
//! true) for models whose linear layers and norms have no biases, and `window_size` (with `attention_layers`, as in GPT-Neo) for models in
//! which every second block sees only the last tokens; such a model gives other results in `transformers` on texts longer than the window.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CONFIG_FILE, FolderError, GENERATION_FILE};
use crate::config::set_json;
use crate::files::IoError;
use crate::model::ModelConfig;
use crate::model::family::Family;
use crate::model::gpt::{ActivationFunction, GptModel, ModelType};
use crate::run::durable;

/// What a folder says of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderConfig {
    /// The model; its vocabulary is known.
    pub model: ModelConfig,
    /// Share of activations dropped when `transformers` trains the model.
    pub dropout: f64,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The token that ends a text.
    pub eos_token_id: Option<u32>,
    /// Keys without a meaning here, kept for other tools.
    pub others: Map<String, Value>,
}

/// Keys of [`GptModel`] that have the same name and meaning in both families, and what `transformers` also calls them.
const SHARED: [(&str, &str); 7] = [
    ("vocab_size", "vocab_size"),
    ("n_positions", "max_position_embeddings"),
    ("n_embd", "hidden_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("layer_norm_epsilon", "layer_norm_epsilon"),
    ("initializer_range", "initializer_range"),
];

/// Keys that are samara's own, or GPT-2's only.
const OPTIONAL: [&str; 3] = ["bias", "window_size", "scale_attn_weights"];

/// Keys that would change the model in ways that are not supported, and the value that does not.
const REFUSED: [(&str, Value); 4] = [
    ("tie_word_embeddings", Value::Bool(true)),
    ("scale_attn_by_inverse_layer_idx", Value::Bool(false)),
    ("add_cross_attention", Value::Bool(false)),
    ("quantization_config", Value::Null),
];

/// Keys that are written anew, or that would be wrong beside f32 weights.
const REPLACED: [&str; 13] = [
    "model_type",
    "architectures",
    "activation_function",
    "afn",
    "n_inner",
    "n_ctx",
    "attention_layers",
    "attention_types",
    "dtype",
    "torch_dtype",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
];

impl FolderConfig {
    /// A new folder's description. `dropout` is that of the training.
    pub fn new(model: impl Into<ModelConfig>, dropout: f64) -> Self {
        Self { model: model.into(), dropout, bos_token_id: None, eos_token_id: None, others: Map::new() }
    }

    /// Reads the `config.json` of a folder. Keys that are absent have the values that `transformers` gives them.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(CONFIG_FILE);
        let text = fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => FolderError::NoModel { path: path.clone(), source },
            _ => FolderError::Io(IoError::at(&path, "read")(source)),
        })?;
        Self::from_json(&text, &path)
    }

    /// Reads the contents of a `config.json`; errors name `path`.
    pub fn from_json(text: &[u8], path: &Path) -> Result<Self, FolderError> {
        let json: Value = serde_json::from_slice(text).map_err(|error| FolderError::Json {
            path: path.to_path_buf(),
            line: error.line(),
            column: error.column(),
            message: error.to_string(),
        })?;
        let Value::Object(keys) = json else {
            return Err(wrong(path, "the file", "an object", "another value"));
        };
        Reader { path, keys: &keys }.read()
    }

    /// The contents of `config.json`.
    pub fn to_json(&self) -> Value {
        let ModelConfig::Gpt(model) = &self.model;
        let gpt1 = model.model_type == ModelType::OpenAiGpt;
        let (model_type, architecture) = if gpt1 { ("openai-gpt", "OpenAIGPTLMHeadModel") } else { ("gpt2", "GPT2LMHeadModel") };
        let mut json = json!({
            "architectures": [architecture], "model_type": model_type,
            "vocab_size": model.vocab_size, "n_positions": model.n_positions, "n_embd": model.n_embd, "n_layer": model.n_layer,
            "n_head": model.n_head, "layer_norm_epsilon": model.layer_norm_epsilon, "initializer_range": model.initializer_range,
            "resid_pdrop": self.dropout, "embd_pdrop": self.dropout, "attn_pdrop": self.dropout, "tie_word_embeddings": true,
            "bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id, "dtype": "float32",
        });
        let mut also = |key: &str, value: Value| json[key] = value;
        let (word, key) = match model.activation_function {
            ActivationFunction::GeluNew if gpt1 => ("gelu", "afn"),
            ActivationFunction::Relu if gpt1 => ("relu", "afn"),
            ActivationFunction::GeluNew => ("gelu_new", "activation_function"),
            ActivationFunction::Gelu => ("gelu", "activation_function"),
            ActivationFunction::Relu => ("relu", "activation_function"),
        };
        also(key, word.into());
        if !gpt1 {
            also("n_inner", model.n_inner.into());
            also("scale_attn_weights", model.scale_attn_weights.into());
        }
        if !model.bias {
            also("bias", false.into());
        }
        if model.window_size > 0 {
            let kinds = (0..model.n_layer).map(|i| if i % 2 == 0 { "global" } else { "local" });
            also("window_size", model.window_size.into());
            also("attention_layers", kinds.collect::<Vec<_>>().into());
        }
        for (key, value) in &self.others {
            if json.get(key).is_none() {
                json[key] = value.clone();
            }
        }
        json
    }

    /// Writes `config.json` and `generation_config.json`, durably.
    pub fn write(&self, folder: &Path) -> Result<(), FolderError> {
        let mut generation = json!({ "_from_model_config": true });
        for (key, id) in [("bos_token_id", self.bos_token_id), ("eos_token_id", self.eos_token_id)] {
            if let Some(id) = id {
                generation[key] = id.into();
            }
        }
        for (name, json) in [(CONFIG_FILE, self.to_json()), (GENERATION_FILE, generation)] {
            let path = folder.join(name);
            durable::write(&path, format!("{json:#}\n").as_bytes()).map_err(IoError::at(&path, "write"))?;
        }
        Ok(())
    }
}

fn wrong(path: &Path, key: &str, expected: impl Into<String>, found: impl ToString) -> FolderError {
    FolderError::Key { path: path.to_path_buf(), key: key.to_owned(), expected: expected.into(), found: found.to_string() }
}

/// The keys of a file that is being read.
struct Reader<'k> {
    path: &'k Path,
    keys: &'k Map<String, Value>,
}

impl Reader<'_> {
    fn read(&self) -> Result<FolderConfig, FolderError> {
        let mut model = self.family()?;
        for (key, alias) in SHARED {
            self.set(&mut model, key, if self.keys.contains_key(key) { key } else { alias })?;
        }
        for key in OPTIONAL {
            self.set(&mut model, key, key)?;
        }
        self.activation(&mut model)?;
        if model.model_type == ModelType::Gpt2 && self.keys.get("n_inner").is_some_and(|value| !value.is_null()) {
            self.set(&mut model, "n_inner", "n_inner")?;
        }
        for (key, allowed) in REFUSED {
            match self.keys.get(key) {
                Some(value) if *value != allowed && !value.is_null() => {
                    return Err(wrong(self.path, key, allowed.to_string(), value));
                }
                _ => {}
            }
        }
        model.check().map_err(|invalid| {
            let key = invalid.key.trim_start_matches("model.");
            wrong(self.path, key, invalid.expected.replace("model.", ""), invalid.found)
        })?;
        self.layers(&model)?;
        let known = |key: &str| {
            SHARED.iter().any(|(name, alias)| *name == key || *alias == key)
                || OPTIONAL.contains(&key)
                || REPLACED.contains(&key)
                || REFUSED.iter().any(|(name, _)| *name == key)
                || ["bos_token_id", "eos_token_id"].contains(&key)
        };
        let others = self.keys.iter().filter(|(key, _)| !known(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(FolderConfig {
            model: model.into(),
            dropout: self.keys.get("resid_pdrop").and_then(Value::as_f64).unwrap_or(0.1),
            bos_token_id: self.token("bos_token_id")?,
            eos_token_id: self.token("eos_token_id")?,
            others,
        })
    }

    /// The defaults of the family in `transformers`.
    fn family(&self) -> Result<GptModel, FolderError> {
        let base = GptModel { n_embd: 768, n_layer: 12, n_head: 12, ..GptModel::default() };
        match self.keys.get("model_type").and_then(Value::as_str) {
            Some("gpt2") => Ok(GptModel { vocab_size: Some(50257), n_positions: 1024, ..base }),
            Some("openai-gpt") => {
                Ok(GptModel { model_type: ModelType::OpenAiGpt, vocab_size: Some(40478), n_positions: 512, ..base })
            }
            _ => {
                let found = self.keys.get("model_type").unwrap_or(&Value::Null);
                Err(wrong(self.path, "model_type", "\"gpt2\" or \"openai-gpt\"", found))
            }
        }
    }

    /// Sets a key of the model to the value that the file has under `name`, if it has one.
    fn set(&self, model: &mut GptModel, key: &str, name: &str) -> Result<(), FolderError> {
        let Some(value) = self.keys.get(name) else { return Ok(()) };
        set_json(model, key, value).map_err(|expected| wrong(self.path, name, expected, value))
    }

    fn activation(&self, model: &mut GptModel) -> Result<(), FolderError> {
        if model.model_type == ModelType::Gpt2 {
            return self.set(model, "activation_function", "activation_function");
        }
        // GPT-1's "gelu" is the tanh form.
        model.activation_function = match self.keys.get("afn").map_or(Some("gelu"), Value::as_str) {
            Some("gelu") => ActivationFunction::GeluNew,
            Some("relu") => ActivationFunction::Relu,
            _ => return Err(wrong(self.path, "afn", "\"gelu\" or \"relu\"", self.keys.get("afn").unwrap_or(&Value::Null))),
        };
        Ok(())
    }

    /// Banded layers must be every second one, beginning with the second.
    fn layers(&self, model: &GptModel) -> Result<(), FolderError> {
        let Some(layers) = self.keys.get("attention_layers").and_then(Value::as_array) else { return Ok(()) };
        let as_built = layers.len() == model.n_layer
            && layers.iter().enumerate().all(|(i, kind)| kind.as_str() == Some(if i % 2 == 0 { "global" } else { "local" }));
        if as_built {
            return Ok(());
        }
        let expected = format!("{} layers, \"global\" and \"local\" in turn", model.n_layer);
        Err(wrong(self.path, "attention_layers", expected, Value::from(layers.clone())))
    }

    fn token(&self, key: &str) -> Result<Option<u32>, FolderError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => Ok(Some(id)),
                None => Err(wrong(self.path, key, "a token id or null", value)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> Result<FolderConfig, String> {
        FolderConfig::from_json(json.to_string().as_bytes(), Path::new("c.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn absent_keys_are_those_of_transformers() {
        let config = read(json!({"model_type": "gpt2"})).unwrap();
        assert_eq!(config.model.parameters(), Some(124_439_808));
        let ModelConfig::Gpt(model) = &config.model;
        assert!(model.bias && model.scale_attn_weights && model.window_size == 0);
        assert_eq!(model.activation_function, ActivationFunction::GeluNew);
        let config = read(json!({"model_type": "openai-gpt"})).unwrap();
        assert_eq!(config.model.parameters(), Some(116_534_784));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let base = GptModel { vocab_size: Some(61), ..GptModel::default() };
        for model in [
            base.clone(),
            GptModel { bias: false, n_inner: Some(100), activation_function: ActivationFunction::Gelu, ..base.clone() },
            GptModel { window_size: 5, scale_attn_weights: false, activation_function: ActivationFunction::Relu, ..base.clone() },
            GptModel { model_type: ModelType::OpenAiGpt, ..base.clone() },
            GptModel { model_type: ModelType::OpenAiGpt, activation_function: ActivationFunction::Relu, ..base },
        ] {
            let mut config = FolderConfig { eos_token_id: Some(60), ..FolderConfig::new(model, 0.25) };
            config.others.insert("task_specific_params".to_owned(), json!({"a": [1, null]}));
            assert_eq!(read(config.to_json()).unwrap(), config);
        }
    }

    #[test]
    fn weights_are_f32_whatever_they_were() {
        let config =
            read(json!({"model_type": "gpt2", "torch_dtype": "bfloat16", "dtype": "bfloat16", "summary_type": "x"})).unwrap();
        let json = config.to_json();
        assert_eq!(
            (json.get("torch_dtype"), json["dtype"].as_str(), json["summary_type"].as_str()),
            (None, Some("float32"), Some("x"))
        );
    }

    #[test]
    fn errors_name_the_key() {
        for (json, expected) in [
            (json!({}), "c.json: model_type: expected \"gpt2\" or \"openai-gpt\", found null"),
            (json!({"model_type": "llama"}), "model_type: expected \"gpt2\" or \"openai-gpt\", found \"llama\""),
            (json!({"model_type": "gpt2", "n_layer": 0}), "n_layer: expected a number from 1 to 4096, found 0"),
            (json!({"model_type": "gpt2", "n_layer": -1}), "n_layer: expected an integer from 1 to 4096, found -1"),
            (json!({"model_type": "gpt2", "n_layer": 1e300}), "n_layer: expected an integer"),
            (json!({"model_type": "gpt2", "n_layer": [1]}), "n_layer: expected an integer from 1 to 4096, found [1]"),
            (json!({"model_type": "gpt2", "n_embd": 770}), "n_embd: expected a multiple of n_head = 12, found 770"),
            (json!({"model_type": "gpt2", "num_hidden_layers": "x"}), "num_hidden_layers: expected an integer"),
            (json!({"model_type": "gpt2", "activation_function": "silu"}), "activation_function: expected one of"),
            (json!({"model_type": "openai-gpt", "afn": "silu"}), "afn: expected \"gelu\" or \"relu\", found \"silu\""),
            (json!({"model_type": "gpt2", "tie_word_embeddings": false}), "tie_word_embeddings: expected true, found false"),
            (
                json!({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": true}),
                "scale_attn_by_inverse_layer_idx: expected false",
            ),
            (json!({"model_type": "gpt2", "quantization_config": {"bits": 4}}), "quantization_config: expected null"),
            (json!({"model_type": "gpt2", "eos_token_id": -1}), "eos_token_id: expected a token id or null, found -1"),
            (json!({"model_type": "gpt2", "n_layer": 1, "attention_layers": ["local"]}), "attention_layers: expected 1 layers"),
            (json!([1]), "the file: expected an object"),
        ] {
            let error = read(json.clone()).expect_err(&json.to_string());
            assert!(error.contains(expected), "{json}\n got {error}\nwant {expected}");
        }
        let error = FolderConfig::from_json(b"{\n  \"a\": }", Path::new("c.json")).unwrap_err().to_string();
        assert!(error.starts_with("c.json:2:8: not JSON"), "{error}");
    }
}
