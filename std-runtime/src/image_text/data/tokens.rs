//! Captions as tokens: the end of a text is kept where it is cut.

use crate::config::Invalid;
use crate::image_text::clip::{ClipModel, DualType};
use crate::tokenizer::{TextError, Tokenizer, text_ids};

/// The tokens of captions, padded to one length.
pub struct Captions {
    /// Tokens of a caption, T.
    pub len: usize,
    /// (captions, T)
    pub tokens: Vec<i32>,
    /// A place of each row (captions): of CLIP and SigLIP that of a text's vector, of BERT's texts that of their last token.
    pub ends: Vec<i32>,
    /// How many were cut.
    pub cut: usize,
}

impl Captions {
    /// Some of the captions, by number.
    #[must_use]
    pub fn rows(&self, numbers: impl Iterator<Item = usize> + Clone) -> Self {
        let row = |number: usize| self.tokens.get(number * self.len..(number + 1) * self.len).unwrap_or_default();
        let ends = numbers.clone().filter_map(|number| self.ends.get(number).copied()).collect();
        Self { len: self.len, tokens: numbers.flat_map(row).copied().collect(), ends, cut: 0 }
    }
}

/// How captions become rows of tokens.
pub struct CaptionEncoder<'t> {
    tokenizer: &'t Tokenizer,
    vocab_size: usize,
    /// The longest text.
    longest: usize,
    /// Whether rows are as long as the longest text that the model has, or as the longest of the captions.
    is_full: bool,
    /// The token that ends a text.
    end: i32,
    /// The token that follows it.
    padding: i32,
    place: Place<'t>,
}

/// Which place of a row is asked for.
enum Place<'t> {
    Vector(&'t ClipModel),
    Last,
}

impl<'t> CaptionEncoder<'t> {
    /// An encoder for a CLIP or SigLIP. Texts end with `eos_token_id`, which pads them too; SigLIP's are padded to the longest text that the model has.
    pub fn new(tokenizer: &'t Tokenizer, model: &'t ClipModel) -> Self {
        let end = tokenizer.end_of_text().map_or(model.eos_token_id as i32, |id| id as i32);
        Self {
            tokenizer,
            vocab_size: model.vocab_size,
            longest: model.max_position_embeddings,
            is_full: model.model_type == DualType::SigLip,
            end,
            padding: end,
            place: Place::Vector(model),
        }
    }

    /// An encoder for texts of a BERT: `[CLS]`, at most `longest` tokens in all, `[SEP]`.
    ///
    /// # Errors
    /// A tokenizer that puts no tokens around a text.
    pub fn of_bert(tokenizer: &'t Tokenizer, vocab_size: usize, longest: usize) -> Result<Self, Invalid> {
        let around = tokenizer.with_template(&[]).filter(|around| around.len() == 2);
        let Some(&[_, end]) = around.as_deref() else {
            let expected = "a tokenizer that puts a token before and one after every text, as BERT's [CLS] and [SEP]";
            return Err(Invalid::new("data.tokenizer", expected, "one without"));
        };
        Ok(Self { tokenizer, vocab_size, longest, is_full: false, end: end as i32, padding: 0, place: Place::Last })
    }

    /// The rows of captions.
    ///
    /// # Errors
    /// A caption that the tokenizer cannot encode, by its number from 1.
    pub fn encode<'c>(&self, captions: impl Iterator<Item = &'c str>) -> Result<Captions, TextError> {
        let (most, mut cut) = (self.longest, 0);
        let mut rows: Vec<Vec<i32>> = Vec::new();
        for (number, caption) in captions.enumerate() {
            let ids = text_ids(self.tokenizer, &format!("caption {}", number + 1), caption, false, self.vocab_size)?;
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
        let len = if self.is_full { most } else { rows.iter().map(Vec::len).max().unwrap_or(1) };
        let mut tokens = Vec::with_capacity(rows.len() * len);
        let mut ends = Vec::with_capacity(rows.len());
        for mut row in rows {
            let last = row.len().saturating_sub(1);
            row.resize(len, self.padding);
            ends.push(match self.place {
                Place::Vector(model) => model.end_of(&row) as i32,
                Place::Last => last as i32,
            });
            tokens.extend(row);
        }
        Ok(Captions { len, tokens, ends, cut })
    }
}
