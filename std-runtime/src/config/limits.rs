//! What the values of a configuration must satisfy together.

use samara_core::model::gpt::GptConfig;

use crate::error::{Failure, Kind};

use super::{ActivationFunction, ModelConfig, ModelType, RunConfig, TrainConfig};

/// A value that does not go with others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, found {found}")]
pub struct Invalid {
    /// The key with its table.
    pub key: &'static str,
    /// The range asked for.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// Elements that a tensor, and all parameters together, may have.
const LIMIT: u128 = i32::MAX as u128;

fn invalid(key: &'static str, expected: impl Into<String>, found: impl ToString) -> Invalid {
    Invalid { key, expected: expected.into(), found: found.to_string() }
}

impl RunConfig {
    /// Checks what concerns several keys. Ranges of single keys are checked where they are set.
    pub fn check(&self) -> Result<(), Invalid> {
        self.model.check()?;
        self.train.check()?;
        let (block, positions) = (self.train.block_size, self.model.n_positions);
        if block > positions {
            return Err(invalid("train.block_size", format!("at most model.n_positions = {positions}"), block));
        }
        let rows = self.train.batch_size as u128 * block as u128;
        let widest = (3 * self.model.n_embd).max(self.model.inner()) as u128;
        if rows * widest > LIMIT {
            let most = LIMIT / (block as u128 * widest);
            let expected = format!("at most {most} rows of {block} tokens and {widest} activations; use train.grad_accumulation");
            return Err(invalid("train.batch_size", expected, self.train.batch_size));
        }
        Ok(())
    }
}

impl TrainConfig {
    fn check(&self) -> Result<(), Invalid> {
        if self.tokens > 0 && self.flops > 0.0 {
            return Err(invalid("train.tokens", "0, because train.flops says when the run ends: set one of them", self.tokens));
        }
        match self.min_lr {
            Some(min_lr) if min_lr > self.lr => Err(invalid("train.min_lr", format!("at most train.lr = {}", self.lr), min_lr)),
            _ => Ok(()),
        }
    }
}

impl ModelConfig {
    /// Width of the hidden layer.
    pub fn inner(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// Parameters of the model: V·C + P·C, per block 3C² + C² + 2·C·I and the vectors, and the last norm. `None` without a vocabulary.
    pub fn parameters(&self) -> Option<u128> {
        let [c, inner, layers] = [self.n_embd, self.inner(), self.n_layer].map(|x| x as u128);
        let embeddings = (self.vocab_size? as u128 + self.n_positions as u128) * c;
        let gains = 2 * c;
        let biases = if self.bias { 2 * c + 3 * c + c + inner + c } else { 0 };
        let last = if self.model_type == ModelType::OpenAiGpt { 0 } else { c * (1 + u128::from(self.bias)) };
        Some(embeddings + layers * (4 * c * c + 2 * c * inner + gains + biases) + last)
    }

    /// Checks what concerns several keys.
    pub fn check(&self) -> Result<(), Invalid> {
        if !self.n_embd.is_multiple_of(self.n_head.max(1)) {
            return Err(invalid("model.n_embd", format!("a multiple of model.n_head = {}", self.n_head), self.n_embd));
        }
        if self.model_type == ModelType::OpenAiGpt {
            self.check_gpt1()?;
        }
        match (Self { vocab_size: self.vocab_size.or(Some(1)), ..self.clone() }).parameters() {
            Some(count) if count > LIMIT => {
                let expected = format!("a model of at most {LIMIT} parameters");
                Err(invalid("model.n_layer", expected, format!("{}, which makes {count} parameters", self.n_layer)))
            }
            _ => Ok(()),
        }
    }

    /// GPT-1 leaves no choice in these, neither here nor in `transformers`.
    fn check_gpt1(&self) -> Result<(), Invalid> {
        if self.activation_function == ActivationFunction::Gelu {
            return Err(invalid("model.activation_function", "\"gelu_new\" or \"relu\" in an openai-gpt model", "\"gelu\""));
        }
        if self.inner() != 4 * self.n_embd {
            return Err(invalid("model.n_inner", format!("4 n_embd = {} in an openai-gpt model", 4 * self.n_embd), self.inner()));
        }
        if !self.scale_attn_weights {
            return Err(invalid("model.scale_attn_weights", "true in an openai-gpt model", false));
        }
        Ok(())
    }

    /// The model in the engine's terms; an error without a vocabulary.
    pub fn to_core(&self) -> Result<GptConfig, Invalid> {
        self.check()?;
        let vocab_size = self.vocab_size.ok_or_else(|| invalid("model.vocab_size", "a number of token ids", "none"))?;
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
