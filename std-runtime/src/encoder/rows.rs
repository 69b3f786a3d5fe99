//! Tokens as masked rows: windows of a text between the tokens that the tokenizer puts around one, some of them hidden.

use std::collections::BTreeMap;

use super::masking::{Masking, NO_TARGET};
use crate::data::DataError;
use crate::data::dataset::{Dataset, HostBatch};
use crate::data::shards::Tokens;
use crate::tokenizer::Tokenizer;

/// Token ids (B, T), 0 in padding.
pub const TOKENS: &str = "input_ids";
/// Segments (B, T): −1 in padding, else 0.
pub const SEGMENTS: &str = "segments";
/// Kinds of texts (B, T): all the first.
pub const TYPES: &str = "token_type_ids";
/// Where the hidden tokens of a batch stand among its B T places (B, K).
pub const PLACES: &str = "places";
/// The hidden tokens (B, K), negative for none.
pub const LABELS: &str = "labels";

/// Windows that do not overlap and cover all tokens, the last one possibly shorter. Row e · n + i is window i of n with the masks of epoch e.
pub struct MaskedRows<T> {
    tokens: T,
    masking: Masking,
    before: Vec<i32>,
    after: Vec<i32>,
    /// Tokens of a row, T.
    block: usize,
    /// The most hidden tokens of a row, K.
    slots: usize,
    seed: u64,
}

impl<T: Tokens> MaskedRows<T> {
    /// Rows of `block` tokens. Masks are functions of the seed and the row.
    pub fn new(tokens: T, masking: Masking, tokenizer: &Tokenizer, block: usize, seed: u64) -> Self {
        let ids = |ids: &[u32]| ids.iter().map(|&id| id as i32).collect();
        let slots = masking.most_of(block);
        Self { tokens, masking, before: ids(tokenizer.ids_before()), after: ids(tokenizer.ids_after()), block, slots, seed }
    }

    /// The most hidden tokens of a row, K.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Tokens of the text in a row.
    fn body(&self) -> usize {
        self.block.saturating_sub(self.before.len() + self.after.len()).max(1)
    }

    /// Fills one row of a batch, whose places begin at `first`; returns how many tokens are hidden.
    fn fill_row(&self, row: u64, first: usize, into: RowOf<'_>) -> Result<usize, DataError> {
        let RowOf { tokens, segments, places, labels } = into;
        let start = row % self.len().max(1) * self.body() as u64;
        let count = (self.tokens.len() - start.min(self.tokens.len())).min(self.body() as u64) as usize;
        let (from, end) = (self.before.len(), self.before.len() + count);
        let used = (end + self.after.len()).min(tokens.len());
        if let Some(to) = tokens.get_mut(..from) {
            to.copy_from_slice(&self.before);
        }
        if let Some(to) = tokens.get_mut(from..end) {
            self.tokens.read(start, to)?;
        }
        if let Some(to) = tokens.get_mut(end..used) {
            to.copy_from_slice(self.after.get(..used - end).unwrap_or_default());
        }
        segments.get_mut(..used).unwrap_or_default().fill(0);
        let mut targets = vec![NO_TARGET; used];
        let row_tokens = tokens.get_mut(..used).unwrap_or_default();
        self.masking.mask(&mut Masking::draws(self.seed, row), row_tokens, &mut targets);
        let mut hidden = targets.iter().enumerate().filter(|(_, target)| **target != NO_TARGET);
        let mut kept = 0;
        for ((place, label), (at, &target)) in places.iter_mut().zip(labels).zip(hidden.by_ref()) {
            (*place, *label) = ((first + at) as i32, target);
            kept += 1;
        }
        // Beyond the slots, of which there are enough for almost every row, tokens are shown again.
        for (at, &target) in hidden {
            row_tokens.get_mut(at).into_iter().for_each(|id| *id = target);
        }
        Ok(kept)
    }
}

/// One row of a batch.
struct RowOf<'b> {
    tokens: &'b mut [i32],
    segments: &'b mut [i32],
    places: &'b mut [i32],
    labels: &'b mut [i32],
}

impl<T: Tokens> Dataset for MaskedRows<T> {
    fn len(&self) -> u64 {
        self.tokens.len().div_ceil(self.body() as u64)
    }

    fn batch(&self, rows: usize) -> HostBatch {
        let wide = |batch: HostBatch, name| batch.with_ints(name, self.block);
        let batch = [TOKENS, SEGMENTS, TYPES].into_iter().fold(HostBatch::new(rows), wide);
        batch.with_ints(PLACES, self.slots).with_ints(LABELS, self.slots)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        let [tokens, segments, places, labels] = into.ints_mut([TOKENS, SEGMENTS, PLACES, LABELS]);
        tokens.fill(0);
        segments.fill(-1);
        places.fill(0);
        labels.fill(NO_TARGET);
        let wide = tokens.chunks_exact_mut(self.block).zip(segments.chunks_exact_mut(self.block));
        let slots = places.chunks_exact_mut(self.slots).zip(labels.chunks_exact_mut(self.slots));
        let mut hidden = 0;
        for (number, ((&row, (tokens, segments)), (places, labels))) in rows.iter().zip(wide).zip(slots).enumerate() {
            hidden += self.fill_row(row, number * self.block, RowOf { tokens, segments, places, labels })?;
        }
        into.tokens = hidden as u64;
        Ok(())
    }
}

