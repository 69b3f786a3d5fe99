//! Masked language modelling: some tokens of a text are hidden, and a model restores them (Devlin et al. 2019).

use std::ops::Range;

use samara_core::math::rng::{Purpose, Rng};

use crate::config::{Invalid, table};
use crate::tokenizer::{Model, Tokenizer};

table! {
    /// Masking of tokens for masked language modelling.
    pub MaskingConfig {
        /// Part of the tokens that a model restores.
        probability: f64 = 0.15, 0.001..=1;
        /// Choose whole words (WordPiece alone) instead of single tokens. A word of more tokens than a row's share is never chosen.
        whole_word: bool = false;
    }
}

/// Whether the tokens after a text (`[SEP]`) can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separators {
    /// Never, as in BERT and ViLT.
    Kept,
    /// Like any token, as in ALBEF.
    Maskable,
}

/// A target without a loss.
pub const NO_TARGET: i32 = -1;
/// Of the tokens chosen, this part becomes the mask token.
const MASKED: f64 = 0.8;
/// Up to here a random token; the rest stays as it is.
const REPLACED: f64 = 0.9;

/// Spellings of a token's text, BERT's first.
const MASK: [&str; 2] = ["[MASK]", "<mask>"];
const PADDING: [&str; 2] = ["[PAD]", "<pad>"];

/// Hides tokens of rows.
#[derive(Clone, Debug)]
pub struct Masking {
    probability: f64,
    /// The mask token.
    mask: i32,
    /// A random token is below.
    vocab_size: u64,
    /// Tokens that are never chosen: padding, masks, those around a text.
    kept: Vec<i32>,
    /// By id, whether a token continues the word before it; `None`: tokens are chosen singly.
    within: Option<Vec<bool>>,
}

impl Masking {
    /// Masking for a model of `vocab_size` ids.
    ///
    /// # Errors
    /// A tokenizer without a mask token, or one beyond the model's ids; whole words with a tokenizer other than WordPiece.
    pub fn new(
        config: &MaskingConfig,
        tokenizer: &Tokenizer,
        vocab_size: usize,
        separators: Separators,
    ) -> Result<Self, Invalid> {
        let id = |texts: [&str; 2]| texts.into_iter().find_map(|text| tokenizer.token_id(text));
        let expected = || "a tokenizer with the token [MASK] (or <mask>); train one with data.tokenizer = \"wordpiece\", or use the tokenizer of a BERT";
        let Some(mask) = id(MASK) else { return Err(Invalid::new("data.tokenizer", expected(), "a tokenizer without it")) };
        if mask as usize >= vocab_size {
            return Err(Invalid::new("model.vocab_size", format!("more than {mask}, the id of the mask token"), vocab_size));
        }
        let within = match tokenizer.model() {
            _ if !config.whole_word => None,
            Model::WordPiece(words) => Some(words.within_words()),
            _ => {
                let expected = "false: only tokens of WordPiece tell which of them continue a word";
                return Err(Invalid::new("mlm.whole_word", expected, true));
            }
        };
        let after = if separators == Separators::Kept { tokenizer.ids_after() } else { &[] };
        let kept = [Some(mask), id(PADDING)].into_iter().flatten().chain(tokenizer.ids_before().iter().chain(after).copied());
        Ok(Self {
            probability: config.probability,
            mask: mask as i32,
            vocab_size: tokenizer.vocab_size().min(vocab_size) as u64,
            kept: kept.map(|id| id as i32).collect(),
            within,
        })
    }

    /// The draws of a row; `row` counts all rows of a run, so that a row has other masks in every epoch.
    pub fn draws(seed: u64, row: u64) -> Rng {
        Rng::new(seed, Purpose::Masking, row)
    }

    /// Hides tokens of `ids` (T) in place; `targets` (T) gets the former id of each that was chosen, else [`NO_TARGET`]. Returns how many were chosen.
    ///
    /// Single tokens are chosen independently with the configured probability p. Whole words come in random order, without those that would exceed
    /// max(1, round(p n)) tokens of the n that can be chosen (Kim et al. 2021). Of the tokens chosen 80 % become the mask token, 10 % a random token,
    /// and 10 % stay.
    pub fn mask(&self, rng: &mut Rng, ids: &mut [i32], targets: &mut [i32]) -> usize {
        targets.fill(NO_TARGET);
        let chosen = if self.within.is_some() { self.choose_words(rng, ids) } else { self.choose_tokens(rng, ids) };
        for &at in &chosen {
            if let (Some(id), Some(target)) = (ids.get_mut(at), targets.get_mut(at)) {
                *target = *id;
                let drawn = rng.uniform_f64();
                if drawn < MASKED {
                    *id = self.mask;
                } else if drawn < REPLACED {
                    *id = rng.below(self.vocab_size) as i32;
                }
            }
        }
        chosen.len()
    }

