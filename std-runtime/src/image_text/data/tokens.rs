//! Captions as tokens: the end of a text is kept where it is cut.

use crate::image_text::clip::{ClipModel, DualType};
use crate::tokenizer::{TextError, Tokenizer, text_ids};

/// The tokens of captions, padded to one length.
pub struct Captions {
    /// Tokens of a caption, T.
    pub len: usize,
    /// (captions, T)
    pub tokens: Vec<i32>,
    /// The place of a text's vector in its row (captions).
    pub ends: Vec<i32>,
    /// How many were cut.
    pub cut: usize,
}

/// How captions become rows of tokens.
pub struct CaptionEncoder<'t> {
    tokenizer: &'t Tokenizer,
    model: &'t ClipModel,
    /// The token that ends a text, and that follows it.
    end: i32,
}

impl<'t> CaptionEncoder<'t> {
    /// An encoder for a model. Texts end with `eos_token_id`; SigLIP's are padded to the longest text that the model has.
    pub fn new(tokenizer: &'t Tokenizer, model: &'t ClipModel) -> Self {
        let end = tokenizer.end_of_text().map_or(model.eos_token_id as i32, |id| id as i32);
        Self { tokenizer, model, end }
    }

    /// The rows of captions; those of CLIP are as long as the longest of them.
    ///
    /// # Errors
    /// A caption that the tokenizer cannot encode, by its number from 1.
    pub fn encode<'c>(&self, captions: impl Iterator<Item = &'c str>) -> Result<Captions, TextError> {
        let (most, mut cut) = (self.model.max_position_embeddings, 0);
        let mut rows: Vec<Vec<i32>> = Vec::new();
        for (number, caption) in captions.enumerate() {
            let ids = text_ids(self.tokenizer, &format!("caption {}", number + 1), caption, false, self.model.vocab_size)?;
            let whole = self.tokenizer.with_template(&ids).unwrap_or(ids);
            let mut row: Vec<i32> = whole.into_iter().map(|id| id as i32).collect();
            if row.last() != Some(&self.end) {
                row.push(self.end);
            }
            if row.len() > most {
                row.truncate(most.saturating_sub(1));
                row.push(self.end);
                cut += 1;
            }
            rows.push(row);
        }
        let len = match self.model.model_type {
            DualType::Clip => rows.iter().map(Vec::len).max().unwrap_or(1),
            DualType::SigLip => most,
        };
        let mut tokens = Vec::with_capacity(rows.len() * len);
        let mut ends = Vec::with_capacity(rows.len());
        for mut row in rows {
            row.resize(len, self.end);
            ends.push(self.model.end_of(&row) as i32);
            tokens.extend(row);
        }
        Ok(Captions { len, tokens, ends, cut })
    }
}
