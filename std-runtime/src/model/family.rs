//! What the configuration of every family of models has.

use samara_core::model::lm::LanguageModel;
use samara_core::params::Scope;
use samara_core::shape::UNIT;

use crate::config::{Invalid, Table};
use crate::model_folder::keys::ConfigJson;
use crate::model_folder::map::NameMap;

/// Elements that a tensor may have.
pub const TENSOR_LIMIT: u128 = i32::MAX as u128;
/// Elements that all parameters together may have: 32 bits of units.
pub const PARAMETER_LIMIT: u128 = u32::MAX as u128 * UNIT as u128;

/// The configuration of a family of models: a table whose keys have the names of Hugging Face's `config.json`, `model_type` among them.
/// Its folders are read and written by [`ConfigJson`] and [`Self::name_map`].
pub trait Family: Table + Default + ConfigJson {
    /// The values of `model_type` that name the family.
    const TYPES: &'static [&'static str];
    /// What other families call keys of this one: (their name, its name here).
    const ALIASES: &'static [(&'static str, &'static str)];

    /// The value of `model_type`.
    fn model_type(&self) -> &'static str;
    /// Token ids; `None` while they are those of a tokenizer that is not known yet.
    fn vocab_size(&self) -> Option<usize>;
    /// Sets the number of token ids.
    fn set_vocab_size(&mut self, ids: usize);
    /// The longest sequence in tokens.
    fn positions(&self) -> usize;
    /// Values of the widest activation of a token, logits left out.
    fn widest(&self) -> usize;
    /// Parameters; `None` without a vocabulary.
    fn parameters(&self) -> Option<u128>;
    /// Checks what concerns several keys.
    ///
    /// # Errors
    /// The first value that does not go with others.
    fn check(&self) -> Result<(), Invalid>;
    /// How the parameters lie in the tensors of a folder.
    ///
    /// # Errors
    /// As [`Self::check`]; no vocabulary.
    fn name_map(&self) -> Result<NameMap, Invalid>;
    /// Registers the parameters.
    ///
    /// # Errors
    /// As [`Self::check`]; no vocabulary.
    fn register(&self, s: &mut Scope<'_>) -> Result<Box<dyn LanguageModel>, Invalid>;
}
