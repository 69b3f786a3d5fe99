//! `[tune]` of image classifiers: what is trained of an existing model, and what is added to it. The methods are the baselines of Jia et al. 2022; the head is
//! trained with each of them.

use samara_core::model::vit::Additions;
use samara_core::nn::{AdapterConfig, PromptConfig};
use samara_core::params::{Init, Lora, ParamInfo, Part};
use serde::{Deserialize, Serialize};

use crate::config::{Choice, Given, Invalid, Setting, Unread, table};

/// How a model is tuned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Everything is trained.
    #[default]
    Full,
    /// The head.
    Linear,
    /// The last k blocks and the final norm.
    Partial(u16),
    /// Every bias, those of norms included (Ben Zaken et al. 2022).
    Bias,
    /// Prompts beside the patches of the first block.
    VptShallow,
    /// Prompts of every block.
    VptDeep,
    /// A bottleneck behind the feed-forward part of every block (Pfeiffer et al. 2021).
    Adapter,
    /// Low-rank adapters of queries, keys and values (Hu et al. 2021), merged into the weights when the model is written.
    Lora,
}

const WORDS: [(&str, Method); 7] = [
    ("full", Method::Full),
    ("linear", Method::Linear),
    ("bias", Method::Bias),
    ("vpt-shallow", Method::VptShallow),
    ("vpt-deep", Method::VptDeep),
    ("adapter", Method::Adapter),
    ("lora", Method::Lora),
];

impl Setting for Method {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let word = String::read(given).unwrap_or_default();
        let partial = word.strip_prefix("partial-").and_then(|k| k.parse().ok()).filter(|&k| k > 0).map(Self::Partial);
        let found = WORDS.iter().find(|(name, _)| *name == word).map(|(_, method)| *method);
        found.or(partial).ok_or_else(|| format!("one of {}, partial-K", WORDS.map(|(name, _)| name).join(", ")))
    }

    fn show(&self) -> Option<String> {
        let word = match self {
            Self::Partial(k) => format!("partial-{k}"),
            other => WORDS.iter().find(|(_, method)| method == other).map_or("full", |(name, _)| name).to_owned(),
        };
        word.show()
    }
}

/// The initial values of an adapter's first weight; the second begins with 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdapterInit {
    /// Normal with deviation 0.02 (Houlsby et al. 2019).
    #[default]
    Normal,
    /// Zero, as in the code released with visual prompt tuning: then only the last bias learns.
    Zero,
}

impl Choice for AdapterInit {
    const WORDS: &'static [(&'static str, Self)] = &[("normal", Self::Normal), ("zero", Self::Zero)];
}

table! {
    /// What is trained of an existing image classifier. The head always is.
    pub ImageTuneConfig {
        /// "full", "linear" (the head alone), "partial-K" (the last K blocks and the final norm), "bias" (every bias), "vpt-shallow" (prompts in the first
        /// block), "vpt-deep" (prompts in every block), "adapter" (a bottleneck in every block) or "lora" (low-rank adapters of queries, keys and values).
        /// All but "full" need an initial model (--init).
        method: Method = Method::Full;
        /// Prompts of a block.
        prompts: usize = 10, 1..=4096;
        /// An adapter's hidden layer has the model's width divided by this.
        reduction: usize = 8, 1..=4096;
        /// Initial values of an adapter's first weight: "normal", or "zero", with which only its last bias learns.
        adapter_init: AdapterInit = AdapterInit::Normal;
        /// Rank of low-rank adapters.
        rank: usize = 8, 1..=4096;
        /// The output of low-rank adapters is scaled by alpha / rank.
        alpha: f64 = 16.0, 0..=1000000;
    }
    unread: ImageTuneConfig::unread;
}

impl ImageTuneConfig {
    fn unread(&self) -> Vec<Unread> {
        let is_vpt = matches!(self.method, Method::VptShallow | Method::VptDeep);
        let keys = [
            ("prompts", is_vpt, "it applies to tune.method = \"vpt-shallow\" and \"vpt-deep\""),
            ("reduction", self.method == Method::Adapter, "it applies to tune.method = \"adapter\""),
            ("adapter_init", self.method == Method::Adapter, "it applies to tune.method = \"adapter\""),
            ("rank", self.method == Method::Lora, "it applies to tune.method = \"lora\""),
            ("alpha", self.method == Method::Lora, "it applies to tune.method = \"lora\""),
        ];
        keys.into_iter().filter(|(_, applies, _)| !applies).map(|(key, _, instead)| Unread { key, instead }).collect()
    }

