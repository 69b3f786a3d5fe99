//! `config.json` of Llama, Mistral and Qwen2.
//!
//! Rotary parameters are read as transformers 5 (`rope_parameters`) and earlier versions (`rope_theta`, `rope_scaling`) write them, and written so
//! that both can read them.

use serde_json::{Map, Value, json};

use crate::model::llama::{LlamaModel, LlamaType};
use crate::model_folder::error::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys};

/// Keys of the table that the file calls the same.
const SAME: [&str; 8] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "initializer_range",
];

impl ConfigJson for LlamaModel {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let mut model = defaults(keys);
        for key in SAME {
            keys.set(&mut model, key, key)?;
        }
        if keys.get("num_key_value_heads").is_some_and(Value::is_null) {
            model.num_key_value_heads = None;
        }
        for key in ["num_key_value_heads", "head_dim", "tie_word_embeddings"] {
            keys.set_unless_null(&mut model, key, key)?;
        }
        if model.model_type == LlamaType::Llama {
            keys.set(&mut model, "attention_bias", "attention_bias")?;
            keys.set(&mut model, "mlp_bias", "mlp_bias")?;
        }
        keys.only("hidden_act", &"silu".into())?;
        keys.pass_over(&["hidden_act"]);
        keys.only("partial_rotary_factor", &json!(1.0))?;
        positions(keys, &mut model)?;
        window(keys, &mut model)?;
        // Like absent keys: the written file does not depend on how it was read.
        model.num_key_value_heads = model.num_key_value_heads.filter(|&heads| heads != model.num_attention_heads);
        model.head_dim = model.head_dim.filter(|&dim| dim * model.num_attention_heads != model.hidden_size);
        Ok(model)
    }

    fn to_keys(&self, _dropout: f64, json: &mut Map<String, Value>) {
        let architecture = match self.model_type {
            LlamaType::Llama => "LlamaForCausalLM",
            LlamaType::Mistral => "MistralForCausalLM",
            LlamaType::Qwen2 => "Qwen2ForCausalLM",
        };
        let mut also = |key: &str, value: Value| json.insert(key.to_owned(), value);
        also("architectures", json!([architecture]));
        also("vocab_size", self.vocab_size.into());
        also("hidden_size", self.hidden_size.into());
        also("intermediate_size", self.intermediate_size.into());
        also("num_hidden_layers", self.num_hidden_layers.into());
        also("num_attention_heads", self.num_attention_heads.into());
        also("num_key_value_heads", self.kv_heads().into());
        also("head_dim", self.head_columns().into());
        also("max_position_embeddings", self.max_position_embeddings.into());
        also("rms_norm_eps", self.rms_norm_eps.into());
        also("rope_theta", self.rope_theta.into());
        also("rope_parameters", json!({"rope_theta": self.rope_theta, "rope_type": "default"}));
        also("tie_word_embeddings", self.tie_word_embeddings.into());
        also("initializer_range", self.initializer_range.into());
        also("hidden_act", "silu".into());
        match self.model_type {
            LlamaType::Llama => {
                also("attention_bias", self.attention_bias.into());
                also("mlp_bias", self.mlp_bias.into());
            }
            LlamaType::Mistral => {
                also("sliding_window", (self.sliding_window > 0).then_some(self.sliding_window).into());
            }
            LlamaType::Qwen2 => {
                also("use_sliding_window", false.into());
            }
        }
    }
}

/// The defaults of `transformers`.
fn defaults(keys: &Keys<'_>) -> LlamaModel {
    let base = LlamaModel {
        vocab_size: Some(32000),
        hidden_size: 4096,
        intermediate_size: 11008,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: false,
        ..LlamaModel::default()
    };
    match keys.get("model_type").and_then(Value::as_str) {
        Some("mistral") => LlamaModel {
            model_type: LlamaType::Mistral,
            intermediate_size: 14336,
            num_key_value_heads: Some(8),
            max_position_embeddings: 131_072,
            sliding_window: 4096,
            ..base
        },
        Some("qwen2") => LlamaModel {
            model_type: LlamaType::Qwen2,
            vocab_size: Some(151_936),
            intermediate_size: 22016,
            max_position_embeddings: 32768,
            ..base
        },
        _ => base,
    }
}

/// The base of rotary wavelengths; scaled ones are refused.
fn positions(keys: &Keys<'_>, model: &mut LlamaModel) -> Result<(), FolderError> {
    keys.set_unless_null(model, "rope_theta", "rope_theta")?;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(value) = keys.peek(name).filter(|value| !value.is_null()) else { continue };
        keys.pass_over(&[name]);
        let Some(rope) = value.as_object() else { return Err(keys.wrong(name, "an object or null", value)) };
        for (key, value) in rope {
            let path = format!("{name}.{key}");
            match key.as_str() {
                "rope_theta" => keys.put(model, "rope_theta", &path, value)?,
                "rope_type" | "type" if value == "default" => {}
                "rope_type" | "type" => {
                    return Err(keys.wrong(&path, "\"default\" (positions are not scaled in this version)", value));
                }
                "partial_rotary_factor" if value.as_f64() == Some(1.0) => {}
                _ => return Err(keys.wrong(&path, "no such key (rope_theta and rope_type are read)", value)),
            }
        }
    }
    Ok(())
}

