//! `[model]`: the families of models that the binary knows.

pub mod adapters;
pub mod architecture;
pub mod family;
pub mod folder;
pub mod gpt;
pub mod llama;
pub mod tune;

use std::sync::Arc;

use self::architecture::Architecture;
use self::family::Family;
use self::gpt::GptModel;
use self::llama::LlamaModel;
use crate::config::{Given, Invalid, Key, Table, Value, hint};
use crate::model_folder::error::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys};

/// The list of families. A configuration without a family has the first.
macro_rules! families {
    ($first:ident($first_type:ty), $($name:ident($type:ty),)*) => {
        /// The configuration of a model: the keys of its family.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ModelConfig {
            #[doc = concat!("[`", stringify!($first_type), "`]")]
            $first($first_type),
            $( #[doc = concat!("[`", stringify!($type), "`]")] $name($type), )*
        }

        impl Default for ModelConfig {
            fn default() -> Self {
                Self::$first(<$first_type>::default())
            }
        }

        impl ModelConfig {
            /// The defaults of every family, each with the model types that name it.
            fn families() -> Vec<(&'static [&'static str], Self)> {
                vec![
                    (<$first_type>::TYPES, Self::$first(<$first_type>::default())),
                    $( (<$type>::TYPES, Self::$name(<$type>::default())), )*
                ]
            }
        }

        impl From<$first_type> for ModelConfig {
            fn from(model: $first_type) -> Self {
                Self::$first(model)
            }
        }

        $(
            impl From<$type> for ModelConfig {
                fn from(model: $type) -> Self {
                    Self::$name(model)
                }
            }
        )*

        /// Dispatches a call to the family.
        macro_rules! of_family {
            ($config:expr, $model:ident => $result:expr) => {
                match $config {
                    ModelConfig::$first($model) => $result,
                    $( ModelConfig::$name($model) => $result, )*
                }
            };
        }

        impl ModelConfig {
            /// Reads the model of a `config.json` with its family's keys.
            ///
            /// # Errors
            /// A family that is not in the list; keys that select an unsupported variant of the model.
            pub fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
                let value = keys.get(MODEL_TYPE).unwrap_or(&serde_json::Value::Null);
                match Self::of_type(&value.into()).map_err(|expected| keys.wrong(MODEL_TYPE, expected, value))? {
                    Self::$first(_) => <$first_type>::from_keys(keys).map(Self::$first),
                    $( Self::$name(_) => <$type>::from_keys(keys).map(Self::$name), )*
                }
            }

            /// The activation dropout with which `transformers` trains the model.
            pub fn dropout(&self, keys: &Keys<'_>) -> f64 {
                match self {
                    Self::$first(_) => <$first_type>::dropout(keys),
                    $( Self::$name(_) => <$type>::dropout(keys), )*
                }
            }

            /// The key of the context length.
            pub fn positions_key(&self) -> &'static str {
                match self {
                    Self::$first(_) => <$first_type>::POSITIONS,
                    $( Self::$name(_) => <$type>::POSITIONS, )*
                }
            }

            /// Names that other families use for keys of this one.
            fn aliases(&self) -> &'static [(&'static str, &'static str)] {
                match self {
                    Self::$first(_) => <$first_type>::ALIASES,
                    $( Self::$name(_) => <$type>::ALIASES, )*
                }
            }
        }
    };
}

// To add a family: a file with its table and `impl Family`, and a line here.
families! {
    Gpt(GptModel),
    Llama(LlamaModel),
}

