//! `config.json` of GPT-2 and GPT-1.
//!
//! Two keys are samara's own, and `transformers` ignores them: `bias` (absent: true) for models whose linear layers and norms have no biases, and
//! `window_size` (with `attention_layers`, as in GPT-Neo) for models in which every second block attends to the last tokens only. Such a model gives
//! other results in `transformers` on texts longer than the window.

use serde_json::{Map, Value, json};

use crate::model::family::Family;
use crate::model::gpt::{ActivationFunction, GptModel, ModelType};
use crate::model_folder::error::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys};

/// Keys with the same name and meaning in both generations, and their aliases in `transformers`.
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

/// Keys that select an unsupported variant of the model, and the supported value.
const REFUSED: [(&str, bool); 3] =
    [("tie_word_embeddings", true), ("scale_attn_by_inverse_layer_idx", false), ("add_cross_attention", false)];

impl ConfigJson for GptModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = defaults(keys);
        for (key, alias) in SHARED {
            let name = if keys.peek(key).is_some() { key } else { alias };
            keys.pass_over(&[key, alias]);
            keys.set(&mut model, key, name)?;
        }
        for key in OPTIONAL {
            keys.set(&mut model, key, key)?;
        }
        activation(keys, &mut model)?;
        if model.model_type == ModelType::Gpt2 {
            keys.set_unless_null(&mut model, "n_inner", "n_inner")?;
        }
        for (key, allowed) in REFUSED {
            keys.only(key, &allowed.into())?;
        }
        keys.pass_over(&["tie_word_embeddings"]);
        // Shares of dropout that are all the same are written from one.
        let share = keys.peek("resid_pdrop");
        keys.pass_over(&["embd_pdrop", "attn_pdrop"].into_iter().filter(|key| keys.peek(key) == share).collect::<Vec<_>>());
        model.check().map_err(|invalid| keys.invalid(invalid))?;
        check_layers(keys, &model)?;
        Ok(model)
    }

    fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
        let gpt1 = self.model_type == ModelType::OpenAiGpt;
        let architecture = if gpt1 { "OpenAIGPTLMHeadModel" } else { "GPT2LMHeadModel" };
        let mut also = |key: &str, value: Value| json.insert(key.to_owned(), value);
        also("architectures", json!([architecture]));
        also("vocab_size", self.vocab_size.into());
        also("n_positions", self.n_positions.into());
        also("n_embd", self.n_embd.into());
        also("n_layer", self.n_layer.into());
        also("n_head", self.n_head.into());
        also("layer_norm_epsilon", self.layer_norm_epsilon.into());
        also("initializer_range", self.initializer_range.into());
        for key in ["resid_pdrop", "embd_pdrop", "attn_pdrop"] {
            also(key, dropout.into());
        }
        also("tie_word_embeddings", true.into());
        let (key, word) = activation_key(self);
        also(key, word.into());
        if !gpt1 {
            also("n_inner", self.n_inner.into());
            also("scale_attn_weights", self.scale_attn_weights.into());
        }
        if !self.bias {
            also("bias", false.into());
        }
        if self.window_size > 0 {
            also("window_size", self.window_size.into());
            also("attention_layers", (0..self.n_layer).map(layer_kind).collect::<Vec<_>>().into());
        }
    }

    fn dropout(keys: &Keys<'_>) -> f64 {
        keys.get("resid_pdrop").and_then(Value::as_f64).unwrap_or(0.1)
    }
}

/// The defaults of the generation in `transformers`.
fn defaults(keys: &Keys<'_>) -> GptModel {
    let base = GptModel { n_embd: 768, n_layer: 12, n_head: 12, ..GptModel::default() };
    match keys.get("model_type").and_then(Value::as_str) {
        Some("openai-gpt") => GptModel { model_type: ModelType::OpenAiGpt, vocab_size: Some(40478), n_positions: 512, ..base },
        _ => GptModel { vocab_size: Some(50257), n_positions: 1024, ..base },
    }
}

/// The key of the activation, and the first word for it.
fn activation_key(model: &GptModel) -> (&'static str, &'static str) {
    let gpt1 = model.model_type == ModelType::OpenAiGpt;
    match model.activation_function {
        ActivationFunction::GeluNew if gpt1 => ("afn", "gelu"),
        ActivationFunction::Relu if gpt1 => ("afn", "relu"),
        ActivationFunction::GeluNew => ("activation_function", "gelu_new"),
        ActivationFunction::Gelu => ("activation_function", "gelu"),
        ActivationFunction::Relu => ("activation_function", "relu"),
    }
}

