//! What the configuration of every family of models has.

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
/// Its folders are read and written by [`ConfigJson`] and the name map of its [`Architecture`].
pub trait Family: Table + Default + ConfigJson {
    /// The values of `model_type` that name the family.
    const TYPES: &'static [&'static str];
    /// What other families call keys of this one: (their name, its name here).
    const ALIASES: &'static [(&'static str, &'static str)];
    /// The key that says how long a sequence can be.
    const POSITIONS: &'static str;

    /// The value of `model_type`.
    fn model_type(&self) -> &'static str;
    /// Token ids; `None` while they are those of a tokenizer that is not known yet.
    fn vocab_size(&self) -> Option<usize>;
    /// Sets the number of token ids.
    fn set_vocab_size(&mut self, ids: usize);
    /// Leaves out a head that is not the token embedding, for a model whose logits nobody reads.
    fn drop_head(&mut self) {}
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
    /// The model in the engine's terms.
    ///
    /// # Errors
    /// As [`Self::check`]; no vocabulary.
    fn architecture(&self) -> Result<Arc<dyn Architecture>, Invalid>;
}
