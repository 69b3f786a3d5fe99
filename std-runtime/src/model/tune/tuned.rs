//! Models with adapters, and partly trained models. Both are architectures, so that training and inference accept them.

use std::sync::Arc;

use samara_core::graph::DType;
use samara_core::model::lm::LanguageModel;
use samara_core::params::{Lora, ParamInfo, Registry, Scope};
use samara_core::tune::{Tune, store_as, tune};

use crate::model::adapters::{Adapters, BaseFormat, saves};
use crate::model::architecture::Architecture;
use crate::model_folder::map::NameMap;

/// A model with low-rank adapters.
pub struct Adapted {
    /// The model without them.
    pub base: Arc<dyn Architecture>,
    /// The adapters.
    pub adapters: Adapters,
}

impl Architecture for Adapted {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel> {
        let targets: Vec<&str> = self.adapters.targets.iter().map(String::as_str).collect();
        self.base.register(&mut s.adapted(Lora { rank: self.adapters.rank, scale: self.adapters.scale(), targets: &targets }))
    }

    fn name_map(&self) -> NameMap {
        self.base.name_map()
    }

    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture> {
        Arc::new(Self { base: self.base.with_positions(positions), adapters: self.adapters.clone() })
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        self.base.lora_targets()
    }

    fn adapters(&self) -> Option<&Adapters> {
        Some(&self.adapters)
    }
}

/// A model of which a part is trained and the rest is frozen.
pub struct Tuned {
    /// The model, with its adapters if it has some.
    pub model: Arc<dyn Architecture>,
    /// The trained parameters.
    pub tune: Tune,
    /// The element type of frozen matrices.
    pub frozen_as: DType,
    /// Parts that are trained whole whatever `tune` says, by their names.
    pub whole: Vec<String>,
}

impl Architecture for Tuned {
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel> {
        self.model.register(s)
    }

    fn name_map(&self) -> NameMap {
        self.model.name_map()
    }

    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture> {
        let (model, whole) = (self.model.with_positions(positions), self.whole.clone());
        Arc::new(Self { model, whole, ..*self })
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        self.model.lora_targets()
    }

    fn adapters(&self) -> Option<&Adapters> {
        self.model.adapters()
    }

    fn tune(&self, registry: &mut Registry<'_>, layers: &mut dyn LanguageModel) {
        if self.frozen_as != DType::Real {
            store_as(self.frozen_as, registry);
        }
        tune(self.tune, layers, registry);
        for info in registry.infos_mut().iter_mut().filter(|info| saves(&self.whole, &info.name.to_string())) {
            (info.frozen, info.dtype) = (false, DType::Real);
        }
    }
}

/// A linear layer that may have an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearLayer {
    /// Its path.
    pub path: String,
    /// Columns of its input.
    pub inputs: usize,
    /// Columns of its output.
    pub outputs: usize,
}

impl LinearLayer {
    /// Its path within its block: `attn.c_attn` of `h.3.attn.c_attn`.
    pub fn path_in_block(&self) -> &str {
        path_in_block(&self.path)
    }
}

/// The part of a path after its last number.
pub fn path_in_block(path: &str) -> &str {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut start = 0;
    let mut at = 0;
    for part in path.split('.') {
        at += part.len() + 1;
        if is_number(part) {
            start = at;
        }
    }
    path.get(start..).unwrap_or("")
}

/// Every linear layer of a model that can get an adapter.
pub fn linear_layers(model: &Arc<dyn Architecture>) -> Vec<LinearLayer> {
    let every = Adapters {
        rank: 1,
        alpha: 1.0,
        by_root: false,
        dropout: 0.0,
        targets: Vec::new(),
        modules_to_save: Vec::new(),
        base: BaseFormat::F32,
    };
    let infos = infos(&Adapted { base: Arc::clone(model), adapters: every });
    let inner = |info: &ParamInfo, end: &str| info.name.to_string().strip_suffix(end).map(str::to_owned);
    let (a, b) = (
        infos.iter().filter_map(|info| Some((inner(info, ".lora_A.weight")?, info.shape.cols()))),
        infos.iter().filter_map(|info| Some((inner(info, ".lora_B.weight")?, info.shape.rows()))),
    );
    a.zip(b).map(|((path, inputs), (_, outputs))| LinearLayer { path, inputs, outputs }).collect()
}

/// The parameters of a model as they are registered.
pub fn infos(model: &dyn Architecture) -> Vec<ParamInfo> {
    let mut infos = vec![ParamInfo::default(); Registry::count(|s| model.register(s))];
    let mut registry = Registry::new(&mut infos);
    let mut layers = model.register(&mut registry.scope());
    model.tune(&mut registry, &mut *layers);
    infos
}
