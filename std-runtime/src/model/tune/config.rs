//! `[tune]`: which parameters of an existing model are trained.

use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::{ParamInfo, Part, Registry};
use samara_core::quant::BLOCK;
use samara_core::tune::Tune;

use super::tuned::{Adapted, LinearLayer, Tuned, infos, linear_layers};
use crate::config::{Choice, Invalid, Unread, hint, table};
use crate::model::adapters::{Adapters, BaseFormat, saves};
use crate::model::architecture::Architecture;

/// The trained parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Everything.
    #[default]
    Full,
    /// Low-rank adapters beside frozen weights (Hu et al. 2021).
    Lora,
    /// The last block and the final norm.
    LastBlock,
    /// All vectors: biases and gains (Ben Zaken et al. 2022).
    Bias,
    /// The head.
    Linear,
}

impl Choice for Method {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("full", Self::Full),
        ("lora", Self::Lora),
        ("last-block", Self::LastBlock),
        ("bias", Self::Bias),
        ("linear", Self::Linear),
    ];
}

table! {
    /// Which parameters of an existing model are trained.
    pub TuneConfig {
        /// The trained parameters: "full", "lora" (low-rank adapters on frozen weights), "last-block", "bias" (all vectors) or "linear" (an untied
        /// head). All but "full" need an initial model (--init).
        method: Method = Method::Full;
        /// Rank of adapters, at most the smaller dimension of every target layer.
        rank: usize = 8, 1..=65536;
        /// The adapters' output is scaled by alpha / rank.
        alpha: f64 = 16.0, 0..=1000000;
        /// Linear layers that get adapters: suffixes of their names separated by commas, as in "q_proj,mlp.down_proj"; "all-linear" for all of them;
        /// empty: "c_attn" of a GPT-2, "q_proj,v_proj" of a Llama, as in PEFT.
        targets: String = String::new();
        /// Dropout probability of the adapters' inputs.
        dropout: f64 = 0.0, 0..=0.999;
        /// Storage of frozen matrices while adapters are trained: "none" (f32), "q8" or "q4".
        quantize: BaseFormat = BaseFormat::F32;
        /// Parts of the model that are trained in full with the adapters, and stored with them: names separated by commas, as in "ln_f,lm_head".
        modules_to_save: String = String::new();
    }
    unread: TuneConfig::unread;
}

impl TuneConfig {
    /// The keys of adapters that have no effect without adapters.
    fn unread(&self) -> Vec<Unread> {
        const KEYS: [&str; 6] = ["rank", "alpha", "targets", "dropout", "quantize", "modules_to_save"];
        let instead = "it applies to low-rank adapters: set tune.method = \"lora\", or leave it out";
        let unread: &[&str] = if self.method == Method::Lora { &[] } else { &KEYS };
        unread.iter().map(|&key| Unread { key, instead }).collect()
    }

    /// The dropout probability of the adapters' inputs.
    pub fn adapter_dropout(&self) -> f64 {
        if self.method == Method::Lora { self.dropout } else { 0.0 }
    }

    /// The model of which only a part is trained; the model itself with "full".
    ///
    /// # Errors
    /// Targets that are not layers of the model, a rank above a layer's dimensions, rows that are not whole quantisation blocks, a head tied to the
    /// token embedding.
    pub fn applied_to(&self, model: Arc<dyn Architecture>) -> Result<Arc<dyn Architecture>, Invalid> {
        self.applied_with(model, &[])
    }

    /// The same with parts that are trained whole whatever is trained of the rest, such as a score, which stands for the head of "linear".
    ///
    /// # Errors
    /// As [`Self::applied_to`].
    pub fn applied_with(&self, model: Arc<dyn Architecture>, whole: &[&str]) -> Result<Arc<dyn Architecture>, Invalid> {
        let whole: Vec<String> = whole.iter().map(|&part| part.to_owned()).collect();
        let tune = match self.method {
            Method::Full => return Ok(model),
            Method::Lora => return self.adapted(model, whole),
            Method::LastBlock => Tune::LastBlock,
            Method::Bias => Tune::Bias,
            Method::Linear if !whole.is_empty() => Tune::None,
            Method::Linear => {
                let expected = "another method: \"linear\" trains an untied head, and this model's head is its token embedding";
                check_own_head(&*model, "tune.method", expected, "\"linear\"")?;
                Tune::Head
            }
        };
        Ok(Arc::new(Tuned { model, tune, frozen_as: BaseFormat::F32.dtype(), whole }))
    }

