//! What a tuning adds to a model.

use samara_core::model::vit::Additions;
use samara_core::nn::{AdapterConfig, PromptConfig};
use samara_core::params::{Init, Lora, ParamInfo};
use serde::{Deserialize, Serialize};

/// What a tuned model has beside the parameters of its family; it is a part of its description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Added {
    /// Prompts of a block; 0: none.
    pub prompts: usize,
    /// Whether every block has its own.
    pub deep: bool,
    /// Columns of the hidden layer of adapters; 0: none.
    pub adapter: usize,
    /// Hidden layers of the head.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidden: usize,
    /// Whether a side network stands beside the model.
    #[serde(skip_serializing_if = "is_false")]
    pub side: bool,
    /// Rank of low-rank adapters; 0: none. A model that is written has none.
    #[serde(skip)]
    pub rank: usize,
    /// Their scale is alpha / rank.
    #[serde(skip)]
    pub alpha: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The beginning of the names of prompts.
pub(super) const PROMPTS: &str = "prompts.";
/// A part of the names of adapters.
pub(super) const ADAPTER: &str = ".adapter.";
/// The beginning of the names of a side network.
pub(super) const SIDE: &str = "side.";

/// The linear layers that get low-rank adapters: queries, keys and values in one.
const TARGETS: &[&str] = &["qkv"];

impl Added {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.without_lora() == Self::default()
    }

    /// The same without low-rank adapters.
    #[must_use]
    pub fn without_lora(&self) -> Self {
        Self { rank: 0, alpha: 0.0, ..*self }
    }

    /// For the engine.
    pub fn to_core(&self, init: Init) -> Additions {
        Additions {
            prompts: (self.prompts > 0).then_some(PromptConfig { count: self.prompts, deep: self.deep }),
            adapter: (self.adapter > 0).then_some(AdapterConfig { inner: self.adapter, init }),
            hidden: self.hidden,
            side: self.side,
        }
    }

    /// The scale of low-rank adapters.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank.max(1) as f64
    }

    /// The low-rank adapters.
    pub fn lora(&self) -> Option<Lora<'static>> {
        (self.rank > 0).then_some(Lora { rank: self.rank, scale: self.scale() as _, targets: TARGETS })
    }
}

/// Whether a parameter is one that a tuning adds to a model; hidden layers of a head belong to the head.
pub fn is_added(info: &ParamInfo) -> bool {
    let name = info.name.to_string();
    info.adapter || name.starts_with(PROMPTS) || name.starts_with(SIDE) || name.contains(ADAPTER)
}
