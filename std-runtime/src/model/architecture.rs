//! The interface of a language model: its parameters, and their layout in a folder.

use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::{Registry, Scope};

use super::adapters::Adapters;
use crate::model_folder::map::NameMap;

/// A language model with all its sizes known: it can be trained, scored, sampled, quantised and exported.
pub trait Architecture: Send + Sync {
    /// Registers the parameters.
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel>;

    /// The mapping of parameters to the tensors of a folder.
    fn name_map(&self) -> NameMap;

    /// The same model with this context length.
    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture>;

    /// The linear layers that get low-rank adapters by default; empty: all of them.
    fn lora_targets(&self) -> &'static [&'static str] {
        &[]
    }

    /// Its low-rank adapters, which a training stores instead of a whole model.
    fn adapters(&self) -> Option<&Adapters> {
        None
    }

    /// The probability with which training drops the inputs of its adapters; 0 without any.
    fn adapter_dropout(&self) -> f64 {
        self.adapters().map_or(0.0, |adapters| adapters.dropout)
    }

    /// Selects what is trained and how the rest is stored, after registration; by default everything is trained.
    fn tune(&self, _registry: &mut Registry<'_>, _layers: &mut dyn LanguageModel) {}
}