    /// A number of tokens that almost no row of `len` tokens exceeds: of whole words the share, else five deviations above it.
    pub fn most_of(&self, len: usize) -> usize {
        let (len, p) = (len as f64, self.probability);
        let above = if self.within.is_some() { 0.5 } else { 5.0 * (len * p * (1.0 - p)).sqrt() };
        ((len * p + above).ceil()).clamp(1.0, len.max(1.0)) as usize
    }

    /// The words of a row: each token that can be chosen begins one, unless it continues the one before it.
    pub fn words(&self, ids: &[i32]) -> Vec<Range<usize>> {
        let mut words: Vec<Range<usize>> = Vec::new();
        for (at, id) in ids.iter().enumerate().filter(|(_, id)| self.can_choose(id)) {
            let flags = self.within.as_deref().unwrap_or_default();
            let continues = usize::try_from(*id).ok().and_then(|id| flags.get(id)).is_some_and(|&within| within);
            match words.last_mut().filter(|word| continues && word.end == at) {
                Some(word) => word.end = at + 1,
                None => words.push(at..at + 1),
            }
        }
        words
    }

    fn can_choose(&self, id: &i32) -> bool {
        !self.kept.contains(id)
    }

    fn choose_tokens(&self, rng: &mut Rng, ids: &[i32]) -> Vec<usize> {
        let candidates = ids.iter().enumerate().filter(|(_, id)| self.can_choose(id));
        candidates.filter(|_| rng.uniform_f64() < self.probability).map(|(at, _)| at).collect()
    }

