//! `[tune]` of image classifiers: what is trained of an existing model, and what is added to it. The methods are the baselines of Jia et al. 2022; the head is
//! trained with each of them.

mod adapter;
mod added;
mod bias;
mod full;
mod linear;
mod lora;
mod method;
mod mlp;
mod partial;
mod prompts;
mod sidetune;

use samara_core::params::{Init, ParamInfo, Part};

use self::adapter::Bottleneck;
pub use self::added::{Added, is_added};
use self::bias::Bias;
use self::full::Full;
use self::linear::Linear;
use self::lora::LowRank;
use self::method::{Sizes, Tuning};
use self::mlp::MlpHead;
use self::partial::Partial;
use self::prompts::VisualPrompts;
use self::sidetune::SideTune;
use crate::config::{Choice, Given, Invalid, Setting, Unread, table};

/// How a model is tuned: a file for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Everything is trained.
    #[default]
    Full,
    /// The head.
    Linear,
    /// A head of k layers.
    Mlp(u16),
    /// The last k blocks and the final norm.
    Partial(u16),
    /// Every bias.
    Bias,
    /// A side network.
    SideTune,
    /// Prompts beside the patches of the first block.
    VptShallow,
    /// Prompts of every block.
    VptDeep,
    /// A bottleneck in every block.
    Adapter,
    /// Low-rank adapters.
    Lora,
}

const WORDS: [(&str, Method); 8] = [
    ("full", Method::Full),
    ("linear", Method::Linear),
    ("bias", Method::Bias),
    ("sidetune", Method::SideTune),
    ("vpt-shallow", Method::VptShallow),
    ("vpt-deep", Method::VptDeep),
    ("adapter", Method::Adapter),
    ("lora", Method::Lora),
];

impl Method {
    fn tuning(self) -> Box<dyn Tuning> {
        match self {
            Self::Full => Box::new(Full),
            Self::Linear => Box::new(Linear),
            Self::Mlp(layers) => Box::new(MlpHead(layers)),
            Self::Partial(blocks) => Box::new(Partial(blocks)),
            Self::Bias => Box::new(Bias),
            Self::SideTune => Box::new(SideTune),
            Self::VptShallow => Box::new(VisualPrompts { deep: false }),
            Self::VptDeep => Box::new(VisualPrompts { deep: true }),
            Self::Adapter => Box::new(Bottleneck),
            Self::Lora => Box::new(LowRank),
        }
    }
}

impl Setting for Method {
    fn read(given: Given<'_>) -> Result<Self, String> {
        let word = String::read(given).unwrap_or_default();
        let number = |prefix: &str| word.strip_prefix(prefix).and_then(|k| k.parse().ok());
        let partial = number("partial-").filter(|&k| k > 0).map(Self::Partial);
        // One layer is "linear".
        let mlp = number("mlp-").filter(|&k| k > 1).map(Self::Mlp);
        let found = WORDS.iter().find(|(name, _)| *name == word).map(|(_, method)| *method);
        let words = || WORDS.map(|(name, _)| name).join(", ");
        found.or(partial).or(mlp).ok_or_else(|| format!("one of {}, partial-K with K from 1, mlp-K with K from 2", words()))
    }

    fn show(&self) -> Option<String> {
        let word = match self {
            Self::Partial(k) => format!("partial-{k}"),
            Self::Mlp(k) => format!("mlp-{k}"),
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
        /// "full", "linear" (the head alone), "mlp-K" (a head of K layers), "partial-K" (the last K blocks and the final norm), "bias" (every bias),
        /// "sidetune" (a side network, whose features are mixed with the model's), "vpt-shallow" (prompts in the first block), "vpt-deep" (prompts in every
        /// block), "adapter" (a bottleneck in every block) or "lora" (low-rank adapters of queries, keys and values). All but "full" need an initial model
        /// (--init).
        method: Method = Method::Full;
        /// With "linear" and "mlp-K": compute the features of every image once, before the first step, unless augment changes images. The result is the
        /// same.
        cache: bool = true;
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
        const KEYS: [(&str, &str); 6] = [
            ("cache", "it applies to tune.method = \"linear\" and \"mlp-K\", which leave the backbone alone"),
            ("prompts", "it applies to tune.method = \"vpt-shallow\" and \"vpt-deep\""),
            ("reduction", "it applies to tune.method = \"adapter\""),
            ("adapter_init", "it applies to tune.method = \"adapter\""),
            ("rank", "it applies to tune.method = \"lora\""),
            ("alpha", "it applies to tune.method = \"lora\""),
        ];
        let read = self.method.tuning().keys();
        KEYS.into_iter().filter(|(key, _)| !read.contains(key)).map(|(key, instead)| Unread { key, instead }).collect()
    }

    /// What it adds to a model of a width and this many blocks.
    ///
    /// # Errors
    /// An adapter without a hidden layer; more blocks than the model has.
    pub fn added(&self, width: usize, blocks: usize) -> Result<Added, Invalid> {
        let Self { prompts, reduction, rank, alpha, .. } = *self;
        if let Method::Partial(last) = self.method
            && usize::from(last) > blocks
        {
            let expected = format!("at most partial-{blocks}: the model has {blocks} blocks");
            return Err(Invalid::new("tune.method", expected, format!("partial-{last}")));
        }
        self.method.tuning().added(&Sizes { prompts, reduction, rank, alpha }, width)
    }

    /// Whether features of images are computed once.
    pub fn caches(&self) -> bool {
        self.cache && self.method.tuning().keeps_features()
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
        info.part == Part::Head || self.method.tuning().trains(info, blocks)
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
            // Two hidden layers of 0.69 % each, with their norms.
            (method("mlp-3"), 1.38),
            (method("mlp-2"), 0.69),
            (method("bias"), 0.12),
            (method("sidetune"), 11.16),
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
        for word in ["full", "linear", "partial-3", "mlp-2", "sidetune", "vpt-deep"] {
            assert_eq!(method(word).method.show(), Some(format!("\"{word}\"")));
        }
        let mut tune = ImageTuneConfig::default();
        for wrong in ["partial-0", "partial", "mlp-1", "mlp", "vpt"] {
            let error = crate::config::set_json(&mut tune, "method", &wrong.into()).unwrap_err();
            assert!(error.contains("vpt-deep") && error.contains("partial-K"), "{error}");
        }
    }
}
