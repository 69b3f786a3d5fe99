//! GPT-1, GPT-2 and GPT-3: the keys of `[model]`, and checks across them.

use std::sync::Arc;

use samara_core::graph::Activation;
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::LanguageModel;
use samara_core::params::Scope;

use super::architecture::Architecture;
use super::family::{Family, PARAMETER_LIMIT};
use crate::config::{Choice, Invalid, table};
use crate::model_folder::map::NameMap;
use crate::model_folder::maps;

/// The generation of a GPT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelType {
    /// GPT-2: layer norm before each branch and at the end.
    #[default]
    Gpt2,
    /// GPT-1: layer norm after each residual sum.
    OpenAiGpt,
}

/// The activation of a hidden layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationFunction {
    /// GELU in its tanh form.
    #[default]
    GeluNew,
    /// GELU with erf.
    Gelu,
    /// max(x, 0).
    Relu,
}

impl ActivationFunction {
    /// The activation in the engine's terms.
    pub fn to_core(self) -> Activation {
        match self {
            Self::GeluNew => Activation::GeluTanh,
            Self::Gelu => Activation::GeluErf,
            Self::Relu => Activation::Relu,
        }
    }
}

impl Choice for ModelType {
    const WORDS: &'static [(&'static str, Self)] = &[("gpt2", Self::Gpt2), ("openai-gpt", Self::OpenAiGpt)];
}

impl Choice for ActivationFunction {
    const WORDS: &'static [(&'static str, Self)] =
        &[("gelu_new", Self::GeluNew), ("gelu", Self::Gelu), ("relu", Self::Relu), ("gelu_pytorch_tanh", Self::GeluNew)];
}

table! {
    /// GPT-1, GPT-2 or GPT-3, with the names of Hugging Face's `config.json`.
    pub GptModel {
        /// The family: "gpt2" (pre-norm) or "openai-gpt" (GPT-1, post-norm).
        model_type: ModelType = ModelType::Gpt2;
        /// Vocabulary size; absent: the tokenizer's.
        vocab_size: Option<usize> = None, 1..=16777216;
        /// The longest sequence in tokens.
        n_positions: usize = 128, 1..=1048576;
        /// Width of the residual stream, a multiple of n_head.
        n_embd: usize = 128, 1..=65536;
        /// Blocks.
        n_layer: usize = 4, 1..=4096;
        /// Attention heads.
        n_head: usize = 4, 1..=4096;
        /// Width of the hidden layer; absent: 4 n_embd.
        n_inner: Option<usize> = None, 1..=1048576;
        /// "gelu_new" (tanh form, GPT-2's), "gelu" (exact, nanoGPT's) or "relu".
        activation_function: ActivationFunction = ActivationFunction::GeluNew;
        /// Added to the variance in layer norms.
        layer_norm_epsilon: f64 = 1e-5, 1e-30..=1;
        /// Standard deviation of initial weights; for residual projections it is divided by √(2 n_layer).
        initializer_range: f64 = 0.02, 0..=10;
        /// Whether linear layers and layer norms have biases.
        bias: bool = true;
        /// Whether attention scores are divided by the root of the head's width.
        scale_attn_weights: bool = true;
        /// Attention window of every second block in tokens (GPT-3); 0: dense attention in all blocks.
        window_size: usize = 0, 0..=1048576;
    }
}

