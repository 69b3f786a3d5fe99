//! Llama, Mistral and Qwen2: the keys of `[model]`, and checks across them.

use std::sync::Arc;

use samara_core::graph::Pairing;
use samara_core::model::llama::{Llama, LlamaConfig};
use samara_core::model::lm::LanguageModel;
use samara_core::params::Scope;

use super::architecture::Architecture;
use super::family::{Family, PARAMETER_LIMIT};
use crate::config::{Choice, Invalid, table};
use crate::model_folder::map::NameMap;
use crate::model_folder::maps;

/// The branch of the family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlamaType {
    /// Llama 1 to 3, SmolLM2 and many others: biases by choice.
    #[default]
    Llama,
    /// Mistral: no biases, perhaps a window.
    Mistral,
    /// Qwen2: biases of queries, keys and values.
    Qwen2,
}

impl Choice for LlamaType {
    const WORDS: &'static [(&'static str, Self)] = &[("llama", Self::Llama), ("mistral", Self::Mistral), ("qwen2", Self::Qwen2)];
}

table! {
    /// Llama, Mistral or Qwen2, with the names of Hugging Face's `config.json`.
    pub LlamaModel {
        /// The family: "llama", "mistral" (no biases, optional window) or "qwen2" (biases of queries, keys and values).
        model_type: LlamaType = LlamaType::Llama;
        /// Vocabulary size; absent: the tokenizer's.
        vocab_size: Option<usize> = None, 1..=16777216;
        /// The longest sequence in tokens.
        max_position_embeddings: usize = 128, 1..=1048576;
        /// Width of the residual stream.
        hidden_size: usize = 128, 1..=65536;
        /// Width of the hidden layer of an MLP.
        intermediate_size: usize = 352, 1..=1048576;
        /// Blocks.
        num_hidden_layers: usize = 4, 1..=4096;
        /// Query heads.
        num_attention_heads: usize = 4, 1..=4096;
        /// Key-value heads, a divisor of num_attention_heads; absent: num_attention_heads.
        num_key_value_heads: Option<usize> = None, 1..=4096;
        /// Width of a head, an even number; absent: hidden_size / num_attention_heads.
        head_dim: Option<usize> = None, 1..=65536;
        /// Added to the mean square in RMS norms.
        rms_norm_eps: f64 = 1e-5, 1e-30..=1;
        /// Base of the wavelengths of rotary positions.
        rope_theta: f64 = 10000.0, 1..=1000000000000_u64;
        /// Attention sees only this many last tokens (Mistral); 0: all.
        sliding_window: usize = 0, 0..=1048576;
        /// Whether the linear layers of attention have biases (Llama).
        attention_bias: bool = false;
        /// Whether the linear layers of an MLP have biases (Llama).
        mlp_bias: bool = false;
        /// Whether the head is the token embedding.
        tie_word_embeddings: bool = true;
        /// Standard deviation of initial weights.
        initializer_range: f64 = 0.02, 0..=10;
    }
}

impl LlamaModel {
    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Columns of a head.
    pub fn head_columns(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Whether queries, keys and values have biases.
    fn qkv_bias(&self) -> bool {
        self.attention_bias || self.model_type == LlamaType::Qwen2
    }

    /// The model for the engine.
    ///
    /// # Errors
    /// Values that contradict each other; no vocabulary.
    pub fn to_core(&self) -> Result<LlamaConfig, Invalid> {
        self.check()?;
        let vocab_size = self.vocab_size.ok_or_else(|| Invalid::new("model.vocab_size", "a number of token ids", "none"))?;
        Ok(LlamaConfig {
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.kv_heads(),
            head_dim: self.head_columns(),
            max_position_embeddings: self.max_position_embeddings,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: self.rope_theta,
            rope_pairs: Pairing::Halves,
            sliding_window: self.sliding_window,
            qkv_bias: self.qkv_bias(),
            o_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
            tie_word_embeddings: self.tie_word_embeddings,
            initializer_range: self.initializer_range,
        })
    }

    /// Checks the keys that the model type fixes.
    fn check_type(&self) -> Result<(), Invalid> {
        let only_llama = |key, value: bool| {
            if value && self.model_type != LlamaType::Llama {
                let expected = format!("false in a {} model", self.model_type());
                return Err(Invalid::new(key, expected, value));
            }
            Ok(())
        };
        only_llama("model.attention_bias", self.attention_bias)?;
        only_llama("model.mlp_bias", self.mlp_bias)?;
        if self.sliding_window > 0 && self.model_type != LlamaType::Mistral {
            let expected = format!("0 in a {} model", self.model_type());
            return Err(Invalid::new("model.sliding_window", expected, self.sliding_window));
        }
        Ok(())
    }

    /// Checks the divisibility of heads and widths.
    fn check_heads(&self) -> Result<(), Invalid> {
        let heads = self.num_attention_heads;
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads.max(1)) {
            let expected = format!("a multiple of model.num_attention_heads = {heads}, or model.head_dim");
            return Err(Invalid::new("model.hidden_size", expected, self.hidden_size));
        }
        if !heads.is_multiple_of(self.kv_heads().max(1)) {
            let expected = format!("a divisor of model.num_attention_heads = {heads}");
            return Err(Invalid::new("model.num_key_value_heads", expected, self.kv_heads()));
        }
        if !self.head_columns().is_multiple_of(2) {
            return Err(Invalid::new("model.head_dim", "an even number, for rotary positions", self.head_columns()));
        }
        Ok(())
    }
}

