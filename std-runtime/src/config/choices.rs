//! Keys with a few words to choose from.

use std::fmt;
use std::path::PathBuf;

use samara_core::graph::{Activation, Recompute};
use samara_core::schedule::Decay;

use super::table::{Choice, Given, Setting};
use crate::data::text::BadRow;
use crate::kernels::gemm::Gemm;

/// The family of a model.
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

/// What backward computes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecomputeChoice {
    /// As much as the memory budget makes necessary.
    Auto,
    /// This.
    Fixed(Recompute),
}

impl From<Recompute> for RecomputeChoice {
    fn from(recompute: Recompute) -> Self {
        Self::Fixed(recompute)
    }
}

/// What happens to a bad row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRows {
    /// Stop.
    #[default]
    Error,
    /// Leave it out.
    Skip,
}

impl From<BadRows> for BadRow {
    fn from(rows: BadRows) -> Self {
        match rows {
            BadRows::Error => Self::Error,
            BadRows::Skip => Self::Skip,
        }
    }
}

/// How rows of batches are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataOrder {
    /// Every row starts anywhere.
    #[default]
    Random,
    /// Every block once per epoch.
    Shuffled,
}

/// Which tokenizer the text goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// One id per byte.
    #[default]
    Byte,
    /// One id per character of the data.
    Char,
    /// Byte-level BPE trained on the data.
    Bpe,
    /// A `tokenizer.json`, or a folder with one.
    Path(PathBuf),
}

impl Setting for TokenizerChoice {
    fn read(given: Given<'_>) -> Result<Self, String> {
        match PathBuf::read(given) {
            Ok(path) => Ok(match path.to_str() {
                Some("byte") => Self::Byte,
                Some("char") => Self::Char,
                Some("bpe") => Self::Bpe,
                _ => Self::Path(path),
            }),
            Err(_) => Err("\"byte\", \"char\", \"bpe\" or a path".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Byte | Self::Char | Self::Bpe => Some(format!("\"{self}\"")),
            Self::Path(path) => path.show(),
        }
    }
}

impl fmt::Display for TokenizerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte => f.write_str("byte"),
            Self::Char => f.write_str("char"),
            Self::Bpe => f.write_str("bpe"),
            Self::Path(path) => write!(f, "{}", path.display()),
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

impl Choice for BadRows {
    const WORDS: &'static [(&'static str, Self)] = &[("error", Self::Error), ("skip", Self::Skip)];
}

impl Choice for DataOrder {
    const WORDS: &'static [(&'static str, Self)] = &[("random", Self::Random), ("shuffled", Self::Shuffled)];
}

impl Choice for Decay {
    const WORDS: &'static [(&'static str, Self)] =
        &[("cosine", Self::Cosine), ("linear", Self::Linear), ("constant", Self::Constant)];
}

impl Choice for Gemm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("samara", Self::Samara), ("portable", Self::Portable), ("matrixmultiply", Self::MatrixMultiply)];
}

impl Choice for RecomputeChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        (Recompute::None.name(), Self::Fixed(Recompute::None)),
        (Recompute::Cheap.name(), Self::Fixed(Recompute::Cheap)),
        (Recompute::Blocks.name(), Self::Fixed(Recompute::Blocks)),
    ];
}
