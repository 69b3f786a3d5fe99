//! What makes a language model: its parameters, and how they lie in a folder.

use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::{Registry, Scope};

use super::adapters::Adapters;
use crate::model_folder::map::NameMap;

/// A language model with all its sizes known: what can be trained, scored, generated from, quantised and exported.
pub trait Architecture: Send + Sync {
    /// Registers the parameters.
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel>;

    /// How the parameters lie in the tensors of a folder.
    fn name_map(&self) -> NameMap;

    /// The same model for sequences of at most so many tokens.
    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture>;

    /// The linear layers that low-rank adapters are given when nobody says which; none: all of them.
    fn lora_targets(&self) -> &'static [&'static str] {
        &[]
    }

    /// The low-rank adapters that it has, and that a training of it leaves in place of a whole model.
    fn adapters(&self) -> Option<&Adapters> {
        None
    }

    /// Decides what is trained and how the rest is stored, when all parameters are registered; everything is trained by default.
    fn tune(&self, _registry: &mut Registry<'_>, _layers: &mut dyn LanguageModel) {}
}