impl Family for LlamaModel {
    const TYPES: &'static [&'static str] = &["llama", "mistral", "qwen2"];
    const POSITIONS: &'static str = "max_position_embeddings";
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("n_positions", "max_position_embeddings"),
        ("n_embd", "hidden_size"),
        ("n_inner", "intermediate_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("layer_norm_epsilon", "rms_norm_eps"),
        ("window_size", "sliding_window"),
        ("bias", "attention_bias"),
    ];

    fn model_type(&self) -> &'static str {
        match self.model_type {
            LlamaType::Llama => "llama",
            LlamaType::Mistral => "mistral",
            LlamaType::Qwen2 => "qwen2",
        }
    }

    fn vocab_size(&self) -> Option<usize> {
        self.vocab_size
    }

    fn set_vocab_size(&mut self, ids: usize) {
        self.vocab_size = Some(ids);
    }

    fn drop_head(&mut self) {
        self.tie_word_embeddings = true;
    }

    fn positions(&self) -> usize {
        self.max_position_embeddings
    }

    fn widest(&self) -> usize {
        let heads = self.num_attention_heads + 2 * self.kv_heads();
        (heads * self.head_columns()).max(self.intermediate_size)
    }

    /// V·C, twice if the head is untied; per block (Q + 2 K)·C + C·Q + 3·C·I, two norms and the biases; the last norm.
    fn parameters(&self) -> Option<u128> {
        let d = self.head_columns();
        let [c, inner, layers, queries, keys] =
            [self.hidden_size, self.intermediate_size, self.num_hidden_layers, self.num_attention_heads * d, self.kv_heads() * d]
                .map(|x| x as u128);
        let tables = self.vocab_size? as u128 * c * if self.tie_word_embeddings { 1 } else { 2 };
        let qkv = queries + 2 * keys;
        let matrices = qkv * c + c * queries + 3 * c * inner;
        let biases = [(self.qkv_bias(), qkv), (self.attention_bias, c), (self.mlp_bias, 2 * inner + c)];
        let biases: u128 = biases.into_iter().filter(|(has, _)| *has).map(|(_, len)| len).sum();
        Some(tables + layers * (matrices + 2 * c + biases) + c)
    }

    fn check(&self) -> Result<(), Invalid> {
        self.check_type()?;
        self.check_heads()?;
        match (Self { vocab_size: self.vocab_size.or(Some(1)), ..self.clone() }).parameters() {
            Some(count) if count > PARAMETER_LIMIT => {
                let expected = format!("a model of at most {PARAMETER_LIMIT} parameters");
                let found = format!("{}, which makes {count} parameters", self.num_hidden_layers);
                Err(Invalid::new("model.num_hidden_layers", expected, found))
            }
            _ => Ok(()),
        }
    }

    fn architecture(&self) -> Result<Arc<dyn Architecture>, Invalid> {
        Ok(Arc::new(self.to_core()?))
    }
}

impl Architecture for LlamaConfig {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel> {
        Box::new(Llama::register(self, s))
    }

    fn name_map(&self) -> NameMap {
        maps::llama::name_map(self)
    }

    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture> {
        Arc::new(Self { max_position_embeddings: positions, ..*self })
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        &["q_proj", "v_proj"]
    }
}