    /// What it adds to a model of a width.
    ///
    /// # Errors
    /// An adapter without a hidden layer.
    pub fn added(&self, width: usize) -> Result<Added, Invalid> {
        let prompts = |deep| Added { prompts: self.prompts, deep, ..Added::default() };
        Ok(match self.method {
            Method::VptShallow => prompts(false),
            Method::VptDeep => prompts(true),
            Method::Adapter if self.reduction > width => {
                return Err(Invalid::new("tune.reduction", format!("at most model.hidden_size = {width}"), self.reduction));
            }
            Method::Adapter => Added { adapter: width / self.reduction, ..Added::default() },
            Method::Lora => Added { rank: self.rank, alpha: self.alpha, ..Added::default() },
            _ => Added::default(),
        })
    }

    /// The initial values of adapters.
    pub fn adapter_init(&self) -> Init {
        match self.adapter_init {
            AdapterInit::Normal => Init::normal(0.02),
            AdapterInit::Zero => Init::Zeros,
        }
    }

    /// Whether a parameter of a model with so many blocks is trained.
    pub fn trains(&self, info: &ParamInfo, blocks: usize) -> bool {
        if info.part == Part::Head || self.method == Method::Full {
            return true;
        }
        let name = info.name.to_string();
        match self.method {
            Method::Full => true,
            Method::Linear => false,
            Method::Partial(k) => {
                let first = blocks.saturating_sub(usize::from(k));
                info.part == Part::Final || matches!(info.part, Part::Block(i) if usize::from(i) >= first)
            }
            Method::Bias => name.ends_with(".bias"),
            Method::VptShallow | Method::VptDeep => name.starts_with(PROMPTS),
            Method::Adapter => name.contains(ADAPTER),
            Method::Lora => info.adapter,
        }
    }
}

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
    /// Rank of low-rank adapters; 0: none. A model that is written has none.
    #[serde(skip)]
    pub rank: usize,
    /// Their scale is alpha / rank.
    #[serde(skip)]
    pub alpha: f64,
}

/// The beginning of the names of prompts.
pub const PROMPTS: &str = "prompts.";
/// A part of the names of adapters.
pub const ADAPTER: &str = ".adapter.";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::families::ImageConfig;
    use crate::vision::families::vit::VitModel;
    use crate::vision::weights::tuned;

    /// Trained parameters beside the head, and their share of ViT-B/16 without one in percent.
    fn share(tune: ImageTuneConfig) -> (usize, f64) {
        const BACKBONE: f64 = 85_798_656.0;
        let ((registry, model), _) = tuned(&ImageConfig::Vit(VitModel::default()), &tune).unwrap();
        let dims = model.dims();
        let count = registry.view().trainable_count() - dims.classes * (dims.width + 1);
        (count, 100.0 * count as f64 / BACKBONE)
    }

    fn method(word: &str) -> ImageTuneConfig {
        let mut tune = ImageTuneConfig::default();
        crate::config::set_json(&mut tune, "method", &word.into()).unwrap();
        tune
    }

    #[test]
    fn shares_of_vit_b_16_are_those_of_the_papers_methods() {
        let prompts = |word, prompts| ImageTuneConfig { prompts, ..method(word) };
        for (tune, expected) in [
            (method("full"), 100.0),
            (method("linear"), 0.0),
            (method("partial-1"), 8.26),
            (method("bias"), 0.12),
            (prompts("vpt-shallow", 50), 0.045),
            (prompts("vpt-deep", 10), 0.11),
            (prompts("vpt-deep", 50), 0.54),
            (prompts("vpt-deep", 100), 1.07),
            (method("adapter"), 2.07),
            (ImageTuneConfig { reduction: 64, ..method("adapter") }, 0.27),
        ] {
            let shown = tune.method.show();
            let (_, percent) = share(tune);
            assert!((percent - expected).abs() < 0.006, "{shown:?}: {percent}");
        }
        assert_eq!(share(method("bias")).0, 102_912);
        assert_eq!(share(method("full")).0, 85_798_656);
        // r (in + out) of the fused queries, keys and values.
        assert_eq!(share(method("lora")).0, 12 * 8 * (768 + 3 * 768));
    }

    #[test]
    fn words_are_read_and_shown() {
        for word in ["full", "linear", "partial-3", "vpt-deep"] {
            assert_eq!(method(word).method.show(), Some(format!("\"{word}\"")));
        }
        let mut tune = ImageTuneConfig::default();
        for wrong in ["partial-0", "partial", "vpt"] {
            let error = crate::config::set_json(&mut tune, "method", &wrong.into()).unwrap_err();
            assert!(error.contains("vpt-deep") && error.contains("partial-K"), "{error}");
        }
    }
}