    fn choose_words(&self, rng: &mut Rng, ids: &[i32]) -> Vec<usize> {
        let mut words = self.words(ids);
        // Fisher and Yates: a random one of the rest comes next.
        for at in 0..words.len() {
            let other = at + rng.below((words.len() - at) as u64) as usize;
            words.swap(at, other);
        }
        let count: usize = words.iter().map(ExactSizeIterator::len).sum();
        // Python's rounding, as in the peers: halves to even.
        let share = ((count as f64 * self.probability).round_ties_even() as usize).max(1);
        let mut chosen = Vec::with_capacity(share);
        for word in words {
            if chosen.len() + word.len() <= share {
                chosen.extend(word);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Ids: 0 [PAD], 1 [UNK], 2 [CLS], 3 [SEP], 4 [MASK], 5 to 14 words, 15 to 19 within words.
    fn tokenizer(mask: &str) -> Tokenizer {
        let mut names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", mask].map(str::to_owned).to_vec();
        names.extend((5..15).map(|i| format!("w{i}")));
        names.extend((15..20).map(|i| format!("##x{i}")));
        let vocab: serde_json::Map<String, serde_json::Value> =
            names.into_iter().zip((0..).map(serde_json::Value::from)).collect();
        let file = json!({
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocab},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        });
        Tokenizer::from_json(file.to_string().as_bytes(), Path::new("t.json")).unwrap()
    }

    fn masking(probability: f64, whole_word: bool, separators: Separators) -> Masking {
        Masking::new(&MaskingConfig { probability, whole_word }, &tokenizer("[MASK]"), 20, separators).unwrap()
    }

    /// `ids` masked with the draws of a row, and the targets.
    fn masked(masking: &Masking, row: u64, ids: &[i32]) -> (Vec<i32>, Vec<i32>, usize) {
        let (mut hidden, mut targets) = (ids.to_vec(), vec![7; ids.len()]);
        let count = masking.mask(&mut Masking::draws(1, row), &mut hidden, &mut targets);
        (hidden, targets, count)
    }

    proptest! {
        /// Targets are the former ids, other places keep theirs, and the tokens around a text are never chosen.
        #[test]
        fn a_row_is_the_former_one_but_for_its_targets(
            ids in prop::collection::vec(0..20_i32, 0..60), row: u64, p in 0.001..1.0_f64, whole: bool, maskable: bool,
        ) {
            let separators = if maskable { Separators::Maskable } else { Separators::Kept };
            let masking = masking(p, whole, separators);
            let (hidden, targets, count) = masked(&masking, row, &ids);
            prop_assert_eq!(&masked(&masking, row, &ids).0, &hidden, "a row's masks are a function of its number");
            prop_assert_eq!(targets.iter().filter(|&&target| target != NO_TARGET).count(), count);
            for ((&id, &now), &target) in ids.iter().zip(&hidden).zip(&targets) {
                let as_said = if target == NO_TARGET { now == id } else { target == id && (0..20).contains(&now) };
                prop_assert!(as_said);
                prop_assert!(target == NO_TARGET || !matches!(id, 0 | 2 | 4) && (maskable || id != 3));
            }
            let candidates: usize = masking.words(&ids).iter().map(ExactSizeIterator::len).sum();
            if whole {
                prop_assert!(count <= 1.max((p * candidates as f64).round_ties_even() as usize));
                for word in masking.words(&ids) {
                    let chosen = word.clone().filter(|&at| targets[at] != NO_TARGET).count();
                    prop_assert!(chosen == 0 || chosen == word.len(), "{word:?} of {ids:?}");
                }
            }
        }
    }

    /// Frequencies within four deviations of a binomial.
    fn near(found: usize, of: usize, p: f64) {
        let deviation = (p * (1.0 - p) / of as f64).sqrt();
        let rate = found as f64 / of as f64;
        assert!((rate - p).abs() < 4.0 * deviation, "{rate} of {of}, expected {p}");
    }

    #[test]
    fn chosen_tokens_have_the_frequencies_of_the_paper() {
        let ids: Vec<i32> = std::iter::once(2).chain((0..62).map(|i| 5 + i % 15)).chain([3]).collect();
        for (separators, choices) in [(Separators::Kept, 62), (Separators::Maskable, 63)] {
            let masking = masking(0.15, false, separators);
            let (mut chosen, mut masks, mut others) = (0, 0, 0);
            for row in 0..2000 {
                let (hidden, targets, count) = masked(&masking, row, &ids);
                chosen += count;
                let pairs = || hidden.iter().zip(&targets).filter(|(_, target)| **target != NO_TARGET);
                masks += pairs().filter(|(now, _)| **now == 4).count();
                others += pairs().filter(|(now, target)| **now != 4 && now != target).count();
            }
            near(chosen, 2000 * choices, 0.15);
            // A random token is one of 20, the mask and the former token among them.
            near(masks, chosen, 0.8 + 0.1 / 20.0);
            near(others, chosen, 0.1 * 18.0 / 20.0);
        }
    }

    /// Seven tokens in five words: every word of one token is equally likely, and one of two is out of reach of a share of one.
    #[test]
    fn whole_words_are_equally_likely_within_the_share() {
        let ids = [2, 5, 6, 15, 7, 8, 16, 9, 3];
        let (small, large) = (masking(0.15, true, Separators::Kept), masking(0.3, true, Separators::Kept));
        assert_eq!(small.words(&ids), [1..2, 2..4, 4..5, 5..7, 7..8]);
        let mut counts = [[0; 9]; 2];
        for row in 0..3000 {
            for (masking, counts) in [&small, &large].into_iter().zip(&mut counts) {
                let (_, targets, _) = masked(masking, row, &ids);
                counts.iter_mut().zip(targets).for_each(|(count, target)| *count += usize::from(target != NO_TARGET));
            }
        }
        assert!([2, 3, 5, 6].iter().all(|&at| counts[0][at] == 0));
        [1, 4, 7].iter().for_each(|&at| near(counts[0][at], 3000, 1.0 / 3.0));
        // A share of two: a long word when it comes first, 2 of 5; else two short ones.
        near(counts[1][2] + counts[1][5], 3000, 0.4);
        [1, 4, 7].iter().for_each(|&at| near(counts[1][at], 3000, 0.6 * 2.0 / 3.0));
    }

    #[test]
    fn a_tokenizer_that_cannot_mask_is_named_with_a_way_out() {
        let of = |whole_word, tokenizer: &Tokenizer, vocab_size| {
            let config = MaskingConfig { whole_word, ..MaskingConfig::default() };
            Masking::new(&config, tokenizer, vocab_size, Separators::Kept).map(|_| ()).map_err(|error| error.to_string())
        };
        let without = of(false, &tokenizer("[HIDE]"), 20).unwrap_err();
        assert!(without.starts_with("data.tokenizer: expected a tokenizer with the token [MASK]"), "{without}");
        assert_eq!(of(false, &tokenizer("<mask>"), 20), Ok(()));
        let beyond = of(false, &tokenizer("[MASK]"), 4).unwrap_err();
        assert_eq!(beyond, "model.vocab_size: expected more than 4, the id of the mask token, found 4");
        let bytes = of(true, &Tokenizer::bytes(&["[MASK]"]).unwrap(), 300).unwrap_err();
        assert!(bytes.starts_with("mlm.whole_word: expected false"), "{bytes}");
    }
}
