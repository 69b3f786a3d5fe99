//! Special tokens that `[dialogue]` adds to a tokenizer and its model.

use super::config::DialogueConfig;
use crate::config::Invalid;
use crate::tokenizer::Tokenizer;

/// What became of a tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTokens {
    /// Tokens that it lacked, with their ids.
    pub added: Vec<(String, u32)>,
    /// The token for padding that was asked for.
    pub pad: Option<(String, u32)>,
    /// Ids that the model had.
    pub had_ids: usize,
    /// Ids that it needs.
    pub ids: usize,
}

impl NewTokens {
    /// A tokenizer with the tokens that are asked for, for a model of `vocab_size` ids.
    ///
    /// # Errors
    /// A text that cannot be a token.
    pub fn add(tokenizer: Tokenizer, config: &DialogueConfig, vocab_size: usize) -> Result<(Tokenizer, Self), Invalid> {
        let pad = config.pad_token.as_deref();
        let texts: Vec<&str> = config.new_tokens().chain(pad).collect();
        if texts.is_empty() {
            return Ok((tokenizer, Self { had_ids: vocab_size, ids: vocab_size, ..Self::default() }));
        }
        let lacking: Vec<&str> = texts.iter().copied().filter(|text| tokenizer.token_id(text).is_none()).collect();
        let tokenizer = tokenizer.with_tokens(&texts, pad).map_err(|error| {
            let key = if config.add_tokens.is_empty() { "dialogue.pad_token" } else { "dialogue.add_tokens" };
            Invalid::new(key, format!("texts that new tokens can have ({error})"), texts.join(","))
        })?;
        let with_id = |text: &str| tokenizer.token_id(text).map(|id| (text.to_owned(), id));
        let ids = texts.iter().filter_map(|text| tokenizer.token_id(text)).fold(vocab_size, |ids, id| ids.max(id as usize + 1));
        let mut added: Vec<(String, u32)> = lacking.into_iter().filter_map(with_id).collect();
        added.dedup();
        let pad = pad.and_then(with_id);
        Ok((tokenizer, Self { added, pad, had_ids: vocab_size, ids }))
    }

    /// Whether the tokenizer is as it was.
    pub fn is_none(&self) -> bool {
        self.added.is_empty() && self.pad.is_none()
    }

    /// Whether the model needs rows that it does not have.
    pub fn grow(&self) -> bool {
        self.ids > self.had_ids
    }

    /// What a person should know of them, where answers end with one of `stops`.
    pub fn lines(&self, stops: &[u32]) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.added.is_empty() {
            let tokens: Vec<String> = self.added.iter().map(|(text, id)| format!("{text:?} (id {id})")).collect();
            let Self { had_ids, ids, .. } = self;
            let rows = if self.grow() {
                format!("the model gets {ids} token ids in place of {had_ids}, the new rows are the mean of the others")
            } else {
                "the model has rows for them".to_owned()
            };
            lines.push(format!("note: added to the tokenizer: {}; {rows}", tokens.join(", ")));
        }
        if let Some((pad, _)) = self.pad.as_ref().filter(|(_, id)| stops.contains(id)) {
            lines.push(format!(
                "warning: dialogue.pad_token {pad:?} ends answers as well: tools that leave padding out of the loss, or find the end of a row by it, \
                 miss the end; name a token of its own, such as \"<|pad|>\""
            ));
        }
        lines
    }
}