impl GptModel {
    /// Width of the hidden layer.
    pub fn inner(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// GPT-1 leaves no choice in these, neither here nor in `transformers`.
    fn check_gpt1(&self) -> Result<(), Invalid> {
        if self.activation_function == ActivationFunction::Gelu {
            return Err(Invalid::new("model.activation_function", "\"gelu_new\" or \"relu\" in an openai-gpt model", "\"gelu\""));
        }
        if self.inner() != 4 * self.n_embd {
            return Err(Invalid::new(
                "model.n_inner",
                format!("4 n_embd = {} in an openai-gpt model", 4 * self.n_embd),
                self.inner(),
            ));
        }
        if !self.scale_attn_weights {
            return Err(Invalid::new("model.scale_attn_weights", "true in an openai-gpt model", false));
        }
        Ok(())
    }

    /// The model in the engine's terms; an error without a vocabulary.
    ///
    /// # Errors
    /// No vocabulary, or values that make no model.
    pub fn to_core(&self) -> Result<GptConfig, Invalid> {
        self.check()?;
        let vocab_size = self.vocab_size.ok_or_else(|| Invalid::new("model.vocab_size", "a number of token ids", "none"))?;
        Ok(GptConfig {
            vocab_size,
            n_positions: self.n_positions,
            n_embd: self.n_embd,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_inner: self.inner(),
            activation_function: self.activation_function.to_core(),
            layer_norm_epsilon: self.layer_norm_epsilon,
            initializer_range: self.initializer_range,
            bias: self.bias,
            post_norm: self.model_type == ModelType::OpenAiGpt,
            scale_attn_weights: self.scale_attn_weights,
            window_size: self.window_size,
        })
    }
}

impl Family for GptModel {
    const TYPES: &'static [&'static str] = &["gpt2", "openai-gpt"];
    const POSITIONS: &'static str = "n_positions";
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("max_position_embeddings", "n_positions"),
        ("hidden_size", "n_embd"),
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("intermediate_size", "n_inner"),
        ("hidden_act", "activation_function"),
        ("rms_norm_eps", "layer_norm_epsilon"),
        ("attention_bias", "bias"),
        ("mlp_bias", "bias"),
    ];

    fn model_type(&self) -> &'static str {
        match self.model_type {
            ModelType::Gpt2 => "gpt2",
            ModelType::OpenAiGpt => "openai-gpt",
        }
    }

    fn vocab_size(&self) -> Option<usize> {
        self.vocab_size
    }

    fn set_vocab_size(&mut self, ids: usize) {
        self.vocab_size = Some(ids);
    }

    fn positions(&self) -> usize {
        self.n_positions
    }

    fn widest(&self) -> usize {
        (3 * self.n_embd).max(self.inner())
    }

    /// V·C + P·C, per block 3C² + C² + 2·C·I and the vectors, and the last norm.
    fn parameters(&self) -> Option<u128> {
        let [c, inner, layers] = [self.n_embd, self.inner(), self.n_layer].map(|x| x as u128);
        let embeddings = (self.vocab_size? as u128 + self.n_positions as u128) * c;
        let gains = 2 * c;
        let biases = if self.bias { 2 * c + 3 * c + c + inner + c } else { 0 };
        let last = if self.model_type == ModelType::OpenAiGpt { 0 } else { c * (1 + u128::from(self.bias)) };
        Some(embeddings + layers * (4 * c * c + 2 * c * inner + gains + biases) + last)
    }

    fn check(&self) -> Result<(), Invalid> {
        if !self.n_embd.is_multiple_of(self.n_head.max(1)) {
            return Err(Invalid::new("model.n_embd", format!("a multiple of model.n_head = {}", self.n_head), self.n_embd));
        }
        if self.model_type == ModelType::OpenAiGpt {
            self.check_gpt1()?;
        }
        match (Self { vocab_size: self.vocab_size.or(Some(1)), ..self.clone() }).parameters() {
            Some(count) if count > PARAMETER_LIMIT => {
                let expected = format!("a model of at most {PARAMETER_LIMIT} parameters");
                Err(Invalid::new("model.n_layer", expected, format!("{}, which makes {count} parameters", self.n_layer)))
            }
            _ => Ok(()),
        }
    }

    fn architecture(&self) -> Result<Arc<dyn Architecture>, Invalid> {
        Ok(Arc::new(self.to_core()?))
    }
}

impl Architecture for GptConfig {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel> {
        Box::new(Gpt::register(self, s))
    }

    fn name_map(&self) -> NameMap {
        maps::gpt::name_map(self)
    }

    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture> {
        Arc::new(Self { n_positions: positions, ..*self })
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        &["c_attn"]
    }
}