impl ModelConfig {
    /// The value of `model_type`.
    pub fn model_type(&self) -> &'static str {
        of_family!(self, model => model.model_type())
    }

    /// Vocabulary size; `None` until the tokenizer is known.
    pub fn vocab_size(&self) -> Option<usize> {
        of_family!(self, model => model.vocab_size())
    }

    /// The same model with another vocabulary size.
    #[must_use]
    pub fn with_vocab_size(mut self, ids: usize) -> Self {
        of_family!(&mut self, model => model.set_vocab_size(ids));
        self
    }

    /// The same model without an untied head, for a model whose logits are not used.
    #[must_use]
    pub fn without_head(mut self) -> Self {
        of_family!(&mut self, model => model.drop_head());
        self
    }

    /// The longest sequence in tokens.
    pub fn positions(&self) -> usize {
        of_family!(self, model => model.positions())
    }

    /// Values of the widest activation of a token, logits left out.
    pub fn widest(&self) -> usize {
        of_family!(self, model => model.widest())
    }

    /// Number of parameters; `None` without a vocabulary.
    pub fn parameters(&self) -> Option<u128> {
        of_family!(self, model => model.parameters())
    }

    /// Checks across keys.
    ///
    /// # Errors
    /// The first value that contradicts others.
    pub fn check(&self) -> Result<(), Invalid> {
        of_family!(self, model => model.check())
    }

    /// Writes the family's keys of a `config.json`. `dropout` is the activation dropout in training.
    pub fn to_keys(&self, dropout: f64, json: &mut serde_json::Map<String, serde_json::Value>) {
        of_family!(self, model => model.to_keys(dropout, json));
    }

    /// The model for the engine.
    ///
    /// # Errors
    /// As [`Self::check`]; no vocabulary.
    pub fn architecture(&self) -> Result<Arc<dyn Architecture>, Invalid> {
        of_family!(self, model => model.architecture())
    }

    fn table(&self) -> &dyn Table {
        of_family!(self, model => model)
    }

    /// The values of `model_type`.
    pub fn types() -> impl Iterator<Item = &'static str> {
        Self::families().into_iter().flat_map(|(types, _)| types.iter().copied())
    }

    /// The family of a value of `model_type`; the error is a description of the valid ones.
    fn of_type(value: &Value) -> Result<Self, String> {
        let families = Self::families();
        let expected = || {
            let all: Vec<String> = families.iter().flat_map(|(types, _)| *types).map(|word| format!("\"{word}\"")).collect();
            format!("one of {}", all.join(", "))
        };
        let Value::Text(word) = value else { return Err(expected()) };
        let found = families.iter().find(|(types, _)| types.contains(&word.as_str()));
        found.map(|(_, model)| model.clone()).ok_or_else(expected)
    }
}

/// The key that names the family.
const MODEL_TYPE: &str = "model_type";

impl Table for ModelConfig {
    fn keys(&self) -> &'static [Key] {
        self.table().keys()
    }

    fn set(&mut self, key: &str, given: Given<'_>) -> Result<(), String> {
        if key == MODEL_TYPE {
            let family = Self::of_type(given.value)?;
            if std::mem::discriminant(&family) != std::mem::discriminant(self) {
                *self = family;
            }
        }
        of_family!(self, model => model.set(key, given))
    }

    fn show(&self, key: &str) -> Option<String> {
        self.table().show(key)
    }

    fn deciding_key(&self) -> Option<&'static str> {
        Some(MODEL_TYPE)
    }

    /// The hint for a key of another family: the families that have it, and the nearest key of this one.
    fn hint(&self, key: &str) -> Option<String> {
        let has = |keys: &[Key]| keys.iter().any(|known| known.name == key);
        let others = Self::families().into_iter().filter(|(_, model)| has(model.keys()));
        let others: Vec<&str> = others.flat_map(|(types, _)| types.iter().copied()).collect();
        let alias = self.aliases().iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours);
        let of_others = if others.is_empty() { String::new() } else { format!(", a key of {} models,", others.join(", ")) };
        let nearest = match alias {
            Some(ours) => format!("; did you mean `{ours}`?"),
            None if others.is_empty() => return None,
            None => hint(key, self.keys().iter().map(|key| key.name)),
        };
        Some(format!("{of_others} in a model of type {}{nearest}", self.model_type()))
    }
}
