//! The activation of hidden layers, with the words of `config.json`.

use samara_core::graph::Activation;

use crate::config::Choice;

/// The activation of a hidden layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HiddenAct {
    /// GELU with erf.
    #[default]
    Gelu,
    /// GELU in its tanh form.
    GeluNew,
    /// x σ(1.702 x).
    QuickGelu,
    /// max(x, 0).
    Relu,
}

impl Choice for HiddenAct {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("gelu", Self::Gelu),
        ("gelu_new", Self::GeluNew),
        ("gelu_pytorch_tanh", Self::GeluNew),
        ("quick_gelu", Self::QuickGelu),
        ("relu", Self::Relu),
    ];
}

impl From<HiddenAct> for Activation {
    fn from(act: HiddenAct) -> Self {
        match act {
            HiddenAct::Gelu => Self::GeluErf,
            HiddenAct::GeluNew => Self::GeluTanh,
            HiddenAct::QuickGelu => Self::QuickGelu,
            HiddenAct::Relu => Self::Relu,
        }
    }
}

impl HiddenAct {
    /// The word in files.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, act)| *act == self).map_or("gelu", |(word, _)| word)
    }
}
