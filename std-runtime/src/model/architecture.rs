//! What makes a language model: its parameters, and how they lie in a folder.

use std::sync::Arc;

use samara_core::model::lm::LanguageModel;
use samara_core::params::Scope;

use crate::model_folder::map::NameMap;

/// A language model with all its sizes known: what can be trained, scored, generated from, quantised and exported.
pub trait Architecture: Send + Sync {
    /// Registers the parameters.
    fn register(&self, s: &mut Scope<'_>) -> Box<dyn LanguageModel>;

    /// How the parameters lie in the tensors of a folder.
    fn name_map(&self) -> NameMap;

    /// The same model for sequences of at most so many tokens.
    fn with_positions(&self, positions: usize) -> Arc<dyn Architecture>;
}
