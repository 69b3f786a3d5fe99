//! The interface of the configuration of every family of models.

use std::sync::Arc;

use samara_core::shape::UNIT;

use super::architecture::Architecture;
use crate::config::{Invalid, Table};
use crate::model_folder::keys::ConfigJson;

/// Elements that a tensor may have.
pub const TENSOR_LIMIT: u128 = i32::MAX as u128;
/// Elements that all parameters together may have: 32 bits of units.
pub const PARAMETER_LIMIT: u128 = u32::MAX as u128 * UNIT as u128;

/// The configuration of a family of models: a table whose keys have the names of Hugging Face's `config.json`, `model_type` among them.
/// [`ConfigJson`] and the name map of its [`Architecture`] read and write its folders.
pub trait Family: Table + Default + ConfigJson {
    /// The values of `model_type` that name the family.
    const TYPES: &'static [&'static str];
    /// Names that other families use for keys of this one: (their name, its name here).
    const ALIASES: &'static [(&'static str, &'static str)];
    /// The key of the context length.
    const POSITIONS: &'static str;

    /// The value of `model_type`.
    fn model_type(&self) -> &'static str;
    /// Vocabulary size; `None` until the tokenizer is known.
    fn vocab_size(&self) -> Option<usize>;
    /// Sets the vocabulary size.
    fn set_vocab_size(&mut self, ids: usize);
    /// Removes an untied head, for a model whose logits are not used.
    fn drop_head(&mut self) {}
    /// The longest sequence in tokens.
    fn positions(&self) -> usize;
    /// Values of the widest activation of a token, logits left out.
    fn widest(&self) -> usize;
    /// Number of parameters; `None` without a vocabulary.
    fn parameters(&self) -> Option<u128>;
    /// Checks across keys.
    ///
    /// # Errors
    /// The first value that contradicts others.
    fn check(&self) -> Result<(), Invalid>;
    /// The model for the engine.
    ///
    /// # Errors
    /// As [`Self::check`]; no vocabulary.
    fn architecture(&self) -> Result<Arc<dyn Architecture>, Invalid>;
}