/// How many keys a query sees: the same in every layer.
fn window(keys: &Keys<'_>, model: &mut LlamaModel) -> Result<(), FolderError> {
    match model.model_type {
        LlamaType::Mistral => match keys.get("sliding_window") {
            Some(Value::Null) => model.sliding_window = 0,
            _ => keys.set(model, "sliding_window", "sliding_window")?,
        },
        LlamaType::Qwen2 => {
            keys.only("use_sliding_window", &false.into())?;
            keys.pass_over(&["use_sliding_window"]);
        }
        LlamaType::Llama => keys.only("sliding_window", &Value::Null)?,
    }
    let expected = if model.sliding_window > 0 { "sliding_attention" } else { "full_attention" };
    match keys.peek("layer_types") {
        Some(Value::Array(layers)) if layers.iter().any(|layer| layer != expected) => {
            Err(keys.wrong("layer_types", format!("\"{expected}\" in every layer"), Value::from(layers.clone())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{read, read_again};
    use super::*;
    use crate::model::ModelConfig;

    fn llama(json: Value) -> LlamaModel {
        match read(json).unwrap().model {
            ModelConfig::Llama(model) => model,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn absent_keys_are_those_of_transformers() {
        let plain = llama(json!({"model_type": "llama", "num_hidden_layers": 2}));
        assert_eq!((plain.kv_heads(), plain.head_columns(), plain.rope_theta), (32, 128, 10000.0));
        assert!(!plain.tie_word_embeddings && !plain.attention_bias);
        let mistral = llama(json!({"model_type": "mistral", "num_hidden_layers": 2}));
        assert_eq!((mistral.kv_heads(), mistral.head_columns(), mistral.sliding_window), (8, 128, 4096));
        let qwen = llama(json!({"model_type": "qwen2", "num_hidden_layers": 2, "sliding_window": 4096}));
        assert_eq!((qwen.kv_heads(), qwen.sliding_window), (32, 0));
    }

    #[test]
    fn rotary_positions_of_all_versions_are_read() {
        for rope in [
            json!({"rope_theta": 500.0}),
            json!({"rope_theta": 500.0, "rope_scaling": null}),
            json!({"rope_theta": 500.0, "rope_scaling": {"type": "default"}}),
            json!({"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}),
        ] {
            let mut json = json!({"model_type": "llama", "num_hidden_layers": 2});
            json.as_object_mut().unwrap().extend(rope.as_object().unwrap().clone());
            assert_eq!(llama(json).rope_theta, 500.0, "{rope}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let base = LlamaModel { vocab_size: Some(61), ..LlamaModel::default() };
        for model in [
            base.clone(),
            LlamaModel { attention_bias: true, mlp_bias: true, tie_word_embeddings: false, ..base.clone() },
            LlamaModel { num_key_value_heads: Some(2), head_dim: Some(24), rope_theta: 5e5, ..base.clone() },
            LlamaModel { model_type: LlamaType::Mistral, sliding_window: 7, ..base.clone() },
            LlamaModel { model_type: LlamaType::Mistral, ..base.clone() },
            LlamaModel { model_type: LlamaType::Qwen2, ..base },
        ] {
            read_again(model.into(), 0.0);
        }
    }

    #[test]
    fn what_would_change_the_model_is_refused_by_name() {
        let scaled = json!({"rope_type": "llama3", "rope_theta": 5e5});
        for (kind, key, value, expected) in [
            ("llama", "rope_scaling", scaled.clone(), "rope_scaling.rope_type: expected \"default\""),
            ("llama", "rope_scaling", json!({"type": "linear"}), "rope_scaling.type: expected \"default\""),
            ("llama", "rope_scaling", json!({"factor": 8.0}), "rope_scaling.factor: expected no such key"),
            ("qwen2", "rope_parameters", scaled, "rope_parameters.rope_type: expected \"default\""),
            ("llama", "rope_parameters", json!(7), "rope_parameters: expected an object or null, found 7"),
            ("llama", "hidden_act", json!("gelu"), "hidden_act: expected \"silu\", found \"gelu\""),
            ("llama", "sliding_window", json!(4096), "sliding_window: expected null, found 4096"),
            ("qwen2", "use_sliding_window", json!(true), "use_sliding_window: expected false, found true"),
            ("llama", "layer_types", json!(["sliding_attention"]), "layer_types: expected \"full_attention\" in every layer"),
            ("llama", "num_key_value_heads", json!(3), "num_key_value_heads: expected a divisor of num_attention_heads = 32"),
            ("llama", "hidden_size", json!(4100), "hidden_size: expected a multiple of num_attention_heads = 32"),
            ("llama", "head_dim", json!(65), "head_dim: expected an even number"),
            ("llama", "quantization_config", json!({"bits": 4}), "quantization_config: expected null"),
            ("llama", "tie_word_embeddings", json!(1), "tie_word_embeddings: expected true or false"),
        ] {
            let error = read(json!({"model_type": kind, "num_hidden_layers": 2, key: value})).unwrap_err();
            assert!(error.contains(expected), "got {error}\nwant {expected}");
        }
    }
}
