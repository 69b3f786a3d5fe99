//! Encoding of user text for a model, such as the prompt of a generated text.

use super::{EncodeError, Specials, Tokenizer};
use crate::error::{Failure, Kind};
use std::collections::BTreeMap;

/// Text that cannot be encoded, with its name.
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

/// The ids of `prompt` for a model with vocabulary `vocab_size`; without a prompt, the end-of-text token. Without such a token: a line break, a full
/// stop if white space has no token (GPT-1), or the first id.
///
/// # Errors
/// The tokenizer cannot encode the prompt, or an id is beyond the model's vocabulary.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str, specials: bool, vocab_size: usize) -> Result<Vec<i32>, TextError> {
    let end = tokenizer.end_of_text().filter(|&id| (id as usize) < vocab_size);
    let ids = match (prompt, end) {
        ("", Some(id)) => vec![id],
        ("", None) => {
            let ids = |text| text_ids(tokenizer, "prompt", text, specials, vocab_size).ok().filter(|ids| !ids.is_empty());
            ["\n", "."].into_iter().find_map(ids).unwrap_or_else(|| vec![0])
        }
        (text, _) => text_ids(tokenizer, "prompt", text, specials, vocab_size)?,
    };
    Ok(ids.into_iter().map(|id| id as i32).collect())
}

/// The ids of a text for a model with vocabulary `vocab_size`; errors name the text `what`.
///
/// # Errors
/// The tokenizer cannot encode the text, or an id is beyond the model's vocabulary.
pub fn text_ids(tokenizer: &Tokenizer, what: &str, text: &str, specials: bool, vocab_size: usize) -> Result<Vec<u32>, TextError> {
    let ids = tokenizer.encode(text.as_bytes(), Specials::all_if(specials)).map_err(TextError::of(what))?;
    tokenizer.check_ids(&ids, vocab_size).map_err(TextError::of(what))?;
    Ok(ids)
}

/// A note about a text that contains the text of a special token, which is encoded as characters.
pub fn specials_note(tokenizer: &Tokenizer, what: &str, text: &[u8]) -> Option<String> {
    let mut counts = BTreeMap::new();
    tokenizer.count_specials(text, &mut counts);
    let token = String::from_utf8_lossy(&tokenizer.token_bytes(*counts.keys().next()?)).into_owned();
    Some(format!(
        "note: {what} has the text of special token {token:?}, encoded as characters; --specials encodes it as the token"
    ))
}
