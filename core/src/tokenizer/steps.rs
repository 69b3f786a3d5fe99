//! Counts the steps of encoding, in tests only: adversarial texts must not take superlinear time.

/// A step: a character classified, a symbol visited, a slot of a hash table probed, a level of the heap.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn step() {}

#[cfg(test)]
pub(super) use tests::step;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::vec;
    use std::vec::Vec;

    use crate::tokenizer::bpe::{NONE, Symbol};
    use crate::tokenizer::tables::{fill_pairs, hash_len};
    use crate::tokenizer::{BpeScratch, BpeTables, Classes, Split};

    std::thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(in crate::tokenizer) fn step() {
        STEPS.set(STEPS.get() + 1);
    }

    /// A vocabulary of 256 bytes, with merges that double a token repeatedly: of `a`, of white space, of `ab`.
    struct Vocabulary {
        tokens: Vec<Vec<u8>>,
        merges: Vec<(u32, u32)>,
    }

    impl Vocabulary {
        fn new() -> Self {
            let mut own = Self { tokens: (0..=255).map(|byte| vec![byte]).collect(), merges: Vec::new() };
            let (a, b, space) = (u32::from(b'a'), u32::from(b'b'), u32::from(b' '));
            for (left, right) in [(a, a), (space, space), (a, b), (b, a)] {
                let mut token = own.merge(left, right);
                for _ in 0..12 {
                    token = own.merge(token, token);
                }
            }
            own
        }

        fn merge(&mut self, left: u32, right: u32) -> u32 {
            self.merges.push((left, right));
            self.tokens.push([&self.tokens[left as usize][..], &self.tokens[right as usize]].concat());
            self.tokens.len() as u32 - 1
        }

        /// Steps of encoding a text, and the text that its ids are.
        fn encode(&self, text: &[u8], split: Split) -> (u64, Vec<u8>) {
            let mut offsets = vec![0];
            self.tokens.iter().for_each(|token| offsets.push(offsets[offsets.len() - 1] + token.len() as u32));
            let merged: Vec<u32> = (256..256 + self.merges.len() as u32).collect();
            let mut pairs = vec![0; hash_len(merged.len())];
            fill_pairs(self.merges.iter().copied(), &mut pairs).unwrap();
            let (byte_tokens, bytes): (Vec<u32>, _) = ((0..256).collect(), self.tokens.concat());
            let tables = BpeTables {
                split,
                classes: Classes::UNICODE,
                byte_tokens: &byte_tokens,
                token_offsets: &offsets,
                token_bytes: &bytes,
                merged: &merged,
                pairs: &pairs,
                words: &[],
            };
            let tables = tables.open().unwrap();
            let (mut symbols, mut heap) = (vec![Symbol::default(); text.len()], vec![0; BpeScratch::heap_len(text.len())]);
            let mut scratch = BpeScratch { symbols: &mut symbols, heap: &mut heap };
            let mut back = Vec::new();
            STEPS.set(0);
            tables.encode(text, &mut scratch, &mut |id| back.extend_from_slice(tables.token(id).unwrap())).unwrap();
            (STEPS.get(), back)
        }
    }

    /// Texts of n bytes that are slow for a naive encoder: long words and long white space, with and without merges, false contractions, broken
    /// bytes.
    fn hostile(n: usize) -> Vec<Vec<u8>> {
        let repeated = |pattern: &[u8]| pattern.iter().copied().cycle().take(n).collect::<Vec<u8>>();
        let mut state = NONE;
        let mut random = |letters: &[u8]| {
            let mut letter = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                letters[(state >> 16) as usize % letters.len()]
            };
            (0..n).map(|_| letter()).collect::<Vec<u8>>()
        };
        let mut texts: Vec<Vec<u8>> =
            ["a", " ", "ab", "aab", "abb", "'", "''r", "\n \t", " '", "z", "é", "\u{3000}", "a1", " a  "]
                .map(|pattern| repeated(pattern.as_bytes()))
                .to_vec();
        texts.extend([b"ab".as_slice(), b"a ", b" \n", b"ab z", b"\x00\xff\xc3\xe2\x82a"].map(&mut random));
        texts.push([repeated(b" ")[..n - 1].to_vec(), b"a".to_vec()].concat());
        texts
    }

    #[test]
    fn hostile_text_takes_n_log_n_steps() {
        let vocabulary = Vocabulary::new();
        let mut most = 0.0f64;
        for n in [1 << 10, 1 << 13, 1 << 16] {
            for text in hostile(n) {
                for split in [Split::Gpt2, Split::Whole] {
                    let (steps, back) = vocabulary.encode(&text, split);
                    assert_eq!(back, text);
                    let share = steps as f64 / (n as f64 * f64::from(n.ilog2()));
                    assert!(share < 4.0, "{n} bytes of {:?}, {split:?}: {steps} steps", &text[..8]);
                    most = most.max(share);
                }
            }
        }
        // The count counts.
        assert!(most > 0.5, "{most}");
    }
}