fn activation(keys: &Keys<'_>, model: &mut GptModel) -> Result<(), FolderError> {
    if model.model_type == ModelType::Gpt2 {
        let Some(word) = keys.peek("activation_function") else { return Ok(()) };
        keys.put(model, "activation_function", "activation_function", word)?;
        let (key, first) = activation_key(model);
        // Aliases of this key are kept like the keys of other tools.
        if word == first {
            keys.pass_over(&[key]);
        }
        return Ok(());
    }
    // GPT-1's "gelu" is the tanh form.
    model.activation_function = match keys.get("afn").map_or(Some("gelu"), Value::as_str) {
        Some("gelu") => ActivationFunction::GeluNew,
        Some("relu") => ActivationFunction::Relu,
        _ => return Err(keys.wrong("afn", "\"gelu\" or \"relu\"", keys.get("afn").unwrap_or(&Value::Null))),
    };
    Ok(())
}

/// Block `i` attends to all tokens or to a window.
fn layer_kind(i: usize) -> &'static str {
    if i.is_multiple_of(2) { "global" } else { "local" }
}

/// Banded layers must be every second one, beginning with the second.
fn check_layers(keys: &Keys<'_>, model: &GptModel) -> Result<(), FolderError> {
    let Some(layers) = keys.get("attention_layers").and_then(Value::as_array) else { return Ok(()) };
    let as_built =
        layers.len() == model.n_layer && layers.iter().enumerate().all(|(i, kind)| kind.as_str() == Some(layer_kind(i)));
    if as_built {
        return Ok(());
    }
    let expected = format!("{} layers, \"global\" and \"local\" in turn", model.n_layer);
    Err(keys.wrong("attention_layers", expected, Value::from(layers.clone())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{read, read_again};
    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn absent_keys_are_those_of_transformers() {
        let config = read(json!({"model_type": "gpt2"})).unwrap();
        assert_eq!(config.model.parameters(), Some(124_439_808));
        let ModelConfig::Gpt(model) = &config.model else { panic!("{:?}", config.model) };
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
            read_again(model.into(), 0.25);
        }
    }

    #[test]
    fn other_words_for_the_same_are_kept() {
        let json = json!({
            "model_type": "gpt2", "activation_function": "gelu_pytorch_tanh", "n_ctx": 1024, "resid_pdrop": 0.2, "attn_pdrop": 0.3, "afn": null,
        });
        let written = read(json.clone()).unwrap().to_json();
        for (key, value) in json.as_object().unwrap() {
            assert_eq!(&written[key], value, "{key}");
        }
        assert_eq!(read(written.clone()).unwrap().to_json(), written);
    }

    #[test]
    fn errors_name_the_key() {
        for (key, value, expected) in [
            ("n_layer", json!(0), "n_layer: expected a number from 1 to 4096, found 0"),
            ("n_layer", json!(-1), "n_layer: expected an integer from 1 to 4096, found -1"),
            ("n_layer", json!(1e300), "n_layer: expected an integer"),
            ("n_layer", json!([1]), "n_layer: expected an integer from 1 to 4096, found [1]"),
            ("n_embd", json!(770), "n_embd: expected a multiple of n_head = 12, found 770"),
            ("num_hidden_layers", json!("x"), "num_hidden_layers: expected an integer"),
            ("activation_function", json!("silu"), "activation_function: expected one of"),
            ("tie_word_embeddings", json!(false), "tie_word_embeddings: expected true, found false"),
            ("scale_attn_by_inverse_layer_idx", json!(true), "scale_attn_by_inverse_layer_idx: expected false"),
            ("attention_layers", json!(["local"]), "attention_layers: expected 12 layers"),
        ] {
            let error = read(json!({"model_type": "gpt2", key: value})).unwrap_err();
            assert!(error.contains(expected), "got {error}\nwant {expected}");
        }
        let error = read(json!({"model_type": "openai-gpt", "afn": "silu"})).unwrap_err();
        assert!(error.contains("afn: expected \"gelu\" or \"relu\", found \"silu\""), "{error}");
    }
}