/// What guessing by frequency alone achieves on held-out tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// Cross-entropy in nats under the frequencies of the training tokens, each counted once more.
    pub loss: f64,
    /// The share of the most frequent training token.
    pub accuracy: f64,
}

impl Chance {
    /// Counts all tokens of a vocabulary of `vocab_size`.
    ///
    /// # Errors
    /// Tokens cannot be read.
    pub fn of(train: &impl Tokens, held_out: &impl Tokens, vocab_size: usize) -> Result<Self, DataError> {
        let (seen, asked) = (counts(train)?, counts(held_out)?);
        let [all, of] = [&seen, &asked].map(|counts| counts.values().sum::<u64>() as f64);
        let nats = |(id, count): (&i32, &u64)| {
            let own = seen.get(id).copied().unwrap_or(0) as f64 + 1.0;
            *count as f64 * ((all + vocab_size as f64) / own).ln()
        };
        let best = seen.iter().max_by_key(|&(id, count)| (*count, std::cmp::Reverse(*id))).map(|(id, _)| id);
        let hits = best.and_then(|id| asked.get(id)).copied().unwrap_or(0) as f64;
        Ok(Self { loss: asked.iter().map(nats).sum::<f64>() / of.max(1.0), accuracy: hits / of.max(1.0) })
    }
}

/// How often every id occurs.
fn counts(tokens: &impl Tokens) -> Result<BTreeMap<i32, u64>, DataError> {
    let (mut counts, mut ids, len) = (BTreeMap::new(), vec![0; 1 << 16], tokens.len());
    for start in (0..len).step_by(ids.len()) {
        let part = ids.len().min((len - start) as usize);
        let ids = ids.get_mut(..part).unwrap_or_default();
        tokens.read(start, ids)?;
        ids.iter().for_each(|&id| *counts.entry(id).or_default() += 1);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::data::shards::TokenList;
    use crate::encoder::masking::{MaskingConfig, Separators};

    /// 0 [PAD], 1 [UNK], 2 [CLS], 3 [SEP], 4 [MASK], then words.
    fn tokenizer() -> Tokenizer {
        let names =
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).into_iter().chain((5..30).map(|i| format!("w{i}")));
        let vocab: serde_json::Map<String, serde_json::Value> = names.zip((0..).map(serde_json::Value::from)).collect();
        let file = json!({
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocab},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        });
        Tokenizer::from_json(file.to_string().as_bytes(), Path::new("t.json")).unwrap()
    }

    fn rows(probability: f64) -> MaskedRows<TokenList> {
        let (tokenizer, config) = (tokenizer(), MaskingConfig { probability, whole_word: false });
        let masking = Masking::new(&config, &tokenizer, 30, Separators::Kept).unwrap();
        MaskedRows::new(TokenList::new("t", (5..30).collect()), masking, &tokenizer, 12, 3)
    }

    /// The 25 tokens come back from three rows when labels are put into their places, in every epoch, whose masks differ.
    #[test]
    fn rows_cover_the_text_and_labels_restore_it() {
        let rows = rows(0.3);
        assert_eq!((rows.len(), rows.slots()), (3, 12));
        let mut batch = rows.batch(4);
        let mut hidden_of = Vec::new();
        for epoch in 0..3 {
            rows.fill(&[3 * epoch, 3 * epoch + 1, 3 * epoch + 2], &mut batch).unwrap();
            let mut tokens = batch.ints(TOKENS).to_vec();
            let slots = batch.ints(PLACES).iter().zip(batch.ints(LABELS)).filter(|(_, label)| **label != NO_TARGET);
            hidden_of.push(slots.clone().map(|(&place, _)| place).collect::<Vec<_>>());
            assert_eq!(batch.tokens, slots.clone().count() as u64);
            slots.for_each(|(&place, &label)| tokens[place as usize] = label);
            let around = |ids: std::ops::Range<i32>| [2].into_iter().chain(ids).chain([3]).collect::<Vec<_>>();
            assert_eq!([&tokens[..12], &tokens[12..24]], [around(5..15), around(15..25)]);
            assert_eq!([&tokens[24..31], &tokens[31..]], [&around(25..30)[..], &[0; 17]]);
            assert_eq!(batch.ints(SEGMENTS)[24..], [&[0; 7][..], &[-1; 17]].concat());
        }
        assert!(hidden_of[0] != hidden_of[1] && hidden_of[1] != hidden_of[2]);
    }

    /// A token beyond the slots is shown again.
    #[test]
    fn more_hidden_tokens_than_slots_are_shown() {
        let rows = MaskedRows { slots: 2, ..rows(1.0) };
        let mut batch = rows.batch(1);
        rows.fill(&[0], &mut batch).unwrap();
        assert_eq!((batch.ints(LABELS), batch.tokens), (&[5, 6][..], 2));
        assert_eq!(batch.ints(TOKENS)[3..], [7, 8, 9, 10, 11, 12, 13, 14, 3]);
    }

    /// Half of the training tokens are 1, which a quarter of the held-out ones are.
    #[test]
    fn chance_is_that_of_frequencies() {
        let [train, held_out] = [[1, 1, 2, 3], [1, 2, 2, 3]].map(|ids| TokenList::new("t", ids.to_vec()));
        let chance = Chance::of(&train, &held_out, 4).unwrap();
        let expected = ((8.0 / 3.0_f64).ln() + 3.0 * 4.0_f64.ln()) / 4.0;
        assert!((chance.loss - expected).abs() < 1e-12 && chance.accuracy == 0.25, "{chance:?}");
    }
}
