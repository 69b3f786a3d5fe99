//! The tokens that a generated text begins with.

use super::{EncodeError, Specials, Tokenizer};
use crate::error::{Failure, Kind};

/// Text that has no ids, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {source}")]
pub struct TextError {
    /// The text: a flag, a file.
    pub what: String,
    /// Why.
    pub source: EncodeError,
}

impl TextError {
    /// A maker for `map_err`.
    pub fn of(what: &str) -> impl FnOnce(EncodeError) -> Self {
        move |source| Self { what: what.to_owned(), source }
    }
}

impl Failure for TextError {
    fn kind(&self) -> Kind {
        Kind::Data
    }
}

/// The ids of `prompt`; without one, the end-of-text token, or a line break where there is no such token.
///
/// # Errors
/// The tokenizer cannot encode the prompt.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i32>, TextError> {
    let text = match (prompt, tokenizer.end_of_text()) {
        ("", Some(id)) => return Ok(vec![id as i32]),
        ("", None) => "\n",
        (text, _) => text,
    };
    let ids = tokenizer.encode(text.as_bytes(), Specials::None).map_err(TextError::of("prompt"))?;
    Ok(ids.into_iter().map(|id| id as i32).collect())
}