    fn adapted(&self, base: Arc<dyn Architecture>, whole: Vec<String>) -> Result<Arc<dyn Architecture>, Invalid> {
        let layers = linear_layers(&base);
        let targets = targets(&self.targets, base.lora_targets(), &layers)?;
        for layer in layers.iter().filter(|layer| targets.iter().any(|target| ends_with(&layer.path, target))) {
            let least = layer.inputs.min(layer.outputs);
            if self.rank > least {
                let expected = format!("at most {least}, the smaller dimension of {}", layer.path);
                return Err(Invalid::new("tune.rank", expected, self.rank));
            }
        }
        let mut modules_to_save = words(&self.modules_to_save);
        check_modules(&*base, &modules_to_save)?;
        modules_to_save.extend(whole);
        modules_to_save.dedup();
        let adapters = Adapters {
            rank: self.rank,
            alpha: self.alpha,
            by_root: false,
            dropout: self.dropout,
            targets,
            modules_to_save,
            base: self.quantize,
        };
        let whole = adapters.modules_to_save.clone();
        let model = Arc::new(Adapted { base, adapters });
        let tuned = Tuned { model, tune: Tune::Adapters, frozen_as: self.quantize.dtype(), whole };
        check_blocks(&infos(&tuned), self.quantize)?;
        Ok(Arc::new(tuned))
    }
}

/// Words between commas.
fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether the last parts of a path are these.
fn ends_with(path: &str, parts: &str) -> bool {
    path.strip_suffix(parts).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The layers of a comma-separated list; the family's defaults if it is empty.
fn targets(text: &str, usual: &[&str], layers: &[LinearLayer]) -> Result<Vec<String>, Invalid> {
    let given = words(text);
    let given: Vec<String> = if given.is_empty() { usual.iter().map(|&target| target.to_owned()).collect() } else { given };
    if given.is_empty() || given == ["all-linear"] {
        let mut all: Vec<String> = layers.iter().map(|layer| layer.path_in_block().to_owned()).collect();
        all.sort();
        all.dedup();
        return Ok(all);
    }
    match given.iter().find(|target| !layers.iter().any(|layer| ends_with(&layer.path, target))) {
        Some(unknown) => {
            let expected =
                format!("names of linear layers separated by commas, or \"all-linear\"{}", layer_hint(unknown, layers));
            Err(Invalid::new("tune.targets", expected, format!("{unknown:?}")))
        }
        None => Ok(given),
    }
}

/// The names nearest to one that no layer has.
pub(super) fn layer_hint(unknown: &str, layers: &[LinearLayer]) -> String {
    let whole = unknown.contains('.');
    let of = |layer: &LinearLayer| -> String {
        let path = layer.path_in_block();
        if whole { path.to_owned() } else { path.rsplit('.').next().unwrap_or(path).to_owned() }
    };
    let mut names: Vec<String> = layers.iter().map(of).collect();
    names.sort();
    names.dedup();
    hint(unknown, names.iter().map(String::as_str))
}

/// Refuses a model whose head is the token embedding.
fn check_own_head(model: &dyn Architecture, key: &'static str, expected: &str, found: &str) -> Result<(), Invalid> {
    let mut none: [ParamInfo; 0] = [];
    let layers: Box<dyn LanguageModel> = model.register(&mut Registry::new(&mut none).scope());
    if layers.head() == layers.embedding() { Err(Invalid::new(key, expected, found)) } else { Ok(()) }
}

/// Parts that are stored whole must exist; a tied embedding would be stored as only one of its two roles.
fn check_modules(model: &dyn Architecture, modules: &[String]) -> Result<(), Invalid> {
    const KEY: &str = "tune.modules_to_save";
    let infos = infos(model);
    let paths: Vec<String> = infos.iter().map(|info| info.name.to_string()).collect();
    for module in modules {
        let one = std::slice::from_ref(module);
        if !paths.iter().any(|path| saves(one, path)) {
            let mut names: Vec<&str> = paths.iter().filter_map(|path| path.rsplit('.').nth(1)).collect();
            names.sort_unstable();
            names.dedup();
            let expected = format!("parts of the model separated by commas{}", hint(module, names.into_iter()));
            return Err(Invalid::new(KEY, expected, format!("{module:?}")));
        }
        let is_embedding = |info: &ParamInfo| info.part == Part::Tokens;
        if infos.iter().zip(&paths).any(|(info, path)| is_embedding(info) && saves(one, path)) {
            check_own_head(model, KEY, "another part: the token embedding is the head as well", &format!("{module:?}"))?;
        }
    }
    Ok(())
}

/// Rows that are quantised must be whole quantisation blocks.
fn check_blocks(infos: &[ParamInfo], quantize: BaseFormat) -> Result<(), Invalid> {
    let is_cut =
        |info: &&ParamInfo| info.frozen && info.dtype != BaseFormat::F32.dtype() && !info.shape.cols().is_multiple_of(BLOCK);
    match infos.iter().find(is_cut) {
        Some(info) => {
            let expected = format!(
                "\"none\": {} has rows of {} values, not a multiple of the quantisation block of {BLOCK}",
                info.name,
                info.shape.cols()
            );
            Err(Invalid::new("tune.quantize", expected, format!("{:?}", quantize.word())))
        }
        None => Ok(()),
    }
}
